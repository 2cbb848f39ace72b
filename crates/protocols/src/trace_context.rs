//! W3C trace context of a request, and ids for requests that carry none.

use spandrel_model::{ConnectionId, SpanId, TraceId};

/// Longest `tracestate` that is kept; the specification asks for at least 512.
pub(crate) const MAX_TRACE_STATE: usize = 512;

/// What a valid `traceparent` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceParent {
    pub(crate) trace_id: TraceId,
    pub(crate) parent_id: SpanId,
    pub(crate) flags: u8,
}

/// Lower-case hexadecimal only, as the specification has it.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    if text.len() != 2 * N {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

impl TraceParent {
    /// Parses a header value; `None` for what the specification calls invalid.
    pub(crate) fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = value.splitn(5, |&byte| byte == b'-');
        let [version] = hex::<1>(parts.next()?)?;
        let trace_id = hex::<16>(parts.next()?)?;
        let parent_id = hex::<8>(parts.next()?)?;
        let [flags] = hex::<1>(parts.next()?)?;
        // Version 0 has four fields; later ones may have more.
        if version == 0xff || (version == 0 && parts.next().is_some()) {
            return None;
        }
        if trace_id == [0; 16] || parent_id == [0; 8] {
            return None;
        }
        Some(Self {
            trace_id: TraceId(trace_id),
            parent_id: SpanId(parent_id),
            flags,
        })
    }
}

/// The finaliser of splitmix64: every input bit changes half of the output bits.
fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Ids of the exchange whose request begins at `position`: a function of what was seen, so that a replay repeats them.
pub(crate) fn ids(seed: u64, connection: ConnectionId, position: u64) -> (TraceId, SpanId) {
    let base = mix(mix(mix(seed) ^ connection.0) ^ position);
    let [high, low, span] = [1, 2, 3].map(|salt| mix(base ^ mix(salt)).max(1));
    let trace = u128::from(high) << 64 | u128::from(low);
    (TraceId(trace.to_be_bytes()), SpanId(span.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_valid_traceparent_is_read() {
        let parent = TraceParent::parse(VALID.as_bytes()).unwrap();
        assert_eq!(
            parent.trace_id.to_string(),
            "0af7651916cd43dd8448eb211c80319c"
        );
        assert_eq!(parent.parent_id.to_string(), "b7ad6b7169203331");
        assert_eq!(parent.flags, 1);
    }

    #[test]
    fn a_later_version_may_have_more_fields() {
        let later = format!("cc{}-what-the-future-brings", &VALID[2..]);
        assert!(TraceParent::parse(later.as_bytes()).is_some());
    }

    #[test]
    fn what_the_specification_calls_invalid_is_ignored() {
        for invalid in [
            String::new(),
            format!("{VALID}-more"),
            format!("ff{}", &VALID[2..]),
            VALID.to_uppercase(),
            VALID.replace("b7ad6b7169203331", "0000000000000000"),
            VALID.replace(
                "0af7651916cd43dd8448eb211c80319c",
                "00000000000000000000000000000000",
            ),
            VALID.replace("b7ad6b7169203331", "b7ad6b716920333"),
            VALID.replace("-01", "-1"),
        ] {
            assert_eq!(TraceParent::parse(invalid.as_bytes()), None, "{invalid}");
        }
    }

    #[test]
    fn ids_differ_by_seed_connection_and_position_and_repeat_otherwise() {
        let all = [(1, 1, 0), (2, 1, 0), (1, 2, 0), (1, 1, 1)]
            .map(|(seed, connection, position)| ids(seed, ConnectionId(connection), position));
        for (index, one) in all.iter().enumerate() {
            assert!(
                all[index + 1..]
                    .iter()
                    .all(|other| other.0 != one.0 && other.1 != one.1)
            );
        }
        assert_eq!(all[0], ids(1, ConnectionId(1), 0));
    }
}
