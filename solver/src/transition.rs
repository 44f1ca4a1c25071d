//! From what is on the GPUs to what a plan wants: steps and what each must wait for.

use migrator_mig::Site;
use serde::{Deserialize, Serialize};

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
    /// Ids of its predecessors, ascending, each below `id`: the list is in an order that may be executed one by one.
    pub after: Vec<usize>,
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
        let _ = problem;
        String::new()
    }
}

impl Step {
    /// The step as an operator reads it: `create 3g@4 on GPU 0`.
    pub fn describe(&self, problem: &Problem) -> String {
        let _ = problem;
        String::new()
    }
}

/// The steps that lead from `problem`'s instances to `plan`, so ordered that the least service is lost.
///
/// `plan` must have passed [`audit`](crate::audit): for one that has not, steps may be missing, but nothing panics.
pub fn transition(problem: &Problem, plan: &Plan) -> Transition {
    let _ = problem;
    Transition { generation: plan.generation, steps: Vec::new() }
}
