//! One append-only file of records, and how records are found in it, damaged or not.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::count::Counts;
use crate::fault::{Hook, Operation};
use crate::format::{RECORD_HEADER, RECORD_MAGIC, RecordHeader};

/// What is read at a time.
const CHUNK: usize = 128 << 10;

/// What is known of a file of records.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    /// The sequence of the first record.
    pub(crate) first: u64,
    /// One past that of the last.
    pub(crate) next: u64,
    /// Bytes that hold records; what may stand behind them was never acknowledged.
    pub(crate) length: u64,
    /// What the sums begin with.
    pub(crate) seed: u32,
    /// What has not ended yet.
    pub(crate) live: Counts,
    /// The queue's clock at the newest record.
    pub(crate) newest: u64,
}

/// The file name of the segment that begins with a sequence.
pub(crate) fn file_name(first: u64) -> String {
    format!("{first:020}.seg")
}

/// The sequence in a segment's file name.
pub(crate) fn sequence_in(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(".seg")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// A file that is read from front to back, in large pieces.
#[derive(Debug)]
pub(crate) struct Reader {
    file: File,
    hook: Hook,
    buffer: Vec<u8>,
    start: u64,
}

impl Reader {
    pub(crate) fn open(path: &Path, hook: Hook) -> io::Result<Self> {
        hook.before(Operation::Read)?;
        Ok(Self {
            file: File::open(path)?,
            hook,
            buffer: Vec::new(),
            start: 0,
        })
    }

    pub(crate) fn file_length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Up to `wanted` bytes; fewer only where `end`, or the file, comes first. Never reads beyond `end`, as that may be
    /// written again.
    pub(crate) fn get(&mut self, at: u64, wanted: usize, end: u64) -> io::Result<&[u8]> {
        let left = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX);
        let wanted = wanted.min(left);
        let held = at
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok())
            .filter(|skip| skip + wanted <= self.buffer.len());
        let skip = match held {
            Some(skip) => skip,
            None => {
                self.hook.before(Operation::Read)?;
                self.buffer.resize(wanted.max(CHUNK.min(left)), 0);
                self.start = at;
                let got = read_some(&self.file, &mut self.buffer, at);
                self.buffer.truncate(*got.as_ref().unwrap_or(&0));
                got?;
                0
            }
        };
        let until = (skip + wanted).min(self.buffer.len());
        Ok(self.buffer.get(skip..until).unwrap_or_default())
    }

    /// A body, which may be larger than what is kept.
    pub(crate) fn body(&mut self, at: u64, length: usize, end: u64) -> io::Result<Vec<u8>> {
        if length <= CHUNK {
            return Ok(self.get(at, length, end)?.to_vec());
        }
        self.hook.before(Operation::Read)?;
        let mut body = vec![0; length];
        let got = read_some(&self.file, &mut body, at)?;
        body.truncate(got);
        Ok(body)
    }

    /// The first whole record at or behind `at`, with a sequence of at least `least`, and where it is.
    pub(crate) fn find(
        &mut self,
        at: u64,
        end: u64,
        seed: u32,
        least: u64,
    ) -> io::Result<Option<(u64, RecordHeader)>> {
        let mut at = at;
        loop {
            if let Some(header) = self.header(at, end, seed, least)? {
                return Ok(Some((at, header)));
            }
            match self.next_magic(at + 1, end)? {
                Some(next) => at = next,
                None => return Ok(None),
            }
        }
    }

    fn header(
        &mut self,
        at: u64,
        end: u64,
        seed: u32,
        least: u64,
    ) -> io::Result<Option<RecordHeader>> {
        let header = RecordHeader::decode(self.get(at, RECORD_HEADER, end)?, seed);
        Ok(header.filter(|header| header.sequence >= least && at + header.size() <= end))
    }

    fn next_magic(&mut self, from: u64, end: u64) -> io::Result<Option<u64>> {
        let mut from = from;
        loop {
            let piece = self.get(from, CHUNK, end)?;
            let found = piece
                .windows(RECORD_MAGIC.len())
                .position(|window| window == RECORD_MAGIC);
            if let Some(skip) = found {
                return Ok(Some(from + skip as u64));
            }
            // The last bytes may be the beginning of a magic.
            let step = piece.len().saturating_sub(RECORD_MAGIC.len() - 1);
            if step == 0 {
                return Ok(None);
            }
            from += step as u64;
        }
    }
}

/// As much as there is.
fn read_some(file: &File, mut into: &mut [u8], at: u64) -> io::Result<usize> {
    let mut got = 0;
    while !into.is_empty() {
        match file.read_at(into, at + got as u64) {
            Ok(0) => break,
            Ok(n) => {
                got += n;
                into = into.get_mut(n..).unwrap_or_default();
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}
