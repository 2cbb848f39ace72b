//! The lives of a container: what its status says now, joined with what it said before.

use std::sync::{Arc, Weak};

use smallvec::SmallVec;

use super::key::ContainerKey;
use super::record::{Image, NEVER, Run};
use crate::cgroup::Runtime;
use crate::pod::{ContainerStatus, Terminated};
use crate::timestamp;

/// A container that crashes all the time has a new id after ten seconds at first; those of the grace period are kept.
const MAX_RUNS: usize = 8;

/// The newest first. A run that the status no longer has ended when that was noticed, at the latest.
pub(crate) fn merge(
    status: Option<&ContainerStatus>,
    image: &Arc<Image>,
    old: &[Run],
    now: u64,
    grace: u64,
) -> SmallVec<[Run; 1]> {
    let mut runs: SmallVec<[Run; 1]> = status.map(|it| listed(it, image)).unwrap_or_default();
    for known in old {
        match runs.iter_mut().find(|run| run.key == known.key) {
            Some(run) => {
                run.started = if run.started == 0 {
                    known.started
                } else {
                    run.started
                };
                run.restarts = run.restarts.or(known.restarts);
                // The first word counts: what is asked for next is in the pod before the container has ended.
                let complete = known.image.as_ref().filter(|it| !it.id.is_empty());
                run.image = complete.cloned().or(run.image.take());
            }
            None => {
                let ended = known.ended.min(now);
                if now < ended.saturating_add(grace) {
                    runs.push(Run {
                        key: known.key.clone(),
                        runtime: known.runtime,
                        image: known.image.clone(),
                        started: known.started,
                        ended,
                        restarts: known.restarts,
                        listed: false,
                        identity: Weak::new(),
                    });
                }
            }
        }
    }
    runs.truncate(MAX_RUNS);
    runs
}

/// The present run and the one before it.
fn listed(status: &ContainerStatus, image: &Arc<Image>) -> SmallVec<[Run; 1]> {
    let before = status.last_state.terminated.as_ref();
    let mut runs = SmallVec::new();
    if !status.container_id.is_empty() {
        let state = &status.state;
        let same =
            |it: &&Terminated| it.container_id.is_empty() || it.container_id == status.container_id;
        // While it waits for its next start, the last end is that of the id which is still shown.
        let ended = state
            .terminated
            .as_ref()
            .filter(same)
            .or_else(|| before.filter(|it| it.container_id == status.container_id));
        let started = match (&state.running, ended) {
            (Some(running), _) => time(running.started_at.as_deref()),
            (None, Some(terminated)) => time(terminated.started_at.as_deref()),
            (None, None) => 0,
        };
        let ended = match (&state.running, ended) {
            (None, Some(terminated)) => finished(terminated, started),
            _ => NEVER,
        };
        runs.push(run(
            &status.container_id,
            started,
            ended,
            Some((status.restart_count, image)),
        ));
    }
    if let Some(before) = before
        && !before.container_id.is_empty()
        && before.container_id != status.container_id
    {
        let started = time(before.started_at.as_deref());
        runs.push(run(
            &before.container_id,
            started,
            finished(before, started),
            None,
        ));
    }
    runs
}

/// Times are cut to the second: what happened within that second was not after the end.
fn finished(terminated: &Terminated, started: u64) -> u64 {
    match time(terminated.finished_at.as_deref()) {
        0 => NEVER,
        at => at.max(started).saturating_add(1_000_000_000),
    }
}

fn run(id: &str, started: u64, ended: u64, told: Option<(u32, &Arc<Image>)>) -> Run {
    let (scheme, id) = id.split_once("://").unwrap_or(("", id));
    Run {
        key: ContainerKey::new(id),
        runtime: runtime(scheme),
        started,
        ended,
        image: told.map(|(_, image)| Arc::clone(image)),
        restarts: told.map(|(restarts, _)| restarts),
        listed: true,
        identity: Weak::new(),
    }
}

fn runtime(scheme: &str) -> Option<Runtime> {
    match scheme {
        "containerd" => Some(Runtime::Containerd),
        "cri-o" => Some(Runtime::CriO),
        "docker" => Some(Runtime::Docker),
        _ => None,
    }
}

fn time(text: Option<&str>) -> u64 {
    text.and_then(timestamp::parse).unwrap_or(0)
}
