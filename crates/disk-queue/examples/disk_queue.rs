//! Prints what the queue writes and drains on this machine, and how long a push takes.
//!
//! `cargo run --release -p spandrel-disk-queue --example disk_queue [DIRECTORY]`
#![allow(clippy::print_stdout, reason = "the table is what this program is for")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use bytes::Bytes;
use spandrel_disk_queue::{DiskQueue, Held, Settings, SyncPolicy};

const MINUTE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from)
        .join(format!("disk-queue-{}", std::process::id()));
    println!("{}", root.display());
    println!(
        "{:<16} {:>9} {:>8} | {:>9} {:>9} {:>9} {:>9} | {:>9} {:>9} | {:>8}",
        "sync",
        "bytes",
        "records",
        "MB/s",
        "rec/s",
        "p50 us",
        "p99 us",
        "drain",
        "rec/s",
        "open ms"
    );
    let policies = [
        ("never", SyncPolicy::Never, 1),
        (
            "interval 200 ms",
            SyncPolicy::Interval(Duration::from_millis(200)),
            1,
        ),
        ("always", SyncPolicy::Always, 20),
    ];
    for (name, policy, fewer) in policies {
        for (size, records) in [(1_000, 100_000), (20_000, 20_000), (1_000_000, 400)] {
            run(&root, name, policy, size, records / fewer)?;
        }
    }
    std::fs::remove_dir_all(root)?;
    Ok(())
}

fn run(
    root: &std::path::Path,
    name: &str,
    policy: SyncPolicy,
    size: usize,
    records: usize,
) -> Result<(), Box<dyn std::error::Error>> {
    let mut settings = Settings::new(root, format!("{name}-{size}"));
    settings.sync = policy;
    settings.push_wait = MINUTE;
    // Nothing is handed out while it is written, so that all of it is read back.
    settings.read_ahead = 1;
    let body = Bytes::from(vec![0x5a; size]);
    let queue = DiskQueue::open(settings.clone())?;
    let mut times = Vec::with_capacity(records);
    let began = Instant::now();
    for _ in 0..records {
        let before = Instant::now();
        if queue.push(0, 512, body.clone())? != Held::OnDisk {
            return Err("the disk fails".into());
        }
        times.push(before.elapsed());
    }
    let write = began.elapsed().as_secs_f64();
    queue.close(MINUTE);
    settings.read_ahead = 8;
    let began = Instant::now();
    let queue = DiskQueue::open(settings)?;
    let open = began.elapsed().as_secs_f64();
    queue.finish();
    let began = Instant::now();
    let mut drained = 0;
    while let Some(delivery) = queue.next_blocking(MINUTE) {
        queue.ack(delivery.position);
        drained += 1;
    }
    queue.wait_for_acks();
    let drain = began.elapsed().as_secs_f64();
    if drained != records {
        return Err(format!("{drained} of {records} came back").into());
    }
    queue.close(MINUTE);
    times.sort();
    let at = |share: f64| {
        let index = (records as f64 * share) as usize;
        times
            .get(index)
            .map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    let (records, megabytes) = (records as f64, (records * size) as f64 / 1e6);
    println!(
        "{name:<16} {size:>9} {records:>8} | {:>9.1} {:>9.0} {:>9.1} {:>9.1} | {:>9.1} {:>9.0} | {:>8.1}",
        megabytes / write,
        records / write,
        at(0.5),
        at(0.99),
        megabytes / drain,
        records / drain,
        open * 1e3
    );
    Ok(())
}
