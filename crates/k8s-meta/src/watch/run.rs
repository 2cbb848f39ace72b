//! The loop of a watch: kube-runtime's watcher, and what it leaves to its user.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures_util::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube_runtime::watcher::{self, Event, InitialListStrategy, watcher};
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::access::client;
use super::backoff::{Backoff, random};
use super::change::{Change, Item, Object};
use super::counters::Counters;
use super::failure::{Failure, Reason};
use super::gate::Gate;
use super::settings::{Scope, Settings};

/// How good what is known is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing is known yet.
    Starting,
    /// All is known, and news come.
    Current,
    /// Once all was known; since then no news come. What is known is still the best there is.
    Stale {
        /// Since when.
        since: SystemTime,
        /// What failed last.
        reason: Reason,
    },
}

/// A watch on all objects of one kind in a scope.
pub struct Watch {
    settings: Settings,
    counters: Arc<Counters>,
    state: watch::Sender<State>,
    /// Lists as streams, until the API server is found not to know them.
    streaming: bool,
    /// Lists as streams that never came to an end, in a row.
    unended: u32,
    backoff: Backoff,
    /// Failures since something went well.
    failures: u32,
    /// Answers of 403 in a row.
    forbidden: u32,
    gate: Arc<Gate>,
    newest_event: String,
}

/// Why one run of the watcher is over.
enum End {
    /// Nobody listens any more.
    Closed,
    /// A new watcher is needed at once.
    Again,
    /// A new watcher and a new client are needed, after a pause.
    After(Duration),
}

/// So many failures in a row make a new client: the CA or the address may have changed.
const FAILURES_PER_CLIENT: u32 = 8;

/// So many answers of 403 in a row are meant: an API server that starts gives them before it knows its own rules.
const FORBIDDEN_AT_ONCE: u32 = 4;

impl Watch {
    /// A watch that has asked nothing yet. Counters may be shared between watches.
    pub fn new(settings: Settings, counters: Arc<Counters>) -> Self {
        let backoff = Backoff::new(settings.backoff_initial, settings.backoff_max);
        let gate = Arc::new(Gate::new(&settings));
        Self {
            settings,
            counters,
            state: watch::Sender::new(State::Starting),
            streaming: true,
            unended: 0,
            backoff,
            failures: 0,
            forbidden: 0,
            gate,
            newest_event: String::new(),
        }
    }

    /// How good what is known is, now and later.
    pub fn state(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Sends changes until the receiver is dropped. To stop it earlier, drop the future.
    pub async fn run<K: Object>(mut self, changes: mpsc::Sender<Change<K>>) {
        sleep(random(self.settings.start_jitter)).await;
        loop {
            let end = match client(&self.settings, &self.counters, &self.gate).await {
                Ok(client) => self.with_client(&client, &changes).await,
                Err(failure) => {
                    let pause = self.failed(failure, &changes).await;
                    pause.map_or(End::Closed, End::After)
                }
            };
            match end {
                End::Closed => return,
                End::Again => {}
                End::After(pause) => {
                    if !rest(pause, &changes).await {
                        return;
                    }
                }
            }
        }
    }

    /// Watches until something fails that only a new watcher or a new client can heal.
    async fn with_client<K: Object>(
        &mut self,
        client: &kube::Client,
        changes: &mpsc::Sender<Change<K>>,
    ) -> End {
        let api: Api<Item<K>> = Api::all(client.clone());
        let mut events = pin!(watcher(api, self.config::<K>()));
        let gate = Arc::clone(&self.gate);
        let mut listing = true;
        self.failures = 0;
        loop {
            let limit = self.settings.list_timeout;
            let next = async {
                if listing {
                    timeout(limit, events.next()).await
                } else {
                    Ok(events.next().await)
                }
            };
            let event = tokio::select! {
                event = next => event,
                () = gate.opened() => {
                    if !listing {
                        self.went_well();
                    }
                    continue;
                }
                () = changes.closed() => return End::Closed,
            };
            let change = match event {
                Ok(Some(Ok(event))) => self.change(event, &mut listing),
                Ok(Some(Err(error))) => match self.after_error::<K>(&error, changes).await {
                    Some(end) => return end,
                    None => continue,
                },
                Ok(None) => return End::Again,
                Err(_) => {
                    let failure = self.list_timed_out();
                    let pause = self.failed(failure, changes).await;
                    return pause.map_or(End::Closed, End::After);
                }
            };
            if changes.send(change).await.is_err() {
                return End::Closed;
            }
        }
    }

    /// Says what failed and waits; `None` where the watcher finds its way back by itself, which it does with no new list
    /// where it can.
    async fn after_error<K: Object>(
        &mut self,
        error: &watcher::Error,
        changes: &mpsc::Sender<Change<K>>,
    ) -> Option<End> {
        let failure = Failure::of_watcher::<K>(error);
        let reason = failure.reason;
        if self.streaming && is_unsupported(error, reason) {
            info!(
                "the API server does not stream lists ({failure}); they are asked for in one piece"
            );
            self.counters.failure(reason);
            self.streaming = false;
            return Some(End::Again);
        }
        if reason == Reason::Malformed && matches!(error, watcher::Error::WatchFailed(_)) {
            // One object cannot be read; those after it can.
            warn!("{failure}; this change is not known");
            self.counters.failure(reason);
            let closed = changes.send(Change::Failed(failure)).await.is_err();
            return closed.then_some(End::Closed);
        }
        let Some(pause) = self.failed(failure, changes).await else {
            return Some(End::Closed);
        };
        // The watcher would ask for ever for what is gone, and the client keeps its token for a minute.
        let needs_new = matches!(reason, Reason::Gone | Reason::Unauthorized);
        if needs_new || self.failures.is_multiple_of(FAILURES_PER_CLIENT) {
            return Some(End::After(pause));
        }
        (!rest(pause, changes).await).then_some(End::Closed)
    }

    fn went_well(&mut self) {
        self.failures = 0;
        self.forbidden = 0;
        self.state.send_if_modified(|state| {
            let changes = *state != State::Current;
            *state = State::Current;
            changes
        });
    }

    fn change<K: Object>(&mut self, event: Event<Item<K>>, listing: &mut bool) -> Change<K> {
        match event {
            Event::Init => {
                *listing = true;
                self.counters.relist();
                Change::ListBegan
            }
            Event::InitDone => {
                *listing = false;
                self.unended = 0;
                self.went_well();
                Change::ListComplete
            }
            Event::InitApply(item) => {
                self.counters.event();
                self.note_newest(&item.object, false);
                Change::Apply(Box::new(item.object))
            }
            Event::Apply(item) => {
                self.counters.event();
                self.note_newest(&item.object, true);
                Change::Apply(Box::new(item.object))
            }
            Event::Delete(item) => {
                self.counters.event();
                Change::Delete(Box::new(item.object))
            }
        }
    }

    /// Only what is newer than all before says how long news take: a change of a label tells an old start again.
    fn note_newest<K: Object>(&mut self, object: &K, is_news: bool) {
        let Some(newest) = object
            .newest_event()
            .filter(|time| *time > self.newest_event.as_str())
        else {
            return;
        };
        if is_news && let Ok(time) = newest.parse::<Timestamp>() {
            let lag = Timestamp::now().as_millisecond() - time.as_millisecond();
            self.counters.lag(u64::try_from(lag).unwrap_or(0));
        }
        newest.clone_into(&mut self.newest_event);
    }

    fn config<K: Object>(&self) -> watcher::Config {
        let seconds = u32::try_from(self.settings.watch_timeout.as_secs().max(1)).unwrap_or(290);
        let mut config = watcher::Config::default()
            .timeout(seconds.min(294))
            .any_semantic();
        match &self.settings.scope {
            Scope::Node(node) => config = config.fields(&K::of_node(node)),
            Scope::Cluster if !K::OF_CLUSTER.is_empty() => config = config.fields(K::OF_CLUSTER),
            Scope::Cluster => {}
        }
        if self.streaming {
            config.initial_list_strategy = InitialListStrategy::StreamingList;
        }
        // With a limit, kube leaves out resourceVersion=0 and each list goes to etcd. A node's pods need no limit.
        config.page_size = match self.settings.scope {
            Scope::Node(_) => None,
            Scope::Cluster => Some(self.settings.page_size),
        };
        config
    }

    fn list_timed_out(&mut self) -> Failure {
        if self.streaming {
            // A proxy, or an API server that ignores what it does not know, may never end a list as a stream.
            self.unended += 1;
            self.streaming = self.unended < 2;
        }
        Failure {
            reason: Reason::Timeout,
            message: format!(
                "no news for {:?} in the midst of a list",
                self.settings.list_timeout
            ),
        }
    }

    /// Counts it, says it, and says how long to wait; `None` where nobody listens any more.
    async fn failed<K>(
        &mut self,
        failure: Failure,
        changes: &mpsc::Sender<Change<K>>,
    ) -> Option<Duration> {
        let reason = failure.reason;
        self.counters.failure(reason);
        self.failures = self.failures.saturating_add(1);
        let was = self.state.borrow().clone();
        let is_new = match was {
            State::Current => {
                let since = SystemTime::now();
                self.state.send_replace(State::Stale { since, reason });
                true
            }
            State::Stale {
                since,
                reason: before,
            } => {
                self.state.send_replace(State::Stale { since, reason });
                before != reason
            }
            State::Starting => self.failures == 1,
        };
        let pause = match reason {
            // A new list is all that is needed, though not by all agents in the same moment.
            Reason::Gone => random(self.settings.backoff_initial),
            Reason::Forbidden if self.forbidden >= FORBIDDEN_AT_ONCE => {
                let half = self.settings.forbidden_pause / 2;
                half + random(half)
            }
            Reason::Forbidden | Reason::Unreachable | Reason::Server => {
                let longest = self.settings.away_max.min(self.settings.backoff_max);
                self.backoff.pause_up_to(longest, Instant::now())
            }
            _ => self.backoff.pause(Instant::now()),
        };
        self.forbidden = match reason {
            Reason::Forbidden => self.forbidden.saturating_add(1),
            _ => 0,
        };
        if is_new && reason != Reason::Gone {
            warn!("{failure}; next try in {pause:?}, what is known is kept");
        } else {
            debug!("{failure}; next try in {pause:?}");
        }
        let sent = changes.send(Change::Failed(failure)).await;
        sent.is_ok().then_some(pause)
    }
}

/// Waits; `false` where nobody listens any more.
async fn rest<K>(pause: Duration, changes: &mpsc::Sender<Change<K>>) -> bool {
    tokio::select! {
        () = sleep(pause) => true,
        () = changes.closed() => false,
    }
}

/// Whether the API server refused the list as a stream, and not something else.
fn is_unsupported(error: &watcher::Error, reason: Reason) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(_)) && reason == Reason::Unsupported
}
