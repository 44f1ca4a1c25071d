//! Labelled samples on their way back to the server: the label of a request becomes known a little later, and is sent in batches.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::body::{Prepared, SharedSupply};
use super::client::Pool;

/// A label is known this long after its request was due.
const DELAY: Duration = Duration::from_secs(1);
/// How often batches leave.
const EVERY: Duration = Duration::from_millis(500);
/// Most samples in one batch.
const BATCH: usize = 64;
/// Most samples waiting; the oldest go first.
const WAITING: usize = 4096;
/// A batch without an answer after this long is given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The labelled samples of one tenant.
pub(super) struct Labels {
    pool: Pool,
    supply: SharedSupply,
    waiting: RefCell<VecDeque<(Instant, Rc<Prepared>)>>,
    sent: Cell<u64>,
    refused: Cell<u64>,
    closing: Cell<bool>,
}

impl Labels {
    pub(super) fn new(pool: Pool, supply: SharedSupply) -> Self {
        Labels { pool, supply, waiting: RefCell::default(), sent: Cell::new(0), refused: Cell::new(0), closing: Cell::new(false) }
    }

    /// A request due at `due` is to be sent with its label.
    pub(super) fn push(&self, due: Instant, sample: Rc<Prepared>) {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() == WAITING {
            waiting.pop_front();
            self.refused.set(self.refused.get() + 1);
        }
        waiting.push_back((due + DELAY, sample));
    }

    /// Sends what is known, again and again; after [`Labels::close`] sends the rest and ends.
    pub(super) async fn run(&self) {
        loop {
            sleep(EVERY).await;
            let closing = self.closing.get();
            self.flush(Instant::now() + if closing { DELAY } else { Duration::ZERO }).await;
            if closing {
                return;
            }
        }
    }

    /// No more samples come.
    pub(super) fn close(&self) {
        self.closing.set(true);
    }

    /// Sends all that is known at `now`.
    async fn flush(&self, now: Instant) {
        loop {
            let batch = self.take(now);
            if batch.is_empty() {
                return;
            }
            let request = self.supply.borrow().renderer().samples(&batch);
            let answer = timeout(PATIENCE, self.pool.exchange(&request, |_| {}, |status, _| status)).await;
            let taken = matches!(answer, Ok(Ok(200..=299)));
            if !taken {
                tracing::warn!(?answer, "labelled samples were not taken");
            }
            let count = if taken { &self.sent } else { &self.refused };
            count.set(count.get() + batch.len() as u64);
        }
    }

    /// Samples that the server took, and that it did not.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.sent.get(), self.refused.get())
    }

    fn take(&self, now: Instant) -> Vec<Rc<Prepared>> {
        let mut waiting = self.waiting.borrow_mut();
        let due = waiting.iter().take(BATCH).take_while(|(known, _)| *known <= now).count();
        waiting.drain(..due).map(|(_, sample)| sample).collect()
    }
}
