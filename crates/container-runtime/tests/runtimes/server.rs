//! A server on a unix socket that does with each connection what the test says.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use tempfile::TempDir;

pub(crate) struct Server {
    directory: TempDir,
    path: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
    connections: Arc<AtomicUsize>,
}

impl Server {
    /// Speaks HTTP: `answer` makes the whole answer to a path.
    pub(crate) fn http(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let mut server = Self::raw("docker.sock", move |stream| {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            while let Some(path) = request(&mut reader) {
                heard.lock().unwrap().push(path.clone());
                if stream.write_all(&answer(&path)).is_err() {
                    return;
                }
            }
        });
        server.asked = asked;
        server
    }

    /// Each connection has a thread of its own, that ends with it.
    pub(crate) fn raw(name: &str, serve: impl Fn(&mut UnixStream) + Send + Sync + 'static) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(name);
        let connections = Arc::new(AtomicUsize::new(0));
        let server = Self {
            directory,
            path,
            asked: Arc::default(),
            connections: Arc::clone(&connections),
        };
        let listener = UnixListener::bind(server.path()).unwrap();
        let serve = Arc::new(serve);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                connections.fetch_add(1, Ordering::Relaxed);
                let serve = Arc::clone(&serve);
                thread::spawn(move || serve(&mut stream));
            }
        });
        server
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The paths that were asked for.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

fn request(reader: &mut impl BufRead) -> Option<String> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|read| *read > 0)?;
    let mut line = String::new();
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    }
    first.split(' ').nth(1).map(str::to_owned)
}

pub(crate) fn response(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// What Docker Engine 20.10 answers about one container that runs, and about others.
pub(crate) fn docker(path: &str) -> Vec<u8> {
    let id = super::ID;
    match path {
        "/_ping" => response("200 OK", "Api-Version: 1.41\r\n", "OK"),
        _ if path == format!("/v1.41/containers/{id}/json") => response(
            "200 OK",
            "Content-Type: application/json\r\n",
            include_str!("../../testdata/docker/container.json"),
        ),
        _ if path.starts_with("/v1.41/images/sha256:") => response(
            "200 OK",
            "Content-Type: application/json\r\n",
            include_str!("../../testdata/docker/image.json"),
        ),
        _ => response("404 Not Found", "", r#"{"message":"No such container"}"#),
    }
}
