//! OTLP/JSON from the encoded request: what is queued is protobuf, whatever form a destination wants.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use smallvec::SmallVec;

use super::fields::{Fields, Wire, varint};
use super::json::Out;
use super::schema::{self, Field, Kind};
use crate::carried::Signal;

/// Deepest nesting of a value in a value. Ours have one; a bound keeps any input from using up the stack.
const DEEPEST: usize = 64;

/// Which request it is.
#[derive(Clone, Copy, Debug)]
pub struct Root(&'static [Field]);

impl Root {
    /// `ExportTraceServiceRequest`
    pub const TRACES: Self = Self(&schema::TRACES);
    /// `ExportMetricsServiceRequest`
    pub const METRICS: Self = Self(&schema::METRICS);
    /// `ExportLogsServiceRequest`
    pub const LOGS: Self = Self(&schema::LOGS);

    /// That of a signal.
    pub fn of(signal: Signal) -> Self {
        match signal {
            Signal::Traces => Self::TRACES,
            Signal::Metrics => Self::METRICS,
            Signal::Logs => Self::LOGS,
        }
    }
}

/// The request as one JSON object: keys in lowerCamelCase, identifiers in hex, other bytes in base64, enumerations as
/// numbers, 64-bit integers as strings. `None` for what is no request.
pub fn json_of(root: Root, request: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(request.len() * 5 / 2 + 2);
    message(root.0, request, 0, &mut out)?;
    Some(out)
}

fn message(schema: &[Field], bytes: &[u8], depth: usize, out: &mut Vec<u8>) -> Option<()> {
    if depth > DEEPEST {
        return None;
    }
    let mut fields = Fields::new(bytes);
    let mut found: SmallVec<[(&Field, Wire<'_>); 32]> = SmallVec::new();
    for field in &mut fields {
        // What is not known is left out; the schema is in the order of the numbers.
        if let Ok(at) = schema.binary_search_by_key(&field.number, |known| known.number) {
            found.push((schema.get(at)?, field.wire));
        }
    }
    if !fields.came_to_the_end() {
        return None;
    }
    // Stable: the parts of a list keep their order, and of two values of one field the last one stays last.
    found.sort_by_key(|(field, _)| field.number);
    out.push(b'{');
    let mut first = true;
    for group in found.chunk_by(|(one, _), (other, _)| one.number == other.number) {
        let (field, last) = *group.last()?;
        if !std::mem::take(&mut first) {
            out.push(b',');
        }
        let mut write = Out(out);
        write.raw("\"");
        write.raw(field.name);
        write.raw("\":");
        if field.repeated {
            list(field.kind, group.iter().map(|(_, wire)| *wire), depth, out)?;
        } else {
            value(field.kind, last, depth, out)?;
        }
    }
    out.push(b'}');
    Some(())
}

fn list<'a>(
    kind: Kind,
    values: impl Iterator<Item = Wire<'a>>,
    depth: usize,
    out: &mut Vec<u8>,
) -> Option<()> {
    out.push(b'[');
    let mut first = true;
    for wire in values {
        let packed = match (kind, wire) {
            (Kind::Text | Kind::Hex | Kind::Base64 | Kind::Message(_), _) => None,
            (_, Wire::Bytes(packed)) => Some(packed),
            _ => None,
        };
        let Some(mut packed) = packed else {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            value(kind, wire, depth, out)?;
            continue;
        };
        while !packed.is_empty() {
            if !std::mem::take(&mut first) {
                out.push(b',');
            }
            let wire = unpack(kind, &mut packed)?;
            value(kind, wire, depth, out)?;
        }
    }
    out.push(b']');
    Some(())
}

/// The next of a packed list.
fn unpack<'a>(kind: Kind, packed: &mut &'a [u8]) -> Option<Wire<'a>> {
    if let Kind::Varints = kind {
        return varint(packed).map(Wire::Varint);
    }
    let (eight, rest) = packed.split_at_checked(8)?;
    *packed = rest;
    Some(Wire::Fixed64(u64::from_le_bytes(eight.try_into().ok()?)))
}

fn value(kind: Kind, wire: Wire<'_>, depth: usize, out: &mut Vec<u8>) -> Option<()> {
    let number = match wire {
        Wire::Varint(number) | Wire::Fixed64(number) => number,
        Wire::Fixed32(number) => number.into(),
        Wire::Bytes(_) => 0,
    };
    let mut write = Out(out);
    match (kind, wire) {
        (Kind::Message(schema), Wire::Bytes(bytes)) => {
            return message(schema, bytes, depth + 1, out);
        }
        (Kind::Text, Wire::Bytes(bytes)) => write.string(&String::from_utf8_lossy(bytes)),
        (Kind::Hex, Wire::Bytes(bytes)) => {
            write.raw("\"");
            for byte in bytes {
                write.fmt(format_args!("{byte:02x}"));
            }
            write.raw("\"");
        }
        (Kind::Base64, Wire::Bytes(bytes)) => {
            write.raw("\"");
            write.raw(&STANDARD.encode(bytes));
            write.raw("\"");
        }
        (_, Wire::Bytes(_)) | (Kind::Message(_) | Kind::Text | Kind::Hex | Kind::Base64, _) => {
            return None;
        }
        (Kind::Bool, _) => write.fmt(format_args!("{}", number != 0)),
        // The casts only reinterpret the bits, as the wire format asks for.
        (Kind::Small, _) => write.fmt(format_args!("{}", number as u32)),
        (Kind::Zigzag, _) => {
            let number = number as u32;
            write.fmt(format_args!(
                "{}",
                (number >> 1) as i32 ^ -((number & 1) as i32)
            ));
        }
        (Kind::Unsigned | Kind::Varints, _) => write.fmt(format_args!("\"{number}\"")),
        (Kind::Signed, _) => write.fmt(format_args!("\"{}\"", number as i64)),
        (Kind::Double, _) => write.double(f64::from_bits(number)),
    }
    Some(())
}

#[cfg(test)]
#[path = "transcode_tests.rs"]
mod tests;
