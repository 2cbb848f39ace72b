//! The thread that asks.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::answered::Answered;
use crate::description::Description;
use crate::failure::Failure;
use crate::sockets::{Api, Socket};
use crate::{containerd, cri, docker};

/// Questions that wait at most, and answers that wait to be taken in.
const WAITING: usize = 256;
/// Questions that are on their way at a time.
const IN_FLIGHT: usize = 4;
/// Longest time for one socket to answer all that is asked about one container.
const PATIENCE: Duration = Duration::from_secs(2);

/// One container to ask about.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) id: Arc<str>,
    pub(crate) api: Option<Api>,
}

pub(crate) type Told = (Arc<str>, Result<Description, Failure>);

/// Ends with its owner.
#[derive(Debug)]
pub(crate) struct Worker {
    questions: mpsc::Sender<Question>,
    answers: mpsc::Receiver<Told>,
}

impl Worker {
    /// Each answer is told when it is there.
    pub(crate) fn start(sockets: Vec<PathBuf>, answered: Answered) -> io::Result<Self> {
        let (questions, waiting) = mpsc::channel(WAITING);
        let (tell, answers) = mpsc::channel(WAITING);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let sockets = sockets.into_iter().map(Socket::new).collect();
        thread::Builder::new()
            .name("containers".to_owned())
            .spawn(move || runtime.block_on(run(sockets, waiting, tell, answered)))?;
        Ok(Self { questions, answers })
    }

    /// Whether there was room for the question.
    pub(crate) fn ask(&mut self, question: Question) -> bool {
        self.questions.try_send(question).is_ok()
    }

    /// An answer, if there is one.
    pub(crate) fn told(&mut self) -> Option<Told> {
        self.answers.try_recv().ok()
    }
}

type Sockets = Arc<Mutex<Vec<Socket>>>;

async fn run(
    sockets: Vec<Socket>,
    mut questions: mpsc::Receiver<Question>,
    answers: mpsc::Sender<Told>,
    answered: Answered,
) {
    let sockets: Sockets = Arc::new(Mutex::new(sockets));
    let mut asked = JoinSet::new();
    while let Some(question) = questions.recv().await {
        if asked.len() >= IN_FLIGHT {
            asked.join_next().await;
        }
        let (sockets, answers) = (Arc::clone(&sockets), answers.clone());
        let answered = answered.clone();
        asked.spawn(async move {
            let outcome = ask(&sockets, &question).await;
            // Nobody listens any more only at the end.
            drop(answers.send((question.id, outcome)).await);
            answered.tell();
        });
    }
}

/// Asks one socket after the other. Where none tells, the reason that weighs most counts.
async fn ask(sockets: &Sockets, question: &Question) -> Result<Description, Failure> {
    let mut reason = None;
    for index in 0.. {
        let ready = with(sockets, index, |socket| {
            let fits = question.api.is_none_or(|api| api == socket.api);
            fits.then(|| {
                let ready = socket.is_ready(Instant::now());
                ready.map(|()| (socket.path.clone(), socket.api))
            })
        });
        let failure = match ready {
            None => break,
            Some(None) => continue,
            Some(Some(Err(resting))) => resting,
            Some(Some(Ok((path, api)))) => {
                let answer = async {
                    match api {
                        Api::Containerd => containerd::describe(&path, &question.id).await,
                        Api::Docker => docker::describe(&path, &question.id).await,
                        Api::Cri => cri::describe(&path, &question.id).await,
                    }
                };
                let answer = tokio::time::timeout(PATIENCE, answer).await;
                let answer = answer.unwrap_or(Err(Failure::Timeout));
                let failure = answer.as_ref().err().copied();
                with(sockets, index, |socket| {
                    socket.ended(failure, Instant::now());
                });
                match answer {
                    Ok(description) => return Ok(description),
                    Err(failure) => failure,
                }
            }
        };
        if reason.is_none_or(|known: Failure| known.weight() < failure.weight()) {
            reason = Some(failure);
        }
    }
    Err(reason.unwrap_or(Failure::Unavailable))
}

fn with<T>(sockets: &Sockets, index: usize, act: impl FnOnce(&mut Socket) -> T) -> Option<T> {
    let mut sockets = sockets.lock().unwrap_or_else(PoisonError::into_inner);
    sockets.get_mut(index).map(act)
}
