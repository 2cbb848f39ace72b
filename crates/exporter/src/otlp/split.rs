//! Cuts an encoded request into smaller ones, without decoding what is in it.

use bytes::Bytes;

use super::fields::{Fields, Wire};
use super::wire::Sink;
use crate::carried::Signal;

/// Which fields lead from the request to its items, level by level; the last level is the items themselves.
#[derive(Clone, Copy, Debug)]
pub struct Shape(&'static [&'static [u64]]);

impl Shape {
    /// `ExportTraceServiceRequest`: its items are spans.
    pub const TRACES: Self = Self(&[&[1], &[2], &[2]]);
    /// `ExportMetricsServiceRequest`: its items are data points, of any kind of metric.
    pub const METRICS: Self = Self(&[&[1], &[2], &[2], &[5, 7, 9, 10, 11], &[1]]);
    /// `ExportLogsServiceRequest`: its items are log records.
    pub const LOGS: Self = Self::TRACES;

    /// The shape of a signal's requests.
    pub fn of(signal: Signal) -> Self {
        match signal {
            Signal::Traces => Self::TRACES,
            Signal::Metrics => Self::METRICS,
            Signal::Logs => Self::LOGS,
        }
    }
}

/// A request made of some of the items of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The request.
    pub body: Bytes,
    /// Items in it.
    pub items: usize,
}

/// Cuts a request into two of as many items each, in their order. What stands around the items (resource, scope,
/// name of the metric) is in both where both need it; what has no items is in none. `None` for a request of fewer
/// than two items, or for what is no request.
pub fn split_in_two(shape: Shape, body: &[u8]) -> Option<[Part; 2]> {
    let items = count(shape.0, body)?;
    let middle = items / 2;
    if middle == 0 {
        return None;
    }
    let part = |from: usize, to: usize| {
        let mut out = Vec::with_capacity(body.len() / 2 + 256);
        let mut cursor = Cursor { at: 0, from, to };
        copy(shape.0, body, &mut cursor, &mut out)?;
        Some(Part {
            body: out.into(),
            items: to - from,
        })
    };
    Some([part(0, middle)?, part(middle, items)?])
}

fn count(levels: &[&[u64]], message: &[u8]) -> Option<usize> {
    let (children, below) = levels.split_first()?;
    let mut fields = Fields::new(message);
    let mut items = 0;
    for field in &mut fields {
        let Wire::Bytes(content) = field.wire else {
            continue;
        };
        if children.contains(&field.number) {
            items += if below.is_empty() {
                1
            } else {
                count(below, content)?
            };
        }
    }
    fields.came_to_the_end().then_some(items)
}

/// Counts items while they pass, and lets those of a range through.
struct Cursor {
    at: usize,
    from: usize,
    to: usize,
}

impl Cursor {
    fn lets_through(&mut self) -> bool {
        let through = (self.from..self.to).contains(&self.at);
        self.at += 1;
        through
    }
}

/// Appends the message with the items of the range only; whether there was one.
fn copy(levels: &[&[u64]], message: &[u8], cursor: &mut Cursor, out: &mut Vec<u8>) -> Option<bool> {
    let (children, below) = levels.split_first()?;
    let mut fields = Fields::new(message);
    let mut any = false;
    for field in &mut fields {
        match field.wire {
            Wire::Bytes(_) if children.contains(&field.number) && below.is_empty() => {
                if cursor.lets_through() {
                    out.extend_from_slice(field.raw);
                    any = true;
                }
            }
            Wire::Bytes(content) if children.contains(&field.number) => {
                let mut inner = Vec::new();
                if copy(below, content, cursor, &mut inner)? {
                    out.bytes(u32::try_from(field.number).ok()?, &inner);
                    any = true;
                }
            }
            _ => out.extend_from_slice(field.raw),
        }
    }
    fields.came_to_the_end().then_some(any)
}

#[cfg(test)]
#[path = "split_tests.rs"]
mod tests;
