//! Puts a head together from the messages that carry it.

use super::detect;
use super::half::{Half, HeadStart, Piece};
use super::head::{self, Read};
use crate::protocol::Detection;
use crate::stream::Region;

/// What has been put together of a head.
pub(super) enum Gathered<T> {
    /// The message is used up; more is needed.
    More,
    Head(T, HeadStart),
    /// These bytes, and then something that was not copied, or too much.
    Cut(Vec<u8>, Option<HeadStart>),
    /// A head may be here, but was not copied.
    Hidden,
    /// What is here is none.
    Invalid(Option<HeadStart>),
}

/// Reads a head from the piece and what earlier messages brought of it.
pub(super) fn gather<T>(
    half: &mut Half,
    piece: &mut Piece,
    limit: usize,
    mut read: impl FnMut(&[u8]) -> Read<T>,
) -> Gathered<T> {
    let bytes = match piece.chunk.region(piece.offset) {
        Some(Region::Bytes(bytes)) => bytes,
        Some(Region::Hidden(_)) if half.has_partial_head() => {
            return Gathered::Cut(
                std::mem::take(&mut half.buffer),
                half.start.take().map(|start| *start),
            );
        }
        Some(Region::Hidden(_)) => return Gathered::Hidden,
        None => return Gathered::More,
    };
    let old = half.buffer.len();
    if old == 0 {
        if piece.chunk.position + piece.offset == 0
            && let Some(length) = detect::proxy_header(bytes)
        {
            piece.offset += length as u64;
            return Gathered::More;
        }
        let blanks = head::blanks(bytes);
        piece.offset += blanks as u64;
        let bytes = bytes.get(blanks..).unwrap_or_default();
        if bytes.is_empty() {
            return Gathered::More;
        }
        let start = HeadStart {
            position: piece.chunk.position + piece.offset,
            meta: piece.chunk.meta,
            arrival_known: piece.offset == blanks as u64 && piece.chunk.whole,
            before: if piece.offset == blanks as u64 {
                half.before
            } else {
                piece.chunk.meta.time
            },
        };
        match read(bytes) {
            Read::Head(head, length) => {
                piece.offset += length as u64;
                return Gathered::Head(head, start);
            }
            Read::Invalid => return Gathered::Invalid(Some(start)),
            Read::Partial => {}
        }
        half.start = Some(Box::new(start));
        half.buffer.extend_from_slice(bytes);
        piece.offset += bytes.len() as u64;
    } else {
        half.buffer.extend_from_slice(bytes);
        // A head that is not one shows in its first bytes: ask again while it is short.
        let short = old < 64 && detect::detect(&half.buffer) == Detection::No;
        if short || head::head_end(&half.buffer, old).is_some() {
            return match read(&half.buffer) {
                Read::Head(head, length) => {
                    piece.offset += length.saturating_sub(old).min(bytes.len()) as u64;
                    half.buffer.clear();
                    match half.start.take() {
                        Some(start) => Gathered::Head(head, *start),
                        None => Gathered::Invalid(None),
                    }
                }
                Read::Partial | Read::Invalid => {
                    half.buffer.clear();
                    Gathered::Invalid(half.start.take().map(|start| *start))
                }
            };
        }
        piece.offset += bytes.len() as u64;
    }
    let hidden = matches!(piece.chunk.region(piece.offset), Some(Region::Hidden(_)));
    if hidden || half.buffer.len() > limit {
        return Gathered::Cut(
            std::mem::take(&mut half.buffer),
            half.start.take().map(|start| *start),
        );
    }
    Gathered::More
}
