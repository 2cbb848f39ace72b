//! Chunked bodies (RFC 9112 section 7.1), read piece by piece; chunk data may be passed over unseen.

/// Longest line of a chunk head or of a trailer; real ones have a few dozen bytes.
const MAX_LINE: u32 = 16 * 1024;

/// Where in the body the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// In the hexadecimal size.
    Size { value: u64, digits: u32 },
    /// Between the size and the end of its line.
    Extension { value: u64, length: u32 },
    /// In the data: so many bytes remain.
    Data(u64),
    /// In the line end after the data.
    DataEnd { carriage_return: bool },
    /// In a trailer line of so many bytes, line end not counted.
    Trailer { length: u32 },
}

/// A body that breaks the grammar.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What some bytes did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) consumed: usize,
    pub(crate) done: bool,
}

/// Decoder of one body.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunked {
    step: Step,
    data: u64,
}

impl Chunked {
    pub(crate) fn new() -> Self {
        Self {
            step: Step::Size {
                value: 0,
                digits: 0,
            },
            data: 0,
        }
    }

    /// Whether nothing of it has been read.
    pub(crate) fn is_at_start(&self) -> bool {
        self.step
            == Step::Size {
                value: 0,
                digits: 0,
            }
            && self.data == 0
    }

    /// Bytes of chunk data so far.
    pub(crate) fn data(&self) -> u64 {
        self.data
    }

    /// Passes over at most `hidden` bytes of chunk data, and tells how many; 0 where a chunk head is hidden.
    pub(crate) fn skip(&mut self, hidden: u64) -> u64 {
        let Step::Data(remaining) = self.step else {
            return 0;
        };
        let passed = remaining.min(hidden);
        self.data = self.data.saturating_add(passed);
        self.step = match remaining - passed {
            0 => Step::DataEnd {
                carriage_return: false,
            },
            left => Step::Data(left),
        };
        passed
    }

    /// This body with `count` bytes of chunk data passed over; `None` where they reach beyond the chunk.
    pub(crate) fn skipped(mut self, count: u64) -> Option<Self> {
        (self.skip(count) == count).then_some(self)
    }

    /// Reads on.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Result<Progress, Malformed> {
        let mut consumed = 0;
        while let Some(&byte) = bytes.get(consumed) {
            if matches!(self.step, Step::Data(_)) {
                consumed += self.skip((bytes.len() - consumed) as u64) as usize;
                continue;
            }
            consumed += 1;
            match (self.step, byte) {
                (Step::Size { value, digits }, _) if byte.is_ascii_hexdigit() => {
                    if digits == 16 {
                        return Err(Malformed);
                    }
                    let digit = (byte as char).to_digit(16).ok_or(Malformed)?;
                    self.step = Step::Size {
                        value: value << 4 | u64::from(digit),
                        digits: digits + 1,
                    };
                }
                (Step::Size { digits: 0, .. }, _) => return Err(Malformed),
                (Step::Size { value, .. }, b'\r' | b';' | b' ' | b'\t') => {
                    self.step = Step::Extension { value, length: 0 };
                }
                (Step::Size { value, .. } | Step::Extension { value, .. }, b'\n') => {
                    self.step = match value {
                        0 => Step::Trailer { length: 0 },
                        value => Step::Data(value),
                    };
                }
                (Step::Size { .. }, _) => return Err(Malformed),
                (Step::Extension { value, length }, _) if length < MAX_LINE => {
                    let length = length + 1;
                    self.step = Step::Extension { value, length };
                }
                (
                    Step::DataEnd {
                        carriage_return: false,
                    },
                    b'\r',
                ) => {
                    self.step = Step::DataEnd {
                        carriage_return: true,
                    };
                }
                (Step::DataEnd { .. }, b'\n') => {
                    self.step = Step::Size {
                        value: 0,
                        digits: 0,
                    };
                }
                (Step::Trailer { length: 0 }, b'\n') => {
                    return Ok(Progress {
                        consumed,
                        done: true,
                    });
                }
                (Step::Trailer { .. }, b'\n') => self.step = Step::Trailer { length: 0 },
                (Step::Trailer { .. }, b'\r') => {}
                (Step::Trailer { length }, _) if length < MAX_LINE => {
                    self.step = Step::Trailer { length: length + 1 };
                }
                _ => return Err(Malformed),
            }
        }
        Ok(Progress {
            consumed,
            done: false,
        })
    }
}

/// Whether bytes end as a chunked body does: the last chunk, perhaps with extensions, perhaps trailers, an empty line.
///
/// `from_start` tells that `ending` begins where a chunk may. Without it a `0` may be the end of another number.
pub(crate) fn ends_with_last_chunk(ending: &[u8], from_start: bool) -> bool {
    let Some(rest) = ending.strip_suffix(b"\r\n\r\n") else {
        return false;
    };
    let mut lines = rest.rsplit(|&byte| byte == b'\n').peekable();
    while let Some(line) = lines.next() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let is_whole = from_start || lines.peek().is_some();
        if is_whole && is_last_chunk(line) {
            return true;
        }
        if !is_trailer(line) {
            return false;
        }
    }
    false
}

/// `0`, in any number of digits, and extensions.
fn is_last_chunk(line: &[u8]) -> bool {
    let zeros = line.iter().take_while(|&&byte| byte == b'0').count();
    let rest = line.get(zeros..).unwrap_or_default().trim_ascii_start();
    zeros > 0 && (rest.is_empty() || rest.starts_with(b";"))
}

fn is_trailer(line: &[u8]) -> bool {
    let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
    name.len() < line.len() && !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = b"4\r\nWiki\r\n6;name=\"x\"\r\npedia \r\n0\r\nExpires: now\r\nA: b\r\n\r\n";

    #[test]
    fn a_body_with_extensions_and_trailers_is_read_to_its_end_however_it_is_split() {
        for split in 0..BODY.len() {
            let mut body = Chunked::new();
            let (left, right) = BODY.split_at(split);
            assert!(!body.read(left).unwrap().done, "split at {split}");
            let progress = body.read(right).unwrap();
            assert!(
                progress.done && progress.consumed == right.len(),
                "split at {split}"
            );
            assert_eq!(body.data(), 10);
        }
    }

    #[test]
    fn bytes_after_the_body_are_left_alone() {
        let mut body = Chunked::new();
        let progress = body.read(b"0\r\n\r\nHTTP/1.1 200 OK\r\n").unwrap();
        assert_eq!((progress.consumed, progress.done), (5, true));
    }

    #[test]
    fn chunk_data_may_be_passed_over_but_chunk_heads_may_not() {
        let mut body = Chunked::new();
        body.read(b"10\r\nabc").unwrap();
        assert_eq!(body.skip(100), 13);
        assert_eq!(body.skip(100), 0);
        assert!(body.read(b"\r\n0\r\n\r\n").unwrap().done);
        assert_eq!(body.data(), 16);
    }

    #[test]
    fn a_body_is_at_its_start_until_its_first_byte_is_read() {
        let mut body = Chunked::new();
        assert!(body.is_at_start());
        body.read(b"1").unwrap();
        assert!(!body.is_at_start(), "in the first size");
        body.read(b"\r\na\r\n").unwrap();
        assert!(!body.is_at_start(), "behind the first chunk");
    }

    #[test]
    fn bytes_are_lost_within_a_chunk_or_beyond_it() {
        let mut body = Chunked::new();
        body.read(b"10\r\nabc").unwrap();
        let mut within = body.skipped(12).unwrap();
        assert!(within.read(b"d\r\n0\r\n\r\n").unwrap().done);
        assert!(body.skipped(13).is_some());
        assert!(body.skipped(14).is_none());
    }

    #[test]
    fn lines_of_a_body_have_a_longest_length() {
        let longest = MAX_LINE as usize;
        for (before, behind) in [("1", "\na\r\n0\r\n\r\n"), ("0\r\n", "\r\n\r\n")] {
            for (length, is_refused) in [(longest, false), (longest + 1, true)] {
                let end = if before == "1" { ";" } else { "" };
                let line = [before, end, &"x".repeat(length), behind].concat();
                let read = Chunked::new().read(line.as_bytes());
                assert_eq!(read.is_err(), is_refused, "{before} {length}");
            }
        }
    }

    #[test]
    fn malformed_bodies_are_refused() {
        for malformed in [
            &b"xyz\r\n"[..],
            b"\r\n",
            b"-1\r\n",
            b"11111111111111111\r\n",
            b"1\r\nab\r\n",
        ] {
            assert_eq!(Chunked::new().read(malformed), Err(Malformed));
        }
    }

    #[test]
    fn the_last_chunk_is_told_from_a_number_that_ends_in_zero() {
        assert!(ends_with_last_chunk(b"abc\r\n0\r\n\r\n", false));
        assert!(ends_with_last_chunk(b"\r\n0\r\nA: b\r\n\r\n", false));
        assert!(ends_with_last_chunk(b"0\r\n\r\n", true));
        assert!(!ends_with_last_chunk(b"0\r\n\r\n", false));
        assert!(!ends_with_last_chunk(b"\r\n10\r\n\r\n", false));
        assert!(!ends_with_last_chunk(b"\r\n0\r\n", false));
        assert!(ends_with_last_chunk(b"ab\r\n0;x=y\r\n\r\n", false));
        assert!(ends_with_last_chunk(
            b"ab\r\n000\r\nA: b\r\nB:\r\n\r\n",
            false
        ));
        assert!(ends_with_last_chunk(b"0 ; x\r\n\r\n", true));
        assert!(!ends_with_last_chunk(b"ab\r\n0x\r\n\r\n", false));
        assert!(!ends_with_last_chunk(b"0\r\nab\r\n;x\r\n\r\n", false));
        assert!(!ends_with_last_chunk(b"ab\r\n\r\n\r\n", false));
        assert!(!ends_with_last_chunk(b"a\r\n0\r\nnotrailer\r\n\r\n", false));
        assert!(!ends_with_last_chunk(b"a\r\n0\r\n:none\r\n\r\n", false));
        // What follows the last chunk is nothing but trailers.
        assert!(!ends_with_last_chunk(
            b"ab\r\n0\r\nno trailer\r\n\r\n",
            false
        ));
    }
}
