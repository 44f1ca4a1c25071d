//! What the runner-up would have done.

use super::{Story, allocations, list, places};
use crate::plan::{Plan, RunnerUp};
use crate::problem::{Task, TaskKind};

/// The best plan that was not chosen.
pub(super) fn runner_up(story: &Story<'_>) -> Option<RunnerUp> {
    let others = story.others.iter().filter(|(plan, _)| plan.gpus != story.plan.gpus);
    let (plan, value) = others.reduce(|best, next| if next.1.score > best.1.score { next } else { best })?;
    let kept = crate::keep(story.view.problem, plan.generation);
    // Leaving everything for now and changing later is another plan than leaving everything.
    let follows = plan.gpus == kept.gpus && value.goodput > story.keep.goodput + 0.5;
    let what = if follows { "change nothing now, and what pays later".to_owned() } else { what(story, plan) };
    Some(RunnerUp { what, objective: value.goodput })
}

/// Where `plan` differs from the one chosen.
pub(super) fn what(story: &Story<'_>, plan: &Plan) -> String {
    let kept = crate::keep(story.view.problem, plan.generation);
    if plan.gpus == kept.gpus {
        return "keep everything as it is".to_owned();
    }
    let tasks = story.view.tenants().flat_map(|(id, _)| [Task::inference(id), Task::retraining(id)]);
    let mut parts: Vec<String> = tasks.filter_map(|task| differs(story, plan, task)).collect();
    let more = parts.len().saturating_sub(MOST_PARTS);
    parts.truncate(MOST_PARTS);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    if parts.is_empty() { "the same owners elsewhere".to_owned() } else { parts.join(", ") + &rest }
}

/// Differences told; the rest is counted.
const MOST_PARTS: usize = 4;

fn differs(story: &Story<'_>, plan: &Plan, task: Task) -> Option<String> {
    let on = |plan| allocations(plan).filter(|(_, new)| new.task == Some(task)).map(|(gpu, new)| (gpu, &new.site));
    if on(story.plan).eq(on(plan)) {
        return None;
    }
    let (here, there) = (places(story.view, on(story.plan)), places(story.view, on(plan)));
    let name = &story.view.tenant(task.tenant).name;
    let kind = if task.kind == TaskKind::Retraining { "the retraining of " } else { "" };
    Some(format!("{kind}{name} on {} instead of {}", list(there), list(here)))
}
