//! Which requests are taken in, which go where in which batch, and which are given up.

use std::ops::Range;
use std::time::Duration;

use super::TenantMachine;
use super::elsa::Elsa;
use super::lane::Lane;
use super::queue::Waiting;
use super::types::{BatchId, Dispatch, ShedReason, TenantWish, Work};
use crate::Time;

/// Earliest and latest that a client is told to try again.
const RETRY_AFTER: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(5));
/// When to try again when no lane is there: about what a worker takes to start.
const RETRY_NO_INSTANCE: Duration = Duration::from_secs(1);

/// Priorities beyond this many steps are all the same.
const MOST_STEPS: u32 = 8;

impl TenantMachine {
    /// Sheds what is too late, then puts one batch into the outbox, if there is one to form.
    pub(super) fn pump(&mut self, now: Time) {
        self.shed_unreachable(now);
        if !self.outbox.is_empty() || self.dispatch_requests(now) {
            return;
        }
        if !self.hedge(now) && self.queue.is_empty() {
            self.dispatch_evaluation(now);
        }
    }

    /// Why a request is not even queued.
    pub(super) fn refusal(&self, now: Time, request: &Waiting, priority: u32) -> Option<ShedReason> {
        if self.closing {
            return Some(ShedReason::Closing);
        }
        // Each step of less urgency halves what it may use.
        let steps = priority.saturating_sub(1).min(MOST_STEPS);
        if self.queue.len() >= (self.config.queue_limit >> steps).max(1) {
            return Some(ShedReason::QueueFull);
        }
        let admitted_until = request.arrived + request.deadline.since(request.arrived) / (1 << steps);
        let reachable = match self.estimated_end(now, request) {
            Some(end) => end <= admitted_until || self.queue.is_empty() && self.lanes.iter().any(|l| l.may_probe(now)),
            None => now <= request.deadline,
        };
        (!reachable).then_some(if self.ready() { ShedReason::Deadline } else { ShedReason::NoInstance })
    }

    /// When a request that is queued now would be answered, the requests before it going at the best batch's rate; `None` without
    /// lanes. Refusing here and not when its turn has come keeps the queue so short that batches stay large: a queue full of requests
    /// that just make it is served in batches of one.
    fn estimated_end(&self, now: Time, request: &Waiting) -> Option<Time> {
        let rows = self.queue.rows_before(request.deadline) + u64::from(request.rows);
        let rate: f64 = self.up().map(|l| l.best.1).sum();
        let end = |lane: &Lane| {
            let last = rows.min(u64::from(lane.best.0)).max(u64::from(request.rows));
            let before_us = (rows - last) as f64 / rate.max(1e-9);
            lane.ends(now, last as u32) + Duration::from_micros(before_us.min(1e12) as u64)
        };
        self.up().map(end).min()
    }

    /// Whether no lane that is up answers it in time; without lanes: whether its deadline has passed.
    pub(super) fn unreachable(&self, now: Time, request: &Waiting) -> bool {
        match self.up().map(|l| l.ends(now, request.rows)).min() {
            Some(end) => end > request.deadline,
            None => now > request.deadline,
        }
    }

    /// When a waiting request becomes unreachable at the latest, wherever it might still go.
    pub(super) fn doom(&self, request: &Waiting) -> Time {
        let latest = self.up().map(|l| request.deadline - l.speed.computing(request.rows)).max();
        latest.unwrap_or(request.deadline) + Duration::from_micros(1)
    }

    pub(super) fn retry_after(&self, reason: ShedReason) -> Duration {
        let rate: f64 = self.up().map(|l| l.best.1).sum();
        match reason {
            ShedReason::NoInstance | ShedReason::Closing => RETRY_NO_INSTANCE,
            _ if rate <= 0.0 => RETRY_NO_INSTANCE,
            _ => Duration::from_micros((self.queue.rows() as f64 / rate).min(1e9) as u64).clamp(RETRY_AFTER.0, RETRY_AFTER.1),
        }
    }

    fn up(&self) -> impl Iterator<Item = &Lane> {
        self.lanes.iter().filter(|l| l.up())
    }

    fn shed_unreachable(&mut self, now: Time) {
        while let Some(head) = self.queue.head().copied()
            && self.unreachable(now, &head)
        {
            if let Some(position) = self.lanes.iter().position(|l| l.may_probe(now)) {
                self.lanes[position].probed = Some(now);
                self.send(now, position, 0..1);
                continue;
            }
            self.queue.pop();
            let reason = if self.ready() { ShedReason::Deadline } else { ShedReason::NoInstance };
            self.shed(head.id, reason);
        }
    }

    /// One batch for the lane that finishes its batch soonest, or whichever ELSA says.
    fn dispatch_requests(&mut self, now: Time) -> bool {
        if self.queue.is_empty() {
            return false;
        }
        if let Dispatch::Elsa { alpha, beta } = self.config.dispatch {
            let Some((range, position)) = self.elsa(now, Elsa { alpha, beta }) else { return false };
            self.send(now, position, range);
            return true;
        }
        let free: u32 = self.lanes.iter().map(Lane::free).sum();
        // A short queue is spread over the free executors, a long one fills the batches.
        let even = self.queue.rows().div_ceil(u64::from(free.max(1)));
        let limit = even.clamp(1, u64::from(self.config.max_batch.max(1))) as u32;
        let batches = self.lanes.iter().enumerate().filter(|(_, l)| l.takes());
        let soonest = batches.filter_map(|(position, lane)| Some((self.batch_for(now, lane, limit)?, position))).min_by_key(|b| b.0.0);
        let Some(((_, range), position)) = soonest else { return false };
        self.send(now, position, range);
        true
    }

    /// The batch a lane would get now, and when it would end.
    ///
    /// Earliest deadline first, except when the queue is long and its head has so little time left that the batch would be small:
    /// then the first batch of the best size, and the head is left to a lane with nothing better to do, or shed (Nexus' early drop).
    /// Serving it regardless makes all behind it late as well, until every batch holds one request.
    pub(super) fn batch_for(&self, now: Time, lane: &Lane, limit: u32) -> Option<(Time, Range<usize>)> {
        let start = lane.starts(now);
        let fits = |w: &Waiting| start + lane.span(w.rows) <= w.deadline;
        let ends = |rows| start + lane.span(rows) + lane.speed.margin(rows, self.config.caution);
        let mut range = self.queue.pick(limit, start + lane.span(1), fits, ends)?;
        let best = lane.best.0.min(limit);
        if self.queue.rows_of(&range) * 4 < best * 3
            && let Some(later) = self.queue.pick(limit, ends(best), fits, ends)
            && self.queue.rows_of(&later) * 4 >= best * 3
        {
            range = later;
        }
        Some((start + lane.span(self.queue.rows_of(&range)), range))
    }

    fn send(&mut self, now: Time, position: usize, range: Range<usize>) {
        let mut requests = self.spare.pop().unwrap_or_default();
        self.queue.take(range, &mut requests);
        for request in &requests {
            self.meter.dispatched(now, request.arrived);
        }
        let rows = requests.iter().map(|w| w.rows).sum();
        self.put(now, position, Work::Requests, requests, rows);
    }

    fn dispatch_evaluation(&mut self, now: Time) {
        let Some(position) = self.lanes.iter().position(Lane::idle) else { return };
        if let Some((eval, rows)) = self.evaluations.pop_front() {
            self.put(now, position, Work::Evaluation(eval), Vec::new(), rows);
        }
    }

    pub(super) fn put(&mut self, now: Time, position: usize, work: Work, requests: Vec<Waiting>, rows: u32) {
        let batch = BatchId(self.next_batch);
        self.next_batch += 1;
        let lane = &mut self.lanes[position];
        lane.send(now, batch, work, requests, rows, self.config.stall);
        self.outbox.push_back(TenantWish::Dispatch { lane: lane.id, batch, work, rows });
    }
}
