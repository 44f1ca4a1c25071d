//! One tenant's requests: queue, lanes, batches, answers and the accuracy of what is served.

mod audit;
mod canary;
mod dispatch;
mod drift;
mod elsa;
mod hedge;
mod lane;
mod meter;
mod prequential;
mod queue;
mod speed;
#[cfg(test)]
mod tests;
mod types;

use std::collections::VecDeque;
use std::time::Duration;

use migrator_solver::InstanceId;

pub use canary::{Canary, Tally};
pub use drift::Drift;
pub use types::{
    Accuracy, Answer, BatchId, BatchTime, Dispatch, EvalId, LaneSpec, LaneState, Request, RequestId, ShedReason, Telemetry, TenantConfig,
    TenantWish, Totals, Work,
};

use crate::Time;
use drift::Answers;
use lane::{InFlight, Lane};
use meter::{End, Meter};
use prequential::Prequential;
use queue::{Queue, Waiting};
use speed::Speed;

/// The state of one tenant's serving.
///
/// Feed facts in, then call [`poll`](TenantMachine::poll) until it gives `None` (that is when batches are formed, so several facts may
/// be fed before it), then set the timer to [`timeout`](TenantMachine::timeout).
///
/// A request is refused at once when the requests before it make it too late; what is taken in is dispatched earliest deadline first,
/// in the largest batch that still meets the first deadline, to the lane that finishes it soonest (or by another [`Dispatch`]).
#[derive(Debug)]
pub struct TenantMachine {
    config: TenantConfig,
    queue: Queue,
    evaluations: VecDeque<(EvalId, u32)>,
    /// By identity.
    lanes: Vec<Lane>,
    outbox: VecDeque<TenantWish>,
    meter: Meter,
    prequential: Prequential,
    answers: Answers,
    /// Labelled samples that the version in service answered.
    labelled: Tally,
    canary: Option<Canary>,
    version: u32,
    /// Observed ÷ curve over all lanes: what a new lane starts with.
    ratio: f64,
    next_batch: u64,
    /// Requests that waited when the queue's limit was last lowered.
    over: usize,
    /// Emptied vectors of batches, to be used again.
    spare: Vec<Vec<Waiting>>,
    closing: bool,
}

/// Weight of one batch in the ratio that new lanes start with.
const LANES_ALPHA: f64 = 0.05;
/// Vectors kept for the next batches.
const SPARE: usize = 32;

impl TenantMachine {
    /// A tenant without lanes.
    pub fn new(config: TenantConfig) -> TenantMachine {
        TenantMachine {
            prequential: Prequential::new(config.accuracy_window),
            answers: Answers::default(),
            labelled: Tally::default(),
            canary: None,
            config,
            queue: Queue::default(),
            evaluations: VecDeque::new(),
            lanes: Vec::new(),
            outbox: VecDeque::new(),
            meter: Meter::default(),
            version: 0,
            ratio: 1.0,
            next_batch: 0,
            over: 0,
            spare: Vec::new(),
            closing: false,
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &TenantConfig {
        &self.config
    }

    /// A request has arrived; it is answered by exactly one [`TenantWish::Answer`], perhaps at once.
    pub fn request(&mut self, now: Time, request: Request) {
        self.meter.totals.arrived += 1;
        let Request { id, rows, arrived, timeout, priority } = request;
        let bound = |span: Duration| arrived + timeout.map_or(span, |timeout| timeout.min(span));
        let slo = self.config.slo;
        let deadline = bound(self.config.patience.map_or(slo, |patience| patience.max(slo)));
        let waiting = Waiting { id, rows: rows.max(1), arrived, due: bound(slo), deadline, retried: false };
        match self.refusal(now, &waiting, priority) {
            Some(reason) => self.shed(id, reason),
            None => self.queue.push(waiting),
        }
    }

    /// Is served so from now on; what waits keeps its deadlines.
    pub fn retune(&mut self, slo: Duration, patience: Option<Duration>, queue_limit: usize) {
        self.config.slo = slo;
        self.config.patience = patience;
        self.config.queue_limit = queue_limit;
        self.over = self.queue.len();
    }

    /// Labelled samples (at most `max_batch` rows) are to be answered when a lane is idle; they are given up by
    /// [`TenantWish::Dropped`] when there are too many.
    pub fn evaluate(&mut self, _now: Time, eval: EvalId, rows: u32) {
        self.evaluations.push_back((eval, rows.max(1)));
        if (self.closing || self.evaluations.len() > self.config.eval_limit)
            && let Some((eval, _)) = self.evaluations.pop_front()
        {
            self.outbox.push_back(TenantWish::Dropped { eval });
        }
    }

    /// An instance is open for this tenant's requests (again, when it was draining).
    pub fn lane_up(&mut self, _now: Time, lane: InstanceId, spec: LaneSpec) {
        match self.lanes.binary_search_by_key(&lane, |l| l.id) {
            Ok(known) => self.lanes[known].state = LaneState::Up,
            Err(position) => {
                let speed = Speed::new(&self.config.curve, &spec, self.config.max_batch, self.ratio);
                self.lanes.insert(position, Lane::new(lane, spec.executors, speed, self.config.slo));
            }
        }
    }

    /// How long batches took of late on each lane, by the lane's instance.
    pub fn batch_times(&self) -> impl Iterator<Item = (InstanceId, Vec<BatchTime>)> {
        self.lanes.iter().map(|lane| (lane.id, lane.speed.times().collect()))
    }

    /// No new batches for this lane; [`TenantWish::Drained`] follows when nothing is in flight (at once for an unknown lane), and the
    /// lane is forgotten.
    pub fn drain(&mut self, _now: Time, lane: InstanceId) {
        match self.lanes.binary_search_by_key(&lane, |l| l.id) {
            Ok(known) => {
                self.lanes[known].state = LaneState::Draining;
                self.forget_if_drained(known);
            }
            Err(_) => self.outbox.push_back(TenantWish::Drained { lane }),
        }
    }

    /// The lane is gone without notice: its requests are tried once more elsewhere, or fail.
    pub fn lane_lost(&mut self, now: Time, lane: InstanceId) {
        let Ok(position) = self.lanes.binary_search_by_key(&lane, |l| l.id) else { return };
        let lost = self.lanes.remove(position);
        if lost.state == LaneState::Draining {
            self.outbox.push_back(TenantWish::Drained { lane });
        }
        for batch in lost.in_flight {
            self.lost_batch(now, batch);
        }
    }

    /// A batch was computed in `compute`; its answers follow as [`Answer::Served`]. Unknown batches (of lost lanes) are ignored.
    pub fn finished(&mut self, now: Time, batch: BatchId, compute: Duration) {
        let Some((position, done)) = self.take(batch) else { return };
        self.lanes[position].observe(now, &done, compute, self.config.slo);
        self.ratio += LANES_ALPHA * (self.lanes[position].ratio() - self.ratio);
        match done.work {
            Work::Evaluation(eval) => self.outbox.push_back(TenantWish::Evaluated { eval, batch }),
            Work::Requests | Work::Again(_) => self.serve(now, &done),
        }
        self.recycle(done.requests);
        self.forget_if_drained(position);
    }

    /// The worker answered a batch with an error and lives on: its requests fail.
    pub fn failed(&mut self, _now: Time, batch: BatchId) {
        let Some((position, done)) = self.take(batch) else { return };
        if let Work::Evaluation(eval) = done.work {
            self.outbox.push_back(TenantWish::Dropped { eval });
        }
        if !self.elsewhere(&done) {
            for request in &done.requests {
                self.answer(request.id, Answer::Failed, End::Error);
            }
        }
        self.recycle(done.requests);
        self.forget_if_drained(position);
    }

    /// Labelled samples were answered by `version`: `correct` of `of` right. Ignored when that version is neither in service nor the canary.
    pub fn labelled(&mut self, _now: Time, version: u32, correct: u32, of: u32) {
        if version == self.version {
            self.prequential.observe(correct, of);
            self.labelled.add(correct, of);
        }
        if let Some(canary) = &mut self.canary {
            let sides = [(self.version, &mut canary.old), (canary.version, &mut canary.new)];
            sides.into_iter().filter(|(side, _)| *side == version).for_each(|(_, tally)| tally.add(correct, of));
        }
    }

    /// `version` answered a request with `class`, `confidence` being its softmax's largest value. Ignored when it is no longer in service.
    pub fn answered(&mut self, version: u32, class: u32, confidence: f64) {
        if version == self.version {
            self.answers.add(class, confidence);
        }
    }

    /// Another version is in service from now on; `prior` is its accuracy at validation and how many samples that is worth.
    pub fn swapped(&mut self, _now: Time, version: u32, prior: Option<Accuracy>) {
        self.version = version;
        self.prequential.reset(prior);
        self.answers.reset();
        self.labelled = Tally::default();
        self.canary = None;
    }

    /// The tenant shuts down: what waits and what arrives from now on is shed; what is in flight is finished.
    pub fn close(&mut self, _now: Time) {
        self.closing = true;
        while let Some(request) = self.queue.pop() {
            self.shed(request.id, ShedReason::Closing);
        }
        while let Some((eval, _)) = self.evaluations.pop_front() {
            self.outbox.push_back(TenantWish::Dropped { eval });
        }
    }

    /// Ends the second that the next [`Telemetry`] starts after.
    pub fn second(&mut self, now: Time) -> Telemetry {
        let up = self.lanes.iter().filter(|l| l.up());
        let (lanes_up, ratios) = up.fold((0, 0.0), |(n, sum), lane| (n + 1, sum + lane.ratio()));
        Telemetry {
            queue_depth: self.queue.len() as u64,
            in_flight: self.in_flight(),
            service_ratio: if lanes_up > 0 { ratios / f64::from(lanes_up) } else { self.ratio },
            lanes_up,
            accuracy: self.accuracy(),
            drift: self.answers.drift(),
            version: self.version,
            ..self.meter.second(now)
        }
    }

    /// What to do next; forms batches and sheds. Call until `None`.
    pub fn poll(&mut self, now: Time) -> Option<TenantWish> {
        if self.outbox.is_empty() {
            self.pump(now);
        }
        self.outbox.pop_front()
    }

    /// When [`handle_timeout`](TenantMachine::handle_timeout) is due; valid after `poll` gave `None`.
    pub fn timeout(&self) -> Option<Time> {
        let stall = self.lanes.iter().flat_map(|l| &l.in_flight).map(|b| b.stalls).min();
        let doom = self.queue.head().map(|head| self.doom(head));
        stall.into_iter().chain(doom).chain(self.next_hedge()).min()
    }

    /// The timer fired; then `poll`.
    pub fn handle_timeout(&mut self, now: Time) {
        let hangs = |lane: &&Lane| lane.in_flight.iter().any(|b| b.stalls <= now);
        while let Some(lane) = self.lanes.iter().find(hangs).map(|l| l.id) {
            self.outbox.push_back(TenantWish::Stalled { lane });
            self.lane_lost(now, lane);
        }
    }

    /// Requests of a batch in flight, in the order of its rows: id and rows. Empty for evaluations and unknown batches.
    pub fn batch(&self, batch: BatchId) -> impl Iterator<Item = (RequestId, u32)> + '_ {
        let found = self.lanes.iter().flat_map(|l| &l.in_flight).find(|b| b.batch == batch);
        found.into_iter().flat_map(|b| &b.requests).map(|w| (w.id, w.rows))
    }

    /// Counters since the start.
    pub fn totals(&self) -> Totals {
        self.meter.totals
    }

    /// Requests that wait now.
    pub fn queue_depth(&self) -> usize {
        self.queue.len()
    }

    /// Accuracy of the version in service on recent labelled samples; `None` before the first.
    pub fn accuracy(&self) -> Option<Accuracy> {
        self.prequential.accuracy()
    }

    /// Labelled samples that the version in service answered since it is.
    pub fn seen_labelled(&self) -> Tally {
        self.labelled
    }

    /// Lanes with their states, by identity.
    pub fn lanes(&self) -> impl Iterator<Item = (InstanceId, LaneState)> + '_ {
        self.lanes.iter().map(|l| (l.id, l.state))
    }

    /// Whether a lane is up.
    pub fn ready(&self) -> bool {
        self.lanes.iter().any(Lane::up)
    }
}

impl TenantMachine {
    fn in_flight(&self) -> u64 {
        let own = |b: &&InFlight| !matches!(b.work, Work::Again(_));
        self.lanes.iter().flat_map(|l| &l.in_flight).filter(own).map(|b| b.requests.len() as u64).sum()
    }

    fn take(&mut self, batch: BatchId) -> Option<(usize, InFlight)> {
        self.lanes.iter_mut().enumerate().find_map(|(position, lane)| Some((position, lane.take(batch)?)))
    }

    fn forget_if_drained(&mut self, position: usize) {
        let lane = &self.lanes[position];
        if lane.state == LaneState::Draining && lane.in_flight.is_empty() {
            self.outbox.push_back(TenantWish::Drained { lane: lane.id });
            self.lanes.remove(position);
        }
    }

    fn serve(&mut self, now: Time, done: &InFlight) {
        // Of two that had the same requests, the second has none left.
        if done.requests.is_empty() {
            return;
        }
        self.first(done);
        self.meter.computed(done.rows);
        let mut first_row = 0;
        for request in &done.requests {
            let late = now > request.due;
            let answer = Answer::Served { batch: done.batch, first_row, rows: request.rows, late };
            self.answer(request.id, answer, if late { End::Late } else { End::Ok });
            first_row += request.rows;
        }
    }

    fn lost_batch(&mut self, now: Time, batch: InFlight) {
        if let Work::Evaluation(eval) = batch.work {
            self.outbox.push_back(TenantWish::Dropped { eval });
        }
        let requests: &[Waiting] = if self.elsewhere(&batch) { &[] } else { &batch.requests[..] };
        for request in requests {
            if request.retried || self.closing || self.unreachable(now, request) {
                self.answer(request.id, Answer::WorkerLost, End::Error);
            } else {
                self.meter.totals.retried += 1;
                self.queue.push(Waiting { retried: true, ..*request });
            }
        }
        self.recycle(batch.requests);
    }

    fn shed(&mut self, request: RequestId, reason: ShedReason) {
        let retry_after = self.retry_after(reason);
        self.answer(request, Answer::Shed { reason, retry_after }, End::Shed);
    }

    fn answer(&mut self, request: RequestId, answer: Answer, end: End) {
        self.meter.ended(end);
        self.outbox.push_back(TenantWish::Answer { request, answer });
    }

    fn recycle(&mut self, mut requests: Vec<Waiting>) {
        requests.clear();
        if self.spare.len() < SPARE {
            self.spare.push(requests);
        }
    }
}
