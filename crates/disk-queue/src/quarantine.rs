//! Where damaged bytes are kept for whoever wants to look at them; bounded, the oldest go first.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The directory of damaged bytes.
#[derive(Debug)]
pub(crate) struct Quarantine {
    directory: PathBuf,
    limit: u64,
    /// How often something was put aside.
    pub(crate) kept: u64,
}

impl Quarantine {
    pub(crate) fn new(queue: &Path, limit: u64) -> Self {
        Self {
            directory: queue.join("quarantine"),
            limit,
            kept: 0,
        }
    }

    /// Copies a damaged part of a file, as much of it as may be kept. Best effort: the loss is counted elsewhere.
    pub(crate) fn keep_part(&mut self, path: &Path, from: u64, to: u64) {
        self.kept += 1;
        let length = to.saturating_sub(from).min(self.limit);
        let copied = (|| {
            let mut source = File::open(path)?;
            source.seek(SeekFrom::Start(from))?;
            self.prepare(length)?;
            let mut target = File::create(self.target(path, &format!("-{from}")))?;
            io::copy(&mut source.take(length), &mut target)
        })();
        if let Err(error) = copied {
            tracing::debug!(%error, path = %path.display(), "cannot keep damaged bytes of the queue");
        }
    }

    /// Takes a whole file out of the queue; removes it where it cannot be kept.
    pub(crate) fn keep_file(&mut self, path: &Path) -> io::Result<()> {
        self.kept += 1;
        let length = fs::metadata(path)?.len();
        let kept = if length > self.limit {
            Err(io::ErrorKind::FileTooLarge.into())
        } else {
            self.prepare(length)
                .and_then(|()| fs::rename(path, self.target(path, "")))
        };
        kept.or_else(|_: io::Error| fs::remove_file(path))
    }

    fn target(&self, path: &Path, suffix: &str) -> PathBuf {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.directory.join(format!("{name}{suffix}.bad"))
    }

    /// Makes room.
    fn prepare(&self, length: u64) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let found = entry.metadata()?;
            files.push((found.modified()?, entry.path(), found.len()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|file| file.2).sum();
        for (_, path, size) in files {
            if total + length <= self.limit {
                break;
            }
            fs::remove_file(path)?;
            total -= size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let root = tempfile::tempdir().unwrap();
        let mut quarantine = Quarantine::new(root.path(), 100);
        let aside = |name: &str| root.path().join("quarantine").join(format!("{name}.bad"));
        let mut keep = |name: &str, length: usize, age: u64| {
            let path = root.path().join(name);
            fs::write(&path, vec![b'x'; length]).unwrap();
            let written = SystemTime::now() - Duration::from_secs(age);
            let file = File::options().write(true).open(&path).unwrap();
            file.set_modified(written).unwrap();
            quarantine.keep_file(&path).unwrap();
            assert!(!path.exists(), "{name} is out of the queue");
        };
        keep("a", 40, 30);
        keep("b", 30, 20);
        keep("c", 30, 10);
        assert!(["a", "b", "c"].iter().all(|name| aside(name).exists()));
        // The first makes room enough.
        keep("d", 40, 5);
        assert!(!aside("a").exists());
        assert!(["b", "c", "d"].iter().all(|name| aside(name).exists()));
        keep("whole", 100, 4);
        assert!(aside("whole").exists() && !aside("d").exists());
        keep("larger", 101, 3);
        assert!(aside("whole").exists() && !aside("larger").exists());
    }
}
