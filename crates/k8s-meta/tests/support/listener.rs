//! The receiving end of a watch, with a limit on each wait.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use spandrel_k8s_meta::pod::Pod;
use spandrel_k8s_meta::watch::{Access, Change, Counters, Failure, Scope, Settings, State, Watch};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No wait of a test is longer; what it waits for comes within milliseconds.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Settings with pauses for tests.
pub fn settings(url: &str, token_file: &Path, scope: Scope) -> Settings {
    let access = Access::Server {
        url: url.to_owned(),
        ca_file: None,
        token_file: token_file.to_owned(),
    };
    Settings {
        start_jitter: Duration::ZERO,
        backoff_initial: Duration::from_millis(4),
        backoff_max: Duration::from_millis(40),
        forbidden_pause: Duration::from_millis(20),
        ..Settings::new(access, scope)
    }
}

pub fn node(name: &str) -> Scope {
    Scope::Node(name.to_owned())
}

/// A running watch on pods.
pub struct Listener {
    changes: mpsc::Receiver<Change<Pod>>,
    pub state: watch::Receiver<State>,
    pub counters: Arc<Counters>,
    task: JoinHandle<()>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Listener {
    pub fn start(settings: Settings) -> Self {
        let counters = Arc::new(Counters::default());
        let watch = Watch::new(settings, Arc::clone(&counters));
        let (sender, changes) = mpsc::channel(16);
        Self {
            changes,
            state: watch.state(),
            counters,
            task: tokio::spawn(watch.run(sender)),
        }
    }

    /// The next change; failures are changes too.
    pub async fn next(&mut self) -> Change<Pod> {
        let change = timeout(LIMIT, self.changes.recv()).await;
        change.expect("a change in time").expect("the watch runs")
    }

    /// The next change that is no failure.
    pub async fn next_good(&mut self) -> Change<Pod> {
        loop {
            match self.next().await {
                Change::Failed(_) => {}
                change => return change,
            }
        }
    }

    pub async fn next_failure(&mut self) -> Failure {
        loop {
            if let Change::Failed(failure) = self.next().await {
                return failure;
            }
        }
    }

    /// Names of the pods of the next complete list.
    pub async fn list(&mut self) -> Vec<String> {
        let mut names = Vec::new();
        loop {
            match self.next_good().await {
                Change::ListBegan => names.clear(),
                Change::Apply(pod) => names.push(pod.metadata.name),
                Change::ListComplete => return names,
                other => panic!("{other:?} within a list"),
            }
        }
    }

    pub async fn applied(&mut self) -> Pod {
        match self.next_good().await {
            Change::Apply(pod) => *pod,
            other => panic!("{other:?} instead of a pod"),
        }
    }

    /// Waits for a state.
    pub async fn state_is(&mut self, what: &str, met: impl FnMut(&State) -> bool) -> State {
        let state = timeout(LIMIT, self.state.wait_for(met)).await;
        let state = state.unwrap_or_else(|_| panic!("never {what}"));
        state.expect("the watch runs").clone()
    }
}
