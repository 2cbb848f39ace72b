//! Uids and container ids in few bytes: what has the usual form is kept as its bits, all else as text.

use std::fmt::Write;
use std::sync::Arc;

/// `metadata.uid`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Uid {
    Uuid([u8; 16]),
    Text(Arc<str>),
}

impl Uid {
    pub(crate) fn new(text: &str) -> Self {
        uuid(text).map_or_else(|| Self::Text(text.into()), Self::Uuid)
    }

    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Uuid(bits) => {
                let mut text = String::with_capacity(36);
                for (at, byte) in bits.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        text.push('-');
                    }
                    push_hex(&mut text, *byte);
                }
                text
            }
            Self::Text(text) => text.as_ref().to_owned(),
        }
    }
}

/// The id of a container, without the runtime's scheme.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ContainerKey {
    Digest([u8; 32]),
    Text(Arc<str>),
}

impl ContainerKey {
    pub(crate) fn new(text: &str) -> Self {
        digest(text).map_or_else(|| Self::Text(text.into()), Self::Digest)
    }

    pub(crate) fn to_text(&self) -> String {
        match self {
            Self::Digest(bits) => {
                let mut text = String::with_capacity(64);
                for byte in bits {
                    push_hex(&mut text, *byte);
                }
                text
            }
            Self::Text(text) => text.as_ref().to_owned(),
        }
    }
}

/// 32 hexadecimal digits: the hash of a static pod.
pub(crate) fn config_hash(text: &str) -> Option<[u8; 16]> {
    digest(text)
}

fn push_hex(text: &mut String, byte: u8) {
    // Writing to a string does not fail.
    if write!(text, "{byte:02x}").is_err() {}
}

fn uuid(text: &str) -> Option<[u8; 16]> {
    let dashes = text.len() == 36
        && [8, 13, 18, 23]
            .iter()
            .all(|at| text.as_bytes().get(*at) == Some(&b'-'));
    if !dashes {
        return None;
    }
    read(
        text.bytes()
            .enumerate()
            .filter(|(at, _)| !matches!(at, 8 | 13 | 18 | 23))
            .map(|(_, byte)| byte),
    )
}

fn digest<const N: usize>(text: &str) -> Option<[u8; N]> {
    (text.len() == N * 2).then(|| read(text.bytes())).flatten()
}

/// Capital letters are refused: written back they would be small.
fn read<const N: usize>(mut digits: impl Iterator<Item = u8>) -> Option<[u8; N]> {
    let mut bits = [0; N];
    let mut next = || match digits.next()? {
        digit @ b'0'..=b'9' => Some(digit - b'0'),
        digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    for byte in &mut bits {
        *byte = next()? << 4 | next()?;
    }
    Some(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_written_as_it_was_read() {
        for text in [
            "7c9a1f0e-1b2c-4d3e-8f90-a1b2c3d4e5f6",
            "7C9A1F0E-1B2C-4D3E-8F90-A1B2C3D4E5F6",
            "",
            "pod-1",
            "7c9a1f0e-1b2c-4d3e-8f90-a1b2c3d4e5f-",
        ] {
            assert_eq!(Uid::new(text).to_text(), text);
        }
        assert!(matches!(
            Uid::new("7c9a1f0e-1b2c-4d3e-8f90-a1b2c3d4e5f6"),
            Uid::Uuid(_)
        ));
    }

    #[test]
    fn a_container_id_is_written_as_it_was_read() {
        for text in [
            "0123456789abcdef".repeat(4),
            "0123456789ABCDEF".repeat(4),
            "é".repeat(32),
            "web".to_owned(),
        ] {
            assert_eq!(ContainerKey::new(&text).to_text(), text);
        }
        assert!(matches!(
            ContainerKey::new(&"0f".repeat(32)),
            ContainerKey::Digest(_)
        ));
    }
}
