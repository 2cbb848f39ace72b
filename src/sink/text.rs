//! The live view of `spandrel trace`: a line a request, latency per operation at the end.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::sync::Arc;

use spandrel_model::{
    KernelTime, Ledger, Measured, Resource, SpanRecord, SpanStatus, UnixTime, Value,
};

use super::request_json::kind_name;
use super::{Lines, Sink};

/// Operations in the summary; further ones are counted together.
const MAX_OPERATIONS: usize = 200;
/// Durations kept for each operation; from then on every second one, and so on.
const MAX_DURATIONS: usize = 4096;

/// Writes requests as lines in columns.
pub struct TextTable {
    output: Lines,
    ledger: Arc<Ledger>,
    colour: bool,
    lines: u64,
    operations: BTreeMap<(String, &'static str, String), Latencies>,
}

/// A bounded, deterministic sample of durations.
#[derive(Default)]
struct Latencies {
    count: u64,
    errors: u64,
    stride: u64,
    nanos: Vec<u64>,
}

impl Latencies {
    fn record(&mut self, nanos: u64, error: bool) {
        self.stride = self.stride.max(1);
        if self.count.is_multiple_of(self.stride) {
            if self.nanos.len() == MAX_DURATIONS {
                let mut keep = false;
                self.nanos.retain(|_| {
                    keep = !keep;
                    keep
                });
                self.stride *= 2;
            }
            self.nanos.push(nanos);
        }
        self.count += 1;
        self.errors += u64::from(error);
    }

    fn quantile(&self, sorted: &[u64], quantile: f64) -> u64 {
        let last = sorted.len().saturating_sub(1);
        let index = (last as f64 * quantile).round() as usize;
        sorted.get(index.min(last)).copied().unwrap_or(0)
    }
}

impl TextTable {
    /// Lines go to `output`; `colour` for a terminal.
    pub fn new(output: Lines, ledger: Arc<Ledger>, colour: bool) -> Self {
        Self {
            output,
            ledger,
            colour,
            lines: 0,
            operations: BTreeMap::new(),
        }
    }

    fn write_line(&mut self, resource: &Resource, span: &SpanRecord) -> io::Result<()> {
        let mut text = String::new();
        if self.lines == 0 {
            written(writeln!(
                text,
                "{:<12}  {:<6}  {:<18}  {:<26}  {:<34}  {:>6}  {:>9}  {:>9}  {:>9}  {:>5}",
                "TIME (UTC)",
                "ROLE",
                "SERVICE",
                "PEER",
                "OPERATION",
                "STATUS",
                "LATENCY",
                "QUEUED",
                "RTT",
                "RETR"
            ))?;
        }
        self.lines += 1;
        let (on, off) = match (self.colour, &span.status, status_code(span)) {
            (true, SpanStatus::Error(_), _) => ("\x1b[31m", "\x1b[0m"),
            (true, _, Some(400..)) => ("\x1b[33m", "\x1b[0m"),
            _ => ("", ""),
        };
        written(writeln!(
            text,
            "{on}{:<12}  {:<6}  {:<18}  {:<26}  {:<34}  {:>6}  {:>9}  {:>9}  {:>9}  {:>5}{off}",
            clock(span.start),
            kind_name(span.kind),
            clip(resource.service_name(), 18),
            clip(&peer(span), 26),
            clip(&operation(span), 34),
            status(span),
            duration(span.duration_nanos()),
            seconds(span, "spandrel.queue.duration"),
            seconds(span, "spandrel.tcp.rtt"),
            integer(span, "spandrel.tcp.retransmits").map_or_else(|| "-".into(), |n| n.to_string()),
        ))?;
        self.output.push(text.as_bytes(), 1)
    }

    /// No more will come: hands over what is left, and waits for nobody.
    pub fn end(&mut self) -> io::Result<()> {
        self.write_summary()?;
        self.output.flush()
    }

    fn write_summary(&mut self) -> io::Result<()> {
        let operations = std::mem::take(&mut self.operations);
        if operations.is_empty() {
            return Ok(());
        }
        let mut text = String::new();
        written(writeln!(
            text,
            "\n{:<18}  {:<6}  {:<40}  {:>8}  {:>7}  {:>9}  {:>9}  {:>9}  {:>9}",
            "SERVICE", "ROLE", "OPERATION", "REQUESTS", "ERRORS", "P50", "P90", "P99", "MAX"
        ))?;
        for ((service, kind, name), latencies) in &operations {
            let mut sorted = latencies.nanos.clone();
            sorted.sort_unstable();
            written(writeln!(
                text,
                "{:<18}  {:<6}  {:<40}  {:>8}  {:>7}  {:>9}  {:>9}  {:>9}  {:>9}",
                clip(service, 18),
                kind,
                clip(name, 40),
                latencies.count,
                latencies.errors,
                duration(latencies.quantile(&sorted, 0.5)),
                duration(latencies.quantile(&sorted, 0.9)),
                duration(latencies.quantile(&sorted, 0.99)),
                duration(sorted.last().copied().unwrap_or(0)),
            ))?;
        }
        self.output.push(text.as_bytes(), 0)
    }
}

impl Sink for TextTable {
    fn accept(&mut self, resource: &Arc<Resource>, measured: Measured) -> io::Result<()> {
        self.ledger.spans.see(1);
        let span = &measured.span;
        let error = matches!(span.status, SpanStatus::Error(_));
        let mut key = (
            resource.service_name().to_owned(),
            kind_name(span.kind),
            span.name.to_string(),
        );
        if self.operations.len() >= MAX_OPERATIONS && !self.operations.contains_key(&key) {
            key = ("(other)".to_owned(), "", "(more operations)".to_owned());
        }
        self.operations
            .entry(key)
            .or_default()
            .record(span.duration_nanos(), error);
        self.write_line(resource, span)
    }

    fn tick(&mut self, _kernel: KernelTime, _unix: UnixTime) -> io::Result<()> {
        self.output.flush()
    }

    fn finish(&mut self, _unix: UnixTime) -> io::Result<()> {
        let ended = self.end();
        self.output.finish().and(ended)
    }
}

/// Text in memory can always be written.
fn written(result: std::fmt::Result) -> io::Result<()> {
    result.map_err(io::Error::other)
}

fn integer(span: &SpanRecord, key: &str) -> Option<i64> {
    match span.attribute(key) {
        Some(Value::I64(number)) => Some(*number),
        _ => None,
    }
}

fn text<'a>(span: &'a SpanRecord, key: &str) -> Option<&'a str> {
    match span.attribute(key) {
        Some(Value::Str(text)) => Some(text.as_ref()),
        _ => None,
    }
}

fn status_code(span: &SpanRecord) -> Option<i64> {
    integer(span, "http.response.status_code")
}

/// The status code, else why there is none.
fn status(span: &SpanRecord) -> String {
    match (status_code(span), text(span, "error.type")) {
        (Some(code), Some(error)) if error.parse::<i64>().is_err() => format!("{code}!"),
        (Some(code), _) => code.to_string(),
        (None, Some("connection_reset")) => "RESET".to_owned(),
        (None, Some(_)) => "CLOSED".to_owned(),
        (None, None) => "-".to_owned(),
    }
}

/// The span's name; where that holds no route, with the raw path, which is fit for a terminal.
fn operation(span: &SpanRecord) -> String {
    if span.name.contains(' ') {
        return span.name.to_string();
    }
    let path = text(span, "url.path").map(str::to_owned).or_else(|| {
        let url = text(span, "url.full")?;
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        rest.find('/').map(|slash| rest[slash..].to_owned())
    });
    path.map_or_else(
        || span.name.to_string(),
        |path| format!("{} {path}", span.name),
    )
}

fn peer(span: &SpanRecord) -> String {
    let port = |key| integer(span, key);
    match (
        text(span, "network.peer.address"),
        port("network.peer.port"),
    ) {
        (Some(address), Some(port)) if address.contains(':') => format!("[{address}]:{port}"),
        (Some(address), Some(port)) => format!("{address}:{port}"),
        (Some(address), None) => address.to_owned(),
        _ => "?".to_owned(),
    }
}

fn seconds(span: &SpanRecord, key: &str) -> String {
    match span.attribute(key) {
        Some(Value::F64(seconds)) => duration((seconds * 1e9) as u64),
        _ => "-".to_owned(),
    }
}

/// Three significant digits with a unit.
fn duration(nanos: u64) -> String {
    let (value, unit) = match nanos {
        0..1_000_000 => (nanos as f64 / 1e3, "us"),
        1_000_000..1_000_000_000 => (nanos as f64 / 1e6, "ms"),
        _ => (nanos as f64 / 1e9, "s"),
    };
    let digits = if value < 10.0 {
        2
    } else if value < 100.0 {
        1
    } else {
        0
    };
    format!("{value:.digits$} {unit}")
}

/// Time of day of a Unix time.
fn clock(time: UnixTime) -> String {
    let milliseconds = time.0 / 1_000_000 % 86_400_000;
    let (seconds, milliseconds) = (milliseconds / 1000, milliseconds % 1000);
    format!(
        "{:02}:{:02}:{:02}.{milliseconds:03}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Cut to a width, control characters made visible: the text came from the network.
fn clip(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    if text.chars().count() <= width {
        return text.chars().map(clean).collect();
    }
    text.chars()
        .take(width.saturating_sub(1))
        .map(clean)
        .chain(['…'])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_keep_three_digits_at_every_size() {
        for (nanos, text) in [
            (0, "0.00 us"),
            (1_234, "1.23 us"),
            (999_999, "1000 us"),
            (12_345_678, "12.3 ms"),
            (1_500_000_000, "1.50 s"),
        ] {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn control_characters_of_the_network_never_reach_the_terminal() {
        assert_eq!(clip("a\x1b[2Jb", 18), "a\u{fffd}[2Jb");
        assert_eq!(clip("abcdef", 4), "abc…");
    }

    #[test]
    fn a_latency_sample_stays_bounded_and_keeps_the_count() {
        let mut latencies = Latencies::default();
        for nanos in 0..100_000 {
            latencies.record(nanos, false);
        }
        assert_eq!(latencies.count, 100_000);
        assert!(latencies.nanos.len() <= MAX_DURATIONS);
        let mut sorted = latencies.nanos.clone();
        sorted.sort_unstable();
        let median = latencies.quantile(&sorted, 0.5);
        assert!((45_000..55_000).contains(&median), "{median}");
    }
}
