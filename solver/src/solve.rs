//! The solve: candidates, one evaluation for all of them, the choice.

use crate::check::ProblemError;
use crate::options::SolveOptions;
use crate::plan::{Allocation, Generation, GpuPlan, Outcome, Plan, Report, SolveStatus};
use crate::problem::Problem;

/// Decides what to do with the GPUs of `problem`.
///
/// The plan is always legal ([`audit`](crate::audit) finds nothing) and never worth less than keeping everything. `previous` is the
/// last plan made, whose generation must be below `options.generation`.
///
/// # Errors
/// [`ProblemError`] when the input contradicts itself (NaN, negative, wrong lengths, impossible instances); never for a hard problem.
pub fn solve(problem: &Problem, previous: Option<&Plan>, options: &SolveOptions) -> Result<Outcome, ProblemError> {
    let _ = previous;
    let report = Report {
        status: SolveStatus::Kept,
        objective: 0.0,
        keep_objective: 0.0,
        bound: 0.0,
        gap: 0.0,
        solve_ms: 0.0,
        worth_it: false,
        reason: None,
        tenants: Vec::new(),
        changes: Vec::new(),
    };
    Ok(Outcome { plan: keep(problem, options.generation), report })
}

/// The plan that leaves everything as it is: instances in force, same tasks.
pub fn keep(problem: &Problem, generation: Generation) -> Plan {
    let gpus = problem.gpus.iter().map(|gpu| {
        let mut allocations: Vec<Allocation> =
            gpu.instances.iter().map(|i| Allocation { site: i.site, instance: Some(i.id), task: i.task }).collect();
        allocations.sort_by_key(|allocation| allocation.site);
        GpuPlan { allocations }
    });
    Plan { generation, gpus: gpus.collect() }
}

/// Expected weighted goodput of holding `plan` to the end of the look-ahead, in requests, transition losses deducted.
pub fn evaluate(problem: &Problem, plan: &Plan) -> f64 {
    let _ = (problem, plan);
    0.0
}
