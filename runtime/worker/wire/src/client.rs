//! The server's side: starts worker processes and talks to them.
//!
//! [`Worker::spawn`] gives a [`WorkerHandle`] to call and a [`WorkerExit`] to await. Dropping the last handle ends the worker.

use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::frame::FrameError;
use crate::message::{FailCode, FromWorker, MicroprofileJob, ToWorker, TrainJob};
use link::Link;

mod exit;
mod inherit;
mod link;
mod output;
mod process;

pub use exit::Exit;

/// How to start a worker.
#[derive(Clone, Debug)]
pub struct SpawnOptions {
    /// The `migrator-worker` binary.
    pub binary: PathBuf,
    /// Name in logs, e.g. `gpu0/3g.40gb@0`.
    pub name: String,
    /// Set in the worker's environment, besides the server's own.
    pub env: Vec<(String, String)>,
    /// How long to wait for what.
    pub deadlines: Deadlines,
    /// Frames that may wait to be written; more calls wait for room, within their deadline.
    pub queue: usize,
}

impl SpawnOptions {
    /// With the usual deadlines.
    pub fn new(binary: impl Into<PathBuf>, name: impl Into<String>) -> SpawnOptions {
        SpawnOptions { binary: binary.into(), name: name.into(), env: Vec::new(), deadlines: Deadlines::default(), queue: 256 }
    }
}

/// How long a call may take, from the moment it is made. A retraining has none.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// Process start to `Hello`: dynamic linking.
    pub hello: Duration,
    /// `Prepare`, and `Attach` with the CUDA context, the copy and the warm-up: less than a step of a migration may take.
    pub attach: Duration,
    /// `Load`, warm-up included.
    pub load: Duration,
    /// `Infer`; far over any SLO, for the caller drops what is late.
    pub infer: Duration,
    /// Everything else.
    pub control: Duration,
}

impl Default for Deadlines {
    fn default() -> Deadlines {
        let seconds = Duration::from_secs;
        Deadlines { hello: seconds(60), attach: seconds(50), load: seconds(300), infer: seconds(30), control: seconds(30) }
    }
}

impl Deadlines {
    fn of(&self, message: &ToWorker) -> Duration {
        match message {
            ToWorker::Hello { .. } => self.hello,
            ToWorker::Prepare | ToWorker::Attach { .. } => self.attach,
            ToWorker::Load { .. } => self.load,
            ToWorker::Infer { .. } => self.infer,
            _ => self.control,
        }
    }
}

/// Starts workers.
#[derive(Debug)]
pub struct Worker;

impl Worker {
    /// Starts a worker process and waits for its `Hello`.
    ///
    /// # Errors
    /// It cannot be started, ends or says nothing before the deadline, or speaks another protocol. It is dead then.
    pub async fn spawn(options: SpawnOptions) -> Result<(WorkerHandle, WorkerExit), SpawnError> {
        process::spawn(options).await
    }

    /// Talks to a worker that is no child process, e.g. a fake one in a test, over the two halves of a connected stream. Its exit is
    /// the end of the stream.
    ///
    /// # Errors
    /// As for [`Worker::spawn`].
    pub async fn attach<R, W>(read: R, write: W, options: SpawnOptions) -> Result<(WorkerHandle, WorkerExit), SpawnError>
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        process::connect(read, write, options, None).await
    }
}

/// A running worker; cheap to clone, may be shared. Dropping the last one ends the worker.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    name: String,
    pid: u32,
    torch: String,
    deadlines: Deadlines,
    link: Link,
    exit: watch::Receiver<Option<Exit>>,
    /// Kills the worker when something is sent.
    kill: mpsc::Sender<()>,
}

impl WorkerHandle {
    /// Name in logs.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.inner.pid
    }

    /// Version of the worker's libtorch.
    pub fn torch(&self) -> &str {
        &self.inner.torch
    }

    /// Whether the connection still stands; a call may fail all the same.
    pub fn is_alive(&self) -> bool {
        self.inner.link.is_alive()
    }

    /// Sends a message and waits for its one answer, within the [`Deadlines`]. The parts of the payload follow each other on the
    /// wire and are not copied; the answer's payload is one piece to be sliced. Dropping the future forgets the answer.
    ///
    /// # Errors
    /// The worker refused it ([`CallError::Failed`]), is gone, or did not answer in time.
    pub async fn call(&self, message: ToWorker, payload: Vec<Bytes>) -> Result<(FromWorker, Bytes), CallError> {
        let within = self.inner.deadlines.of(&message);
        self.call_within(message, payload, within).await
    }

    /// As [`WorkerHandle::call`], with a deadline of its own.
    ///
    /// # Errors
    /// As for [`WorkerHandle::call`].
    pub async fn call_within(&self, message: ToWorker, payload: Vec<Bytes>, within: Duration) -> Result<(FromWorker, Bytes), CallError> {
        timeout(within, self.call_unwatched(message, payload)).await.unwrap_or(Err(CallError::Deadline { within }))
    }

    /// As [`WorkerHandle::call`] without any deadline: for who watches the worker itself.
    ///
    /// # Errors
    /// As for [`WorkerHandle::call`], but for the deadline.
    pub async fn call_unwatched(&self, message: ToWorker, payload: Vec<Bytes>) -> Result<(FromWorker, Bytes), CallError> {
        match self.inner.link.call(&message, payload).await {
            Ok((FromWorker::Failed { code, message }, _)) => Err(CallError::Failed { code, message }),
            answer => answer,
        }
    }

    /// Starts a retraining. Its id is what [`ToWorker::Pause`] names; the receiver gives `Progress`… and at last `Trained`,
    /// `Paused` or `Failed`, after which it ends. When it ends without one of these, the worker is lost.
    /// A slow receiver misses some `Progress`, never the last answer; dropping it does not stop the retraining.
    ///
    /// # Errors
    /// The worker is gone ([`CallError::WorkerLost`]) or the queue is full ([`CallError::QueueFull`]).
    pub fn train(&self, job: TrainJob) -> Result<(u64, mpsc::Receiver<FromWorker>), CallError> {
        self.inner.link.stream(&ToWorker::Train(job))
    }

    /// Starts a microprofile; like [`WorkerHandle::train`].
    ///
    /// # Errors
    /// As [`WorkerHandle::train`].
    pub fn microprofile(&self, job: MicroprofileJob) -> Result<(u64, mpsc::Receiver<FromWorker>), CallError> {
        self.inner.link.stream(&ToWorker::Microprofile(job))
    }

    /// Lets the worker finish what is in flight and exit; kills it after `deadline`. Returns how it ended.
    pub async fn shutdown(&self, deadline: Duration) -> Exit {
        let mut exit = self.inner.exit.clone();
        let polite = async {
            // A worker that cannot be asked is already on its way out, which the wait below sees.
            let _ = self.inner.link.tell(&ToWorker::Shutdown).await;
            ended(&mut exit).await
        };
        match timeout(deadline, polite).await {
            Ok(exit) => exit,
            Err(_) => self.kill().await,
        }
    }

    /// Kills the worker at once. Returns how it ended.
    pub async fn kill(&self) -> Exit {
        // Full means that a kill is already on its way; closed, that the worker has ended.
        let _ = self.inner.kill.try_send(());
        ended(&mut self.inner.exit.clone()).await
    }
}

async fn ended(exit: &mut watch::Receiver<Option<Exit>>) -> Exit {
    match exit.wait_for(Option::is_some).await {
        Ok(exit) => exit.clone().unwrap_or_else(Exit::unknown),
        Err(_) => Exit::unknown(),
    }
}

/// Resolves when the worker has ended, with how it ended.
#[derive(Debug)]
pub struct WorkerExit {
    receiver: oneshot::Receiver<Exit>,
}

impl Future for WorkerExit {
    type Output = Exit;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Exit> {
        Pin::new(&mut self.receiver).poll(context).map(|exit| exit.unwrap_or_else(|_| Exit::unknown()))
    }
}

/// Why a worker did not start.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// The process could not be started.
    #[error("cannot start {}", binary.display())]
    Start {
        /// The binary.
        binary: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The process ended before its `Hello`.
    #[error("the worker ended before it said hello: {exit}")]
    Ended {
        /// How.
        exit: Exit,
    },
    /// No `Hello` before the deadline.
    #[error("the worker did not say hello within {within:?}")]
    Deadline {
        /// The deadline.
        within: Duration,
    },
    /// What came is no `Hello` of this protocol.
    #[error("the worker broke the protocol")]
    Protocol(#[source] FrameError),
    /// A frame that is no `Hello`.
    #[error("the worker said something else than hello")]
    NoHello,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The process died or the socket broke.
    #[error("the worker is lost")]
    WorkerLost,
    /// No answer in time; one that comes later is dropped.
    #[error("no answer within {within:?}")]
    Deadline {
        /// The deadline.
        within: Duration,
    },
    /// Too many frames wait to be written.
    #[error("too many frames wait to be written")]
    QueueFull,
    /// The message or its payload is over the limit of a frame.
    #[error("the message is over the limit of a frame")]
    TooLong,
    /// The worker could not do it, and lives on.
    #[error("{}: {message}", FailName(*code))]
    Failed {
        /// What kind of failure.
        code: FailCode,
        /// One line.
        message: String,
    },
}

struct FailName(FailCode);

impl fmt::Display for FailName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            FailCode::UnknownModel => "unknown model",
            FailCode::BadInput => "bad input",
            FailCode::BadModel => "bad model",
            FailCode::BadData => "bad data",
            FailCode::Diverged => "diverged",
            FailCode::OutOfMemory => "out of memory",
            FailCode::NoDevice => "no device",
            FailCode::Torch => "libtorch failed",
            FailCode::Internal => "internal error",
        })
    }
}
