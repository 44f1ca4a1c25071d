//! When each step of a transition is expected to begin and end.

use crate::plan::Plan;
use crate::problem::{Problem, Task, TaskKind};
use crate::transition::{PlannedStep, Step, transition};

/// A step and its times, seconds from the transition's start.
#[derive(Clone, Debug, PartialEq)]
pub struct TimedStep {
    /// The step.
    pub step: PlannedStep,
    /// When all that it waits for is done.
    pub begins_s: f64,
    /// When it is expected to be done.
    pub ends_s: f64,
}

/// The steps from what is to `plan`, in the order in which they begin.
pub fn steps(problem: &Problem, plan: &Plan) -> Vec<TimedStep> {
    let steps = transition(problem, plan).steps;
    let mut ends = vec![0.0; steps.len()];
    // Creates and destroys of one GPU come one after the other, those with lower ids first.
    let mut busy: Vec<f64> = vec![0.0; problem.gpus.len()];
    let mut timed: Vec<TimedStep> = Vec::with_capacity(steps.len());
    for step in steps {
        let mut begins_s = step.after.iter().map(|&id| ends[id]).fold(0.0, f64::max);
        let device = match step.step {
            Step::Destroy { gpu, .. } => Some(gpu),
            Step::Create { key } => Some(key.gpu),
            _ => None,
        };
        if let Some(gpu) = device {
            begins_s = busy[gpu].max(begins_s);
        }
        let ends_s = begins_s + took_s(problem, &step.step);
        if let Some(gpu) = device {
            busy[gpu] = ends_s;
        }
        ends[step.id] = ends_s;
        timed.push(TimedStep { step, begins_s, ends_s });
    }
    timed.sort_by(|a, b| a.begins_s.total_cmp(&b.begins_s).then(a.step.id.cmp(&b.step.id)));
    timed
}

fn took_s(problem: &Problem, step: &Step) -> f64 {
    let costs = &problem.costs;
    match *step {
        Step::Drain { .. } => costs.drain_s,
        Step::Release { .. } | Step::Admit { .. } => 0.0,
        Step::Destroy { gpu, site, .. } => problem.models[problem.gpus[gpu].model].destroy_s[site.profile.index()],
        Step::Create { key } => problem.models[problem.gpus[key.gpu].model].create_s[key.site.profile.index()],
        Step::Preload { task, .. } => load_s(problem, task),
        Step::Bind { .. } if costs.preload => costs.handover_s,
        Step::Bind { task, .. } => load_s(problem, task),
    }
}

fn load_s(problem: &Problem, task: Task) -> f64 {
    let tenant = &problem.tenants[task.tenant.index()];
    match task.kind {
        TaskKind::Inference => tenant.load_s,
        TaskKind::Retraining => tenant.retraining.as_ref().map_or(0.0, |due| due.restore_s),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Generation;
    use crate::problem::TenantId;
    use crate::testing::{instance, problem, tenant};

    #[test]
    fn a_hand_over_takes_its_preload_a_drain_and_a_bind() {
        let mut problem = problem(vec![tenant("vision", 40.0), tenant("speech", 10.0)]);
        problem.gpus[0].instances = vec![instance(1, 2, 0, Some(Task::inference(TenantId(0))))];
        let mut plan = crate::keep(&problem, Generation(2));
        plan.gpus[0].allocations[0].task = Some(Task::inference(TenantId(1)));
        let timed = steps(&problem, &plan);
        let times: Vec<(f64, f64)> = timed.iter().map(|timed| (timed.begins_s, timed.ends_s)).collect();
        assert_eq!(times[0], (0.0, 2.0), "the preload: {timed:?}");
        assert_eq!(
            timed.last().map(|timed| (timed.ends_s * 10.0).round()),
            Some(25.0),
            "2 s of preload, 0.2 of drain, 0.3 of bind: {timed:?}"
        );
    }
}
