//! A real Collector that writes what it gets to files.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tempfile::TempDir;

use super::machine::{free_port, repository, skip, target, wait_until};
use super::otlp::{MetricPoint, Span};
use super::process::Process;

/// A running Collector with deploy/otel-collector/config/test.yaml.
pub(crate) struct Collector {
    process: Process,
    output: TempDir,
    pub(crate) grpc_port: u16,
    pub(crate) http_port: u16,
    health_port: u16,
    beside: Beside,
}

/// What it does beside deploy/otel-collector/config/test.yaml.
enum Beside {
    Nothing,
    /// Takes nothing but TLS, with the certificates in this directory, and only from clients that have one too.
    Tls(PathBuf),
    /// Also writes down what k8s_attributes makes of the spans. It asks the API server by this kubeconfig.
    Kubernetes(PathBuf),
}

impl Collector {
    /// The binary of `make collector`; skips the test where it has not been built.
    pub(crate) fn binary(test: &str) -> Option<PathBuf> {
        let binary = target().join("otelcol/otelcol");
        if binary.is_file() {
            return Some(binary);
        }
        skip(test, "no Collector; `make collector` builds it");
        None
    }

    /// Starts one and waits until it is healthy; skips the test where there is none.
    pub(crate) fn start(test: &str) -> Option<Self> {
        Self::start_as(test, Beside::Nothing)
    }

    /// Starts one that takes nothing but TLS from clients with a certificate: `ca.pem`, `server.pem` and `server.key` are
    /// in this directory.
    pub(crate) fn start_with_tls(test: &str, directory: &Path) -> Option<Self> {
        Self::start_as(test, Beside::Tls(directory.to_owned()))
    }

    /// Starts one that also writes down what its k8s_attributes makes of the spans; it is healthy when it knows the pods.
    pub(crate) fn start_with_kubernetes(test: &str, kubeconfig: &Path) -> Option<Self> {
        Self::start_as(test, Beside::Kubernetes(kubeconfig.to_owned()))
    }

    fn start_as(test: &str, beside: Beside) -> Option<Self> {
        Self::binary(test)?;
        let output = TempDir::new().expect("a directory for its output");
        let ports = [free_port(), free_port(), free_port()];
        let process = spawn(&output, ports, &beside);
        let [grpc_port, http_port, health_port] = ports;
        let mut collector = Self {
            process,
            output,
            grpc_port,
            http_port,
            health_port,
            beside,
        };
        collector.wait_until_healthy();
        Some(collector)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT` with gRPC.
    pub(crate) fn grpc_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc_port)
    }

    /// For `OTEL_EXPORTER_OTLP_ENDPOINT` with HTTP.
    pub(crate) fn http_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// SIGKILL. What it has written stays.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same ports and the same files.
    pub(crate) fn restart(&mut self) {
        self.process.kill();
        end_cut_lines(&self.output);
        let ports = [self.grpc_port, self.http_port, self.health_port];
        self.process = spawn(&self.output, ports, &self.beside);
        self.wait_until_healthy();
    }

    /// The spans that it has written.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.lines("traces.jsonl")
            .iter()
            .flat_map(|line| Span::of_line(line))
            .collect()
    }

    /// The spans as its k8s_attributes has sent them on.
    pub(crate) fn enriched(&self) -> Vec<Span> {
        self.lines("enriched.jsonl")
            .iter()
            .flat_map(|line| Span::of_line(line))
            .collect()
    }

    /// The metric points that it has written.
    pub(crate) fn metrics(&self) -> Vec<MetricPoint> {
        self.lines("metrics.jsonl")
            .iter()
            .flat_map(|line| MetricPoint::of_line(line))
            .collect()
    }

    /// The requests of log records that it has written, an `ExportLogsServiceRequest` a line.
    pub(crate) fn logs(&self) -> Vec<serde_json::Value> {
        self.requests("logs")
    }

    /// The requests of a signal (`traces`, `metrics`, `logs`) that it has written: each is one `Export*ServiceRequest`.
    pub(crate) fn requests<T: DeserializeOwned>(&self, signal: &str) -> Vec<T> {
        let lines = self.lines(&format!("{signal}.jsonl"));
        let parse = |line: &String| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))
        };
        lines.iter().map(parse).collect()
    }

    /// Waits for spans that `enough` is content with.
    pub(crate) fn wait_for_spans(
        &self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&[Span]) -> bool,
    ) -> Vec<Span> {
        let mut spans = Vec::new();
        wait_until(what, limit, || {
            spans = self.spans();
            enough(&spans)
        });
        spans
    }

    /// Waits for metric points that `enough` is content with.
    pub(crate) fn wait_for_metrics(
        &self,
        what: &str,
        limit: Duration,
        enough: impl Fn(&[MetricPoint]) -> bool,
    ) -> Vec<MetricPoint> {
        let mut points = Vec::new();
        wait_until(what, limit, || {
            points = self.metrics();
            enough(&points)
        });
        points
    }

    /// Ends it, so that everything that it has taken is in its files, and returns the spans.
    pub(crate) fn finish(self) -> (Vec<Span>, Vec<MetricPoint>) {
        let Self {
            process, output, ..
        } = self;
        let finished = process.terminate(Duration::from_secs(30));
        assert!(finished.status.success(), "{}", finished.stderr.join("\n"));
        let read = |name| read_lines(&output, name);
        (
            read("traces.jsonl")
                .iter()
                .flat_map(|line| Span::of_line(line))
                .collect(),
            read("metrics.jsonl")
                .iter()
                .flat_map(|line| MetricPoint::of_line(line))
                .collect(),
        )
    }

    fn lines(&self, name: &str) -> Vec<String> {
        read_lines(&self.output, name)
    }

    fn wait_until_healthy(&mut self) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.health_port));
        wait_until("healthy Collector", Duration::from_secs(30), || {
            assert!(
                !self.process.has_ended(),
                "the Collector ended: {}",
                self.process.stderr.all().join("\n")
            );
            is_healthy(address)
        });
    }
}

fn spawn(output: &TempDir, ports: [u16; 3], beside: &Beside) -> Process {
    let configs = repository().join("deploy/otel-collector/config");
    let [grpc_port, http_port, health_port] = ports.map(|port| port.to_string());
    let mut command = Command::new(target().join("otelcol/otelcol"));
    command
        .arg("--config")
        .arg(configs.join("test.yaml"))
        .env("OTELCOL_OUTPUT_DIR", output.path())
        .env("OTELCOL_GRPC_PORT", grpc_port)
        .env("OTELCOL_HTTP_PORT", http_port)
        .env("OTELCOL_HEALTH_PORT", health_port);
    let (more, variable, value) = match beside {
        Beside::Nothing => return Process::start(&mut command),
        Beside::Tls(directory) => ("test-mtls.yaml", "OTELCOL_TLS_DIR", directory),
        Beside::Kubernetes(file) => ("test-kubernetes.yaml", "KUBECONFIG", file),
    };
    command
        .arg("--config")
        .arg(configs.join(more))
        .env(variable, value);
    Process::start(&mut command)
}

/// A kill may cut a line short; the next process appends to it, and its first line would be lost with it.
fn end_cut_lines(output: &TempDir) {
    for name in [
        "traces.jsonl",
        "enriched.jsonl",
        "metrics.jsonl",
        "logs.jsonl",
    ] {
        let path = output.path().join(name);
        let cut =
            std::fs::read(&path).is_ok_and(|bytes| bytes.last().is_some_and(|&last| last != b'\n'));
        if cut {
            let mut file = std::fs::OpenOptions::new()
                .append(true)
                .open(&path)
                .expect("open it");
            file.write_all(b"\n").expect("end the line");
        }
    }
}

fn read_lines(output: &TempDir, name: &str) -> Vec<String> {
    let text = std::fs::read_to_string(output.path().join(name)).unwrap_or_default();
    // A line that is being written is not one yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    // A kill may have cut a line; `restart` ends it, so that what came after it starts a new one.
    whole
        .lines()
        .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
        .map(str::to_owned)
        .collect()
}

fn is_healthy(address: SocketAddr) -> bool {
    let Ok(mut connection) = TcpStream::connect(address) else {
        return false;
    };
    let _ = connection.set_read_timeout(Some(Duration::from_secs(5)));
    let request = b"GET / HTTP/1.1\r\nHost: health\r\nConnection: close\r\n\r\n";
    let mut answer = String::new();
    connection.write_all(request).is_ok()
        && connection.read_to_string(&mut answer).is_ok()
        && answer.starts_with("HTTP/1.1 200")
}
