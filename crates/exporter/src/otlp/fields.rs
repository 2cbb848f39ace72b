//! Protobuf read field by field, without a schema and without a copy.

/// What a field holds, by its wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wire<'a> {
    Varint(u64),
    Fixed64(u64),
    Fixed32(u32),
    Bytes(&'a [u8]),
}

/// One field of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Field<'a> {
    pub(crate) number: u64,
    pub(crate) wire: Wire<'a>,
    /// All of it, tag and length included.
    pub(crate) raw: &'a [u8],
}

/// Walks the fields of a message; ends at the first byte that is not protobuf.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    left: &'a [u8],
    broken: bool,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(message: &'a [u8]) -> Self {
        Self {
            left: message,
            broken: false,
        }
    }

    /// Whether the walk came to the end of the message, and not to something that is not protobuf.
    pub(crate) fn came_to_the_end(&self) -> bool {
        self.left.is_empty() && !self.broken
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.left.split_at_checked(length)?;
        self.left = rest;
        Some(taken)
    }

    fn field(&mut self) -> Option<Field<'a>> {
        let whole = self.left;
        let tag = varint(&mut self.left)?;
        let wire = match tag & 7 {
            0 => Wire::Varint(varint(&mut self.left)?),
            1 => Wire::Fixed64(u64::from_le_bytes(self.take(8)?.try_into().ok()?)),
            2 => {
                let length = usize::try_from(varint(&mut self.left)?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        let raw = whole.get(..whole.len() - self.left.len())?;
        Some(Field {
            number: tag >> 3,
            wire,
            raw,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left.is_empty() || self.broken {
            return None;
        }
        let field = self.field();
        self.broken = field.is_none();
        field
    }
}

/// One varint, taken from the front.
pub(crate) fn varint(from: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = from.split_first()?;
        *from = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
