//! What an operator might expect of a plan and does not find in it.

use super::{Story, allocations, rival};
use crate::evaluate::{Value, value};
use crate::plan::Plan;
use crate::problem::{Task, TaskKind, TenantId};

/// A change that is put off, retrainings that are due and not in the plan, and tenants that are not answered in full; a sentence each.
pub(super) fn declined(story: &Story<'_>) -> Vec<String> {
    let put_off = story.put_off.map(|plan| format!("not yet: {}; a little later it pays no less", rival::what(story, plan)));
    let put_off = put_off.or_else(|| too_little(story));
    let mut missed: Vec<TenantId> = story.view.tenants().map(|(id, _)| id).collect();
    missed.sort_by(|a, b| unanswered(story, *b).total_cmp(&unanswered(story, *a)).then(a.cmp(b)));
    let retrainings = story.view.tenants().filter_map(|(id, _)| no_retraining(story, id));
    let mut lines: Vec<String> =
        put_off.into_iter().chain(retrainings).chain(missed.into_iter().filter_map(|id| short(story, id))).collect();
    let more = lines.len().saturating_sub(MOST_LINES);
    if more > 0 {
        lines.truncate(MOST_LINES);
        lines.push(format!("and {more} more like these"));
    }
    lines
}

/// A change that would be better than what is, but not by as much as a change has to be.
fn too_little(story: &Story<'_>) -> Option<String> {
    let better = story.others.iter().filter(|(_, value)| !story.worth_it && value.score > story.value.score + 1e-6);
    let (plan, value) = better.max_by(|a, b| a.1.score.total_cmp(&b.1.score))?;
    let gain = value.goodput - story.value.goodput;
    let what = rival::what(story, plan);
    Some(format!("not yet: {what}; {gain:+.0} correct answers are less than a change must gain"))
}

/// Lines told; the rest is counted.
const MOST_LINES: usize = 12;

/// Requests that are expected and not answered in time.
fn unanswered(story: &Story<'_>, id: TenantId) -> f64 {
    let worth = &story.value.tenants[id.index()];
    worth.arrivals - worth.on_time
}

fn no_retraining(story: &Story<'_>, id: TenantId) -> Option<String> {
    let view = story.view;
    let tenant = view.tenant(id);
    tenant.retraining.as_ref()?;
    let name = &tenant.name;
    if story.value.tenants[id.index()].retraining.is_some() {
        return later(story, id);
    }
    if view.accuracy_gain(id) <= 0.0 {
        return Some(format!("{name} is not retrained: no gain is expected of it"));
    }
    let quickest = quickest(story, id);
    let Some((seconds, on)) = quickest else { return Some(format!("{name} is not retrained: it fits no profile")) };
    let left = view.problem.window_left_s;
    if seconds > left {
        return Some(format!("{name} is not retrained: it takes {seconds:.0} s even on {on}, and the window ends in {left:.0} s"));
    }
    let base = value(view, story.shape, story.plan, None);
    let forced = forced(story, id, &base);
    Some(match forced {
        None => format!("{name} is not retrained: it would end after its window wherever it starts now"),
        Some((gain, cost, of)) => {
            let points = 100.0 * view.accuracy_gain(id);
            let verdict =
                if gain > cost { "which is less than what disturbing the others must gain" } else { "which is less than it costs" };
            format!(
                "{name} is not retrained: {points:.1} points of accuracy would give {gain:.0} correct answers, {verdict}: {cost:.0}{of}"
            )
        }
    })
}

/// A retraining that the plan starts in a later block.
fn later(story: &Story<'_>, id: TenantId) -> Option<String> {
    let task = Task::retraining(id);
    if allocations(story.plan).any(|(_, new)| new.task == Some(task)) {
        return None;
    }
    let (kind, finish_s) = story.value.tenants[id.index()].retraining?;
    let kind = story.shape.kind(kind);
    let work_s = story.view.retraining_s(id, kind.model, kind.profile)?;
    let on = story.view.problem.models[kind.model].catalog.short_name(kind.profile);
    let name = &story.view.tenant(id).name;
    Some(format!("{name} is not retrained yet: the plan is to begin at about +{:.0} s, on {on}", (finish_s - work_s).max(0.0)))
}

fn quickest(story: &Story<'_>, id: TenantId) -> Option<(f64, String)> {
    let view = story.view;
    let seconds = story.shape.kinds().iter().filter_map(|kind| Some((view.retraining_s(id, kind.model, kind.profile)?, kind)));
    let (seconds, kind) = seconds.min_by(|a, b| a.0.total_cmp(&b.0))?;
    Some((seconds, view.problem.models[kind.model].catalog.short_name(kind.profile)))
}

/// The best way to retrain after all on one instance of the plan: what it gains its tenant, what it costs, and whom.
fn forced(story: &Story<'_>, id: TenantId, base: &Value) -> Option<(f64, f64, String)> {
    let view = story.view;
    let best = variants(story, id).into_iter().map(|plan| value(view, story.shape, &plan, None));
    let best = best.filter(|value| value.tenants[id.index()].retraining.is_some());
    let best = best.max_by(|a, b| a.goodput.total_cmp(&b.goodput))?;
    let change = |other: TenantId| {
        let (new, old) = (&best.tenants[other.index()], &base.tenants[other.index()]);
        (new.goodput - old.goodput) / view.tenant(other).weight.max(1e-9)
    };
    let lost_by = |on_time: &dyn Fn(usize) -> f64| on_time(id.index());
    let own = lost_by(&|index| (base.tenants[index].on_time - best.tenants[index].on_time) * view.tenant(id).accuracy).max(0.0);
    let mut losers: Vec<(f64, &str)> = vec![(own, "its own")];
    losers.extend(view.tenants().filter(|(other, _)| *other != id).map(|(other, state)| (-change(other), state.name.as_str())));
    losers.retain(|(lost, _)| *lost >= 0.5);
    losers.sort_by(|a, b| b.0.total_cmp(&a.0));
    let cost = losers.iter().map(|(lost, _)| lost).sum();
    let of = if losers.is_empty() {
        String::new()
    } else {
        format!(" of {}", super::list(losers.iter().map(|(_, who)| (*who).to_owned()).collect()))
    };
    Some((change(id) + own, cost, of))
}

/// The plan with the tenant's retraining on one of its instances instead of what is there.
fn variants(story: &Story<'_>, id: TenantId) -> Vec<Plan> {
    let view = story.view;
    let fits = |gpu: usize, new: &crate::Allocation| view.retraining_s(id, view.problem.gpus[gpu].model, new.site.profile).is_some();
    let pinned =
        |gpu: usize, new: &crate::Allocation| view.problem.gpus[gpu].instances.iter().any(|old| old.pinned && Some(old.id) == new.instance);
    let mut variants = Vec::new();
    for (gpu, of) in story.plan.gpus.iter().enumerate() {
        for (index, new) in of.allocations.iter().enumerate().filter(|(_, new)| fits(gpu, new) && !pinned(gpu, new)) {
            if variants.len() >= MOST_VARIANTS || new.task.is_some_and(|task| task.kind == TaskKind::Retraining) {
                continue;
            }
            let mut plan = story.plan.clone();
            plan.gpus[gpu].allocations[index].task = Some(Task::retraining(id));
            variants.push(plan);
        }
    }
    variants
}

/// A report must not take longer than its solve: more alternatives than this say nothing new.
const MOST_VARIANTS: usize = 16;

/// A tenant that the plan leaves short, if the difference matters.
fn short(story: &Story<'_>, id: TenantId) -> Option<String> {
    let (view, worth) = (story.view, &story.value.tenants[id.index()]);
    let missed = unanswered(story, id);
    if missed < 0.5 || missed < 0.02 * worth.arrivals {
        return None;
    }
    let name = &view.tenant(id).name;
    let share = 100.0 * missed / worth.arrivals;
    let fits = view.inferences().any(|(tenant, _, _)| tenant == id);
    let why = if !fits {
        "it fits no profile of the GPUs"
    } else if story.put_off.is_some() || capacity_is_enough(story, id) {
        "it has too little until the change is made"
    } else {
        "more slices for it would cost the others more than they would give it"
    };
    Some(format!("{missed:.0} requests of {name} ({share:.0} %) are not answered in time: {why}"))
}

fn capacity_is_enough(story: &Story<'_>, id: TenantId) -> bool {
    super::capacity(story.view, story.plan, id) >= story.view.peak_demand(id)
}
