//! A real nginx with a configuration of its own, whose access log is ground truth.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use super::machine::{find, free_port, wait_until};
use super::process::Process;
use super::traffic::Key;

/// What the server can do beyond its own answers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    /// Where `/api/` goes: `127.0.0.1:8000`, or `unix:/path` for a unix socket.
    pub(crate) upstream: Option<String>,
    /// Listens on `[::1]` too, on the same port.
    pub(crate) ipv6: bool,
    /// Listens on this address instead of 127.0.0.1; for network namespaces.
    pub(crate) address: Option<String>,
    /// Runs in this network namespace.
    pub(crate) netns: Option<String>,
    /// Worker processes; 0 is 1.
    pub(crate) workers: usize,
    /// More lines in its server's block.
    pub(crate) more: String,
    /// Leaves the access log out, for load.
    pub(crate) without_log: bool,
}

/// A running nginx. Answers `ok` on every path, besides: `/files/NAME` from a file by sendfile, `/plain/NAME` the same by
/// read and write, `/204`, `/301`, `/404`, `/500`, `/503`, and `/api/` from the upstream.
pub(crate) struct Nginx {
    /// `None` once it has ended.
    process: Option<Process>,
    prefix: TempDir,
    pub(crate) port: u16,
}

/// A line of the access log.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Access {
    /// Unix time of the line, when the request had ended, to the millisecond.
    pub(crate) end_ms: u64,
    pub(crate) method: String,
    /// The request target as it came, with its query.
    pub(crate) uri: String,
    pub(crate) status: u16,
    pub(crate) duration_ms: u64,
    pub(crate) response_body: u64,
    /// Request line, headers and body.
    pub(crate) request_length: u64,
    pub(crate) protocol: String,
    /// nginx's number of the connection.
    pub(crate) connection: u64,
    /// Which request on the connection it is, from 1.
    pub(crate) connection_request: u64,
    /// The upstream's time, where there is one.
    pub(crate) upstream_ms: Option<u64>,
}

impl Nginx {
    pub(crate) fn start(options: &Options) -> Self {
        Self::start_with(options, |_| {})
    }

    /// The same with a change to its command.
    pub(crate) fn start_with(options: &Options, change: impl FnOnce(&mut Command)) -> Self {
        let prefix = TempDir::new().expect("a directory for nginx");
        fs::set_permissions(prefix.path(), Permissions::from_mode(0o755)).expect("open it");
        let files = prefix.path().join("files");
        fs::create_dir(&files).expect("a directory for files");
        for (name, size) in [("small", 100), ("64k", 64 << 10), ("1m", 1 << 20)] {
            fs::write(files.join(name), vec![b'f'; size]).expect("a file to serve");
        }
        let port = free_port();
        let configuration = prefix.path().join("nginx.conf");
        fs::write(&configuration, configure(prefix.path(), port, options)).expect("nginx.conf");

        let nginx = find("nginx").expect("nginx is installed");
        let mut command = match &options.netns {
            Some(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(nginx);
                command
            }
            None => Command::new(nginx),
        };
        command
            .arg("-p")
            .arg(prefix.path())
            .arg("-c")
            .arg(&configuration);
        command.arg("-e").arg(prefix.path().join("error.log"));
        change(&mut command);
        let mut process = Process::start(&mut command);
        // Written after all sockets listen; a connection to find that out would be traffic that no client made.
        wait_until("nginx.pid", Duration::from_secs(10), || {
            assert!(
                !process.has_ended(),
                "nginx ended: {}",
                process.stderr.all().join("\n")
            );
            fs::read_to_string(prefix.path().join("nginx.pid")).is_ok_and(|pid| pid.ends_with('\n'))
        });
        Self {
            process: Some(process),
            prefix,
            port,
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// The served files: `small` (100 bytes), `64k`, `1m`.
    pub(crate) fn files(&self) -> PathBuf {
        self.prefix.path().join("files")
    }

    /// The access log until now; a request is in it a moment after its last byte was sent.
    pub(crate) fn access_log(&self) -> Vec<Access> {
        read_log(self.prefix.path())
    }

    /// Ends it when all requests have ended; returns the whole access log.
    pub(crate) fn finish(mut self) -> Vec<Access> {
        let process = self.process.take().expect("it runs");
        process.signal(Signal::QUIT);
        let finished = process.wait(Duration::from_secs(30));
        assert!(finished.status.success(), "{}", finished.stderr.join("\n"));
        read_log(self.prefix.path())
    }
}

impl Drop for Nginx {
    /// Its workers outlive a master that is killed.
    fn drop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end(Duration::from_secs(10));
        }
    }
}

/// The lines' keys in order.
pub(crate) fn keys(log: &[Access]) -> Vec<Key> {
    let mut keys: Vec<Key> = log
        .iter()
        .map(|one| (one.method.clone(), one.uri.clone(), Some(one.status)))
        .collect();
    keys.sort();
    keys
}

fn configure(prefix: &Path, port: u16, options: &Options) -> String {
    let prefix = prefix.display();
    let address = options.address.as_deref().unwrap_or("127.0.0.1");
    let mut listen = format!("listen {address}:{port} backlog=1024;");
    if options.ipv6 {
        let _ = write!(listen, " listen [::1]:{port} ipv6only=on;");
    }
    let (mut upstream, mut api) = (String::new(), "return 502;".to_owned());
    if let Some(server) = &options.upstream {
        upstream = format!("upstream api {{ server {server}; keepalive 16; }}");
        api =
            "proxy_pass http://api; proxy_http_version 1.1; proxy_set_header Connection '';".into();
    }
    let log = if options.without_log {
        "access_log off;".to_owned()
    } else {
        format!("access_log {prefix}/access.log ground_truth;")
    };
    format!(
        r#"
user root;
daemon off;
worker_processes {workers};
pid {prefix}/nginx.pid;
error_log {prefix}/error.log warn;
events {{ worker_connections 1024; }}
http {{
    log_format ground_truth escape=json '{{"msec":"$msec","method":"$request_method","uri":"$request_uri",'
        '"status":"$status","request_time":"$request_time","body":"$body_bytes_sent","request_length":"$request_length",'
        '"protocol":"$server_protocol","connection":"$connection","request":"$connection_requests",'
        '"upstream_time":"$upstream_response_time"}}';
    {log}
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    client_max_body_size 64m;
    keepalive_requests 100000;
    keepalive_timeout 300s;
    {upstream}
    server {{
        {listen}
        default_type text/plain;
        location / {{ return 200 "ok\n"; }}
        location = /204 {{ return 204; }}
        location = /301 {{ return 301 /elsewhere; }}
        location = /404 {{ return 404; }}
        location = /500 {{ return 500; }}
        location = /503 {{ return 503; }}
        location /files/ {{ alias {prefix}/files/; sendfile on; }}
        location /plain/ {{ alias {prefix}/files/; sendfile off; }}
        location /api/ {{ {api} }}
        {more}
    }}
}}
"#,
        workers = options.workers.max(1),
        more = options.more,
    )
}

fn read_log(prefix: &Path) -> Vec<Access> {
    let text = fs::read_to_string(prefix.join("access.log")).unwrap_or_default();
    // A line that is being written is not one yet.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(Access::parse).collect()
}

impl Access {
    fn parse(line: &str) -> Self {
        let value: Value = serde_json::from_str(line).expect("the access log is JSON lines");
        let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| text(key).parse::<u64>().unwrap_or(0);
        // "1.234" seconds
        let milliseconds = |text: &str| text.replace('.', "").parse::<u64>().ok();
        Self {
            end_ms: milliseconds(&text("msec")).expect("a time"),
            method: text("method"),
            uri: text("uri"),
            status: u16::try_from(number("status")).expect("a status"),
            duration_ms: milliseconds(&text("request_time")).expect("a duration"),
            response_body: number("body"),
            request_length: number("request_length"),
            protocol: text("protocol"),
            connection: number("connection"),
            connection_request: number("request"),
            upstream_ms: milliseconds(&text("upstream_time")),
        }
    }
}
