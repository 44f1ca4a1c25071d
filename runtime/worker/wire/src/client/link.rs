//! The connection to one worker: one writer task, one reader task, and who waits for which answer.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracing::debug;

use super::CallError;
use crate::frame::FrameError;
use crate::frame::stream::{FrameReader, Rope};
use crate::message::{FromWorker, ToWorker};

/// Answers of a retraining kept for a slow receiver; the last place is for the last answer.
const PROGRESS: usize = 64;

/// Frames joined into one system call at most.
const BURST: usize = 16;

pub(super) type Reader<R> = FrameReader<BufReader<R>>;

/// The sending end; dropping it closes the worker's input, which ends the worker.
#[derive(Debug)]
pub(super) struct Link {
    next: AtomicU64,
    waiting: Arc<Waiting>,
    outgoing: mpsc::Sender<Rope>,
}

/// What a link's supervisor sees of it.
#[derive(Debug)]
pub(super) struct LinkEnd {
    /// Gives a message when the connection broke, with the reason unless it was closed properly.
    pub(super) broken: mpsc::Receiver<Option<FrameError>>,
    /// Ends once every answer that came is handed out and all who still wait are told of the loss.
    pub(super) reader: JoinHandle<()>,
}

impl Link {
    /// Ids begin at `first`.
    pub(super) fn start<R, W>(reader: Reader<R>, writer: W, queue: usize, first: u64) -> (Link, LinkEnd)
    where
        R: AsyncRead + Unpin + Send + 'static,
        W: AsyncWrite + Unpin + Send + 'static,
    {
        let waiting = Arc::new(Waiting::default());
        let (outgoing, frames) = mpsc::channel(queue.max(1));
        let (break_it, broken) = mpsc::channel(2);
        tokio::spawn(write(writer, frames, Arc::clone(&waiting), break_it.clone()));
        let reader = tokio::spawn(read(reader, Arc::clone(&waiting), break_it));
        (Link { next: AtomicU64::new(first), waiting, outgoing }, LinkEnd { broken, reader })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.waiting.map().is_some()
    }

    /// Sends a message and waits for its one answer, without a deadline.
    pub(super) async fn call(&self, message: &ToWorker, payload: Vec<Bytes>) -> Result<(FromWorker, Bytes), CallError> {
        let (sender, receiver) = oneshot::channel();
        let ticket = self.register(Waiter::One(sender))?;
        let rope = rope(ticket.id, message, payload)?;
        self.outgoing.send(rope).await.map_err(|_| CallError::WorkerLost)?;
        receiver.await.map_err(|_| CallError::WorkerLost)
    }

    /// Sends a message that has no answer.
    pub(super) async fn tell(&self, message: &ToWorker) -> Result<(), CallError> {
        let rope = rope(self.next.fetch_add(1, Ordering::Relaxed), message, Vec::new())?;
        self.outgoing.send(rope).await.map_err(|_| CallError::WorkerLost)
    }

    /// Sends a message that has a stream of answers.
    pub(super) fn stream(&self, message: &ToWorker) -> Result<(u64, mpsc::Receiver<FromWorker>), CallError> {
        let (sender, receiver) = mpsc::channel(PROGRESS);
        let ticket = self.register(Waiter::Stream(sender))?;
        let rope = rope(ticket.id, message, Vec::new())?;
        self.outgoing.try_send(rope).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => CallError::QueueFull,
            mpsc::error::TrySendError::Closed(_) => CallError::WorkerLost,
        })?;
        Ok((ticket.keep(), receiver))
    }

    fn register(&self, waiter: Waiter) -> Result<Ticket<'_>, CallError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.map().as_mut().ok_or(CallError::WorkerLost)?.insert(id, waiter);
        Ok(Ticket { id, waiting: Some(&self.waiting) })
    }
}

fn rope(id: u64, message: &ToWorker, payload: Vec<Bytes>) -> Result<Rope, CallError> {
    let mut rope = Rope::default();
    rope.push(id, message, payload).map_err(|_| CallError::TooLong)?;
    Ok(rope)
}

/// Who waits for which id; none once the worker is lost.
#[derive(Debug)]
struct Waiting {
    map: Mutex<Option<HashMap<u64, Waiter>>>,
}

#[derive(Debug)]
enum Waiter {
    One(oneshot::Sender<(FromWorker, Bytes)>),
    Stream(mpsc::Sender<FromWorker>),
}

impl Default for Waiting {
    fn default() -> Waiting {
        Waiting { map: Mutex::new(Some(HashMap::new())) }
    }
}

impl Waiting {
    /// Never held across an await: every caller is a plain function.
    fn map(&self) -> MutexGuard<'_, Option<HashMap<u64, Waiter>>> {
        self.map.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Dropping the senders tells everybody at once.
    fn lose(&self) {
        self.map().take();
    }

    fn deliver(&self, id: u64, message: FromWorker, payload: Bytes) {
        let mut map = self.map();
        let Some(map) = map.as_mut() else { return };
        if let (Some(Waiter::Stream(sender)), FromWorker::Progress { .. }) = (map.get(&id), &message) {
            // The last place is kept for the last answer. Nobody listening is no reason to stop the retraining.
            if sender.capacity() > 1 {
                let _ = sender.try_send(message);
            }
            return;
        }
        match map.remove(&id) {
            // A receiver that is gone has lost interest; there is nothing to tell it.
            Some(Waiter::One(sender)) => drop(sender.send((message, payload))),
            Some(Waiter::Stream(sender)) => drop(sender.try_send(message)),
            None => debug!(id, "an answer nobody waits for any more"),
        }
    }
}

/// A place among those who wait, given up on drop.
struct Ticket<'a> {
    id: u64,
    waiting: Option<&'a Waiting>,
}

impl Ticket<'_> {
    fn keep(mut self) -> u64 {
        self.waiting = None;
        self.id
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(waiting) = self.waiting
            && let Some(map) = waiting.map().as_mut()
        {
            map.remove(&self.id);
        }
    }
}

/// Loses the worker when it goes, also with a task that is aborted.
struct InTheEnd(Arc<Waiting>);

impl Drop for InTheEnd {
    fn drop(&mut self) {
        self.0.lose();
    }
}

async fn write<W: AsyncWrite + Unpin>(
    mut stream: W,
    mut frames: mpsc::Receiver<Rope>,
    waiting: Arc<Waiting>,
    broken: mpsc::Sender<Option<FrameError>>,
) {
    let mut burst = Vec::with_capacity(BURST);
    while frames.recv_many(&mut burst, BURST).await > 0 {
        let mut rope = Rope::default();
        burst.drain(..).for_each(|next| rope.append(next));
        if let Err(error) = rope.write_to(&mut stream).await {
            waiting.lose();
            // Full means that the supervisor already knows.
            let _ = broken.try_send(Some(error));
            return;
        }
    }
}

async fn read<R: AsyncRead + Unpin>(mut reader: Reader<R>, waiting: Arc<Waiting>, broken: mpsc::Sender<Option<FrameError>>) {
    let waiting = InTheEnd(waiting);
    let cause = loop {
        match reader.read::<FromWorker>().await {
            Ok(Some((id, message, payload))) => waiting.0.deliver(id, message, payload),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    drop(waiting);
    // Full means that the supervisor already knows.
    let _ = broken.try_send(cause);
}
