//! Why each tenant gets what it gets.

use migrator_mig::Site;

use super::{Story, allocations, capacity, list, places};
use crate::problem::{Task, TaskKind, TenantId};
use crate::view::View;

/// What changes and why, a sentence per task.
pub(super) fn changes(story: &Story<'_>) -> Vec<String> {
    story.view.tenants().flat_map(|(id, _)| [inference(story, id), retraining(story, id)]).flatten().collect()
}

fn before(view: &View, task: Task) -> Vec<String> {
    places(view, sites_before(view, task).iter().map(|(gpu, site)| (*gpu, site)))
}

fn after(story: &Story<'_>, task: Task) -> Vec<String> {
    places(story.view, sites_after(story, task).iter().map(|(gpu, site)| (*gpu, site)))
}

fn sites_before(view: &View, task: Task) -> Vec<(usize, Site)> {
    let mut sites: Vec<(usize, Site)> =
        view.instances().filter(|(_, old)| old.task == Some(task)).map(|(gpu, old)| (gpu, old.site)).collect();
    sites.sort();
    sites
}

fn sites_after(story: &Story<'_>, task: Task) -> Vec<(usize, Site)> {
    let mut sites: Vec<(usize, Site)> =
        allocations(story.plan).filter(|(_, new)| new.task == Some(task)).map(|(gpu, new)| (gpu, new.site)).collect();
    sites.sort();
    sites
}

fn inference(story: &Story<'_>, id: TenantId) -> Option<String> {
    let (view, task) = (story.view, Task::inference(id));
    if sites_before(view, task) == sites_after(story, task) {
        return None;
    }
    let (old, new) = (before(view, task), after(story, task));
    let name = &view.tenant(id).name;
    let (could, can) = (could(view, id), capacity(view, story.plan, id));
    if new.is_empty() {
        return Some(format!("{name} gives up {}: {}", list(old), yields(story, id, can)));
    }
    let held = if old.is_empty() { "it had nothing".to_owned() } else { format!("it had {}", list(old)) };
    Some(if can < could {
        format!("{name} goes down to {} ({held}): {}", list(new), yields(story, id, can))
    } else {
        let from = giver_list(story, task);
        format!("{name} gets {}{from} ({held}): {}{}", list(new), needs(view, id, could, can), effect(story, id, task))
    })
}

/// What it can answer with what is in force.
fn could(view: &View, id: TenantId) -> f64 {
    let owned = view.instances().filter(|(_, old)| old.task == Some(Task::inference(id)));
    owned.map(|(gpu, old)| view.rate_on(id, gpu, old.site.profile)).fold(0.0, |sum, rps| sum + rps)
}

/// Arrivals without the queue, expected over the scenarios, requests/s.
fn arrivals(view: &View, id: TenantId, second: usize) -> f64 {
    let rps = |rps: &[f64]| rps.get(second).or(rps.last()).copied().unwrap_or(0.0);
    view.tenant(id).demand.iter().map(|scenario| scenario.probability * rps(&scenario.rps)).sum()
}

/// Why a tenant needs more than the `could` requests/s that it has.
fn needs(view: &View, id: TenantId, could: f64, can: f64) -> String {
    let now = arrivals(view, id, 0);
    let course: Vec<f64> = (0..view.horizon).map(|second| arrivals(view, id, second)).collect();
    let peak = course.iter().copied().fold(0.0, f64::max);
    let queued = view.tenant(id).backlog;
    let rises = course.iter().position(|&rps| rps > could * 1.001);
    match rises {
        _ if could <= 0.0 => format!("nothing serves its {now:.0} requests/s"),
        Some(0) => format!("its {now:.0} requests/s are more than the {could:.0} it can answer in time"),
        Some(second) => {
            format!("its demand rises from {now:.0} to {peak:.0} requests/s, from +{second} s on more than the {could:.0} it can answer")
        }
        None if queued > could => format!("{queued:.0} requests wait, and it answers {could:.0} a second"),
        None if view.peak_demand(id) > could => {
            format!("its demand may reach {:.0} requests/s, more than the {could:.0} it can answer", view.peak_demand(id))
        }
        None if can > could => format!("nobody else needs these slices; room for {can:.0} requests/s where {peak:.0} are expected"),
        None => format!("as many requests/s as before for its {peak:.0}"),
    }
}

/// Why a tenant can do, or has to do, with `can` requests/s.
fn yields(story: &Story<'_>, id: TenantId, can: f64) -> String {
    let peak = story.view.peak_demand(id);
    let lost = lost(story, id);
    if can >= peak {
        return format!("its demand of at most {peak:.0} requests/s needs no more than these {can:.0}");
    }
    let worth = if lost >= 0.5 { format!(", which costs it {lost:.0} correct answers") } else { ", which costs it nothing yet".to_owned() };
    format!("others use the slices better; it can answer {can:.0} of at most {peak:.0} requests/s{worth}")
}

/// Correct answers that a tenant loses against keeping everything by answering less in time, not weighted.
fn lost(story: &Story<'_>, id: TenantId) -> f64 {
    let (old, new) = (&story.keep.tenants[id.index()], &story.value.tenants[id.index()]);
    (old.on_time - new.on_time) * story.view.tenant(id).accuracy
}

/// Tasks of others that are on the slices now which `task` gets.
fn givers(story: &Story<'_>, task: Task) -> Vec<Task> {
    let mut givers = Vec::new();
    for (gpu, new) in allocations(story.plan).filter(|(_, new)| new.task == Some(task)) {
        let state = &story.view.problem.gpus[gpu];
        for old in state.instances.iter().filter(|old| old.site.placement.overlaps(new.site.placement)) {
            givers.extend(old.task.filter(|old| *old != task));
        }
    }
    givers.sort();
    givers.dedup();
    givers
}

fn giver_list(story: &Story<'_>, task: Task) -> String {
    let who = |giver: &Task| {
        let name = &story.view.tenant(giver.tenant).name;
        let own = giver.tenant == task.tenant;
        match giver.kind {
            TaskKind::Inference if own => "its own inference".to_owned(),
            TaskKind::Retraining if own => "its own retraining".to_owned(),
            TaskKind::Inference => name.clone(),
            TaskKind::Retraining => format!("the retraining of {name}"),
        }
    };
    let givers: Vec<String> = givers(story, task).iter().map(who).collect();
    match givers.is_empty() {
        true if on_own_slices(story, task) => String::new(),
        true => " from free slices".to_owned(),
        false => format!(" from {}", list(givers)),
    }
}

/// Whether a task gets slices again that it has.
fn on_own_slices(story: &Story<'_>, task: Task) -> bool {
    let old = sites_before(story.view, task);
    sites_after(story, task).iter().any(|(gpu, new)| old.iter().any(|(on, old)| on == gpu && old.placement.overlaps(new.placement)))
}

/// What the tenant wins by the plan, and what those lose from whom it takes.
fn effect(story: &Story<'_>, id: TenantId, task: Task) -> String {
    let mut text = String::new();
    let gained = -lost(story, id);
    if gained >= 0.5 {
        text += &format!("; {gained:.0} more correct answers");
    }
    let mut donors: Vec<TenantId> = givers(story, task).iter().map(|giver| giver.tenant).filter(|donor| *donor != id).collect();
    donors.dedup();
    for donor in donors {
        text += &cost(story, donor);
    }
    text
}

/// What the plan costs a tenant that gives something up.
fn cost(story: &Story<'_>, donor: TenantId) -> String {
    let (view, name) = (story.view, &story.view.tenant(donor).name);
    let lost = lost(story, donor);
    if lost >= 0.5 {
        return format!("; costs {name} {lost:.0}");
    }
    let (needs, held) = (smallest(view, donor), before(view, Task::inference(donor)));
    match needs {
        Some(needs) if !held.is_empty() => format!("; costs {name} nothing (it needs {needs} of the {} it has)", list(held)),
        _ => format!("; costs {name} nothing"),
    }
}

/// The smallest profile on which a tenant can answer all that may come.
fn smallest(view: &View, id: TenantId) -> Option<String> {
    let peak = view.peak_demand(id);
    let (_, model, profile) = view.inferences().find(|&(tenant, model, profile)| tenant == id && view.rate(id, model, profile) >= peak)?;
    Some(view.problem.models[model].catalog.short_name(profile))
}

fn retraining(story: &Story<'_>, id: TenantId) -> Option<String> {
    let (view, task) = (story.view, Task::retraining(id));
    if sites_before(view, task) == sites_after(story, task) {
        return None;
    }
    let (old, new) = (before(view, task), after(story, task));
    let tenant = view.tenant(id);
    let name = &tenant.name;
    let Some(due) = &tenant.retraining else { return Some(format!("{name} no longer retrains: none is due")) };
    let done = story.value.tenants[id.index()].retraining.map(|(_, finish_s)| format!(" from +{finish_s:.0} s on")).unwrap_or_default();
    let hope = format!("accuracy {:.2} is expected to become {:.2}{done}", tenant.accuracy, due.accuracy_after);
    Some(match (old.is_empty(), new.is_empty()) {
        (_, true) => format!("{name} pauses its retraining on {}: others use the slices better now", list(old)),
        (true, false) => format!("{name} retrains on {}{}: {hope}{}", list(new), giver_list(story, task), worth(story, id, task)),
        (false, false) => format!("{name} moves its retraining to {} (it was on {}): {hope}", list(new), list(old)),
    })
}

/// What the better model is worth against keeping everything, and what those lose from whom the slices come.
fn worth(story: &Story<'_>, id: TenantId, task: Task) -> String {
    let (new, old) = (&story.value.tenants[id.index()], &story.keep.tenants[id.index()]);
    let weight = story.view.tenant(id).weight.max(1e-9);
    let gained = (new.goodput - old.goodput) / weight;
    let mut text = if gained.abs() >= 0.5 { format!("; {gained:+.0} correct answers for it in all") } else { String::new() };
    let mut donors: Vec<TenantId> = givers(story, task).iter().map(|giver| giver.tenant).filter(|donor| *donor != id).collect();
    donors.dedup();
    for donor in donors {
        text += &cost(story, donor);
    }
    text
}
