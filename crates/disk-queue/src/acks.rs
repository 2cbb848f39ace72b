//! The files that hold which records have ended.
//!
//! They only ever grow the set of ended records, so any number of them, in any order and partly damaged, may be read:
//! what is missing is delivered again. A new file begins with the whole set; the older ones go once it is on the disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::done::Done;
use crate::error::OpenError;
use crate::fault::{Hook, Operation};
use crate::format::{ACK_ENTRY, VERSION, ack_version, decode_ack, encode_ack};

/// A file that has grown to this is followed by a new one.
const FULL: u64 = 64 << 10;
/// A file larger than this was not written by us.
const LARGEST: u64 = 16 << 20;

/// Writes ended records down.
#[derive(Debug)]
pub(crate) struct Acks {
    directory: PathBuf,
    hook: Hook,
    number: u64,
    current: Option<(Arc<File>, u64)>,
    path: Option<PathBuf>,
    /// Files that the current one replaces.
    replaced: Vec<PathBuf>,
}

/// The number in the name of such a file.
pub(crate) fn number_in(name: &str) -> Option<u64> {
    name.strip_prefix("acks-")?.parse().ok()
}

impl Acks {
    /// Reads what is there; also returns how many entries were damaged. Fails where a newer program wrote one.
    pub(crate) fn open(
        directory: &Path,
        numbers: &[u64],
        hook: Hook,
    ) -> Result<(Self, Done, u64), OpenError> {
        let (mut done, mut damaged) = (Done::default(), 0);
        let mut replaced = Vec::new();
        for number in numbers {
            let path = directory.join(format!("acks-{number}"));
            let small = fs::metadata(&path).is_ok_and(|found| found.len() <= LARGEST);
            match small.then(|| fs::read(&path)) {
                Some(Ok(bytes)) => {
                    for entry in bytes.chunks(ACK_ENTRY) {
                        if let Some(version) = ack_version(entry).filter(|it| *it > VERSION) {
                            return Err(OpenError::newer(&path, version));
                        }
                        match decode_ack(entry) {
                            Some((from, to)) => done.insert(from, to),
                            // Cut off while it was written.
                            None if entry.len() < ACK_ENTRY => {}
                            None => damaged += 1,
                        }
                    }
                }
                _ => damaged += 1,
            }
            replaced.push(path);
        }
        let acks = Self {
            directory: directory.to_owned(),
            hook,
            number: numbers.iter().max().copied().unwrap_or(0),
            current: None,
            path: None,
            replaced,
        };
        Ok((acks, done, damaged))
    }

    /// Writes ranges down. `all` is the whole set, which holds them already.
    pub(crate) fn write(&mut self, ranges: &[(u64, u64)], all: &Done) -> io::Result<()> {
        let written = match &mut self.current {
            Some((file, length)) if *length < FULL => {
                let mut bytes = Vec::with_capacity(ranges.len() * ACK_ENTRY);
                for &(from, to) in ranges {
                    bytes.extend_from_slice(&encode_ack(from, to));
                }
                self.hook
                    .before(Operation::Write)
                    .and_then(|()| file.write_all_at(&bytes, *length))
                    .map(|()| *length += bytes.len() as u64)
            }
            _ => self.begin(all),
        };
        if written.is_err()
            && let Some(path) = self.path.take()
        {
            // What was not written down is in the set, so in the next file.
            self.current = None;
            self.replaced.push(path);
        }
        written
    }

    fn begin(&mut self, all: &Done) -> io::Result<()> {
        self.number = self.number.saturating_add(1);
        let path = self.directory.join(format!("acks-{}", self.number));
        self.hook.before(Operation::Create)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        let mut bytes = Vec::new();
        for (from, to) in all.ranges() {
            bytes.extend_from_slice(&encode_ack(from, to));
        }
        let written = self
            .hook
            .before(Operation::Write)
            .and_then(|()| file.write_all_at(&bytes, 0));
        if let Err(error) = written {
            self.replaced.push(path);
            return Err(error);
        }
        self.replaced.extend(self.path.replace(path));
        // A set that alone fills a file would make a new file of each write.
        let length = bytes.len() as u64;
        self.current = Some((Arc::new(file), length));
        Ok(())
    }

    /// The file to sync, if there is one.
    pub(crate) fn file(&self) -> Option<Arc<File>> {
        self.current.as_ref().map(|(file, _)| Arc::clone(file))
    }

    /// What may be removed once the current file is on the disk.
    pub(crate) fn take_replaced(&mut self) -> Vec<PathBuf> {
        if self.current.is_none() {
            return Vec::new();
        }
        std::mem::take(&mut self.replaced)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_entries_are_counted_and_what_was_cut_off_while_it_was_written_is_not() {
        let root = tempfile::tempdir().unwrap();
        let damaged = [0xff; ACK_ENTRY];
        let entries = [
            &encode_ack(0, 2)[..],
            &damaged,
            &encode_ack(5, 7),
            &damaged,
            &encode_ack(9, 10),
            &encode_ack(20, 30)[..ACK_ENTRY - 1],
        ];
        fs::write(root.path().join("acks-1"), entries.concat()).unwrap();
        let open = |numbers: &[u64]| Acks::open(root.path(), numbers, Hook::default()).unwrap();
        let (_, done, counted) = open(&[1]);
        let ranges: Vec<_> = done.ranges().collect();
        assert_eq!(ranges, [(0, 2), (5, 7), (9, 10)]);
        assert_eq!(counted, 2);
        // Files that cannot be read, or were not written by us, are one damage each.
        let large = File::create(root.path().join("acks-2")).unwrap();
        large.set_len(LARGEST + 1).unwrap();
        let (_, done, counted) = open(&[2, 3, 1]);
        assert_eq!(done.ranges().count(), 3);
        assert_eq!(counted, 4);
    }
}
