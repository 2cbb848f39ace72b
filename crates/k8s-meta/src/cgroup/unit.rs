//! Names of systemd units as control groups carry them.

/// The unit of a control group's name, if it is a service or a scope.
///
/// systemd puts `_` before names that would collide with the kernel's own files and before names that begin with
/// `_`, so one leading `_` is never the unit's.
pub(super) fn service_or_scope(name: &str) -> Option<String> {
    let unit = name.strip_prefix('_').unwrap_or(name);
    let stem = unit
        .strip_suffix(".service")
        .or_else(|| unit.strip_suffix(".scope"))?;
    (!stem.is_empty()).then(|| unit.to_owned())
}

/// Turns `\x2d` and its like back into the bytes they stand for; what is not such an escape stays as it is.
///
/// Of bytes that are no UTF-8 the text is returned still escaped.
pub fn unescape_unit(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if let (b'\\', [b'x', high, low, after @ ..]) = (first, tail)
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            bytes.push(high << 4 | low);
            rest = after;
            continue;
        }
        bytes.push(first);
        rest = tail;
    }
    String::from_utf8(bytes).unwrap_or_else(|_| name.to_owned())
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_become_the_bytes_they_stand_for() {
        assert_eq!(unescape_unit(r"mnt-my\x2ddisk"), "mnt-my-disk");
        assert_eq!(unescape_unit(r"a\xc3\xa9"), "aé");
    }

    #[test]
    fn broken_escapes_stay_as_they_are() {
        for name in [r"a\x2", r"a\xZZ", r"a\", r"a\n", r"a\xff"] {
            assert_eq!(unescape_unit(name), name);
        }
    }

    #[test]
    fn only_services_and_scopes_are_units() {
        assert_eq!(service_or_scope("user.slice"), None);
        assert_eq!(service_or_scope(".service"), None);
        assert_eq!(
            service_or_scope("_cgroup.service").as_deref(),
            Some("cgroup.service")
        );
    }
}
