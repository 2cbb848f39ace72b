//! Readers that are slow, that stop reading, and that go.

use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use super::*;

/// More than any of these tests writes.
const MANY: usize = 8192;

/// Takes a write when it is allowed to.
struct Gate {
    allowed: Receiver<()>,
    written: SyncSender<Vec<u8>>,
}

impl Write for Gate {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        self.allowed.recv().map_err(gone)?;
        self.written.send(bytes.to_vec()).unwrap();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn gate(patience: Patience) -> (Lines, Arc<Ledger>, SyncSender<()>, Receiver<Vec<u8>>) {
    let ledger = Arc::new(Ledger::default());
    let ((allow, allowed), (written, got)) = (sync_channel(MANY), sync_channel(MANY));
    let lines = Lines::start(Gate { allowed, written }, patience, Arc::clone(&ledger)).unwrap();
    (lines, ledger, allow, got)
}

fn push(lines: &mut Lines, ledger: &Ledger, line: &str) -> io::Result<()> {
    ledger.spans.see(1);
    lines.push(line.as_bytes(), 1)
}

#[test]
fn lines_arrive_whole_and_in_order_whatever_their_length() {
    let ledger = Arc::new(Ledger::default());
    let (mine, theirs) = UnixStream::pair().unwrap();
    let reader = thread::spawn(move || io::read_to_string(theirs).unwrap());
    let mut lines = Lines::start(mine, Patience::Waits, Arc::clone(&ledger)).unwrap();
    let mut expected = String::new();
    for length in [0, 1, 4095, 4096, 4097, 20_000, 8191, 7] {
        let line = "x".repeat(length) + "\n";
        push(&mut lines, &ledger, &line).unwrap();
        expected += &line;
    }
    lines.finish().unwrap();
    drop(lines);
    assert_eq!(reader.join().unwrap(), expected);
    assert_eq!(ledger.spans.snapshot().settled, 8);
}

#[test]
fn what_a_stalled_reader_does_not_take_in_time_is_counted() {
    let (mut lines, ledger, allow, got) =
        gate(Patience::Drops(Deadline::new(Duration::from_millis(50))));
    for line in ["one\n", "two\n", "three\n"] {
        push(&mut lines, &ledger, line).unwrap();
        lines.flush().unwrap();
    }
    allow.send(()).unwrap();
    assert_eq!(got.recv().unwrap(), b"one\n");
    let error = lines.finish().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    // What is written later is not counted twice.
    for _ in 0..2 {
        allow.send(()).unwrap_or_default();
    }
    let spans = ledger.spans.snapshot();
    assert_eq!(spans.settled, 1);
    assert_eq!(spans.dropped[SHUTDOWN_DEADLINE], 2);
    assert!(spans.is_closed());
}

#[test]
fn a_reader_has_no_more_time_than_what_ends_beside_it() {
    let deadline = Deadline::new(Duration::from_secs(3600));
    let (mut lines, ledger, _allow, _got) = gate(Patience::Drops(deadline.clone()));
    push(&mut lines, &ledger, "line\n").unwrap();
    // Something else has begun to end an hour ago.
    let before = Instant::now()
        .checked_sub(Duration::from_secs(3600))
        .unwrap();
    deadline.left(before);
    let error = lines.finish().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert_eq!(ledger.spans.snapshot().dropped[SHUTDOWN_DEADLINE], 1);
}

#[test]
fn a_reader_that_goes_is_an_error_and_nothing_is_uncounted() {
    let (mut lines, ledger, allow, _got) =
        gate(Patience::Drops(Deadline::new(Duration::from_secs(60))));
    drop(allow);
    for _ in 0..3 {
        push(&mut lines, &ledger, "line\n").unwrap();
    }
    let error = lines.finish().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    // Lines that come afterwards, each too long to be put beside another one.
    let long = "x".repeat(PIECE) + "\n";
    for _ in 0..3 {
        drop(push(&mut lines, &ledger, &long));
    }
    lines.finish().unwrap_err();
    let spans = ledger.spans.snapshot();
    assert_eq!(spans.dropped["console.write_failed"], 6);
    assert!(spans.is_closed());
}

#[test]
fn a_live_reader_that_does_not_keep_up_loses_lines_and_holds_nobody_up() {
    let (mut lines, ledger, allow, _got) = gate(Patience::Drops(Deadline::new(Duration::ZERO)));
    let line = "x".repeat(PIECE - 1) + "\n";
    let count = u64::try_from(2 * MAX_WAITING / PIECE).unwrap();
    for _ in 0..count {
        push(&mut lines, &ledger, &line).unwrap();
    }
    lines.finish().unwrap_err();
    drop(allow);
    let spans = ledger.spans.snapshot();
    assert!(spans.is_closed(), "{spans:?}");
    assert_eq!(spans.settled, 0);
    let dropped = spans.dropped["console.reader_slow"];
    assert!(dropped >= count / 2 - 2, "{dropped} of {count}");
}

#[test]
fn a_reader_that_does_not_keep_up_gets_no_part_of_a_line() {
    let short = "x".repeat(PIECE - 1) + "\n";
    let long = "y".repeat(3 * PIECE) + "\n";
    // The bound is met in each part of the long line, whether the writer holds a piece or none.
    for less in 0..5 {
        let (mut lines, ledger, allow, got) =
            gate(Patience::Drops(Deadline::new(Duration::from_secs(60))));
        let fill = MAX_WAITING / PIECE - less;
        let all = std::iter::repeat_n(&*short, fill).chain([&*long, "z\n"]);
        for line in all.clone() {
            push(&mut lines, &ledger, line).unwrap();
        }
        lines.flush().unwrap();
        for _ in 0..2 * fill {
            allow.send(()).unwrap();
        }
        lines.finish().unwrap();
        drop((lines, allow));
        let written = String::from_utf8(got.iter().flatten().collect()).unwrap();
        let whole: Vec<&str> = written.split_inclusive('\n').collect();
        assert!(all.clone().count() >= whole.len());
        assert!(
            whole
                .iter()
                .all(|line| [&*short, &*long, "z\n"].contains(line)),
            "{less}"
        );
        let spans = ledger.spans.snapshot();
        assert_eq!(spans.settled, whole.len() as u64);
        assert!(spans.is_closed(), "{spans:?}");
    }
}
