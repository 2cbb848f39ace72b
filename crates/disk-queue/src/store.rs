//! The files of one queue. Belongs to one thread; everything that may wait for the disk is in here.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use crate::acks::Acks;
use crate::clock::{Clock, Stamp};
use crate::count::{Count, Counts};
use crate::done::Done;
use crate::fault::Operation;
use crate::format::{RECORD_HEADER, RecordHeader, SEGMENT_DATA, SegmentHeader, body_sum};
use crate::quarantine::Quarantine;
use crate::segment::{Reader, Segment, file_name};
use crate::settings::{DropReason, Settings};

/// What is written in one piece, as far as records allow.
const PIECE: u64 = 1 << 20;

/// A record to be written.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) signal: u8,
    pub(crate) items: u32,
    pub(crate) stamp: Stamp,
    pub(crate) body: Bytes,
}

impl Record {
    pub(crate) fn count(&self) -> Count {
        Count::one(self.items, self.body.len())
    }

    /// Bytes that it takes, on the disk and about as many in memory.
    pub(crate) fn size(&self) -> usize {
        RECORD_HEADER + self.body.len()
    }
}

/// A record that was read, or went past the disk, and has not ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    signal: u8,
    count: Count,
    ticks: u64,
}

/// Where the next record is read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cursor {
    /// The first sequence of the segment.
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) sequence: u64,
}

/// What the files need so that a loss of power does not touch them.
#[derive(Debug, Default)]
pub(crate) struct Unsynced {
    pub(crate) files: Vec<Arc<File>>,
    pub(crate) directory: Option<Arc<File>>,
    /// To be removed afterwards.
    pub(crate) replaced: Vec<PathBuf>,
}

impl Unsynced {
    pub(crate) fn is_empty(&self) -> bool {
        self.files.is_empty() && self.directory.is_none() && self.replaced.is_empty()
    }
}

/// What happened since it was last asked.
#[derive(Debug, Default)]
pub(crate) struct News {
    pub(crate) dropped: Vec<(DropReason, u8, Count)>,
    /// Sequences whose segment is gone: what was read ahead of them is to be given up too.
    pub(crate) gone: Vec<(u64, u64, DropReason)>,
}

#[derive(Debug)]
pub(crate) struct Store {
    pub(crate) settings: Settings,
    pub(crate) directory: PathBuf,
    /// Held as long as this lives.
    pub(crate) _lock: File,
    pub(crate) directory_file: Arc<File>,
    pub(crate) clock: Clock,
    pub(crate) segments: VecDeque<Segment>,
    /// The last segment, where it can be appended to.
    pub(crate) active: Option<Arc<File>>,
    pub(crate) next: u64,
    pub(crate) done: Done,
    pub(crate) acks: Acks,
    /// Ended, and not written down yet.
    pub(crate) unsaved: Vec<(u64, u64)>,
    pub(crate) taken: BTreeMap<u64, Taken>,
    pub(crate) cursor: Cursor,
    pub(crate) reader: Option<(u64, Reader)>,
    pub(crate) quarantine: Quarantine,
    pub(crate) news: News,
    pub(crate) unsynced: Unsynced,
    /// Records whose head was damaged, so that nothing else is known of them.
    pub(crate) lost_records: u64,
    /// Bytes at the end that were being written when the process was killed.
    pub(crate) torn_bytes: u64,
    pub(crate) damaged_acks: u64,
}

impl Store {
    /// Bytes of records on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.length).sum()
    }

    /// What is on the disk and has not ended.
    pub(crate) fn live(&self) -> Counts {
        let mut live = Counts::default();
        for segment in &self.segments {
            live.add_all(&segment.live);
        }
        live
    }

    /// What consumers have in their hands, and is not on the disk any more: its segment went for want of room.
    pub(crate) fn orphaned(&self) -> Counts {
        let mut counts = Counts::default();
        for (sequence, taken) in &self.taken {
            let mut segments = self.segments.iter();
            if !segments.any(|segment| (segment.first..segment.next).contains(sequence)) {
                counts.add(taken.signal, taken.count);
            }
        }
        counts
    }

    /// Whether there is more to be read.
    pub(crate) fn has_unread(&self) -> bool {
        let cursor = self.cursor;
        self.segments.back().is_some_and(|last| {
            cursor.segment < last.first
                || (cursor.segment == last.first && cursor.offset < last.length)
        })
    }

    /// The queue's clock at the oldest record.
    pub(crate) fn oldest(&self) -> Option<u64> {
        let taken = self.taken.values().next().map(|taken| taken.ticks);
        // Nothing is read ahead only while the disk fails; then the first segment has to do.
        let unread = || {
            self.segments
                .iter()
                .find(|segment| segment.live.total().records > 0)
                .map(|segment| segment.newest)
        };
        taken.or_else(unread)
    }

    /// Writes as many of the records as make a good piece, at least one; how many. All of them or none are on the disk
    /// when this returns.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<usize> {
        let size = |record: &Record| record.size() as u64;
        let Some(first) = records.first() else {
            return Ok(0);
        };
        // Room for all of the piece, so that the cap holds at any time.
        let piece = PIECE.min(self.settings.segment_limit());
        let all: u64 = records.iter().map(size).sum();
        self.make_room(all.min(piece).max(size(first)) + SEGMENT_DATA)?;
        let at = self.writable(size(first))?;
        let (Some(segment), Some(file)) = (self.segments.back_mut(), &self.active) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut room = self.settings.segment_limit().saturating_sub(at).min(PIECE);
        let mut piece = Vec::new();
        let mut count = 0;
        for record in records {
            if count > 0 && size(record) > room {
                break;
            }
            room = room.saturating_sub(size(record));
            let header = RecordHeader {
                length: u32::try_from(record.body.len()).unwrap_or(u32::MAX),
                sequence: self.next + count as u64,
                stamp: record.stamp,
                items: record.items,
                signal: record.signal,
                body_sum: body_sum(segment.seed, &record.body),
            };
            piece.extend_from_slice(&header.encode(segment.seed));
            piece.extend_from_slice(&record.body);
            count += 1;
        }
        let written = self
            .settings
            .hook
            .before(Operation::Write)
            .and_then(|()| file.write_all_at(&piece, at));
        if let Err(error) = written {
            // Half a record may stand there now. It is written over, or cut off at the next start; cutting it off at
            // once gives a full disk its room back.
            drop(file.set_len(at));
            return Err(error);
        }
        for record in records.iter().take(count) {
            segment.live.add(record.signal, record.count());
            segment.newest = segment.newest.max(record.stamp.ticks);
        }
        segment.length = at + piece.len() as u64;
        self.next += count as u64;
        segment.next = self.next;
        if !self
            .unsynced
            .files
            .iter()
            .any(|known| Arc::ptr_eq(known, file))
        {
            self.unsynced.files.push(Arc::clone(file));
        }
        Ok(count)
    }

    /// No more records into the present segment.
    pub(crate) fn seal(&mut self) {
        self.active = None;
    }

    /// Where the next record goes, in a segment that has room for it.
    fn writable(&mut self, size: u64) -> io::Result<u64> {
        let limit = self.settings.segment_limit();
        if self.active.is_some()
            && let Some(segment) = self.segments.back()
            && (segment.length <= SEGMENT_DATA || segment.length + size <= limit)
        {
            return Ok(segment.length);
        }
        self.seal();
        let header = SegmentHeader::new(self.next);
        let path = self.directory.join(file_name(self.next));
        self.settings.hook.before(Operation::Create)?;
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)?;
        let begun = self
            .settings
            .hook
            .before(Operation::Write)
            .and_then(|()| file.write_all_at(&header.encode(), 0));
        if let Err(error) = begun {
            drop(fs::remove_file(&path));
            return Err(error);
        }
        self.unsynced.directory = Some(Arc::clone(&self.directory_file));
        self.segments.push_back(Segment {
            path,
            first: self.next,
            next: self.next,
            length: SEGMENT_DATA,
            seed: header.seed(),
            live: Counts::default(),
            newest: 0,
        });
        self.active = Some(Arc::new(file));
        Ok(SEGMENT_DATA)
    }

    fn make_room(&mut self, size: u64) -> io::Result<()> {
        while self.bytes() + size > self.settings.max_bytes {
            if self.segments.is_empty() {
                break;
            }
            self.drop_oldest_segment(DropReason::Full)?;
        }
        Ok(())
    }

    /// Drops what has waited too long, a segment at a time.
    pub(crate) fn expire(&mut self) -> io::Result<()> {
        let Some(max_age) = self.settings.max_age else {
            return Ok(());
        };
        while let Some(oldest) = self.segments.front() {
            if oldest.live.total().records == 0 || self.clock.age(oldest.newest) <= max_age {
                break;
            }
            self.drop_oldest_segment(DropReason::Expired)?;
        }
        Ok(())
    }

    fn drop_oldest_segment(&mut self, reason: DropReason) -> io::Result<()> {
        let Some(oldest) = self.segments.front() else {
            return Ok(());
        };
        remove(&oldest.path)?;
        self.forget_segment(0, reason);
        Ok(())
    }

    /// Gives up on a segment that cannot be read.
    pub(crate) fn abandon_reading(&mut self) -> io::Result<()> {
        let found = self
            .segments
            .iter()
            .position(|segment| segment.first >= self.cursor.segment);
        let Some(at) = found else { return Ok(()) };
        if let Some(segment) = self.segments.get(at) {
            let kept = self.quarantine.keep_file(&segment.path);
            kept.or_else(|_| remove(&segment.path))?;
            self.forget_segment(at, DropReason::Corrupt);
        }
        Ok(())
    }

    /// Counts what was in a segment whose file is gone, except for what is in the hands of consumers.
    fn forget_segment(&mut self, at: usize, reason: DropReason) {
        let last = at + 1 == self.segments.len();
        let Some(mut segment) = self.segments.remove(at) else {
            return;
        };
        if last {
            self.seal();
        }
        for taken in self.taken.range(segment.first..segment.next) {
            segment.live.take(taken.1.signal, taken.1.count);
        }
        for (signal, count) in segment.live.iter().filter(|(_, count)| count.records > 0) {
            self.news.dropped.push((reason, signal, count));
        }
        self.news.gone.push((segment.first, segment.next, reason));
        self.end(segment.first, segment.next);
        self.unsynced.directory = Some(Arc::clone(&self.directory_file));
    }

    fn end(&mut self, from: u64, to: u64) {
        self.done.insert(from, to);
        self.unsaved.push((from, to));
    }

    /// A record has ended. It is written down with the next [`Self::save`].
    pub(crate) fn ended(&mut self, sequence: u64) {
        let Some(taken) = self.taken.remove(&sequence) else {
            return;
        };
        self.end(sequence, sequence + 1);
        if let Some(segment) = self.segment_of(sequence) {
            segment.live.take(taken.signal, taken.count);
        }
    }

    /// A record that was read ahead is dropped.
    pub(crate) fn drop_taken(&mut self, sequence: u64, reason: DropReason) {
        if let Some(taken) = self.taken.get(&sequence).copied() {
            self.ended(sequence);
            self.news.dropped.push((reason, taken.signal, taken.count));
        }
    }

    fn segment_of(&mut self, sequence: u64) -> Option<&mut Segment> {
        let at = self
            .segments
            .partition_point(|segment| segment.next <= sequence);
        self.segments
            .get_mut(at)
            .filter(|segment| segment.first <= sequence)
    }

    /// Writes down what has ended, and removes the segments that nothing is in any more.
    pub(crate) fn save(&mut self) -> io::Result<()> {
        if !self.unsaved.is_empty() {
            self.acks.write(&self.unsaved, &self.done)?;
            self.unsaved.clear();
            self.unsynced.files.extend(self.acks.file());
            let replaced = self.acks.take_replaced();
            if !replaced.is_empty() {
                self.unsynced.replaced.extend(replaced);
                self.unsynced.directory = Some(Arc::clone(&self.directory_file));
            }
        }
        self.collect()
    }

    fn collect(&mut self) -> io::Result<()> {
        let mut at = 0;
        while let Some(segment) = self.segments.get(at) {
            let active = self.active.is_some() && at + 1 == self.segments.len();
            let read = segment.first < self.cursor.segment;
            if active || !read || segment.live.total().records > 0 {
                at += 1;
                continue;
            }
            remove(&segment.path)?;
            self.unsynced.directory = Some(Arc::clone(&self.directory_file));
            self.segments.remove(at);
        }
        // What is below the first segment has ended, all of it: one range says so.
        let below = self
            .segments
            .front()
            .map_or(self.next, |segment| segment.first);
        self.done.insert(0, below);
        Ok(())
    }

    /// The record that was just written, where nothing before it is unread: it need not be read back.
    pub(crate) fn pass_by(&mut self, records: &[Record]) -> Option<u64> {
        let segment = self.segments.back()?;
        let size: u64 = records.iter().map(|record| record.size() as u64).sum();
        let before = segment.length.checked_sub(size)?;
        let at_the_end = if self.cursor.segment == segment.first {
            self.cursor.offset == before
        } else {
            // A new segment, and the one before was read to its end.
            before == SEGMENT_DATA && self.has_read_all_before(segment.first)
        };
        if !at_the_end {
            return None;
        }
        let (first, length, next) = (segment.first, segment.length, segment.next);
        if first != self.cursor.segment {
            self.leave_segment();
        }
        let sequence = next - records.len() as u64;
        for (index, record) in records.iter().enumerate() {
            let taken = Taken {
                signal: record.signal,
                count: record.count(),
                ticks: record.stamp.ticks,
            };
            self.taken.insert(sequence + index as u64, taken);
        }
        self.cursor = Cursor {
            segment: first,
            offset: length,
            sequence: next,
        };
        Some(sequence)
    }

    fn has_read_all_before(&self, first: u64) -> bool {
        self.segments
            .iter()
            .filter(|segment| segment.first < first)
            .all(|segment| {
                segment.first < self.cursor.segment
                    || (segment.first == self.cursor.segment
                        && self.cursor.offset >= segment.length)
            })
    }

    /// The next record, in order.
    pub(crate) fn read(&mut self) -> io::Result<Option<(u64, Record)>> {
        loop {
            let found = self
                .segments
                .iter()
                .find(|segment| segment.first >= self.cursor.segment);
            let Some(segment) = found else {
                return Ok(None);
            };
            if segment.first != self.cursor.segment {
                let first = segment.first;
                self.leave_segment();
                self.cursor = Cursor {
                    segment: first,
                    offset: SEGMENT_DATA,
                    sequence: first,
                };
                continue;
            }
            let (first, length, seed) = (segment.first, segment.length, segment.seed);
            let path = segment.path.clone();
            if self.cursor.offset >= length {
                let next = self.segments.iter().find(|next| next.first > first);
                let Some(next) = next.map(|next| next.first) else {
                    return Ok(None);
                };
                self.leave_segment();
                self.cursor = Cursor {
                    segment: next,
                    offset: SEGMENT_DATA,
                    sequence: next,
                };
                continue;
            }
            let at = self.cursor.offset;
            let least = self.cursor.sequence;
            let reader = self.reader(first, &path)?;
            let found = reader.find(at, length, seed, least)?;
            let Some((offset, header)) = found else {
                self.quarantine.keep_part(&path, at, length);
                self.cursor.offset = length;
                continue;
            };
            if offset > at {
                self.quarantine.keep_part(&path, at, offset);
            }
            let body_at = offset + RECORD_HEADER as u64;
            let skip = self.done.contains(header.sequence);
            let body = if skip {
                Vec::new()
            } else {
                self.reader(first, &path)?
                    .body(body_at, header.length as usize, length)?
            };
            self.cursor.offset = offset + header.size();
            self.cursor.sequence = header.sequence + 1;
            if skip {
                continue;
            }
            let count = Count::one(header.items, header.length as usize);
            let taken = Taken {
                signal: header.signal,
                count,
                ticks: header.stamp.ticks,
            };
            self.taken.insert(header.sequence, taken);
            let whole =
                body.len() == header.length as usize && body_sum(seed, &body) == header.body_sum;
            if !whole {
                self.quarantine.keep_part(&path, offset, self.cursor.offset);
                self.drop_taken(header.sequence, DropReason::Corrupt);
                continue;
            }
            if let Some(max_age) = self.settings.max_age
                && self.clock.age(header.stamp.ticks) > max_age
            {
                self.drop_taken(header.sequence, DropReason::Expired);
                continue;
            }
            let record = Record {
                signal: header.signal,
                items: header.items,
                stamp: header.stamp,
                body: body.into(),
            };
            return Ok(Some((header.sequence, record)));
        }
    }

    fn reader(&mut self, first: u64, path: &Path) -> io::Result<&mut Reader> {
        if self.reader.as_ref().is_none_or(|open| open.0 != first) {
            let reader = Reader::open(path, self.settings.hook.clone())?;
            self.reader = Some((first, reader));
        }
        match &mut self.reader {
            Some((_, reader)) => Ok(reader),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// What a segment held and was not found in it when it was read to its end was damaged since it was counted.
    fn leave_segment(&mut self) {
        self.reader = None;
        let left = self.cursor.segment;
        let Some(at) = self.segments.iter().position(|seg| seg.first == left) else {
            return;
        };
        let Some(segment) = self.segments.get_mut(at) else {
            return;
        };
        let mut missing = segment.live.clone();
        for (_, taken) in self.taken.range(segment.first..segment.next) {
            missing.take(taken.signal, taken.count);
        }
        for (signal, count) in missing.iter().filter(|(_, count)| count.records > 0) {
            segment.live.take(signal, count);
            self.news.dropped.push((DropReason::Corrupt, signal, count));
        }
    }
}

/// A file that is gone already is fine.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
