//! Protobuf on the wire: one description of a message serves both to measure and to write it.

/// Takes the parts of a message, either to count their bytes or to write them.
pub(crate) trait Sink: Sized {
    fn raw(&mut self, bytes: &[u8]);
    fn varint(&mut self, value: u64);
    /// An embedded message, whose length comes before it.
    fn message<M: Message>(&mut self, field: u32, message: &M);

    /// The same, where the length is known already.
    #[inline]
    fn message_of<M: Message>(&mut self, field: u32, length: usize, message: &M) {
        self.tag(field, 2);
        self.varint(length as u64);
        message.write(self);
    }

    #[inline]
    fn tag(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from(field << 3 | wire_type));
    }

    #[inline]
    fn bytes(&mut self, field: u32, value: &[u8]) {
        self.tag(field, 2);
        self.varint(value.len() as u64);
        self.raw(value);
    }

    #[inline]
    fn text(&mut self, field: u32, value: &str) {
        if !value.is_empty() {
            self.bytes(field, value.as_bytes());
        }
    }

    /// A varint, left out where it is zero, as proto3 does.
    #[inline]
    fn number(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.tag(field, 0);
            self.varint(value);
        }
    }

    fn signed(&mut self, field: u32, value: i32) {
        // ZigZag; the casts only reinterpret the bits.
        self.number(field, u64::from(((value << 1) ^ (value >> 31)) as u32));
    }

    #[inline]
    fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, 1);
        self.raw(&value.to_le_bytes());
    }

    #[inline]
    fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, 5);
        self.raw(&value.to_le_bytes());
    }

    fn double(&mut self, field: u32, value: f64) {
        self.fixed64(field, value.to_bits());
    }
}

/// Something with fields of its own.
pub(crate) trait Message {
    fn write<S: Sink>(&self, sink: &mut S);
}

/// Counts bytes.
#[derive(Default)]
pub(crate) struct Length(pub(crate) usize);

impl Sink for Length {
    #[inline]
    fn raw(&mut self, bytes: &[u8]) {
        self.0 += bytes.len();
    }

    #[inline]
    fn varint(&mut self, value: u64) {
        self.0 += varint_len(value);
    }

    #[inline]
    fn message<M: Message>(&mut self, field: u32, message: &M) {
        self.0 += field_len(field, length_of(message));
    }
}

impl Sink for Vec<u8> {
    #[inline(always)]
    fn raw(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    #[inline(always)]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.push(value as u8);
    }

    #[inline(always)]
    fn bytes(&mut self, field: u32, value: &[u8]) {
        let tag = field << 3 | 2;
        if tag < 0x80 && value.len() < 0x80 {
            // Nearly all are short: tag and length go in together.
            self.extend_from_slice(&[tag as u8, value.len() as u8]);
        } else {
            self.varint(u64::from(tag));
            self.varint(value.len() as u64);
        }
        self.extend_from_slice(value);
    }

    /// In one pass: the length is known once the message is written, and nearly always fits the byte left for it.
    #[inline(always)]
    fn message<M: Message>(&mut self, field: u32, message: &M) {
        self.tag(field, 2);
        let at = self.len();
        self.push(0);
        message.write(self);
        let length = self.len() - at - 1;
        if length < 0x80
            && let Some(place) = self.get_mut(at)
        {
            *place = length as u8;
        } else {
            make_room(self, at, length);
        }
    }
}

/// Puts a length of more than one byte at `at`, where there is room for one byte.
#[cold]
fn make_room(out: &mut Vec<u8>, at: usize, length: usize) {
    let mut prefix = Vec::with_capacity(10);
    prefix.varint(length as u64);
    out.splice(at..at + 1, prefix);
}

/// Length of a message without its tag.
#[inline]
pub(crate) fn length_of<M: Message>(message: &M) -> usize {
    let mut length = Length::default();
    message.write(&mut length);
    length.0
}

/// Length of a field that holds `len` bytes: tag, length and content.
#[inline]
pub(crate) fn field_len(field: u32, len: usize) -> usize {
    varint_len(u64::from(field << 3)) + varint_len(len as u64) + len
}

#[inline]
fn varint_len(value: u64) -> usize {
    // Seven bits a byte, and at least one byte.
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nested<'a>(&'a [u8], usize);

    impl Message for Nested<'_> {
        fn write<S: Sink>(&self, sink: &mut S) {
            match self.1 {
                0 => sink.bytes(3, self.0),
                depth => sink.message(2, &Self(self.0, depth - 1)),
            }
        }
    }

    #[test]
    fn a_message_of_any_length_has_its_length_before_it() {
        for size in [0, 1, 100, 123, 124, 125, 126, 127, 128, 129, 20_000] {
            let content = vec![7; size];
            let mut out = b"before".to_vec();
            out.message(9, &Nested(&content, 2));
            let mut rest = &out[6..];
            for tag in [9 << 3 | 2, 2 << 3 | 2, 2 << 3 | 2, 3 << 3 | 2] {
                assert_eq!(rest[0], tag, "{size}");
                let (mut length, mut shift, mut at) = (0_usize, 0, 1);
                loop {
                    length |= usize::from(rest[at] & 0x7f) << shift;
                    (shift, at) = (shift + 7, at + 1);
                    if rest[at - 1] < 0x80 {
                        break;
                    }
                }
                rest = &rest[at..];
                assert_eq!(rest.len(), length, "{size}");
            }
            assert_eq!(rest, content);
            assert_eq!(out.len() - 6, field_len(9, length_of(&Nested(&content, 2))));
        }
    }

    #[test]
    fn a_varint_is_as_long_as_it_is_said_to_be() {
        for shift in 0..64 {
            for value in [(1_u64 << shift) - 1, 1 << shift, u64::MAX >> shift] {
                let mut out = Vec::new();
                out.varint(value);
                assert_eq!(out.len(), varint_len(value), "{value}");
            }
        }
    }
}
