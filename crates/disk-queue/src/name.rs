//! The directory of a queue, from a name that may be anything.

/// Longest name that is kept readable; file systems take 255 bytes.
const LONGEST: usize = 160;

/// A name for a directory: other names give other directories, on every file system that tells cases apart.
pub(crate) fn directory_name(name: &str) -> String {
    let mut escaped = String::with_capacity(name.len());
    for (index, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if plain || (byte == b'.' && index > 0) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02x}"));
        }
    }
    if escaped.is_empty() {
        // No name gives this one, as a % is always followed by two digits.
        return "%".to_owned();
    }
    if escaped.len() > LONGEST {
        // Two sums over different seeds; a % at this place is not followed by digits either.
        let low = crc32c::crc32c(name.as_bytes());
        let high = crc32c::crc32c_append(0x5bd1_e995, name.as_bytes());
        let length = name.len();
        escaped.truncate(LONGEST);
        escaped.push_str(&format!("%-{high:08x}{low:08x}-{length}"));
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_one_directory_each_and_never_leave_the_root() {
        assert_eq!(directory_name("otlp-new_relic.eu"), "otlp-new_relic.eu");
        assert_eq!(directory_name("../../etc"), "%2e.%2f..%2fetc");
        assert_eq!(directory_name(".."), "%2e.");
        assert_eq!(directory_name("a/b"), "a%2fb");
        assert_eq!(directory_name(""), "%");
        let (one, other) = (
            directory_name(&"ü".repeat(500)),
            directory_name(&"ü".repeat(501)),
        );
        assert_ne!(one, other);
        assert!(one.len() < 255);
    }
}
