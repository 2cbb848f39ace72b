//! Where finished spans go: a terminal, a file of lines, or OTLP destinations.

mod deadline;
mod first_error;
mod lines;
mod otlp;
mod request_json;
mod text;
mod text_console;

use std::io;
use std::sync::Arc;

use spandrel_model::{KernelTime, Measured, Resource, UnixTime};

pub use deadline::Deadline;
pub use lines::{Lines, Patience};
pub use otlp::{MetricsView, OtlpSink, OtlpSinkSettings};
pub use request_json::RequestJsonLines;
pub use text::TextTable;
pub use text_console::TextConsole;

/// Takes measured exchanges with their resource; accounts for every span in the ledger.
pub trait Sink: Send {
    /// One finished exchange.
    fn accept(&mut self, resource: &Arc<Resource>, measured: Measured) -> io::Result<()>;

    /// Time has passed: write what is due. Under replay the time is that of the recording.
    fn tick(&mut self, kernel: KernelTime, unix: UnixTime) -> io::Result<()>;

    /// No more will come: write what is left.
    fn finish(&mut self, unix: UnixTime) -> io::Result<()>;
}
