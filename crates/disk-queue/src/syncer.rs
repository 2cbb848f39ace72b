//! The thread that forces to the disk what was written, so that nobody who writes waits for that.

use std::fs;
use std::io;
use std::time::Instant;

use crate::fault::{Hook, Operation};
use crate::settings::SyncPolicy;
use crate::state::{Shared, wait};
use crate::store::Unsynced;

/// Until the writer is done.
pub(crate) fn run(shared: &Shared) {
    let mut last = Instant::now();
    loop {
        let (unsynced, written) = {
            let mut state = shared.lock();
            loop {
                if state.writer_done && state.unsynced.is_empty() {
                    state.syncer_done = true;
                    drop(state);
                    shared.announce();
                    return;
                }
                let mut at_most = None;
                if !state.unsynced.is_empty() {
                    match shared.settings.sync {
                        _ if state.writer_done => break,
                        SyncPolicy::Always => break,
                        SyncPolicy::Interval(interval) => {
                            let left = interval.saturating_sub(last.elapsed());
                            if left.is_zero() {
                                break;
                            }
                            at_most = Some(left);
                        }
                        SyncPolicy::Never => {}
                    }
                }
                state = wait(&shared.sync_work, state, at_most);
            }
            // One fdatasync for all that was written until now.
            (std::mem::take(&mut state.unsynced), state.written)
        };
        last = Instant::now();
        let result = shared
            .settings
            .hook
            .before(Operation::Sync)
            .and_then(|()| sync(&unsynced, &shared.settings.hook));
        let mut state = shared.lock();
        let failed = result.is_err();
        let changed = state.sync_failing != failed;
        state.sync_failing = failed;
        state.sync_slow = false;
        if failed {
            state.stats.sync_errors += 1;
            // What the kernel could not write may be gone from its cache; nothing is built upon it.
            state.seal = true;
            // The files that are replaced stay until the next time.
            state.unsynced.replaced.extend(unsynced.replaced);
        } else {
            state.synced = state.synced.max(written);
        }
        drop(state);
        shared.announce();
        match result {
            Err(error) if changed => tracing::warn!(%error, queue = shared.settings.name,
                "records of the queue cannot be forced to the disk; a loss of power may lose them"),
            Ok(()) if changed => {
                tracing::info!(
                    queue = shared.settings.name,
                    "records of the queue are forced to the disk again"
                );
            }
            _ => {}
        }
    }
}

fn sync(unsynced: &Unsynced, hook: &Hook) -> io::Result<()> {
    for file in &unsynced.files {
        file.sync_data()?;
    }
    if let Some(directory) = &unsynced.directory {
        hook.before(Operation::SyncDirectory)?;
        directory.sync_all()?;
    }
    for path in &unsynced.replaced {
        drop(fs::remove_file(path));
    }
    Ok(())
}
