//! Problem → Outcome{Plan, Report}: what to do with the GPUs in the next seconds, and why.
//!
//! Pure: knows nothing of clocks, threads, devices or HTTP. Read in the order [`problem`], [`plan`], [`options`], [`solve()`],
//! [`audit()`], [`transition()`]; [`forecast`] stands alone.
#![forbid(unsafe_code)]

pub mod audit;
pub mod check;
pub mod clairvoyant;
mod dice;
mod evaluate;
mod exhaustive;
pub mod explain;
pub mod forecast;
mod greedy;
mod monolith;
mod name;
pub mod options;
pub mod plan;
mod planner;
pub mod policy;
pub mod problem;
mod realise;
mod report;
mod shape;
pub mod solve;
pub mod transition;
mod view;

#[cfg(test)]
mod testing;

pub use audit::{Defect, audit, audit_after};
pub use check::ProblemError;
pub use forecast::Forecaster;
pub use options::{PolicyName, SolveOptions, UnknownPolicy};
pub use plan::{Allocation, Generation, GpuPlan, Outcome, Plan, Report, RunnerUp, SolveStatus, TenantOutlook};
pub use policy::{Facts, Policy, PolicyError, Sharing, TenantFacts, TrainingFacts, policy};
pub use problem::{
    GpuModel, GpuState, InstanceId, InstanceState, Problem, RetrainingState, Scenario, Task, TaskKind, TenantId, TenantState,
    TransitionCosts,
};
pub use solve::{Planner, evaluate, keep, solve, solve_timed};
pub use transition::{PlannedStep, Scheduled, SiteKey, Step, Target, Transition, schedule, transition};
