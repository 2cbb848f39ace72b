//! Which pid namespace numbers processes: that of the agent's `/proc`, as all that is known of a process is read there.

use std::fs;

use crate::preflight::Finding;

/// The initial namespace's inode number, which is part of the kernel's interface.
const INITIAL: &str = "pid:[4026531836]";

/// How many levels the agent's own namespace is below the one that its `/proc` shows.
pub(crate) fn levels_below_proc() -> u32 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let numbers = numbers(&status).unwrap_or(1);
    u32::try_from(numbers).unwrap_or(1).saturating_sub(1)
}

/// How many numbers a process has, from the namespace of `/proc` to its own.
fn numbers(status: &str) -> Option<usize> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    Some(line.split_ascii_whitespace().count())
}

/// For `spandrel check`.
pub(crate) fn finding() -> Finding {
    let own = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    let detail = if own.as_os_str() == INITIAL || levels_below_proc() > 0 {
        "processes of the whole machine are seen"
    } else {
        "below the machine's: where `process ids across pid namespaces` works, only the processes in it are seen"
    };
    Finding {
        what: "pid namespace".to_owned(),
        ok: true,
        detail: detail.to_owned(),
        remedy: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_number_for_each_namespace_from_that_of_proc_to_its_own() {
        assert_eq!(numbers("Name:\tx\nNSpid:\t15828\t2\n"), Some(2));
        assert_eq!(numbers("Name:\tx\nNSpid:\t2\n"), Some(1));
        assert_eq!(numbers("Name:\tx\n"), None);
    }
}
