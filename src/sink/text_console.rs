//! The console exporter as text: spans as a table, beside what else is exported.

use std::io;
use std::sync::Arc;

use spandrel_model::{KernelTime, Measured, Resource, UnixTime};

use super::{OtlpSink, Sink, TextTable};

/// A table on standard output beside the other destinations.
pub struct TextConsole {
    table: TextTable,
    others: OtlpSink,
    spans_to_others: bool,
}

impl TextConsole {
    /// Spans go to `table`, and are measured for the `others`, which get the spans as well if `spans_to_others`.
    pub fn new(table: TextTable, others: OtlpSink, spans_to_others: bool) -> Self {
        Self {
            table,
            others,
            spans_to_others,
        }
    }
}

impl Sink for TextConsole {
    fn accept(&mut self, resource: &Arc<Resource>, measured: Measured) -> io::Result<()> {
        if self.spans_to_others {
            self.others.accept(resource, measured.clone())?;
        } else {
            self.others.measure(resource, &measured);
        }
        self.table.accept(resource, measured)
    }

    fn tick(&mut self, kernel: KernelTime, unix: UnixTime) -> io::Result<()> {
        self.table.tick(kernel, unix)?;
        self.others.tick(kernel, unix)
    }

    fn finish(&mut self, unix: UnixTime) -> io::Result<()> {
        // A reader that has gone is no reason to keep the rest back.
        let table = self.table.finish(unix);
        self.others.finish(unix)?;
        table
    }
}
