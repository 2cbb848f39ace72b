//! Compression of requests and of answers, the same for all transports.

use std::fmt;
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flate2::{Compress, Crc, FlushCompress, Status};
use zstd::zstd_safe::compress_bound;

use crate::error::ExporterError;
use crate::settings::Compression;

/// Most encoders that wait for the next request, and the largest buffer that waits with one.
const IDLE: usize = 8;
const IDLE_BYTES: usize = 1024 * 1024;
/// The level where none is set: gzip-1 costs a fifth of the usual level and makes a request a fifth larger.
const LEVEL: i32 = 1;
/// No header field but the method and, as the system, "unknown".
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// 8 MiB: what every decoder of zstd has to support, and no answer needs more.
const ZSTD_WINDOW_LOG: u32 = 23;

enum Method {
    Gzip(Compress),
    Zstd(zstd::bulk::Compressor<'static>),
}

/// An encoder with its buffer; both are used again for the next request.
struct State {
    method: Method,
    out: Vec<u8>,
}

/// Compresses the requests of one destination. Each worker has an encoder at work at most, and what waits is bounded.
pub(super) struct Encoder {
    compression: Compression,
    level: i32,
    idle: Mutex<Vec<State>>,
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("compression", &self.compression)
            .field("level", &self.level)
            .finish_non_exhaustive()
    }
}

impl Encoder {
    pub(super) fn new(compression: Compression, level: Option<i32>) -> Result<Self, ExporterError> {
        let level = level.unwrap_or(LEVEL);
        let (name, levels) = match compression {
            Compression::None => ("none", i32::MIN..=i32::MAX),
            Compression::Gzip => ("gzip", 0..=9),
            Compression::Zstd => ("zstd", -7..=22),
        };
        if !levels.contains(&level) {
            return Err(ExporterError::CompressionLevel {
                level,
                name,
                least: *levels.start(),
                most: *levels.end(),
            });
        }
        Ok(Self {
            compression,
            level,
            idle: Mutex::default(),
        })
    }

    /// The name of the encoding, if there is any.
    pub(super) fn name(&self) -> Option<&'static str> {
        match self.compression {
            Compression::None => None,
            Compression::Gzip => Some("gzip"),
            Compression::Zstd => Some("zstd"),
        }
    }

    /// Appends the body, compressed. One allocation of the exact size: what was needed on the way is kept.
    pub(super) fn append(&self, body: &[u8], to: &mut Vec<u8>) -> io::Result<()> {
        let idle = self.lock().pop();
        let mut state = match idle {
            Some(state) => state,
            None => State {
                method: match self.compression {
                    Compression::None => {
                        to.extend_from_slice(body);
                        return Ok(());
                    }
                    Compression::Gzip => {
                        let level = flate2::Compression::new(self.level.unsigned_abs());
                        Method::Gzip(Compress::new(level, false))
                    }
                    Compression::Zstd => Method::Zstd(zstd::bulk::Compressor::new(self.level)?),
                },
                out: Vec::new(),
            },
        };
        state.out.clear();
        match &mut state.method {
            Method::Gzip(deflate) => gzip_with(deflate, body, &mut state.out)?,
            Method::Zstd(zstd) => {
                state.out.reserve(compress_bound(body.len()));
                zstd.compress_to_buffer(body, &mut state.out)?;
            }
        }
        to.reserve_exact(state.out.len());
        to.extend_from_slice(&state.out);
        if state.out.capacity() > IDLE_BYTES {
            state.out = Vec::new();
        }
        let mut idle = self.lock();
        if idle.len() < IDLE {
            idle.push(state);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<State>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gzip_with(deflate: &mut Compress, body: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    deflate.reset();
    out.extend_from_slice(&GZIP_HEAD);
    loop {
        let read = usize::try_from(deflate.total_in()).map_err(io::Error::other)?;
        out.reserve((body.len() / 4).max(512));
        let left = body.get(read..).unwrap_or_default();
        if deflate.compress_vec(left, out, FlushCompress::Finish)? == Status::StreamEnd {
            break;
        }
    }
    let mut crc = Crc::new();
    crc.update(body);
    out.extend_from_slice(&crc.sum().to_le_bytes());
    out.extend_from_slice(&crc.amount().to_le_bytes());
    Ok(())
}

/// gzip at our usual level, for who has one request in a minute.
pub(crate) fn gzip(body: &[u8]) -> io::Result<Bytes> {
    let level = flate2::Compression::new(LEVEL.unsigned_abs());
    let mut out = Vec::new();
    gzip_with(&mut Compress::new(level, false), body, &mut out)?;
    Ok(out.into())
}

/// Why an answer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    TooLong,
    Broken,
}

/// An answer as it was before its encoding, up to a limit.
pub(super) fn decoded(encoding: &str, body: Bytes, limit: usize) -> Result<Bytes, Unreadable> {
    let most = limit as u64 + 1;
    let mut out = Vec::new();
    let result = match encoding.trim() {
        "" | "identity" => return Ok(body),
        "gzip" => flate2::read::MultiGzDecoder::new(&*body)
            .take(most)
            .read_to_end(&mut out),
        "zstd" => zstd::stream::read::Decoder::with_buffer(&*body).and_then(|mut decoder| {
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            decoder.take(most).read_to_end(&mut out)
        }),
        _ => return Err(Unreadable::Broken),
    };
    if out.len() > limit {
        return Err(Unreadable::TooLong);
    }
    result.map_err(|_| Unreadable::Broken)?;
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(encoder: &Encoder, body: &[u8]) -> Bytes {
        let mut out = Vec::new();
        encoder.append(body, &mut out).unwrap();
        out.into()
    }

    proptest::proptest! {
        #[test]
        fn what_is_compressed_is_read_as_it_was_with_an_encoder_that_is_used_again(
            bodies in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..20_000), 1..4),
            level in 0..10,
        ) {
            for compression in [Compression::Gzip, Compression::Zstd] {
                let encoder = Encoder::new(compression, Some(level)).unwrap();
                for body in &bodies {
                    let out = encoded(&encoder, body);
                    let name = encoder.name().unwrap();
                    assert_eq!(decoded(name, out, body.len()).unwrap(), body);
                }
                assert_eq!(encoder.lock().len(), 1);
            }
        }

        #[test]
        fn any_bytes_are_an_answer(bytes: Vec<u8>) {
            for encoding in ["gzip", "zstd", "br"] {
                decoded(encoding, bytes.clone().into(), 1000).unwrap_or_default();
            }
        }
    }

    #[test]
    fn an_answer_that_is_small_only_while_compressed_is_not_inflated_beyond_the_limit() {
        let bomb = vec![0; 50_000_000];
        for compression in [Compression::Gzip, Compression::Zstd] {
            let encoder = Encoder::new(compression, None).unwrap();
            let small = encoded(&encoder, &bomb);
            assert!(small.len() < 300_000);
            let read = decoded(encoder.name().unwrap(), small, 4 << 20);
            assert_eq!(read, Err(Unreadable::TooLong));
        }
    }

    #[test]
    fn a_higher_level_makes_it_smaller_and_an_unknown_one_is_refused() {
        let body: Vec<u8> = (0..20_000_u32)
            .flat_map(|n| (n * n % 1009).to_le_bytes())
            .collect();
        for (compression, high) in [(Compression::Gzip, 9), (Compression::Zstd, 19)] {
            let size = |level| {
                let encoder = Encoder::new(compression, Some(level)).unwrap();
                encoded(&encoder, &body).len()
            };
            assert!(size(high) < size(1), "{compression:?}");
            let error = Encoder::new(compression, Some(100))
                .unwrap_err()
                .to_string();
            assert!(error.contains("100"), "{error}");
        }
    }
}
