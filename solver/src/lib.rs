//! Problem → Outcome{Plan, Report}: what to do with the GPUs in the next seconds, and why.
//!
//! Pure: knows nothing of clocks, threads, devices or HTTP. Read in the order [`problem`], [`plan`].
#![forbid(unsafe_code)]

pub mod plan;
pub mod problem;

pub use plan::{Allocation, Generation, GpuPlan, Outcome, Plan, Report, SolveStatus, TenantOutlook};
pub use problem::{GpuState, InstanceId, InstanceState, Problem, RetrainingState, Task, TaskKind, TenantId, TenantState, TransitionCosts};
