//! OTLP JSON lines on a stream or in a file.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;

use bytes::Bytes;

use crate::error::ExporterError;

/// A stream whose writes may block, and so are made on a thread that may.
pub(crate) struct StreamWriter(Option<Box<dyn Write + Send>>);

impl StreamWriter {
    pub(crate) fn new(stream: Box<dyn Write + Send>) -> Self {
        Self(Some(stream))
    }

    pub(crate) fn append_to(path: &Path) -> Result<Self, ExporterError> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .map_err(|source| ExporterError::File {
                path: path.to_owned(),
                source,
            })?;
        Ok(Self::new(Box::new(file)))
    }

    /// Writes a request. An error leaves the stream usable for the next one.
    pub(crate) async fn write(&mut self, body: Bytes) -> std::io::Result<()> {
        let Some(mut stream) = self.0.take() else {
            return Err(std::io::Error::other("the stream was lost to a panic"));
        };
        let task = tokio::task::spawn_blocking(move || {
            let result = stream.write_all(&body).and_then(|()| stream.flush());
            (stream, result)
        });
        let (stream, result) = task.await.map_err(std::io::Error::other)?;
        self.0 = Some(stream);
        result
    }
}
