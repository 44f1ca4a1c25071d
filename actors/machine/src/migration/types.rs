//! What goes into the migration's machine and what comes out.

use std::time::Duration;

use migrator_solver::{Generation, InstanceId, SiteKey, Step, Target, Task};
use serde::{Deserialize, Serialize};

/// How long steps may take and how they are tried again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MigrationConfig {
    /// A drain that takes longer is forced: what is in flight goes down with the worker.
    pub drain: Duration,
    /// Longest release.
    pub release: Duration,
    /// Longest destroy, retries while the device says "in use" included.
    pub destroy: Duration,
    /// Longest create.
    pub create: Duration,
    /// Longest preload.
    pub preload: Duration,
    /// Longest bind (with the start of the worker and the load of the model, when nothing is preloaded).
    pub bind: Duration,
    /// Longest admit.
    pub admit: Duration,
    /// Pause before a step is tried again.
    pub retry: Duration,
}

impl Default for MigrationConfig {
    fn default() -> MigrationConfig {
        MigrationConfig {
            drain: Duration::from_secs(5),
            release: Duration::from_secs(10),
            destroy: Duration::from_secs(10),
            create: Duration::from_secs(10),
            preload: Duration::from_secs(60),
            bind: Duration::from_secs(60),
            admit: Duration::from_secs(10),
            retry: Duration::from_millis(100),
        }
    }
}

/// Kinds of steps, in the order an instance goes through them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Start and load a worker in the staging area.
    Preload,
    /// Finish what is in flight.
    Drain,
    /// Stop the worker.
    Release,
    /// Remove the instance.
    Destroy,
    /// Make the instance.
    Create,
    /// Put the worker onto it.
    Bind,
    /// Open it for work.
    Admit,
}

impl StepKind {
    /// The kind of a step.
    pub fn of(step: &Step) -> StepKind {
        match step {
            Step::Drain { .. } => StepKind::Drain,
            Step::Release { .. } => StepKind::Release,
            Step::Destroy { .. } => StepKind::Destroy,
            Step::Create { .. } => StepKind::Create,
            Step::Preload { .. } => StepKind::Preload,
            Step::Bind { .. } => StepKind::Bind,
            Step::Admit { .. } => StepKind::Admit,
        }
    }

    /// Its name in metrics and views.
    pub fn name(self) -> &'static str {
        match self {
            StepKind::Preload => "preload",
            StepKind::Drain => "drain",
            StepKind::Release => "release",
            StepKind::Destroy => "destroy",
            StepKind::Create => "create",
            StepKind::Bind => "bind",
            StepKind::Admit => "admit",
        }
    }
}

/// Why a transition is not begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// One at a time.
    #[error("generation {0:?} is still being carried out")]
    Busy(Generation),
    /// Older than, or the same as, what was carried out before.
    #[error("generation {found:?} is not above {last:?}")]
    Stale {
        /// The last one begun.
        last: Generation,
        /// The one refused.
        found: Generation,
    },
    /// The steps are not numbered in an order that may be executed.
    #[error("step {0} is misnumbered or waits for a later step")]
    Malformed(usize),
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum MigrationWish {
    /// Carry a step out and report it by `done(now, id, …)`, whatever comes of it.
    Do {
        /// Its number; numbers beyond the transition's are re-admissions after a failure.
        id: usize,
        /// The step.
        step: Step,
        /// The instance it is about, resolved; `None` for a create, and for a preload whose instance does not exist yet.
        instance: Option<InstanceId>,
        /// 0 for the first try.
        attempt: u32,
    },
    /// Stop the worker staged for this target and task: nobody will bind it. Not reported back.
    Unstage {
        /// What it was meant for.
        target: Target,
        /// The task.
        task: Task,
    },
    /// The transition is over.
    Finished(MigrationReport),
}

/// A step was carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StepOk {
    /// The instance that a create made; ignored for other steps.
    pub instance: Option<InstanceId>,
}

/// A step failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// The device says that processes are still on the instance.
    #[error("instance in use")]
    InUse,
    /// Anything else, in one line.
    #[error("{0}")]
    Failed(String),
}

/// A step that was carried out and how long it took, retries included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct StepTook {
    /// The step.
    pub step: Step,
    /// From its first try to its success, seconds.
    pub seconds: f64,
}

/// A step that failed for good.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Failure {
    /// Its number.
    pub id: usize,
    /// The step.
    pub step: Step,
    /// Why, in one line.
    pub reason: String,
}

/// How a transition went.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MigrationReport {
    /// The plan it led to.
    pub generation: Generation,
    /// When it began, seconds since the start.
    pub began_s: f64,
    /// Seconds from its beginning to its end.
    pub took_s: f64,
    /// Service lost, seconds: the share of `min(before, after)` capacity missing, integrated over time, summed over tenants.
    pub lost_s: f64,
    /// Slices idle: compute slices in use before and after that no task used, integrated over time, slice-seconds.
    pub idle_slice_s: f64,
    /// Steps carried out, in the order they ended.
    pub steps: Vec<StepTook>,
    /// Steps that failed for good.
    pub failed: Vec<Failure>,
    /// Steps given up because one they wait for failed.
    pub abandoned: Vec<usize>,
    /// Drains that were forced.
    pub forced: Vec<usize>,
    /// Instances made.
    pub created: Vec<(SiteKey, InstanceId)>,
}

impl MigrationReport {
    /// Whether the plan is in force as a whole.
    pub fn complete(&self) -> bool {
        self.failed.is_empty() && self.abandoned.is_empty()
    }

    /// Seconds by kind of step, summed, in the order of [`StepKind`]; kinds that did not occur are left out.
    pub fn by_kind(&self) -> Vec<(StepKind, f64)> {
        let mut sums = std::collections::BTreeMap::new();
        for took in &self.steps {
            *sums.entry(StepKind::of(&took.step)).or_insert(0.0) += took.seconds;
        }
        sums.into_iter().collect()
    }
}
