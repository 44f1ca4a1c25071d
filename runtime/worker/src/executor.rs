//! Threads that compute batches; their number follows the instance's share.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, select_biased, unbounded};
use migrator_wire::frame::blocking::Payload;
use migrator_wire::{FailCode, FromWorker, monotonic_us};

use crate::answer::{Answers, Failure, caught};
use crate::registry::Loaded;

/// Batches that may wait: far more than a server sends ahead, so that only a broken one meets the bound.
const QUEUE: usize = 1024;

/// Most executors, for a wrong number must not start a million threads.
const MAX_EXECUTORS: u32 = 256;

/// TorchScript's interpreter recurses deeper than the 2 MiB of a Rust thread allow.
pub(crate) const STACK_BYTES: usize = 16 * 1024 * 1024;

/// A batch to compute.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) id: u64,
    pub(crate) model: Arc<Loaded>,
    pub(crate) rows: u32,
    /// Bytes of each input in the payload.
    pub(crate) inputs: Vec<u64>,
    pub(crate) payload: Payload,
}

/// The threads and their queue.
#[derive(Debug)]
pub(crate) struct Executors {
    answers: Arc<Answers>,
    batches: Sender<Batch>,
    work: Work,
    retire: Sender<()>,
    threads: Vec<JoinHandle<()>>,
    wanted: u32,
}

/// What an executor takes from; whoever takes a `retire` ends.
#[derive(Clone, Debug)]
struct Work {
    batches: Receiver<Batch>,
    retire: Receiver<()>,
}

impl Executors {
    /// One executor, until the server says otherwise.
    pub(crate) fn start(answers: Arc<Answers>) -> Executors {
        let (batches, batches_out) = bounded(QUEUE);
        // Bounded by MAX_EXECUTORS: never more than the threads that are wanted no longer.
        let (retire, retire_out) = unbounded();
        let work = Work { batches: batches_out, retire: retire_out };
        let mut executors = Executors { answers, batches, work, retire, threads: Vec::new(), wanted: 0 };
        executors.resize(1);
        executors
    }

    /// Runs on `count` threads (at least one) from now on; one that is too many ends after its batch.
    pub(crate) fn resize(&mut self, count: u32) {
        let count = count.clamp(1, MAX_EXECUTORS);
        while self.wanted < count {
            // One that was to retire and has not noticed yet stays; otherwise a new one starts.
            if self.work.retire.try_recv().is_err() {
                self.spawn();
            }
            self.wanted += 1;
        }
        while self.wanted > count {
            let _ = self.retire.send(());
            self.wanted -= 1;
        }
        self.threads.retain(|thread| !thread.is_finished());
    }

    /// Queues a batch, unless too many wait.
    pub(crate) fn submit(&self, batch: Batch) -> Result<(), Failure> {
        self.batches.try_send(batch).map_err(|_| Failure::internal(format!("{QUEUE} batches are waiting already")))
    }

    /// Threads that end once all queued batches are computed.
    pub(crate) fn finish(self) -> Vec<JoinHandle<()>> {
        self.threads
    }

    fn spawn(&mut self) {
        let (work, answers) = (self.work.clone(), Arc::clone(&self.answers));
        let thread = std::thread::Builder::new().name("executor".into()).stack_size(STACK_BYTES);
        match thread.spawn(move || execute(&work, &answers)) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => tracing::error!(%error, "cannot start an executor"),
        }
    }
}

fn execute(work: &Work, answers: &Answers) {
    let mut output = Vec::new();
    loop {
        select_biased! {
            recv(work.retire) -> retire => {
                // Closed means that the worker shuts down: the batches come first.
                if retire.is_ok() {
                    return;
                }
                work.batches.iter().for_each(|batch| answer(answers, batch, &mut output));
                return;
            }
            recv(work.batches) -> batch => match batch {
                Ok(batch) => answer(answers, batch, &mut output),
                Err(_) => return,
            },
        }
    }
}

fn answer(answers: &Answers, batch: Batch, output: &mut Vec<u8>) {
    output.clear();
    let start = Instant::now();
    let result = caught(|| compute(&batch, output));
    let compute_us = u32::try_from(start.elapsed().as_micros()).unwrap_or(u32::MAX);
    let ended_us = monotonic_us();
    let Batch { id, model, rows, payload, .. } = batch;
    // Before the answer: who unloads after it must not find the model still in use.
    drop((model, payload));
    match result {
        Ok(()) => answers.send(id, &FromWorker::Inferred { rows, compute_us, ended_us }, output),
        Err(failure) => answers.send_result(id, Err(failure)),
    }
}

fn compute(batch: &Batch, output: &mut Vec<u8>) -> Result<(), Failure> {
    let inputs = split(&batch.payload, &batch.inputs)?;
    let max = batch.model.model.spec().max_batch;
    if batch.rows == 0 || batch.rows > max {
        return Err(Failure::new(FailCode::BadInput, format!("{} rows; this model takes 1 to {max}", batch.rows)));
    }
    Ok(batch.model.model.infer_into(&inputs, batch.rows, output)?)
}

/// The inputs in the payload, by their lengths.
fn split<'a>(mut payload: &'a [u8], lengths: &[u64]) -> Result<Vec<&'a [u8]>, Failure> {
    let wrong = || Failure::new(FailCode::BadInput, "the payload is not as long as its inputs together");
    let take = |&length: &u64| {
        let (input, rest) = usize::try_from(length).ok().and_then(|length| payload.split_at_checked(length)).ok_or_else(wrong)?;
        payload = rest;
        Ok(input)
    };
    let inputs = lengths.iter().map(take).collect::<Result<Vec<_>, Failure>>()?;
    if payload.is_empty() { Ok(inputs) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_split_by_the_lengths_of_its_inputs() {
        assert_eq!(split(b"abcde", &[2, 0, 3]).unwrap(), [&b"ab"[..], b"", b"cde"]);
        for lengths in [&[2][..], &[6], &[u64::MAX, 6], &[]] {
            assert!(split(b"abcde", lengths).is_err(), "{lengths:?}");
        }
    }
}
