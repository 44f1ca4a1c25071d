//! A plan and everything that is said about it, as text and as JSON.

use std::time::Instant;

use migrator_solver::{Facts, Outcome, Plan, Planner, Problem, ProblemError, SolveOptions, TaskKind, explain, policy};
use serde::Serialize;

use super::{Advice, advice};

/// A problem and its solution.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was solved.
    pub problem: Problem,
    /// What came of it.
    pub outcome: Outcome,
    /// What is odd about the problem.
    pub advice: Advice,
}

/// How much is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What changes and why.
    Plan,
    /// The steps of the transition too, and what everything scarce is worth.
    Explained,
}

/// Solves, and takes the time that it took.
///
/// # Errors
/// [`ProblemError`] when the problem contradicts itself.
pub fn solve(problem: Problem, previous: Option<&Plan>, options: &SolveOptions) -> Result<Answer, ProblemError> {
    let began = Instant::now();
    // Those that a single problem does not suffice for are refused where a policy is named; here they would keep everything.
    let mut policy = policy(options.policy, &Facts::default()).unwrap_or_else(|_| Box::new(Planner::default()));
    let mut outcome = policy.plan(&problem, previous, options, Some(&mut || began.elapsed().as_secs_f64()))?;
    outcome.report.solve_ms = began.elapsed().as_secs_f64() * 1000.0;
    let advice = advice(&problem);
    Ok(Answer { problem, outcome, advice })
}

/// One GPU, now and planned.
#[derive(Debug, Serialize)]
struct GpuAnswer<'a> {
    model: &'a str,
    /// `4g@0 2g@4`.
    now: String,
    planned: String,
    instances: Vec<InstanceAnswer<'a>>,
}

/// One instance of the planned partition.
#[derive(Debug, Serialize)]
struct InstanceAnswer<'a> {
    /// `3g@4`: profile and first memory slice.
    at: String,
    profile: &'a str,
    /// First memory slice and how many.
    start: u8,
    size: u8,
    /// Its identity, when it exists already.
    instance: Option<u64>,
    task: Option<TaskKind>,
    tenant: Option<&'a str>,
    /// Whether anything about it changes.
    new: bool,
}

/// One step of the transition.
#[derive(Debug, Serialize)]
struct StepAnswer {
    id: usize,
    what: String,
    after: Vec<usize>,
    /// Seconds from the transition's start to the step's, and to its end.
    begins_s: f64,
    ends_s: f64,
}

impl Answer {
    /// As an operator reads it.
    pub fn text(&self, depth: Depth) -> String {
        explain::text(&self.problem, &self.outcome, depth == Depth::Explained)
    }

    /// As a program reads it: `plan` and `report`, then the same by name.
    pub fn json(&self, depth: Depth) -> serde_json::Value {
        let mut answer = serde_json::json!({
            "plan": self.outcome.plan,
            "report": self.outcome.report,
            "gpus": gpus(&self.problem, &self.outcome.plan),
            "warnings": self.advice.warnings,
        });
        if depth == Depth::Explained {
            answer["steps"] = serde_json::json!(self.steps());
        }
        answer
    }

    fn steps(&self) -> Vec<StepAnswer> {
        let timed = explain::steps(&self.problem, &self.outcome.plan);
        let step = |timed: explain::TimedStep| StepAnswer {
            id: timed.step.id,
            what: timed.step.step.describe(&self.problem),
            after: timed.step.after,
            begins_s: timed.begins_s,
            ends_s: timed.ends_s,
        };
        timed.into_iter().map(step).collect()
    }
}

/// Both partitions by name, for the JSON of a plan.
pub(crate) fn gpus(problem: &Problem, plan: &Plan) -> serde_json::Value {
    let planned = problem.gpus.iter().enumerate().zip(&plan.gpus);
    let gpus: Vec<GpuAnswer<'_>> = planned.map(|((gpu, _), plan)| gpu_answer(problem, gpu, plan)).collect();
    serde_json::json!(gpus)
}

fn gpu_answer<'a>(problem: &'a Problem, gpu: usize, plan: &migrator_solver::GpuPlan) -> GpuAnswer<'a> {
    let (catalog, state) = (problem.catalog(gpu), &problem.gpus[gpu]);
    let at = |site: migrator_mig::Site| format!("{}@{}", catalog.short_name(site.profile), site.placement.start);
    let all = |sites: Vec<migrator_mig::Site>| {
        let mut sites = sites;
        sites.sort();
        if sites.is_empty() { "empty".to_owned() } else { sites.into_iter().map(at).collect::<Vec<_>>().join(" ") }
    };
    let instance = |new: &migrator_solver::Allocation| {
        let old = state.instances.iter().find(|old| Some(old.id) == new.instance);
        InstanceAnswer {
            at: at(new.site),
            profile: &catalog.profile(new.site.profile).name,
            start: new.site.placement.start,
            size: new.site.placement.size,
            instance: new.instance.map(|id| id.0),
            task: new.task.map(|task| task.kind),
            tenant: new.task.and_then(|task| problem.tenants.get(task.tenant.index())).map(|tenant| tenant.name.as_str()),
            new: old.is_none_or(|old| old.task != new.task),
        }
    };
    GpuAnswer {
        model: &catalog.name,
        now: all(state.instances.iter().map(|old| old.site).collect()),
        planned: all(plan.allocations.iter().map(|new| new.site).collect()),
        instances: plan.allocations.iter().map(instance).collect(),
    }
}
