//! Processes that other threads read, and files that stand still.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::pods_tests::measured;
use super::tests::{Seen, Tree, key, started};
use super::{Identities, News, Settings, Whose, procfs};
use crate::selection::{Selection, Told};
use crate::selectors::{Pattern, Selector, Selectors};
use spandrel_model::{ConnectionId, KernelTime, ProcessKey, UnixTime};
use spandrel_probes::Asked;

const LONG: Duration = Duration::from_secs(60);

fn beside(tree: &Tree) -> Identities {
    Identities::new(Settings {
        beside: true,
        ..tree.settings()
    })
}

fn file(tree: &Tree, pid: u32, name: &str) -> PathBuf {
    tree.0.path().join(format!("proc/{pid}/{name}"))
}

/// Whoever opens it waits until somebody writes to it.
fn stall(path: &PathBuf) {
    drop(fs::remove_file(path));
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

fn release(path: &PathBuf, content: &[u8]) {
    let mut writer = OpenOptions::new().write(true).open(path).unwrap();
    writer.write_all(content).unwrap();
}

/// Takes in answers until the name of the process is known.
fn name(identities: &mut Identities, process: ProcessKey) -> String {
    let deadline = Instant::now() + LONG;
    loop {
        identities.take_in(UnixTime(1));
        if let Whose::Known(resource) = identities.whose(process, 0, UnixTime(1), false) {
            return resource.service_name().to_owned();
        }
        assert!(Instant::now() < deadline, "no answer");
        thread::sleep(Duration::from_millis(1));
    }
}

fn is_unread(identities: &mut Identities, process: ProcessKey) -> bool {
    matches!(
        identities.whose(process, 0, UnixTime(1), false),
        Whose::NotYet
    )
}

#[test]
fn a_process_is_unread_until_the_answer_is_taken_in() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let mut identities = beside(&tree);
    assert!(is_unread(&mut identities, key(42, 500)));
    assert!(identities.decide(key(42, 500)).unread);
    assert_eq!(name(&mut identities, key(42, 500)), "shop");
    assert!(!identities.decide(key(42, 500)).unread);
    assert_eq!(identities.news(), [News::Read(key(42, 500))]);
    assert_eq!(identities.reads().snapshot(), [("read", 1)].into());
}

#[test]
fn a_file_that_stands_still_holds_no_other_process_up_and_its_answer_still_counts() {
    let tree = Tree::new();
    let mut identities = beside(&tree);
    let stalled = file(&tree, 42, "environ");
    tree.process(&Seen::default());
    stall(&stalled);
    identities.started(&started(key(42, 500), "told-at-start", None));
    assert!(is_unread(&mut identities, key(42, 500)));
    for pid in 100..120 {
        tree.process(&Seen {
            pid,
            ..Seen::default()
        });
        assert_eq!(name(&mut identities, key(pid, 500)), "shop");
    }
    assert!(is_unread(&mut identities, key(42, 500)));
    let Whose::Known(resource) = identities.whose(key(42, 500), 0, UnixTime(1), true) else {
        panic!("the last one waits no longer");
    };
    assert_eq!(resource.service_name(), "told-at-start");
    assert_eq!(identities.reads().snapshot()["unanswered"], 1);
    release(&stalled, b"OTEL_SERVICE_NAME=late\0");
    assert_eq!(name(&mut identities, key(42, 500)), "late");
}

#[test]
fn executables_that_stand_still_hold_no_name_up() {
    let tree = Tree::new();
    let mut identities = beside(&tree);
    let fifo = tree.0.path().join("executable");
    stall(&fifo);
    for pid in 100..120 {
        tree.process(&Seen {
            pid,
            ..Seen::default()
        });
        fs::remove_file(file(&tree, pid, "exe")).unwrap();
        symlink(&fifo, file(&tree, pid, "exe")).unwrap();
        assert_eq!(name(&mut identities, key(pid, 500)), "executable");
    }
    // Unblocks the threads: no Go program.
    thread::spawn(move || {
        loop {
            if OpenOptions::new().write(true).open(&fifo).is_err() {
                return;
            }
        }
    });
}

#[test]
fn an_answer_about_the_program_before_is_not_about_the_one_now() {
    let tree = Tree::new();
    let mut identities = beside(&tree);
    let stalled = file(&tree, 42, "environ");
    tree.process(&Seen::default());
    stall(&stalled);
    assert!(is_unread(&mut identities, key(42, 500)));
    // Opening for writing waits until the first question is being answered.
    let mut before = OpenOptions::new().write(true).open(&stalled).unwrap();
    stall(&stalled);
    identities.started(&started(key(42, 500), "shop", None));
    assert!(is_unread(&mut identities, key(42, 500)), "asked again");
    before.write_all(b"OTEL_SERVICE_NAME=before\0").unwrap();
    drop(before);
    identities.await_reads(Duration::from_secs(1));
    assert!(is_unread(&mut identities, key(42, 500)));
    release(&stalled, b"OTEL_SERVICE_NAME=now\0");
    assert_eq!(name(&mut identities, key(42, 500)), "now");
}

#[test]
fn a_process_that_is_gone_is_known_by_its_start_and_asked_for_once() {
    let tree = Tree::new();
    let mut identities = beside(&tree);
    identities.started(&started(key(7, 1), "short", None));
    assert_eq!(name(&mut identities, key(7, 1)), "short");
    identities.resource(key(7, 1), 0);
    assert_eq!(identities.reads().snapshot(), [("gone", 1)].into());
}

#[test]
fn the_end_waits_for_what_was_asked_and_no_longer_than_it_may() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let mut identities = beside(&tree);
    assert!(is_unread(&mut identities, key(42, 500)));
    identities.await_reads(LONG);
    assert!(!is_unread(&mut identities, key(42, 500)));
    let stalled = file(&tree, 43, "environ");
    tree.process(&Seen {
        pid: 43,
        ..Seen::default()
    });
    stall(&stalled);
    assert!(is_unread(&mut identities, key(43, 500)));
    identities.await_reads(Duration::from_millis(20));
    assert!(is_unread(&mut identities, key(43, 500)));
    release(&stalled, b"");
}

#[test]
fn a_process_id_that_changes_hands_while_its_files_are_read_is_nobodys() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let (root, stalled) = (tree.0.path().join("proc"), file(&tree, 42, "environ"));
    stall(&stalled);
    let reader = thread::spawn(move || procfs::observe(&root, key(42, 500), true));
    // Opening for writing waits for the reader, which has looked at the start time by then.
    let mut writer = OpenOptions::new().write(true).open(&stalled).unwrap();
    tree.stat(42, 900);
    writer.write_all(b"OTEL_SERVICE_NAME=stranger\0").unwrap();
    drop(writer);
    assert!(reader.join().unwrap().is_none());
}

fn decide(
    selection: &mut Selection,
    identities: &mut Identities,
) -> (Option<&'static str>, Option<bool>) {
    let connection = Some(ConnectionId(1));
    let answer = selection.decide(key(42, 500), 0, connection, identities, UnixTime(1));
    (answer.left_out, answer.tell_kernel)
}

#[test]
fn a_selector_of_executables_waits_for_the_process_to_be_read() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let exclude = vec![Selector {
        executable: Some(Pattern::new("*/shop").unwrap()),
        ..Selector::default()
    }];
    let selectors = Selectors {
        exclude,
        ..Selectors::default()
    };
    let mut selection = Selection::new(selectors, 8);
    let mut identities = beside(&tree);
    let decided = decide(&mut selection, &mut identities);
    assert_eq!(decided, (None, None), "let through, and undecided");
    assert!(!selection.is_captured(key(42, 500)), "undecided");
    identities.await_reads(LONG);
    let denied = (Some("selection.denied"), Some(false));
    assert_eq!(decide(&mut selection, &mut identities), denied);
}

#[test]
fn what_was_let_through_before_the_process_was_read_is_told_if_it_is_not_excluded() {
    let selecting = |exclude: &str| {
        let exclude = vec![Selector {
            executable: Some(Pattern::new(exclude).unwrap()),
            ..Selector::default()
        }];
        let selectors = Selectors {
            exclude,
            ..Selectors::default()
        };
        Selection::new(selectors, 8)
    };
    let tree = Tree::new();
    tree.process(&Seen::default());
    for (exclude, told) in [
        ("*/shop", Told::No("selection.denied")),
        ("*/other", Told::Yes),
    ] {
        // Of what was read the next message may hear first, or what was measured of the last one.
        for is_decided_anew in [true, false] {
            let mut selection = selecting(exclude);
            let mut identities = beside(&tree);
            decide(&mut selection, &mut identities);
            let one = measured();
            assert_eq!(selection.told(&one, &mut identities), Told::NotYet);
            identities.await_reads(LONG);
            if is_decided_anew {
                decide(&mut selection, &mut identities);
            }
            assert_eq!(selection.told(&one, &mut identities), told, "{exclude}");
        }
    }
}

fn asked(process: ProcessKey, time: u64, executed: bool) -> Asked {
    Asked {
        process,
        time: KernelTime(time),
        executed,
        cgroup: 0,
    }
}

fn end(tree: &Tree, pid: u32) {
    fs::remove_dir_all(tree.0.path().join(format!("proc/{pid}"))).unwrap();
}

#[test]
fn a_process_that_has_ended_while_its_events_waited_is_known_by_what_was_read_ahead() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let mut identities = beside(&tree);
    let mut start = started(key(42, 500), "told-at-start", None);
    identities.ask_ahead(&asked(key(42, 500), start.stamp.time.0, true));
    identities.await_reads(LONG);
    assert_eq!(identities.news(), [News::Ahead(key(42, 500))]);
    end(&tree, 42);
    identities.started(&start);
    assert_eq!(name(&mut identities, key(42, 500)), "shop");
    // The program after it is read anew.
    start.stamp.time.0 += 1;
    identities.started(&start);
    assert_eq!(name(&mut identities, key(42, 500)), "told-at-start");
}

#[test]
fn a_process_that_only_forked_is_known_by_what_was_read_ahead() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let mut identities = beside(&tree);
    identities.ask_ahead(&asked(key(42, 500), 1, false));
    identities.await_reads(LONG);
    end(&tree, 42);
    assert_eq!(name(&mut identities, key(42, 500)), "shop");
    assert_eq!(identities.reads().snapshot(), [("read", 1)].into());
}

#[test]
fn what_the_next_program_is_says_nothing_of_the_one_whose_events_still_wait() {
    let tree = Tree::new();
    tree.process(&Seen::default());
    let mut identities = beside(&tree);
    assert_eq!(name(&mut identities, key(42, 500)), "shop");
    tree.process(&Seen {
        exe: "/usr/bin/next",
        cmdline: "next\0",
        ..Seen::default()
    });
    let start = started(key(42, 500), "next", None);
    identities.ask_ahead(&asked(key(42, 500), start.stamp.time.0, true));
    identities.await_reads(LONG);
    assert_eq!(name(&mut identities, key(42, 500)), "shop");
    end(&tree, 42);
    identities.started(&start);
    assert_eq!(name(&mut identities, key(42, 500)), "next");
}

#[test]
fn a_process_that_is_gone_before_it_is_known_is_left_out_for_that() {
    let tree = Tree::new();
    let include = vec![Selector {
        executable: Some(Pattern::new("*/shop").unwrap()),
        ..Selector::default()
    }];
    let other = vec![Selector {
        pid: Some(7),
        ..Selector::default()
    }];
    for (include, reason) in [
        (include, "selection.process_gone"),
        (other, "selection.denied"),
    ] {
        let selectors = Selectors {
            include,
            ..Selectors::default()
        };
        let mut selection = Selection::new(selectors, 8);
        let mut identities = beside(&tree);
        identities.decide(key(42, 500));
        identities.await_reads(LONG);
        let connection = Some(ConnectionId(1));
        let mut decide =
            || selection.decide(key(42, 500), 0, connection, &mut identities, UnixTime(1));
        assert_eq!(decide().left_out, Some(reason));
    }
}

/// So many processes whose memory stands still.
fn stalled(tree: &Tree, identities: &mut Identities, count: u32) -> Vec<PathBuf> {
    let stalled = (1000..1000 + count).map(|pid| {
        tree.process(&Seen {
            pid,
            ..Seen::default()
        });
        let path = file(tree, pid, "environ");
        stall(&path);
        assert!(is_unread(identities, key(pid, 500)));
        path
    });
    stalled.collect()
}

/// Whoever reads these files reads on.
fn release_all(paths: &[PathBuf]) {
    for path in paths {
        drop(OpenOptions::new().read(true).write(true).open(path));
    }
}

#[test]
fn memory_that_stands_still_in_more_processes_than_read_at_once_holds_no_other_up() {
    let tree = Tree::new();
    let mut identities = beside(&tree);
    let paths = stalled(&tree, &mut identities, 10);
    tree.process(&Seen {
        environ: "OTEL_SERVICE_NAME=declared\0",
        ..Seen::default()
    });
    assert_eq!(name(&mut identities, key(42, 500)), "declared");
    release_all(&paths);
}

#[test]
fn where_more_memory_stands_still_than_there_are_threads_a_process_is_known_without_its_own() {
    let tree = Tree::new();
    let mut identities = beside(&tree);
    let paths = stalled(&tree, &mut identities, 40);
    tree.process(&Seen {
        environ: "OTEL_SERVICE_NAME=declared\0",
        ..Seen::default()
    });
    assert_eq!(name(&mut identities, key(42, 500)), "shop");
    let reads = identities.reads().snapshot();
    assert!(reads["memory_passed"] >= 1, "{reads:?}");
    release_all(&paths);
}
