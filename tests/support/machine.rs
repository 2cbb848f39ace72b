//! What this machine has, and how a test says that it needs more.

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::backends::patience;

/// Says, also when output is captured, that a test cannot run here. The caller returns after it.
pub(crate) fn skip(test: &str, reason: &str) {
    note(&format!("skipped: {test}"), reason);
}

/// Says that something was left out of a test.
pub(crate) fn note(what: &str, reason: &str) {
    let line = format!("{what}: {reason}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
    if let Some(list) = env::var_os("SPANDREL_SKIPPED") {
        let mut list = OpenOptions::new()
            .create(true)
            .append(true)
            .open(list)
            .expect("open the list of skipped tests");
        list.write_all(line.as_bytes()).expect("write it");
    }
}

/// Whether all these programs are there; skips the test otherwise.
pub(crate) fn has(test: &str, programs: &[&str]) -> bool {
    for program in programs {
        if find(program).is_none() {
            skip(test, &format!("no {program} on this machine"));
            return false;
        }
    }
    true
}

/// Whether this is root; skips the test otherwise.
pub(crate) fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip(test, "needs root");
    }
    root
}

/// Where a program is: on `PATH`, or where Debian keeps servers and where Go installs itself.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/usr/local/go/bin".into()])
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// The repository.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Where everything is built, whatever Cargo was told.
pub(crate) fn target() -> PathBuf {
    let binary = Path::new(env!("CARGO_BIN_EXE_spandrel"));
    binary
        .ancestors()
        .nth(2)
        .expect("target/<profile>/spandrel")
        .to_owned()
}

/// A port on which nobody listens, none twice. It is below those that the kernel gives to clients, so that it is still free
/// when its server is started again. Another program may take it before it is used: rare, and then the test fails loudly.
pub(crate) fn free_port() -> u16 {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Test programs that run side by side begin at different places.
    let begin = std::process::id().wrapping_mul(7919);
    loop {
        let offset = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + offset).expect("a port");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Waits for something that sends no event; panics with `what` after `limit`.
pub(crate) fn wait_until(what: &str, limit: Duration, mut met: impl FnMut() -> bool) {
    let limit = patience(limit);
    let deadline = Instant::now() + limit;
    while !met() {
        assert!(Instant::now() < deadline, "no {what} within {limit:?}");
        thread::sleep(Duration::from_millis(5));
    }
}
