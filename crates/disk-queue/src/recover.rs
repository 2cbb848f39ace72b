//! Opening a queue: what is found in its directory, in whatever state, becomes a queue again.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::acks::{self, Acks};
use crate::clock::{Clock, Stamp};
use crate::count::{Count, Counts};
use crate::done::{Done, MAX_SEQUENCE};
use crate::error::OpenError;
use crate::format::{SEGMENT_DATA, SegmentHeader, VERSION};
use crate::name::directory_name;
use crate::quarantine::Quarantine;
use crate::segment::{Reader, Segment, sequence_in};
use crate::settings::{Settings, SyncPolicy};
use crate::store::{Cursor, News, Store, Unsynced};

/// Both copies of a segment's header.
const HEADERS: usize = SEGMENT_DATA as usize;

impl Store {
    /// Fails only where the directory cannot be used, is in use, or belongs to a newer program; never because of damage.
    pub(crate) fn open(settings: Settings) -> Result<Self, OpenError> {
        let directory = settings.root.join(directory_name(&settings.name));
        let failed = |what, path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Directory { what, path, source }
        };
        // What services say to each other is nobody else's business.
        let created = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory);
        created.map_err(failed("create", &directory))?;
        if settings.sync != SyncPolicy::Never {
            // So that a loss of power does not take the directory itself.
            for parent in directory.ancestors().skip(1).take(2) {
                drop(File::open(parent).and_then(|parent| parent.sync_all()));
            }
        }
        let lock = lock(&directory)?;
        let directory_file = File::open(&directory).map_err(failed("open", &directory))?;
        let found = Found::list(&directory).map_err(failed("read", &directory))?;
        found.refuse_newer(&settings)?;
        let (acks, done, damaged_acks) =
            Acks::open(&directory, &found.acks, settings.hook.clone())?;
        let mut recovery = Recovery {
            quarantine: Quarantine::new(&directory, settings.quarantine_bytes),
            settings: &settings,
            done: &done,
            segments: VecDeque::new(),
            newest: None,
            lost_records: 0,
            torn_bytes: 0,
        };
        let last = found.segments.keys().next_back().copied();
        for (&named, path) in &found.segments {
            let taken = recovery.segment(named, path, Some(named) == last);
            if let Err(error) = taken {
                tracing::warn!(%error, path = %path.display(), "a segment of the queue cannot be read, and is set aside");
                recovery.set_aside(path);
            }
        }
        let Recovery {
            quarantine,
            segments,
            newest,
            lost_records,
            torn_bytes,
            ..
        } = recovery;
        let next = segments.back().map_or(0, |last| last.next).max(done.end());
        let cursor = Cursor {
            segment: segments.front().map_or(next, |first| first.first),
            offset: SEGMENT_DATA,
            sequence: 0,
        };
        let active = segments.back().and_then(|last| go_on(last, next));
        Ok(Self {
            clock: Clock::resume(settings.hook.clone(), newest),
            settings,
            directory,
            _lock: lock,
            directory_file: Arc::new(directory_file),
            segments,
            active,
            next,
            done,
            acks,
            unsaved: Vec::new(),
            taken: BTreeMap::new(),
            cursor,
            reader: None,
            quarantine,
            news: News::default(),
            unsynced: Unsynced::default(),
            lost_records,
            torn_bytes,
            damaged_acks,
        })
    }
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let path = directory.join("lock");
    // One that is there already needs no room on a full disk.
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .or_else(|error| File::open(&path).map_err(|_| error));
    let file = opened.map_err(|source| OpenError::Directory {
        what: "open",
        path: path.clone(),
        source,
    })?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::InUse {
            path: directory.to_owned(),
        }),
        Err(TryLockError::Error(source)) => Err(OpenError::Directory {
            what: "lock",
            path,
            source,
        }),
    }
}

/// The last segment goes on, where nothing came behind it and it can be written to.
fn go_on(last: &Segment, next: u64) -> Option<Arc<File>> {
    if last.next != next {
        return None;
    }
    let file = OpenOptions::new().write(true).open(&last.path).ok()?;
    // What was cut off while it was written.
    file.set_len(last.length).ok()?;
    Some(Arc::new(file))
}

/// What is in the directory.
struct Found {
    segments: BTreeMap<u64, PathBuf>,
    acks: Vec<u64>,
}

impl Found {
    fn list(directory: &Path) -> io::Result<Self> {
        let mut found = Self {
            segments: BTreeMap::new(),
            acks: Vec::new(),
        };
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if let Some(first) = sequence_in(&name).filter(|first| *first < MAX_SEQUENCE) {
                found.segments.insert(first, entry.path());
            } else if let Some(number) = acks::number_in(&name) {
                found.acks.push(number);
            }
        }
        Ok(found)
    }

    /// The files of a newer program would pass for damaged ones, and be set aside.
    fn refuse_newer(&self, settings: &Settings) -> Result<(), OpenError> {
        for path in self.segments.values() {
            let version = Reader::open(path, settings.hook.clone())
                .and_then(|mut it| Ok(SegmentHeader::version(it.get(0, HEADERS, SEGMENT_DATA)?)));
            if let Ok(Some(found)) = version
                && found > VERSION
            {
                return Err(OpenError::newer(path, found));
            }
        }
        Ok(())
    }
}

struct Recovery<'a> {
    quarantine: Quarantine,
    settings: &'a Settings,
    done: &'a Done,
    segments: VecDeque<Segment>,
    newest: Option<Stamp>,
    lost_records: u64,
    torn_bytes: u64,
}

impl Recovery<'_> {
    /// Reads the heads of all records. The bodies are checked when they are delivered.
    fn segment(&mut self, named: u64, path: &Path, last: bool) -> io::Result<()> {
        let mut reader = Reader::open(path, self.settings.hook.clone())?;
        let length = reader.file_length()?;
        if length < SEGMENT_DATA {
            // Begun, and nothing in it yet.
            return fs::remove_file(path).or_else(|_| self.quarantine.keep_file(path));
        }
        let header = SegmentHeader::decode(reader.get(0, HEADERS, length)?);
        let expected = self.segments.back().map_or(0, |before| before.next);
        let Some(header) = header.filter(|header| header.first == named && named >= expected)
        else {
            tracing::warn!(path = %path.display(), "a segment of the queue is damaged, and is set aside");
            self.set_aside(path);
            return Ok(());
        };
        if !self.segments.is_empty() {
            self.lost_records += self.done.missing(expected, named);
        }
        let mut segment = Segment {
            path: path.to_owned(),
            first: named,
            next: named,
            length,
            seed: header.seed(),
            live: Counts::default(),
            newest: 0,
        };
        let mut at = SEGMENT_DATA;
        while at < length {
            let found = reader.find(at, length, segment.seed, segment.next)?;
            let Some((offset, record)) = found else {
                break;
            };
            self.lost_records += self.done.missing(segment.next, record.sequence);
            if !self.done.contains(record.sequence) {
                let count = Count::one(record.items, record.length as usize);
                segment.live.add(record.signal, count);
            }
            segment.next = record.sequence + 1;
            segment.newest = segment.newest.max(record.stamp.ticks);
            self.newest = Some(self.newest.map_or(record.stamp, |newest| Stamp {
                wall: newest.wall.max(record.stamp.wall),
                ticks: newest.ticks.max(record.stamp.ticks),
            }));
            at = offset + record.size();
        }
        if last {
            self.torn_bytes += length - at;
            segment.length = at;
        }
        self.segments.push_back(segment);
        Ok(())
    }

    fn set_aside(&mut self, path: &Path) {
        if let Err(error) = self.quarantine.keep_file(path) {
            tracing::warn!(%error, path = %path.display(), "cannot set a damaged file of the queue aside");
        }
    }
}
