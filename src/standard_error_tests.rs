//! Readers that stand still, that come back, and that cannot be written to.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use super::*;

const MANY: usize = 1 << 16;
const SOON: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(60);

/// Takes a write when it is allowed to, and tells of it.
struct Gate {
    allowed: Receiver<bool>,
    written: SyncSender<String>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !self.allowed.recv().map_err(io::Error::other)? {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let text = String::from_utf8_lossy(bytes).into_owned();
        self.written.send(text).map_err(io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate() -> (Lines, SyncSender<bool>, Receiver<String>) {
    let ((allow, allowed), (written, got)) = (sync_channel(MANY), sync_channel(MANY));
    (Lines::start(Gate { allowed, written }), allow, got)
}

#[test]
fn nobody_waits_for_a_reader_that_stands_still_and_it_learns_what_it_missed() {
    let (lines, allow, got) = gate();
    let line = format!("{}\n", "x".repeat(1023));
    for _ in 0..1024 + 10 {
        lines.push(line.clone().into_bytes());
    }
    assert_eq!(lines.lost(), 10);
    lines.finish(SOON, LONG);
    for _ in 0..1026 {
        allow.send(true).unwrap();
    }
    lines.finish(LONG, LONG);
    lines.push(b"later\n".to_vec());
    lines.finish(LONG, LONG);
    assert_eq!(lines.lost(), 10);
    let all: String = got.try_iter().collect();
    let (before, after) = all.split_at(1024 * 1024);
    assert_eq!(before, line.repeat(1024));
    assert_eq!(
        after,
        "log: 10 lines are missing here: standard error was not read\nlater\n"
    );
}

#[test]
fn lines_that_cannot_be_written_are_counted_until_it_can_be_told() {
    let (lines, allow, got) = gate();
    for failure in [false, false, true, true] {
        allow.send(failure).unwrap();
    }
    lines.push(b"first\nsecond\n".to_vec());
    lines.finish(LONG, LONG);
    assert_eq!(lines.lost(), 2);
    // What tells of them fails once as well, and it does not count.
    lines.finish(LONG, LONG);
    assert_eq!(lines.lost(), 2);
    lines.push(b"third\n".to_vec());
    lines.finish(LONG, LONG);
    let got: String = got.try_iter().collect();
    assert_eq!(
        got,
        "log: 2 lines are missing here: standard error was not read\nthird\n"
    );
}

#[test]
fn a_slow_reader_gets_all_within_the_time_for_all() {
    let (lines, allow, got) = gate();
    for n in 0..10 {
        lines.push(format!("{n}\n").into_bytes());
    }
    let reader = thread::spawn(move || {
        for _ in 0..10 {
            thread::sleep(Duration::from_millis(2));
            allow.send(true).unwrap();
        }
    });
    lines.finish(LONG, LONG);
    reader.join().unwrap();
    assert_eq!(got.try_iter().count(), 10);
}

#[test]
fn colours_are_for_terminals_whose_user_does_not_refuse_them() {
    let refusal = |value: &str| Some(OsString::from(value));
    assert!(wants_colours(true, None));
    assert!(wants_colours(true, refusal("")));
    assert!(!wants_colours(true, refusal("1")));
    assert!(!wants_colours(false, None));
}
