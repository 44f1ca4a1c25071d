//! Batches on their way to a worker and back.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use bytes::Bytes;
use migrator_machine::Time;
use migrator_machine::tenant::{BatchId, EvalId, Work};
use migrator_models::{TensorSpec, row};
use migrator_solver::InstanceId;
use migrator_wire::client::CallError;
use migrator_wire::message::{FailCode, FromWorker, ToWorker};
use migrator_wire::monotonic_us;
use tokio::sync::oneshot;

use super::TenantActor;
use crate::golden::Answered;
use crate::message::{AddLabels, AddSamples, InferError, Inferred, Labelled, Origin, Sample, SampleError};
use crate::statistic::Batch;

/// A request that has no answer yet.
pub(super) struct Pending {
    pub inputs: Vec<Bytes>,
    pub arrived: Time,
    pub reply: oneshot::Sender<Result<Inferred, InferError>>,
}

/// Labelled samples to be answered by the version in service: test, then train.
pub(super) struct Evaluation {
    /// Per input of the model, the rows' pieces.
    inputs: Vec<Vec<Bytes>>,
    labels: Vec<u32>,
}

/// A batch that came back.
pub(super) struct Computed {
    /// Version that computed it.
    pub version: u32,
    /// Its output.
    pub output: Bytes,
    /// When it was sent.
    pub sent: Time,
    /// What the worker computed.
    pub compute: Duration,
}

/// How long ago a computation ended; nothing where that is not known.
fn way_back(ended_us: u64) -> Duration {
    if ended_us == 0 { Duration::ZERO } else { Duration::from_micros(monotonic_us().saturating_sub(ended_us)) }
}

/// A batch on its way.
#[derive(Clone, Copy)]
struct Sent {
    lane: InstanceId,
    batch: BatchId,
    version: u32,
    rows: u32,
    at: Time,
    /// Requests in it, also where it is a batch sent once more; 0 for an evaluation.
    requests: u64,
    /// What they had waited, summed.
    waited: Duration,
}

type CallResult = Result<(FromWorker, Bytes), CallError>;

impl TenantActor {
    pub(super) fn dispatch(&mut self, lane: InstanceId, batch: BatchId, work: Work, rows: u32, ctx: &mut Context<Self>) {
        let Some((handle, key, version)) = self.answers(lane, matches!(work, Work::Evaluation(_)), rows) else {
            self.machine.lane_lost(self.clock.now(), lane);
            return;
        };
        let at = self.clock.now();
        let (requests, waited) = match work {
            Work::Requests | Work::Again(_) => self.waited(batch, at),
            Work::Evaluation(_) => (0, Duration::ZERO),
        };
        let (payload, inputs) = match work {
            Work::Requests | Work::Again(_) => self.payload_of_requests(batch),
            Work::Evaluation(eval) => self.payload_of_evaluation(eval),
        };
        let message = ToWorker::Infer { key, rows, inputs };
        // The machine watches over every batch in flight: a second watch would cost a timer for each.
        let call = async move { handle.call_unwatched(message, payload).await };
        let sent = Sent { lane, batch, version, rows, at, requests, waited };
        ctx.spawn(call.into_actor(self).map(move |result, actor, ctx| actor.returned(sent, result, ctx)));
    }

    /// Requests of a batch, and what they have waited until now, summed.
    fn waited(&self, batch: BatchId, now: Time) -> (u64, Duration) {
        let pending = self.machine.batch(batch).filter_map(|(request, _)| self.pending.get(&request));
        pending.fold((0, Duration::ZERO), |(count, sum), pending| (count + 1, sum + now.since(pending.arrived)))
    }

    /// The requests' own buffers, input by input: nothing is copied.
    fn payload_of_requests(&self, batch: BatchId) -> (Vec<Bytes>, Vec<u64>) {
        let inputs = self.inputs;
        let mut payload = Vec::new();
        let mut lengths = vec![0; inputs];
        for (input, length) in lengths.iter_mut().enumerate() {
            for (request, _) in self.machine.batch(batch) {
                if let Some(bytes) = self.pending.get(&request).and_then(|pending| pending.inputs.get(input)) {
                    *length += bytes.len() as u64;
                    payload.push(bytes.clone());
                }
            }
        }
        (payload, lengths)
    }

    fn payload_of_evaluation(&self, eval: EvalId) -> (Vec<Bytes>, Vec<u64>) {
        let Some(evaluation) = self.evaluations.get(&eval) else { return (Vec::new(), Vec::new()) };
        let lengths = evaluation.inputs.iter().map(|pieces| pieces.iter().map(|piece| piece.len() as u64).sum()).collect();
        (evaluation.inputs.concat(), lengths)
    }

    fn returned(&mut self, sent: Sent, result: CallResult, ctx: &mut Context<Self>) {
        let now = self.clock.now();
        let Sent { lane, batch, .. } = sent;
        match result {
            Ok((FromWorker::Inferred { compute_us, ended_us, .. }, output)) => {
                let compute = Duration::from_micros(u64::from(compute_us));
                // Of two batches with the same requests, whichever is second has none left.
                if self.machine.batch(batch).next().is_some() {
                    self.count(&sent, now, compute, way_back(ended_us));
                    self.look_for_drift(&sent, &output);
                }
                self.outputs.insert(batch, Computed { version: sent.version, output, sent: sent.at, compute });
                self.machine.finished(now, batch, compute);
            }
            Ok((other, _)) => {
                self.machine.canary_failed(sent.version);
                self.fail(sent, format!("the worker answered out of turn: {other:?}"));
            }
            Err(CallError::WorkerLost) => {
                // Whether it is to blame or not: a batch of a canary had no answer.
                self.machine.canary_failed(sent.version);
                self.lanes.remove(&lane);
                self.machine.lane_lost(now, lane);
            }
            Err(error) => {
                if is_the_versions(&error) {
                    self.machine.canary_failed(sent.version);
                }
                self.fail(sent, error.to_string());
            }
        }
        self.pump(ctx);
    }

    /// One row of each batch is enough, and costs next to nothing.
    fn look_for_drift(&mut self, sent: &Sent, output: &[u8]) {
        if sent.requests > 0
            && let Some(row) = output.get(..self.spec.classes as usize * size_of::<f32>())
        {
            self.machine.answered(sent.version, argmax(row), confidence(row));
        }
    }

    /// Evaluations are no requests and are not counted.
    fn count(&self, sent: &Sent, now: Time, computed: Duration, way_back: Duration) {
        if sent.requests > 0 {
            let ways = now.since(sent.at).saturating_sub(computed);
            let returned = way_back.min(ways);
            let Sent { requests, rows, waited, .. } = *sent;
            let batch = Batch { requests, rows, waited, carried: ways - returned, returned, computed, at_ms: self.clock.unix_ms() };
            self.flags.statistics.batch(batch);
        }
    }

    fn fail(&mut self, sent: Sent, reason: String) {
        tracing::warn!(tenant = %self.name, reason, version = sent.version, "a batch failed");
        self.failure = reason;
        self.machine.failed(self.clock.now(), sent.batch);
    }

    /// Kills a worker that hangs; its exit brings a new one.
    pub(super) fn kill(&mut self, lane: InstanceId) {
        if let Some(lost) = self.lanes.remove(&lane) {
            tracing::warn!(tenant = %self.name, instance = lane.0, "worker hangs; killing it");
            self.machine.lane_lost(self.clock.now(), lane);
            actix::spawn(async move {
                lost.handle.kill().await;
            });
        }
    }

    pub(super) fn evaluated(&mut self, eval: EvalId, batch: BatchId) {
        let Some(evaluation) = self.evaluations.remove(&eval) else { return };
        let Some(Computed { version, output, .. }) = self.outputs.get(&batch) else { return };
        let correct = evaluation.labels.iter().zip(output.chunks_exact(self.spec.classes as usize * size_of::<f32>()));
        let correct = correct.filter(|(label, logits)| argmax(logits) == **label).count();
        self.machine.labelled(self.clock.now(), *version, correct as u32, evaluation.labels.len() as u32);
    }

    /// Has samples answered, as far as they may wait: of many, the newest.
    fn evaluate(&mut self, samples: &[Sample]) {
        let rows = self.spec.max_batch.max(1) as usize;
        let most = self.machine.config().eval_limit.saturating_mul(rows);
        let inputs = self.spec.inputs();
        for chunk in samples[samples.len().saturating_sub(most)..].chunks(rows) {
            let eval = EvalId(self.number());
            let rows: Vec<Vec<Bytes>> = chunk.iter().map(|sample| pieces(&inputs, &sample.features)).collect();
            let inputs = (0..self.inputs).map(|input| rows.iter().map(|row| row[input].clone()).collect()).collect();
            self.evaluations.insert(eval, Evaluation { inputs, labels: chunk.iter().map(|sample| sample.label).collect() });
            self.machine.evaluate(self.clock.now(), eval, chunk.len() as u32);
        }
    }

    /// What was answered by the version in service, or by a canary, counts as it was answered; the rest is answered anew. Gives what can be
    /// learnt from.
    fn judge(&mut self, labels: Vec<Labelled>, origin: Origin) -> Vec<Sample> {
        let canary = self.machine.canary().map(|canary| canary.version);
        let judged = |version| version == self.version || Some(version) == canary;
        let (given, others): (Vec<Labelled>, Vec<Labelled>) = labels.into_iter().partition(|label| judged(label.version));
        for version in std::iter::once(self.version).chain(canary.filter(|canary| *canary != self.version)) {
            let of = given.iter().filter(|label| label.version == version);
            let right = of.clone().filter(|label| label.answered == label.label).count();
            self.machine.labelled(self.clock.now(), version, right as u32, of.count() as u32);
        }
        let sample = |Labelled { features, label, .. }| Some(Sample { features: features?, label, origin });
        let others: Vec<Sample> = others.into_iter().filter_map(sample).collect();
        self.evaluate(&others);
        given.into_iter().filter_map(sample).chain(others).collect()
    }

    /// Offers a row of an answered request to the golden model, now and then.
    pub(super) fn consult(&mut self, inputs: &[Bytes], rows: u32, inferred: &Inferred) {
        let Some(index) = self.golden.as_mut().and_then(|golden| golden.draw(rows)) else { return };
        let specs = self.spec.inputs();
        let features = row::nth(&specs, inputs, index as usize);
        let logits = self.spec.classes as usize * size_of::<f32>();
        let answer = inferred.output.get(index as usize * logits..(index as usize + 1) * logits);
        if let (Some(golden), Some(answer), None) = (&self.golden, answer, row::not_finite(&specs, &features)) {
            golden.offer(Answered { features, answered: argmax(answer), version: inferred.version });
        }
    }

    fn store(&self, samples: Vec<Sample>) -> ResponseFuture<Result<usize, SampleError>> {
        let (store, tenant, at_ms) = (Arc::clone(&self.samples), self.name.clone(), self.clock.unix_ms());
        Box::pin(async move {
            let kept = samples.len();
            let added = tokio::task::spawn_blocking(move || store.add(&tenant, at_ms, &samples)).await;
            match added {
                Ok(Ok(())) => Ok(kept),
                Ok(Err(reason)) => Err(SampleError::Store(reason)),
                Err(_) => Err(SampleError::Busy),
            }
        })
    }
}

/// Whether the version failed, and not what it was asked: a client could keep every new version out of service by what it sends.
fn is_the_versions(error: &CallError) -> bool {
    matches!(error, CallError::Failed { code, .. } if *code != FailCode::BadInput)
}

/// A sample's row of each input; pieces that are missing are empty, which the worker refuses.
fn pieces(inputs: &[TensorSpec], features: &Bytes) -> Vec<Bytes> {
    row::parts(inputs, features).into_iter().map(|part| features.slice(part)).collect()
}

/// Largest value of the softmax of little-endian `f32` logits.
pub fn confidence(logits: &[u8]) -> f64 {
    let values = || logits.chunks_exact(4).map(|bytes| f64::from(f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])));
    let highest = values().fold(f64::NEG_INFINITY, f64::max);
    1.0 / values().map(|value| (value - highest).exp()).sum::<f64>()
}

/// Index of the largest of little-endian `f32`s; the first one when several are equal.
pub fn argmax(logits: &[u8]) -> u32 {
    let values = logits.chunks_exact(4).map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let mut best = (0, f32::NEG_INFINITY);
    for (index, value) in values.enumerate() {
        if value > best.1 {
            best = (index as u32, value);
        }
    }
    best.0
}

impl Handler<AddSamples> for TenantActor {
    type Result = ResponseFuture<Result<usize, SampleError>>;

    fn handle(&mut self, message: AddSamples, ctx: &mut Self::Context) -> Self::Result {
        self.evaluate(&message.samples);
        self.pump(ctx);
        self.store(message.samples)
    }
}

impl Handler<AddLabels> for TenantActor {
    type Result = ResponseFuture<Result<usize, SampleError>>;

    fn handle(&mut self, message: AddLabels, ctx: &mut Self::Context) -> Self::Result {
        let samples = self.judge(message.labels, message.origin);
        self.pump(ctx);
        self.store(samples)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_logit_wins_and_the_first_of_equals() {
        let bytes = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(argmax(&bytes(&[0.1, 2.0, -1.0])), 1);
        assert_eq!(argmax(&bytes(&[2.0, 2.0])), 0);
        assert_eq!(argmax(&bytes(&[f32::NAN, 0.0])), 1);
    }
}
