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
        // They have the same time, at once: neither a reader that stands still nor one that has gone keeps the rest back.
        let ended = self.table.end();
        let others = self.others.finish(unix);
        let table = self.table.finish(unix);
        others.and(ended).and(table)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::sync::mpsc::{Receiver, sync_channel};
    use std::thread;
    use std::time::{Duration, Instant};

    use spandrel_model::{
        AttributeSet, Ledger, ProcessKey, SpanId, SpanKind, SpanRecord, SpanStatus, TraceId,
    };

    use super::*;
    use crate::settings;
    use crate::sink::{Lines, Patience};

    /// Takes nothing.
    struct Stalled(Receiver<()>);

    impl Write for Stalled {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            Ok(0)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn measured() -> Measured {
        Measured {
            span: SpanRecord {
                trace_id: TraceId([1; 16]),
                span_id: SpanId([1; 8]),
                parent_span_id: None,
                parent_is_remote: false,
                trace_begun_here: false,
                trace_flags: 1,
                trace_state: "".into(),
                name: "GET /shelf".into(),
                kind: SpanKind::Server,
                start: UnixTime(1),
                end: UnixTime(2),
                attributes: Vec::new(),
                dropped_attributes: 0,
                status: SpanStatus::Unset,
                process: ProcessKey {
                    tgid: 1,
                    started: 1,
                },
                cgroup: 0,
            },
            ports: [None; 2],
            metric_attributes: AttributeSet::from(Vec::new()),
            measurements: [].into_iter().collect(),
            edge: None,
            caller: None,
        }
    }

    #[test]
    fn a_reader_that_stands_still_holds_the_others_up_at_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("spans.jsonl");
        let text = format!(
            "file_format: \"1.1\"\n\
             tracer_provider:\n  processors:\n    - batch:\n        exporter:\n          \
             otlp_file/development: {{output_stream: \"file://{}\"}}\n\
             distribution:\n  spandrel: {{version: \"1.0\", shutdown_timeout: 1h}}\n",
            file.display()
        );
        let loaded = spandrel_config::load_str("test", &text, &|_| None).unwrap();
        let ledger = Arc::new(Ledger::default());
        let others = OtlpSink::start(settings::export(&loaded.config, true), &ledger).unwrap();
        let (held, stalled) = sync_channel(1);
        let patience = Patience::Drops(others.deadline());
        let lines = Lines::start(Stalled(stalled), patience, Arc::clone(&ledger)).unwrap();
        let table = TextTable::new(lines, Arc::clone(&ledger), false);
        let mut sink = TextConsole::new(table, others, true);
        let resource = Arc::new(Resource::new(Vec::new()));
        sink.accept(&resource, measured()).unwrap();
        let end = thread::spawn(move || sink.finish(UnixTime(3)));
        let limit = Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(&file).is_ok_and(|text| text.contains("GET /shelf")) {
            assert!(Instant::now() < limit, "the others wait for the reader");
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!end.is_finished(), "the reader has time left");
        drop(held);
        end.join().unwrap().unwrap_err();
    }
}
