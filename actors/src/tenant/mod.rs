//! One tenant's serving: the mailbox, the timer and the connections around a [`TenantMachine`].

mod canary;
mod lane;
mod meter;
#[cfg(test)]
mod tests;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use actix::prelude::*;
use migrator_machine::retraining::{Live, Trial};
use migrator_machine::tenant::{Accuracy, Answer, BatchId, EvalId, Request, RequestId, Tally, Telemetry, TenantConfig, TenantWish, Totals};
use migrator_machine::{TenantMachine, Time};
use migrator_models::{ModelSpec, OnProfile};
use migrator_solver::{InstanceId, TenantId};
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::golden::Golden;
use crate::launcher::Launcher;
use crate::message::{Infer, InferError, Inferred, SampleStore};
use crate::statistic::Statistics;

pub use canary::{BeginCanary, StopCanary};
pub use lane::{DrainLane, LaneLost, LaneTimes, LaneUp, SwapVersion, Times};
use lane::{Lane, Swap};
use meter::Meter;
use work::{Computed, Evaluation, Pending};
pub use work::{argmax, confidence};

/// What the front may read of a tenant without asking its actor.
#[derive(Debug, Default)]
pub struct TenantFlags {
    /// Version in service; 0 before the first lane is up.
    pub version: AtomicU32,
    /// Whether a lane is up.
    pub ready: AtomicBool,
    /// Requests without an answer.
    pub pending: AtomicU32,
    /// What has been answered.
    pub statistics: Statistics,
}

/// Serves one tenant.
pub struct TenantActor {
    id: TenantId,
    name: String,
    spec: Arc<ModelSpec>,
    /// How many inputs the model takes.
    inputs: usize,
    clock: Clock,
    machine: TenantMachine,
    launcher: Arc<Launcher>,
    samples: Arc<dyn SampleStore>,
    flags: Arc<TenantFlags>,
    golden: Option<Golden>,
    on_profile: Vec<(f64, OnProfile)>,
    meter: Meter,
    lanes: BTreeMap<InstanceId, Lane>,
    drains: BTreeMap<InstanceId, Vec<oneshot::Sender<()>>>,
    pending: BTreeMap<RequestId, Pending>,
    evaluations: BTreeMap<EvalId, Evaluation>,
    /// Outputs of the batches just passed to the machine, until their answers are out.
    outputs: BTreeMap<BatchId, Computed>,
    /// Why the batch just passed to the machine failed.
    failure: String,
    swap: Option<Swap>,
    version: u32,
    next: u64,
    /// When the timer that is set fires.
    timer: Option<(Time, SpawnHandle)>,
}

/// What a [`TenantActor`] is made of.
pub struct TenantParts {
    /// Its number.
    pub id: TenantId,
    /// Its name.
    pub name: String,
    /// Its model.
    pub spec: Arc<ModelSpec>,
    /// The server's clock.
    pub clock: Clock,
    /// How it is served.
    pub config: TenantConfig,
    /// Loads new versions.
    pub launcher: Arc<Launcher>,
    /// Keeps labelled samples.
    pub samples: Arc<dyn SampleStore>,
    /// Read by the front.
    pub flags: Arc<TenantFlags>,
    /// Labels some of its requests, where there is a golden model.
    pub golden: Option<Golden>,
    /// Measured speed on the instances of some profiles, by the cores (or compute slices) they have.
    pub on_profile: Vec<(f64, OnProfile)>,
}

impl TenantActor {
    /// Requests that may wait in the mailbox before the front is told "queue full".
    pub const MAILBOX: usize = 8192;

    /// A tenant without lanes.
    pub fn new(parts: TenantParts) -> TenantActor {
        TenantActor {
            id: parts.id,
            meter: Meter::new(&parts.name),
            name: parts.name,
            inputs: parts.spec.inputs().len(),
            spec: parts.spec,
            clock: parts.clock,
            machine: TenantMachine::new(parts.config),
            launcher: parts.launcher,
            samples: parts.samples,
            flags: parts.flags,
            golden: parts.golden,
            on_profile: parts.on_profile,
            lanes: BTreeMap::new(),
            drains: BTreeMap::new(),
            pending: BTreeMap::new(),
            evaluations: BTreeMap::new(),
            outputs: BTreeMap::new(),
            failure: String::new(),
            swap: None,
            version: 0,
            next: 0,
            timer: None,
        }
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// Does what the machine wishes, then sets the timer.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        while let Some(wish) = self.machine.poll(self.clock.now()) {
            match wish {
                TenantWish::Dispatch { lane, batch, work, rows } => self.dispatch(lane, batch, work, rows, ctx),
                TenantWish::Answer { request, answer } => self.answer(request, answer),
                TenantWish::Evaluated { eval, batch } => self.evaluated(eval, batch),
                TenantWish::Dropped { eval } => {
                    self.evaluations.remove(&eval);
                }
                TenantWish::Drained { lane } => self.drained(lane),
                TenantWish::Stalled { lane } => self.kill(lane),
            }
        }
        self.outputs.clear();
        self.flags.ready.store(self.machine.ready(), Ordering::Release);
        self.flags.pending.store(u32::try_from(self.pending.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        self.wake_in_time(ctx);
        #[cfg(debug_assertions)]
        debug_assert_eq!(self.machine.check(), [], "tenant {}", self.name);
    }

    /// Sets the timer, unless one is set that fires earlier: that one sees then what there is to do. Requests come and go far more often
    /// than one is overdue, and a timer set anew wakes the very thread that sets it.
    fn wake_in_time(&mut self, ctx: &mut Context<Self>) {
        let Some(at) = self.machine.timeout() else { return };
        if self.timer.is_some_and(|(set, _)| set <= at) {
            return;
        }
        if let Some((_, timer)) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        let timer = ctx.run_later(self.clock.until(at), |actor, ctx| {
            actor.timer = None;
            let now = actor.clock.now();
            if actor.machine.timeout().is_some_and(|at| at <= now) {
                actor.machine.handle_timeout(now);
                actor.pump(ctx);
            } else {
                actor.wake_in_time(ctx);
            }
        });
        self.timer = Some((at, timer));
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        let Some(pending) = self.pending.remove(&request) else { return };
        let result = match answer {
            Answer::Served { batch, first_row, rows, .. } => match self.outputs.get(&batch) {
                Some(batch) => {
                    let row = self.spec.classes as usize * size_of::<f32>();
                    let (from, to) = (first_row as usize * row, (first_row + rows) as usize * row);
                    let waited = batch.sent.since(pending.arrived);
                    Ok(Inferred { version: batch.version, output: batch.output.slice(from..to), waited, computed: batch.compute })
                }
                None => Err(InferError::Failed("the batch's output is gone".to_owned())),
            },
            Answer::Shed { reason, retry_after } => Err(InferError::Shed { reason: reason.text(), retry_after }),
            Answer::WorkerLost => Err(InferError::WorkerLost),
            Answer::Failed => Err(InferError::Failed(self.failure.clone())),
        };
        if let (Ok(inferred), Answer::Served { rows, .. }) = (&result, &answer) {
            self.consult(&pending.inputs, *rows, inferred);
        }
        let took = self.clock.now().since(pending.arrived);
        self.meter.answered(&answer, took);
        self.flags.statistics.with(|counts| match answer {
            Answer::Served { .. } => counts.success.add(1, took),
            Answer::Shed { reason, .. } => counts.shed.entry(reason.text()).or_default().add(1, took),
            Answer::WorkerLost | Answer::Failed => counts.failed.add(1, took),
        });
        // The client may have hung up.
        let _ = pending.reply.send(result);
    }
}

impl Actor for TenantActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(Self::MAILBOX);
    }
}

impl Handler<Infer> for TenantActor {
    type Result = ResponseFuture<Result<Inferred, InferError>>;

    fn handle(&mut self, message: Infer, ctx: &mut Self::Context) -> Self::Result {
        let id = RequestId(self.number());
        let (reply, answer) = oneshot::channel();
        let arrived = self.clock.at(message.arrived);
        self.pending.insert(id, Pending { inputs: message.inputs, arrived, reply });
        let request = Request { id, rows: message.rows, arrived, timeout: message.timeout, priority: message.priority };
        self.machine.request(self.clock.now(), request);
        self.pump(ctx);
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err(InferError::Failed("the tenant stopped".to_owned()))) })
    }
}

/// Ends a second and tells what happened in it.
#[derive(Debug, Message)]
#[rtype(result = "Collected")]
pub struct Collect;

/// One tenant's second.
#[derive(Clone, Debug, actix::MessageResponse)]
pub struct Collected {
    /// The second.
    pub telemetry: Telemetry,
    /// Counters since the start.
    pub totals: Totals,
    /// Accuracy of the version in service on recent labelled samples.
    pub accuracy: Option<Accuracy>,
    /// Version in service.
    pub version: u32,
}

impl Handler<Collect> for TenantActor {
    type Result = Collected;

    fn handle(&mut self, _: Collect, ctx: &mut Self::Context) -> Collected {
        let now = self.clock.now();
        let telemetry = self.machine.second(now);
        for violation in self.machine.check() {
            crate::meter::violation(&violation);
        }
        let (totals, accuracy) = (self.machine.totals(), self.machine.accuracy());
        self.meter.second(&telemetry, &totals, accuracy);
        self.pump(ctx);
        Collected { telemetry, totals, accuracy, version: self.version }
    }
}

/// Is served so from now on.
#[derive(Clone, Copy, Debug, PartialEq, Message)]
#[rtype(result = "()")]
pub struct Retune {
    /// SLO.
    pub slo: Duration,
    /// How long after its arrival a request is still answered, late; `None` = it is shed.
    pub patience: Option<Duration>,
    /// Most requests that wait.
    pub queue_limit: usize,
}

impl Handler<Retune> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: Retune, _: &mut Self::Context) {
        let Retune { slo, patience, queue_limit } = message;
        self.machine.retune(slo, patience, queue_limit);
        tracing::info!(tenant = %self.name, ?slo, ?patience, queue_limit, "served otherwise from now on");
    }
}

/// Sheds what waits and what still comes: the server is going down.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Close;

impl Handler<Close> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: Close, ctx: &mut Self::Context) {
        self.golden = None;
        self.machine.close(self.clock.now());
        self.pump(ctx);
    }
}

/// Is served no longer: what waits and what still comes is shed, then the actor stops.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Leave;

impl Handler<Leave> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: Leave, ctx: &mut Self::Context) {
        self.machine.close(self.clock.now());
        self.pump(ctx);
        tracing::info!(tenant = %self.name, "served no longer");
        ctx.stop();
    }
}

/// What the version in service made of labelled samples since it is, and how a canary does.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Seen")]
pub struct AskLive;

/// The answer to [`AskLive`].
#[derive(Clone, Copy, Debug, actix::MessageResponse)]
pub struct Seen(pub Live, pub Option<Trial>);

impl Handler<AskLive> for TenantActor {
    type Result = Seen;

    fn handle(&mut self, _: AskLive, _: &mut Self::Context) -> Seen {
        let live = |version, Tally { right, of }| Live { version, right, of };
        let trial = self.machine.canary().map(|canary| Trial {
            canary: live(canary.version, canary.new),
            service: live(self.version, canary.old),
            failed: canary.failed,
        });
        Seen(live(self.version, self.machine.seen_labelled()), trial)
    }
}
