//! What a watch can be told; all of it has a default but where the API server is and whose pods are wanted.

use std::time::Duration;

use super::access::Access;

/// Whose objects are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those bound to this node: the API server looks them up by an index, whatever the size of the cluster.
    Node(String),
    /// Those of the whole cluster. Costs traffic in proportion to the cluster for each agent that asks.
    Cluster,
}

/// How to ask.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the API server is and who asks.
    pub access: Access,
    /// Whose objects are asked for.
    pub scope: Scope,
    /// The first request waits a random time up to this, so that the agents of a cluster do not all ask at once.
    pub start_jitter: Duration,
    /// Pause after a first failure; doubles with each further one, with jitter.
    pub backoff_initial: Duration,
    /// The longest pause between tries. After a pause of this length has gone well, the first pause is the short one
    /// again.
    pub backoff_max: Duration,
    /// The longest pause while the API server does not answer, or says that it is not ready: a refused connection costs
    /// nobody anything, and names are missed until it is back.
    pub away_max: Duration,
    /// Pause after 403, once it was tried again a few times: only a person can end it, and nobody is helped by more
    /// requests. An API server that has just started may say so without meaning it.
    pub forbidden_pause: Duration,
    /// How long the API server keeps one watch open. Ends also a connection that died without a word, 5 s later.
    pub watch_timeout: Duration,
    /// How long a list may go without news. Ends one whose body does not come.
    pub list_timeout: Duration,
    /// How many objects the API server sends at once where it must be asked page by page: in [`Scope::Cluster`] without
    /// WatchList. A node's pods are one page always, for then they come from the API server's cache.
    pub page_size: u32,
    /// The longest line of a watch, which is one object, that is read. etcd keeps none above 1.5 MiB.
    pub max_object_bytes: usize,
    /// The longest answer to a list request that is read.
    pub max_list_bytes: usize,
}

impl Settings {
    /// The defaults, for this API server and these objects.
    pub fn new(access: Access, scope: Scope) -> Self {
        Self {
            access,
            scope,
            start_jitter: Duration::from_secs(2),
            backoff_initial: Duration::from_millis(800),
            backoff_max: Duration::from_secs(30),
            away_max: Duration::from_secs(3),
            forbidden_pause: Duration::from_secs(60),
            watch_timeout: Duration::from_secs(290),
            list_timeout: Duration::from_secs(60),
            page_size: 500,
            max_object_bytes: 4 << 20,
            max_list_bytes: 64 << 20,
        }
    }
}
