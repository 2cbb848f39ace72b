//! Where the kernel has its map of all memory, to read packets by hand on kernels that have no other way (`packet.h`).

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::sync::OnceLock;

/// Addresses of the kernel's variables that say where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Variables {
    /// Of `page_offset_base`.
    pub(crate) page_offset: u64,
    /// Of `vmemmap_base`.
    pub(crate) page_structs: u64,
}

/// Why they are not known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Problem {
    #[error("packets are read by hand on x86-64 only")]
    Architecture,
    #[error("/proc/kallsyms cannot be read: {0}")]
    Unreadable(String),
    #[error(
        "/proc/kallsyms shows no addresses; allow them (sysctl kernel.kptr_restrict=1 and CAP_SYSLOG)"
    )]
    Hidden,
    #[error("/proc/kallsyms has no {0}: the kernel is built without CONFIG_KALLSYMS_ALL")]
    Missing(&'static str),
}

/// Read once: it is a list of more than 100,000 lines.
pub(crate) fn variables() -> Result<Variables, Problem> {
    static READ: OnceLock<Result<Variables, Problem>> = OnceLock::new();
    READ.get_or_init(|| {
        if !cfg!(target_arch = "x86_64") {
            return Err(Problem::Architecture);
        }
        let file =
            File::open("/proc/kallsyms").map_err(|error| Problem::Unreadable(error.to_string()))?;
        find(BufReader::new(file))
    })
    .clone()
}

/// By lines such as `ffffffff82a5b0c8 R page_offset_base`.
fn find(symbols: impl BufRead) -> Result<Variables, Problem> {
    let (mut page_offset, mut page_structs) = (None, None);
    for line in symbols.lines() {
        let line = line.map_err(|error| Problem::Unreadable(error.to_string()))?;
        let mut fields = line.split_ascii_whitespace();
        let (Some(address), Some(name)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        let place = match name {
            "page_offset_base" => &mut page_offset,
            "vmemmap_base" => &mut page_structs,
            _ => continue,
        };
        // Modules may use the name again.
        if fields.next().is_none() && place.is_none() {
            *place = u64::from_str_radix(address, 16).ok();
        }
        if page_offset.is_some() && page_structs.is_some() {
            break;
        }
    }
    let variables = Variables {
        page_offset: page_offset.ok_or(Problem::Missing("page_offset_base"))?,
        page_structs: page_structs.ok_or(Problem::Missing("vmemmap_base"))?,
    };
    // Who may not see them is shown zeros.
    if variables.page_offset == 0 || variables.page_structs == 0 {
        return Err(Problem::Hidden);
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &str = "ffffffffa4a00000 T _text\nffffffffa5e5b0c8 R vmemmap_base\nffffffffa5e5b0d8 R page_offset_base\n";

    #[test]
    fn both_variables_are_found_by_their_names() {
        let found = find(BOTH.as_bytes());
        let expected = Variables {
            page_offset: 0xffff_ffff_a5e5_b0d8,
            page_structs: 0xffff_ffff_a5e5_b0c8,
        };
        assert_eq!(found, Ok(expected));
    }

    #[test]
    fn hidden_addresses_are_told_from_missing_names() {
        let hidden: String = BOTH
            .lines()
            .map(|line| format!("0000000000000000{}\n", &line[16..]))
            .collect();
        assert_eq!(find(hidden.as_bytes()), Err(Problem::Hidden));
        let functions = "ffffffffa4a00000 T _text\nffffffffa4a00010 t page_offset_base [module]\n";
        assert_eq!(
            find(functions.as_bytes()),
            Err(Problem::Missing("page_offset_base"))
        );
    }

    #[test]
    fn a_modules_symbol_of_the_same_name_is_passed_over() {
        let text = format!("ffffffffc0000000 d page_offset_base\t[module]\n{BOTH}");
        assert_eq!(
            find(text.as_bytes()).map(|found| found.page_offset),
            Ok(0xffff_ffff_a5e5_b0d8)
        );
    }
}
