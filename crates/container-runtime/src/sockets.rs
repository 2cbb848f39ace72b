//! The sockets of container runtimes: where they are, what is spoken there, and when one is left alone.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::failure::Failure;

/// What is spoken at a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// containerd's own, gRPC.
    Containerd,
    /// Docker Engine's, HTTP; Podman speaks it too.
    Docker,
    /// The Container Runtime Interface, gRPC, of CRI-O.
    Cri,
}

impl Api {
    /// By the name of the socket: containerd's have `containerd` in it, CRI-O's `crio`.
    pub fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.contains("containerd") {
            Self::Containerd
        } else if name.contains("crio") {
            Self::Cri
        } else {
            Self::Docker
        }
    }
}

/// How long a socket that failed is left alone: at first, and at most after more failures.
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(60);

/// One socket and how it has done lately.
#[derive(Debug)]
pub(crate) struct Socket {
    pub(crate) path: PathBuf,
    pub(crate) api: Api,
    rests: Option<(Instant, Duration)>,
    last: Option<Failure>,
}

impl Socket {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            api: Api::of(&path),
            path,
            rests: None,
            last: None,
        }
    }

    /// Whether it is to be asked now; else why not.
    pub(crate) fn is_ready(&self, now: Instant) -> Result<(), Failure> {
        match (self.rests, self.last) {
            (Some((until, _)), Some(failure)) if now < until => Err(failure),
            _ => Ok(()),
        }
    }

    /// Takes down how an attempt ended. A slow or missing socket rests, twice as long each time.
    pub(crate) fn ended(&mut self, failure: Option<Failure>, now: Instant) {
        let Some(failure) = failure.filter(|failure| failure.is_of_socket()) else {
            if self.last.take().is_some() {
                tracing::debug!(socket = %self.path.display(), "the container runtime answers");
            }
            self.rests = None;
            return;
        };
        // Questions that were on their way together are one failure.
        if self.is_ready(now).is_err() {
            return;
        }
        let rest = self
            .rests
            .map_or(FIRST_REST, |(_, rest)| (rest * 2).min(LONGEST_REST));
        if self.last != Some(failure) {
            tracing::debug!(socket = %self.path.display(), %failure, "the container runtime is not asked for a while");
        }
        self.rests = Some((now + rest, rest));
        self.last = Some(failure);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_spoken_is_told_by_the_name_of_the_socket() {
        for (path, api) in [
            ("/run/docker.sock", Api::Docker),
            ("/run/podman/podman.sock", Api::Docker),
            ("/run/containerd/containerd.sock", Api::Containerd),
            ("/run/containerd/docker.sock", Api::Docker),
            ("/var/run/crio/crio.sock", Api::Cri),
            ("/run/crio/docker.sock", Api::Docker),
        ] {
            assert_eq!(Api::of(Path::new(path)), api, "{path}");
        }
    }

    #[test]
    fn a_socket_that_fails_rests_longer_each_time_and_comes_back() {
        let mut socket = Socket::new("/run/docker.sock".into());
        let start = Instant::now();
        let seconds = |count| start + Duration::from_secs(count);
        assert_eq!(socket.is_ready(start), Ok(()));
        socket.ended(Some(Failure::Unavailable), start);
        // One more of the same moment changes nothing.
        socket.ended(Some(Failure::Unavailable), start);
        assert_eq!(socket.is_ready(start), Err(Failure::Unavailable));
        assert_eq!(socket.is_ready(seconds(1)), Ok(()));
        socket.ended(Some(Failure::Timeout), seconds(1));
        assert_eq!(socket.is_ready(seconds(2)), Err(Failure::Timeout));
        assert_eq!(socket.is_ready(seconds(3)), Ok(()));
        // A container that it does not know is an answer.
        socket.ended(Some(Failure::NotFound), seconds(3));
        socket.ended(Some(Failure::Unavailable), seconds(4));
        assert_eq!(socket.is_ready(seconds(5)), Ok(()));
        for _ in 0..100 {
            let now = seconds(1_000_000);
            socket.rests = socket.rests.map(|(_, rest)| (now, rest));
            socket.ended(Some(Failure::Unavailable), now);
        }
        assert_eq!(socket.is_ready(seconds(1_000_060)), Ok(()));
    }
}
