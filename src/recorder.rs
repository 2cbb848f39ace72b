//! Writes what the pipeline sees into a recording.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use spandrel_model::recording::{Header, MAX_LINE, VERSION, write_line};
use spandrel_model::{ClockOffset, Event, ProcessKey, Resource, UnixTime};

use crate::credentials::Credentials;
use crate::identity::{self, PodOf};
use crate::recent::Recent;

/// Processes of which it is remembered what is written; another one's identity may be written twice.
const MAX_PROCESSES: usize = 16_384;

/// An open recording.
pub struct Recorder {
    output: BufWriter<Named>,
    /// Blanks them; `None` where they were asked for.
    credentials: Option<Credentials>,
    written: Recent<ProcessKey, Written>,
}

/// The file; each of its errors names it.
struct Named {
    path: PathBuf,
    file: File,
}

impl Named {
    fn name(&self, error: &io::Error) -> io::Error {
        let path = self.path.display();
        io::Error::new(
            error.kind(),
            format!("the recording {path} cannot be written: {error}"),
        )
    }
}

impl Write for Named {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes).map_err(|error| self.name(&error))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush().map_err(|error| self.name(&error))
    }
}

/// What is written of a process.
#[derive(Default)]
struct Written {
    /// It has executed a program since, at this time.
    started: Option<UnixTime>,
    /// Its last resource.
    resource: Option<u64>,
}

impl Recorder {
    /// Creates the file with its header, for its owner alone. Credentials are blanked unless `with_credentials`.
    pub fn create(
        path: &Path,
        with_credentials: bool,
        clock_offset: ClockOffset,
        id_seed: u64,
    ) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let options = options.write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(path)?;
        // One that was there has its old mode. What is no file, such as a pipe, keeps its own.
        if file.metadata()?.is_file() {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        let path = path.to_owned();
        let mut output = BufWriter::with_capacity(1 << 18, Named { path, file });
        let header = Header {
            spandrel_recording: VERSION,
            clock_offset,
            id_seed,
            written_by: concat!("spandrel ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        write_line(&mut output, &header)?;
        // A place without room says so at once.
        output.flush()?;
        Ok(Self {
            output,
            credentials: (!with_credentials).then(Credentials::default),
            written: Recent::new(MAX_PROCESSES),
        })
    }

    /// Adds an event.
    pub fn event(&mut self, event: &Event, offset: ClockOffset) -> io::Result<()> {
        #[derive(serde::Serialize)]
        #[serde(transparent)]
        struct Line<'a>(&'a Event);
        if let Event::ProcessStarted(started) = event {
            self.written(started.process).started = Some(offset.to_unix(started.stamp.time));
        }
        if let Event::Message(message) = event
            && let Some(credentials) = &mut self.credentials
        {
            let mut message = message.clone();
            credentials.blank(&mut message);
            return write_line(&mut self.output, &Line(&Event::Message(message)));
        }
        write_line(&mut self.output, &Line(event))
    }

    /// Adds what is known of a process, from the start of its program or else from `at` on, once for each resource that
    /// it had. `pod` is asked for only then.
    pub fn identity(
        &mut self,
        process: ProcessKey,
        at: UnixTime,
        resource: &Resource,
        pod: impl FnOnce() -> PodOf,
    ) -> io::Result<()> {
        let written = self.written(process);
        if written.resource.replace(resource.id()) == Some(resource.id()) {
            return Ok(());
        }
        let since = written.started.take().unwrap_or(at);
        let mut line = Vec::new();
        write_line(
            &mut line,
            &identity::recorded(process, since, resource, &pod()),
        )?;
        if line.len() > MAX_LINE {
            // No reader would take the file.
            let bytes = line.len();
            tracing::warn!("process {process} has {bytes} bytes of attributes: not recorded");
            return Ok(());
        }
        self.output.write_all(&line)
    }

    /// Writes what is buffered.
    pub fn finish(&mut self) -> io::Result<()> {
        self.output.flush()
    }

    fn written(&mut self, process: ProcessKey) -> &mut Written {
        self.written.get_or_default(process)
    }
}
