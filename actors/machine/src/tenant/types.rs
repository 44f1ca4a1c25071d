//! What goes into a tenant's machine and what comes out.

use std::time::Duration;

use migrator_models::{Curve, OnProfile};
use migrator_solver::{InstanceId, PolicyName};
use serde::{Deserialize, Serialize};

use super::drift::Drift;
use crate::Time;

/// A request, numbered by the shell; unique while it is unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestId(pub u64);

/// A batch of one tenant, numbered by its machine, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BatchId(pub u64);

/// Labelled samples to be answered, numbered by the shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EvalId(pub u64);

/// How one tenant is served.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantConfig {
    /// SLO: a request answered later than this after its arrival is late.
    pub slo: Duration,
    /// How long after its arrival a request is still answered, late, when it cannot be in time; `None`, or less than the SLO = not at
    /// all: it is shed.
    pub patience: Option<Duration>,
    /// Most rows in one batch.
    pub max_batch: u32,
    /// Most requests that wait.
    pub queue_limit: usize,
    /// Most evaluations that wait; beyond it the oldest is dropped.
    pub eval_limit: usize,
    /// Measured speed by share and batch; an empty one is taken as 5 ms per batch and 1 ms per row until service times correct it.
    pub curve: Curve,
    /// Samples that the running accuracy remembers.
    pub accuracy_window: u32,
    /// Mean deviations of the service time that are added to its expectation.
    pub caution: f64,
    /// A batch that is not answered after this (or ten times its expectation, if that is longer) means that its worker hangs.
    pub stall: Duration,
    /// Which lane a batch goes to.
    pub dispatch: Dispatch,
    /// Share of the batches that may be sent once more when their instance is slow; 0 = none.
    pub hedge: f64,
}

/// Which lane a batch goes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dispatch {
    /// The one that finishes it soonest.
    #[default]
    Soonest,
    /// The smallest with slack = SLO - alpha · (wait + beta · service) > 0, as PARIS' companion ELSA has it.
    Elsa {
        /// Weight of what a batch takes in all; 1 = the SLO to its end.
        alpha: f64,
        /// Weight of its service time against its wait.
        beta: f64,
    },
}

impl Dispatch {
    /// How requests go under a policy: PARIS comes with ELSA.
    pub fn of(policy: PolicyName) -> Dispatch {
        match policy {
            PolicyName::Paris => Dispatch::Elsa { alpha: 1.0, beta: 1.0 },
            _ => Dispatch::Soonest,
        }
    }
}

impl Default for TenantConfig {
    fn default() -> TenantConfig {
        TenantConfig {
            slo: Duration::from_millis(100),
            patience: None,
            max_batch: 16,
            queue_limit: 4096,
            eval_limit: 64,
            curve: Curve::default(),
            accuracy_window: 200,
            caution: 0.5,
            stall: Duration::from_secs(10),
            dispatch: Dispatch::Soonest,
            hedge: 0.0,
        }
    }
}

/// An instance as a lane of a tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneSpec {
    /// Cores it has; 1 together with `curve`.
    pub share: f64,
    /// Batches its worker computes at the same time.
    pub executors: u32,
    /// Speed measured on exactly this profile; `None` = the tenant's curve, scaled by the share.
    pub curve: Option<Curve>,
}

impl LaneSpec {
    /// A lane on an instance of `share` cores, with the executors its worker runs there.
    pub fn cores(share: f64) -> LaneSpec {
        LaneSpec { share, executors: migrator_models::curve::executors(share), curve: None }
    }

    /// A lane on an instance of a profile whose speed was measured.
    pub fn measured(on: &OnProfile) -> LaneSpec {
        LaneSpec { share: 1.0, executors: on.executors, curve: Some(on.curve.clone()) }
    }
}

/// How long batches of a size took on a lane of late.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchTime {
    /// Rows of the batch: a power of two, for all batches of so many rows and less than twice as many.
    pub rows: u32,
    /// Milliseconds of one batch of so many rows, on one executor.
    pub ms: f64,
    /// Batches that this comes from, since the lane is up.
    pub batches: u64,
}

/// What a lane is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LaneState {
    /// Takes batches.
    Up,
    /// Finishes what is in flight; forgotten when it has.
    Draining,
}

/// One inference request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub id: RequestId,
    /// Rows, at least 1 and at most `max_batch`.
    pub rows: u32,
    /// When it reached the server: the SLO counts from here.
    pub arrived: Time,
    /// The client's own bound, when tighter than the SLO.
    pub timeout: Option<Duration>,
    /// 0 and 1 = most urgent; each step above leaves it half of the queue and of the time to wait, so that the least urgent are shed first.
    pub priority: u32,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum TenantWish {
    /// Send a batch to a lane's worker, then report it by `finished` or `failed`.
    Dispatch {
        /// Where.
        lane: InstanceId,
        /// Its number.
        batch: BatchId,
        /// What is in it.
        work: Work,
        /// Rows in all.
        rows: u32,
    },
    /// Answer a request; nothing more will be heard of it.
    Answer {
        /// Which.
        request: RequestId,
        /// How.
        answer: Answer,
    },
    /// An evaluation was computed: compare with the labels and call `labelled`.
    Evaluated {
        /// Which.
        eval: EvalId,
        /// The batch whose output it is.
        batch: BatchId,
    },
    /// An evaluation will not be computed.
    Dropped {
        /// Which.
        eval: EvalId,
    },
    /// A draining lane has nothing in flight; its worker may be stopped.
    Drained {
        /// Which.
        lane: InstanceId,
    },
    /// A lane's worker hangs; the machine treats it as lost already, the shell kills the process.
    Stalled {
        /// Which.
        lane: InstanceId,
    },
}

/// What a batch is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Requests, to be read with [`TenantMachine::batch`](super::TenantMachine::batch).
    Requests,
    /// Labelled samples.
    Evaluation(EvalId),
    /// The requests of a batch that another lane is slow with.
    Again(BatchId),
}

/// How a request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Computed: its rows of the batch's output, which the shell has just passed to `finished`.
    Served {
        /// The batch.
        batch: BatchId,
        /// First row of it that is this request's.
        first_row: u32,
        /// Rows.
        rows: u32,
        /// Whether its deadline had passed.
        late: bool,
    },
    /// It could not have been answered in time.
    Shed {
        /// Why.
        reason: ShedReason,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// Its worker died, and so did the retry or the time for one.
    WorkerLost,
    /// The worker answered the batch with an error.
    Failed,
}

/// Why a request was shed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ShedReason {
    /// Too many requests wait.
    QueueFull,
    /// No lane can answer it in time.
    Deadline,
    /// No lane came up in time.
    NoInstance,
    /// The tenant shuts down.
    Closing,
}

impl ShedReason {
    /// The words clients see.
    pub fn text(self) -> &'static str {
        match self {
            ShedReason::QueueFull => "queue full",
            ShedReason::Deadline => "deadline cannot be met",
            ShedReason::NoInstance => "no instance serves this tenant",
            ShedReason::Closing => "draining",
        }
    }
}

/// Share of samples answered rightly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Accuracy {
    /// 0..1.
    pub value: f64,
    /// Samples it rests on.
    pub samples: f64,
}

/// Standard deviations of a 95 % interval.
const Z95: f64 = 1.96;

impl Accuracy {
    /// Where the true share lies with 95 %: Wilson's score interval, which is sound for few samples and shares near 0 and 1.
    pub fn interval(&self) -> (f64, f64) {
        let (p, n, z2) = (self.value.clamp(0.0, 1.0), self.samples.max(1e-9), Z95 * Z95);
        let centre = (p + z2 / (2.0 * n)) / (1.0 + z2 / n);
        let half = Z95 / (1.0 + z2 / n) * (p * (1.0 - p) / n + z2 / (4.0 * n * n)).sqrt();
        ((centre - half).max(0.0), (centre + half).min(1.0))
    }
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Requests received.
    pub arrived: u64,
    /// Answered in time.
    pub ok: u64,
    /// Answered late.
    pub late: u64,
    /// Shed.
    pub shed: u64,
    /// Failed.
    pub error: u64,
    /// Batches of requests computed.
    pub batches: u64,
    /// Rows of requests computed.
    pub rows: u64,
    /// Requests tried again after their worker died.
    pub retried: u64,
    /// Batches sent once more because their instance was slow.
    pub hedged: u64,
    /// Of them, those that were answered first by the other instance.
    pub hedges_won: u64,
}

/// One second of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Telemetry {
    /// Seconds it covers: about 1.
    pub seconds: f64,
    /// Requests that arrived.
    pub arrivals: u64,
    /// Answered in time.
    pub ok: u64,
    /// Answered late.
    pub late: u64,
    /// Shed.
    pub shed: u64,
    /// Failed.
    pub error: u64,
    /// Requests that wait now.
    pub queue_depth: u64,
    /// Requests in flight now.
    pub in_flight: u64,
    /// Longest time from arrival to dispatch among the requests dispatched, milliseconds.
    pub max_wait_ms: f64,
    /// Batches computed.
    pub batches: u64,
    /// Mean rows in them.
    pub mean_batch: f64,
    /// Service time observed ÷ expected from the curve, over the lanes; 1 before the first batch.
    pub service_ratio: f64,
    /// Lanes that are up.
    pub lanes_up: u32,
    /// Accuracy of the version in service.
    pub accuracy: Option<Accuracy>,
    /// What its answers say of drift; `None` while there are too few.
    pub drift: Option<Drift>,
    /// Version in service.
    pub version: u32,
}
