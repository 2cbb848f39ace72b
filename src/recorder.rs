//! Writes what the pipeline sees into a recording.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use spandrel_model::recording::{Entry, Header, VERSION, write_line};
use spandrel_model::{ClockOffset, Event, ProcessKey, Resource};

/// Processes whose identity is remembered as written; after that many the memory starts afresh, and some are written twice.
const MAX_PROCESSES: usize = 16_384;

/// An open recording.
pub struct Recorder {
    output: BufWriter<File>,
    identified: HashSet<(ProcessKey, u64)>,
}

impl Recorder {
    /// Creates the file with its header.
    pub fn create(path: &Path, clock_offset: ClockOffset, id_seed: u64) -> io::Result<Self> {
        let mut output = BufWriter::with_capacity(1 << 18, File::create(path)?);
        let header = Header {
            spandrel_recording: VERSION,
            clock_offset,
            id_seed,
            written_by: concat!("spandrel ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        write_line(&mut output, &header)?;
        Ok(Self {
            output,
            identified: HashSet::new(),
        })
    }

    /// Adds an event.
    pub fn event(&mut self, event: &Event) -> io::Result<()> {
        #[derive(serde::Serialize)]
        #[serde(transparent)]
        struct Line<'a>(&'a Event);
        write_line(&mut self.output, &Line(event))
    }

    /// Adds what is known of a process, once for each resource it had.
    pub fn identity(&mut self, process: ProcessKey, resource: &Arc<Resource>) -> io::Result<()> {
        if self.identified.len() >= MAX_PROCESSES {
            self.identified.clear();
        }
        if self.identified.insert((process, resource.id())) {
            write_line(&mut self.output, &Entry::identity(process, resource))?;
        }
        Ok(())
    }

    /// Writes what is buffered.
    pub fn finish(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}
