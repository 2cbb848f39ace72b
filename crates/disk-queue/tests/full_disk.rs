//! A disk that is really full: a small tmpfs in a mount namespace of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use bytes::Bytes;
use spandrel_disk_queue::{Condition, DiskQueue, DropReason, Held, Position, Settings};

const SOON: Duration = Duration::from_secs(20);
const MOUNTED: &str = "DISK_QUEUE_SMALL_DISK";

fn body(number: u64) -> Bytes {
    let mut body = number.to_le_bytes().to_vec();
    body.resize(10_000, number as u8);
    body.into()
}

#[test]
fn a_full_disk_leaves_a_bounded_queue_in_memory_and_comes_back() {
    if let Some(disk) = std::env::var_os(MOUNTED) {
        return on_the_small_disk(Path::new(&disk));
    }
    let disk = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let script = "mount -t tmpfs -o size=1m none \"$DISK_QUEUE_SMALL_DISK\" && exec \"$@\"";
    let output = Command::new("unshare")
        .args([
            "--user",
            "--map-root-user",
            "--mount",
            "sh",
            "-ec",
            script,
            "sh",
        ])
        .arg(program)
        .args([
            "--exact",
            "a_full_disk_leaves_a_bounded_queue_in_memory_and_comes_back",
        ])
        .args(["--nocapture"])
        .env(MOUNTED, disk.path())
        .output()
        .expect("unshare (util-linux) is needed");
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("1 passed"), "{said}");
}

fn on_the_small_disk(disk: &Path) {
    let mut settings = Settings::new(disk, "small");
    // More than there is.
    settings.max_bytes = 64 << 20;
    settings.segment_bytes = 100 << 10;
    settings.memory_bytes = 200 << 10;
    settings.push_wait = SOON;
    settings.retry = (Duration::from_millis(1), Duration::from_millis(10));
    let queue = DiskQueue::open(settings.clone()).unwrap();
    let mut on_disk = 0;
    while queue.push(0, 7, body(on_disk)).unwrap() == Held::OnDisk {
        on_disk += 1;
    }
    assert!((60..110).contains(&on_disk), "{on_disk} of 10 KB on 1 MiB");
    assert_eq!(queue.stats().condition, Condition::Failing);
    for number in on_disk + 1..300 {
        assert_eq!(queue.push(0, 7, body(number)).unwrap(), Held::InMemory);
        assert!(queue.stats().memory.total().bytes <= 200 << 10);
    }
    let full = queue.stats().dropped[&(DropReason::Full, 0)];
    let in_memory = queue.stats().memory.total().records;
    assert_eq!(full.records + in_memory + on_disk, 300);
    assert_eq!(full.items, full.records * 7);

    // What was told to be on the disk is delivered, in order; then what is left in memory, which goes to the disk as
    // soon as there is room, and may be overtaken on its way there.
    let mut got = Vec::new();
    while got.len() < (on_disk + in_memory) as usize {
        let delivery = queue.next_blocking(SOON).expect("there is more");
        let number = u64::from_le_bytes(delivery.body[..8].try_into().unwrap());
        assert_eq!(delivery.body, body(number));
        got.push(number);
        queue.ack(delivery.position);
    }
    assert_eq!(got[..on_disk as usize], (0..on_disk).collect::<Vec<_>>());
    let mut others = got[on_disk as usize..].to_vec();
    others.sort_unstable();
    others.dedup();
    assert_eq!(others.len() as u64, in_memory, "{got:?}");
    assert!(others.iter().all(|number| (on_disk..300).contains(number)));
    // The segments that were sent made room.
    while queue.push(0, 7, body(300)).unwrap() == Held::InMemory {
        let delivery = queue.next_blocking(SOON).unwrap();
        queue.ack(delivery.position);
    }
    let delivery = queue.next_blocking(SOON).unwrap();
    assert!(matches!(delivery.position, Position::Disk(_)));
    assert_eq!(queue.stats().condition, Condition::Working);
    assert!(queue.close(SOON).finished);

    // Full from the start, by somebody else: it opens, and what was left is delivered.
    let filler = disk.join("filler");
    let mut size = 1 << 20;
    while fs::write(&filler, vec![0; size]).is_err() {
        size -= 4096;
    }
    let queue = DiskQueue::open(settings).unwrap();
    let left = queue.next_blocking(SOON).unwrap();
    assert_eq!(left.body, body(300));
    queue.ack(left.position);
}
