//! What a solve answers.

use migrator_mig::Site;
use serde::{Deserialize, Serialize};

use crate::problem::{InstanceId, Task};

/// Increasing number of a plan; an executor refuses a lower one than it has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u64);

/// Target partition and owner of every instance; immutable, and specific enough that its executor makes no choice.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The plan's number.
    pub generation: Generation,
    /// One entry per GPU of the problem.
    pub gpus: Vec<GpuPlan>,
}

/// What is to be on one GPU.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GpuPlan {
    /// By start; a legal partition.
    pub allocations: Vec<Allocation>,
}

/// Which task runs on which instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allocation {
    /// Profile and placement.
    pub site: Site,
    /// The instance, when it exists already and stays in place; `None` = create it.
    pub instance: Option<InstanceId>,
    /// The task; `None` = kept in reserve.
    pub task: Option<Task>,
}

/// How a solve ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SolveStatus {
    /// Proven optimal within the gap.
    Optimal,
    /// Feasible; the time limit came first.
    TimeLimit,
    /// The solver gave nothing useful; the greedy plan stands in.
    Greedy,
    /// A rival policy's own rule; nothing is proven about it.
    Rule,
    /// Nothing better was found than leaving everything as it is.
    Kept,
}

/// Why a plan is as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// How the solve ended.
    pub status: SolveStatus,
    /// Expected weighted goodput of the plan over the horizon, in requests, transition losses deducted.
    pub objective: f64,
    /// The same for leaving everything as it is.
    pub keep_objective: f64,
    /// Upper bound proven on the objective.
    pub bound: f64,
    /// `(bound - objective) / max(bound, 1)`, never negative.
    pub gap: f64,
    /// Whether the planner proved its counts optimal within the gap, whatever was chosen in the end.
    #[serde(default)]
    pub proven: bool,
    /// The gap that the planner proved in its own model, relative to the value of its counts.
    #[serde(default)]
    pub model_gap: f64,
    /// Plans of single tenants that the planner looked at.
    #[serde(default)]
    pub columns: usize,
    /// Rounds of prices and nodes of the search.
    #[serde(default)]
    pub nodes: u32,
    /// Which limit ended the solve: `gap`, `time`, `iterations`; empty without the planner.
    #[serde(default)]
    pub stopped: String,
    /// Wall time of the solve, milliseconds; filled in by the caller, for the solver reads no clock.
    pub solve_ms: f64,
    /// Whether changing over is worth its overhead.
    pub worth_it: bool,
    /// Why the status is not `Optimal`, when it is not.
    pub reason: Option<String>,
    /// One entry per tenant.
    pub tenants: Vec<TenantOutlook>,
    /// What changes and why, a sentence each, for an operator.
    pub changes: Vec<String>,
    /// What an operator might miss in the plan and why it is not there, a sentence each.
    #[serde(default)]
    pub declined: Vec<String>,
    /// What is scarce, the dearest first, a line each: which slices, when, and what one more would give.
    #[serde(default)]
    pub binding: Vec<String>,
    /// The best plan that was not chosen.
    #[serde(default)]
    pub runner_up: Option<RunnerUp>,
}

/// The best plan that was not chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunnerUp {
    /// What it would have done otherwise.
    pub what: String,
    /// Its expected weighted goodput over the horizon, comparable with [`Report::objective`].
    pub objective: f64,
}

/// What a plan means for a tenant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TenantOutlook {
    /// The tenant's name.
    pub name: String,
    /// Mean forecast arrivals over the horizon, requests/s.
    pub demand_rps: f64,
    /// Capacity within the SLO once the plan is in force, requests/s.
    pub capacity_rps: f64,
    /// Expected share of arrivals answered on time, 0..1.
    pub slo_attainment: f64,
    /// Expected accuracy, averaged over the horizon, 0..1.
    pub accuracy: f64,
    /// Expected goodput over the horizon, requests.
    pub goodput: f64,
    /// Where it retrains and when that ends, in words; `None` = not in this plan.
    pub retraining: Option<String>,
}

/// A plan and its report.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// What to do.
    pub plan: Plan,
    /// Why.
    pub report: Report,
}
