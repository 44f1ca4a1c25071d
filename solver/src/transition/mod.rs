//! From what is on the GPUs to what a plan wants: steps and what each must wait for.
//!
//! Three stages: [`job`] says what leaves and what arrives, [`order`] finds the order in which that loses least service by the clock of
//! [`schedule`], and [`graph`] turns it into steps.

mod graph;
mod job;
mod order;
mod schedule;
#[cfg(test)]
mod tests;

use migrator_mig::Site;
use serde::{Deserialize, Serialize};

use crate::name;
use crate::plan::{Generation, Plan};
use crate::problem::{InstanceId, Problem, Task};

/// Name of an instance that does not exist yet: the GPU's index and the site; unique within a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SiteKey {
    /// Index of the GPU in [`Problem::gpus`].
    pub gpu: usize,
    /// Where on it.
    pub site: Site,
}

/// The instance that a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// It exists since before the transition.
    Existing(InstanceId),
    /// The transition's [`Step::Create`] of this key makes it.
    New(SiteKey),
}

/// One thing an executor does; it makes no choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Give `instance` no new work of `task` and finish what is in flight; a retraining writes a checkpoint and pauses.
    Drain {
        /// The instance.
        instance: InstanceId,
        /// The task on it.
        task: Task,
    },
    /// Stop the worker of `task` on `instance`; the instance stays.
    Release {
        /// The instance.
        instance: InstanceId,
        /// The task on it.
        task: Task,
    },
    /// Remove the instance from the device.
    Destroy {
        /// Index of the GPU.
        gpu: usize,
        /// The instance.
        instance: InstanceId,
        /// Where it was.
        site: Site,
    },
    /// Make an instance at this site.
    Create {
        /// Where.
        key: SiteKey,
    },
    /// Start a worker in the staging area (outside any instance) with the task's model loaded and warmed. Waits for nothing;
    /// the old owner serves meanwhile. Only with `TransitionCosts::preload`.
    Preload {
        /// The instance it is meant for.
        target: Target,
        /// The task.
        task: Task,
    },
    /// Put the staged worker onto the instance; without preloading: start a worker on it and load the model.
    Bind {
        /// The instance.
        target: Target,
        /// The task.
        task: Task,
    },
    /// Open it for requests (inference), or start or resume it (retraining).
    Admit {
        /// The instance.
        target: Target,
        /// The task.
        task: Task,
    },
}

/// A step, its number and the numbers of the steps that must be done before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its index in [`Transition::steps`].
    pub id: usize,
    /// What to do.
    pub step: Step,
    /// Ids of its predecessors, ascending, each below `id`: the list is in an order that may be executed one by one. They must have succeeded.
    pub after: Vec<usize>,
    /// Ids of steps that must be over, however they ended, ascending, each below `id`: device calls that come first anyway, before which
    /// a drain would only lose service.
    #[serde(default)]
    pub follows: Vec<usize>,
}

/// Ordered steps from one partition to the next: a directed acyclic graph, topologically sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The plan it leads to.
    pub generation: Generation,
    /// The steps.
    pub steps: Vec<PlannedStep>,
}

impl Transition {
    /// Whether the plan is in force already.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps as text, a line each: `3 drain vision inference from #7 3g@4 (after 1, 2)`.
    pub fn describe(&self, problem: &Problem) -> String {
        let mut text = String::new();
        for PlannedStep { id, step, after, follows } in &self.steps {
            text += &format!("{id} {}", step.describe(problem));
            for (what, ids) in [("after", after), ("following", follows)].into_iter().filter(|(_, ids)| !ids.is_empty()) {
                let ids: Vec<String> = ids.iter().map(usize::to_string).collect();
                text += &format!(" ({what} {})", ids.join(", "));
            }
            text.push('\n');
        }
        text
    }
}

impl Step {
    /// The step as an operator reads it: `create 3g@4 on GPU 0`.
    pub fn describe(&self, problem: &Problem) -> String {
        let task = |task| name::task(problem, task);
        match *self {
            Step::Drain { instance, task: old } => format!("drain {} from {}", task(old), name::instance(problem, instance)),
            Step::Release { instance, task: old } => format!("release {} from {}", task(old), name::instance(problem, instance)),
            Step::Destroy { instance, .. } => format!("destroy {}", name::instance(problem, instance)),
            Step::Create { key } => format!("create {}", name::site(problem, key.gpu, key.site)),
            Step::Preload { target, task: new } => format!("preload {} for {}", task(new), called(problem, target)),
            Step::Bind { target, task: new } => format!("bind {} to {}", task(new), called(problem, target)),
            Step::Admit { target, task: new } => format!("admit {} on {}", task(new), called(problem, target)),
        }
    }
}

/// A transition and what it is expected to cost.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scheduled {
    /// The steps.
    pub transition: Transition,
    /// Service expected to be lost, seconds: the share of `min(before, after)` capacity missing, integrated over time, summed over tenants.
    pub lost_s: f64,
    /// Seconds until the last step is expected to end.
    pub took_s: f64,
    /// Whether no other order is better; else the search was cut short.
    pub exact: bool,
}

/// The steps that lead from `problem`'s instances to `plan`, so ordered that the least service is lost.
///
/// A drain waits for the preloads of whoever gets its memory slices and, where that loses less, for its tenant's new instances (make
/// before break) and for device calls that come first. A retraining that moves is resumed only after it was released where it ran.
/// Creates and destroys of one GPU are to be carried out one at a time, those with lower ids first; all else that may start, does.
///
/// `plan` must have passed [`audit`](crate::audit): for one that has not, steps may be missing, but nothing panics.
pub fn transition(problem: &Problem, plan: &Plan) -> Transition {
    schedule(problem, plan).transition
}

/// [`transition`], with what it is expected to cost.
pub fn schedule(problem: &Problem, plan: &Plan) -> Scheduled {
    let jobs = job::Jobs::new(problem, plan);
    let order::Ordered { order, exact } = order::order(&jobs);
    let timeline = schedule::Timeline::of(&jobs, &order);
    let transition = Transition { generation: plan.generation, steps: graph::steps(problem, &jobs, &order) };
    Scheduled { transition, lost_s: timeline.cost(&jobs).lost_s, took_s: timeline.end_s(), exact }
}

/// What the instance that a step is about is called.
fn called(problem: &Problem, target: Target) -> String {
    match target {
        Target::Existing(id) => name::instance(problem, id),
        Target::New(key) => format!("new {}", name::site(problem, key.gpu, key.site)),
    }
}
