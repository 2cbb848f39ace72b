//! The clients and servers of tests/traffic/ and the ground truth that they print.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use super::machine::{find, repository, target};
use super::process::Process;

/// How long any client may take.
const LIMIT: Duration = Duration::from_secs(120);

/// One request as its own program saw it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    /// None when no status line was read or sent.
    pub(crate) status: Option<u16>,
    pub(crate) start_ns: u64,
    pub(crate) end_ns: u64,
    pub(crate) request_body: u64,
    pub(crate) response_body: u64,
    pub(crate) error: Option<String>,
}

impl Request {
    fn parse(line: &str) -> Self {
        let value: Value = serde_json::from_str(line)
            .unwrap_or_else(|error| panic!("not a line of ground truth ({error}): {line}"));
        let number = |key: &str| {
            value[key]
                .as_u64()
                .unwrap_or_else(|| panic!("no {key} in {line}"))
        };
        let text = |key: &str| value[key].as_str().map(str::to_owned);
        Self {
            method: text("method").expect("a method"),
            path: text("path").expect("a path"),
            status: value["status"]
                .as_u64()
                .map(|status| status.try_into().expect("a status")),
            start_ns: number("start_ns"),
            end_ns: number("end_ns"),
            request_body: number("request_body"),
            response_body: number("response_body"),
            error: text("error"),
        }
    }

    pub(crate) fn duration_ns(&self) -> u64 {
        self.end_ns - self.start_ns
    }
}

/// What two records of one exchange have in common: method, path with query, status.
pub(crate) type Key = (String, String, Option<u16>);

/// The requests' keys in order.
pub(crate) fn keys(requests: &[Request]) -> Vec<Key> {
    let mut keys: Vec<Key> = requests
        .iter()
        .map(|one| (one.method.clone(), one.path.clone(), one.status))
        .collect();
    keys.sort();
    keys
}

/// The clients, each with its own flags besides `--port` (see tests/README.md).
#[derive(Clone, Copy, Debug)]
pub(crate) enum Client {
    KeepAlive,
    Pipelined,
    Slow,
    Reset,
    ShortLived,
    Go,
    Node,
}

impl Client {
    /// The command, without a port.
    pub(crate) fn command(self) -> Command {
        match self {
            Self::KeepAlive => python("keepalive_client.py"),
            Self::Pipelined => python("pipelined_client.py"),
            Self::Slow => python("slow_client.py"),
            Self::Reset => python("reset_client.py"),
            Self::ShortLived => python("short_lived.py"),
            Self::Go => with_mode(Command::new(go_binary()), "client"),
            Self::Node => with_mode(node(), "client"),
        }
    }

    /// Runs it to its end; returns what it did, in the order in which it finished.
    pub(crate) fn run(self, port: u16, arguments: &[&str]) -> Vec<Request> {
        self.start(port, arguments).finish()
    }

    /// Starts it.
    pub(crate) fn start(self, port: u16, arguments: &[&str]) -> Running {
        self.start_with(port, arguments, |_| {})
    }

    /// The same with a change to its command.
    pub(crate) fn start_with(
        self,
        port: u16,
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Running {
        let mut command = self.command();
        command.arg("--port").arg(port.to_string()).args(arguments);
        change(&mut command);
        Running(Process::start(&mut command))
    }

    /// Runs it to its end on a unix socket.
    pub(crate) fn run_unix(self, path: &str, arguments: &[&str]) -> Vec<Request> {
        let mut command = self.command();
        command.args(["--unix", path]).args(arguments);
        Running(Process::start(&mut command)).finish()
    }
}

/// A client at work.
pub(crate) struct Running(pub(crate) Process);

impl Running {
    pub(crate) fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Waits until it has done this many requests.
    pub(crate) fn wait_for(&self, count: usize) {
        let reached = self
            .0
            .stdout
            .wait(LIMIT, |lines| (lines.len() >= count).then_some(()));
        assert!(
            reached.is_some(),
            "the client did not reach {count} requests: {}",
            self.0.stderr.all().join("\n")
        );
    }

    /// Asks the keep-alive client to end after the requests that it is at; returns all that it did.
    pub(crate) fn stop(self) -> Vec<Request> {
        self.0.signal(rustix::process::Signal::TERM);
        self.finish()
    }

    /// Waits for its end; returns all that it did.
    pub(crate) fn finish(self) -> Vec<Request> {
        let finished = self.0.wait(LIMIT);
        assert!(
            finished.status.success(),
            "the client failed: {}",
            finished.stderr.join("\n")
        );
        finished
            .stdout
            .iter()
            .map(|line| Request::parse(line))
            .collect()
    }
}

/// A server of ours.
pub(crate) struct Server {
    process: Process,
    /// 0 on a unix socket.
    pub(crate) port: u16,
}

impl Server {
    /// tests/traffic/server.py with these flags, for example `["--unix", path]`.
    pub(crate) fn python(arguments: &[&str]) -> Self {
        Self::start(python("server.py").args(arguments))
    }

    /// The server on Go's net/http.
    pub(crate) fn go() -> Self {
        Self::start(&mut with_mode(Command::new(go_binary()), "server"))
    }

    /// The same on a unix socket.
    pub(crate) fn go_unix(path: &str) -> Self {
        let mut command = with_mode(Command::new(go_binary()), "server");
        Self::start(command.args(["--unix", path]))
    }

    /// The same, listening by MPTCP, as Go 1.24 does unless told otherwise.
    pub(crate) fn go_multipath() -> Self {
        let mut command = with_mode(Command::new(go_binary()), "server");
        Self::start(command.arg("--mptcp"))
    }

    /// A Go program that answers each connection in a goroutine, and calls itself with `count` others after GET /start.
    pub(crate) fn goroutines(count: usize) -> Self {
        let mut command = with_mode(Command::new(go_binary()), "goroutines");
        Self::start(command.args(["--count", &count.to_string()]))
    }

    /// The server on Node's http.
    pub(crate) fn node() -> Self {
        Self::start(&mut with_mode(node(), "server"))
    }

    /// Any command whose first line is `{"listening": PORT}`.
    pub(crate) fn start(command: &mut Command) -> Self {
        let process = Process::start(command);
        let first = process
            .stdout
            .wait(Duration::from_secs(30), |lines| lines.first().cloned())
            .unwrap_or_else(|| panic!("no server: {}", process.stderr.all().join("\n")));
        let value: Value = serde_json::from_str(&first).expect("a first line that is JSON");
        let port = value["listening"].as_u64().unwrap_or(0);
        Self {
            process,
            port: port.try_into().expect("a port"),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The lines after the first, when there are `count`.
    pub(crate) fn wait_for_lines(&self, count: usize) -> Vec<Value> {
        let lines = self.process.stdout.wait(Duration::from_secs(30), |lines| {
            let rest = lines.get(1..)?;
            (rest.len() >= count).then(|| {
                rest.iter()
                    .map(|line| serde_json::from_str(line).expect("a line that is JSON"))
                    .collect()
            })
        });
        lines.unwrap_or_else(|| panic!("the server did not print {count} lines"))
    }

    /// The requests that it has answered, when there are at least `count`: a line follows the last byte of an answer.
    pub(crate) fn wait_for(&self, count: usize) -> Vec<Request> {
        let requests = self.process.stdout.wait(Duration::from_secs(30), |lines| {
            (lines.len() > count)
                .then(|| lines[1..].iter().map(|line| Request::parse(line)).collect())
        });
        requests.unwrap_or_else(|| {
            panic!(
                "the server has not answered {count} requests, only {}: {}",
                self.process.stdout.all().len() - 1,
                self.process.stderr.all().join("\n")
            )
        })
    }
}

/// tests/traffic/.
pub(crate) fn directory() -> PathBuf {
    repository().join("tests/traffic")
}

fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    // No __pycache__ in the source tree, no buffering in front of the pipe.
    command.args(["-B", "-u"]).arg(directory().join(script));
    command
}

fn node() -> Command {
    let mut command = Command::new("node");
    command.arg(directory().join("node/traffic.js"));
    command
}

fn with_mode(mut command: Command, mode: &str) -> Command {
    command.arg(mode);
    command
}

/// `SPANDREL_TEST_GO`, or built once in a test process; Go's cache makes later ones quick, but not in an emulated machine.
fn go_binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(built) = std::env::var_os("SPANDREL_TEST_GO") {
            return built.into();
        }
        let binary = target().join(format!("traffic/go-{}", std::process::id()));
        let output = Command::new(find("go").expect("Go is installed"))
            .current_dir(directory().join("go"))
            .env("CGO_ENABLED", "0")
            .args(["build", "-o"])
            .arg(&binary)
            .arg(".")
            .output()
            .expect("run go build");
        assert!(
            output.status.success(),
            "go build: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        // One name for all test processes, put in place in one step.
        let shared = target().join("traffic/go");
        std::fs::rename(&binary, &shared).expect("put the binary in place");
        shared
    })
}
