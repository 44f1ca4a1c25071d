//! Counts by adding what gains most per slice; the stand-in when the integer program gives nothing, and its measure.

use migrator_mig::ProfileId;

use crate::problem::{Task, TaskKind, TenantId};
use crate::realise::Need;
use crate::shape::Shape;
use crate::view::View;

/// Adds one instance or one retraining at a time, the one that gains most per compute slice, until nothing gains or nothing fits.
///
/// Starts from `held`; what is held is never given up.
pub(crate) fn greedy(view: &View, shape: &Shape, held: &Need) -> Need {
    let mut need = held.clone();
    loop {
        let mut best: Option<(f64, Task, ProfileId)> = None;
        for (task, profile) in candidates(view, &need) {
            let slices = f64::from(view.problem.gpus[0].catalog.profile(profile).compute_slices.max(1));
            let density = gain(view, &need, task, profile) / slices;
            let better = best.is_none_or(|(most, _, _)| density > most);
            if density > 1e-9 && better && shape.fits(&with(view, &need, profile)) {
                best = Some((density, task, profile));
            }
        }
        let Some((_, task, profile)) = best else { return need };
        *need.entry((task, profile)).or_insert(0) += 1;
    }
}

/// What is in force, as counts; tasks that no longer fit or are no longer due are left out.
pub(crate) fn held(view: &View) -> Need {
    let mut need = Need::new();
    for (_, old) in view.instances() {
        let Some(task) = old.task else { continue };
        let useful = match task.kind {
            TaskKind::Inference => view.rate(task.tenant, old.site.profile) > 0.0,
            TaskKind::Retraining => view.retraining_s(task.tenant, old.site.profile).is_some() && !need.keys().any(|(t, _)| *t == task),
        };
        if useful {
            *need.entry((task, old.site.profile)).or_insert(0) += 1;
        }
    }
    need
}

fn candidates(view: &View, need: &Need) -> Vec<(Task, ProfileId)> {
    let mut candidates: Vec<(Task, ProfileId)> = view.inferences().map(|(id, q)| (Task::inference(id), q)).collect();
    for (id, _) in view.tenants() {
        let task = Task::retraining(id);
        if !need.keys().any(|(held, _)| *held == task) {
            candidates.extend(view.profiles().filter(|&q| view.retraining_s(id, q).is_some()).map(|q| (task, q)));
        }
    }
    candidates
}

fn with(view: &View, need: &Need, profile: ProfileId) -> Vec<u32> {
    let mut counts = vec![0; view.profiles().count()];
    counts[profile.index()] += 1;
    for ((_, held), n) in need {
        counts[held.index()] += n;
    }
    counts
}

fn gain(view: &View, need: &Need, task: Task, profile: ProfileId) -> f64 {
    let id = task.tenant;
    match task.kind {
        TaskKind::Inference => {
            let capacity = capacity(view, need, id);
            let (before, after) = (served(view, id, capacity), served(view, id, capacity + view.rate(id, profile)));
            // Below its floor a tenant comes before all others.
            let floor = (view.floor(id) - capacity).max(0.0).min(view.rate(id, profile)) * view.floor_charge(id);
            view.answer_worth(id) * (after - before) + floor * view.horizon as f64 - crate::evaluate::start_charge(view, id, profile)
        }
        TaskKind::Retraining => retraining_gain(view, id, profile),
    }
}

fn retraining_gain(view: &View, id: TenantId, profile: ProfileId) -> f64 {
    let Some(work_s) = view.retraining_s(id, profile) else { return 0.0 };
    let running = view.running(id).is_some_and(|(_, old)| old.site.profile == profile);
    let finish_s = work_s + if running { 0.0 } else { view.switch_s(Task::retraining(id), profile) };
    if !view.counts(finish_s, running) {
        return 0.0;
    }
    view.tenant(id).weight * view.accuracy_gain(id) * view.arrivals_after(id, finish_s)
}

fn capacity(view: &View, need: &Need, id: TenantId) -> f64 {
    let own = need.iter().filter(|((task, _), _)| *task == Task::inference(id));
    own.map(|((_, q), &n)| view.rate(id, *q) * f64::from(n)).sum()
}

fn served(view: &View, id: TenantId, capacity: f64) -> f64 {
    view.demand[id.index()].iter().map(|demand| demand.min(capacity)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::SolveOptions;
    use crate::testing::{due, instance, problem, tenant};

    #[test]
    fn greedy_serves_the_demand_and_no_more() {
        let problem = problem(vec![tenant("vision", 9.0), tenant("speech", 15.0)]);
        let view = View::new(&problem, &SolveOptions::default());
        let need = greedy(&view, &Shape::new(&problem.gpus[0].catalog, 1), &Need::new());
        assert!(capacity(&view, &need, TenantId(0)) >= 9.0 && capacity(&view, &need, TenantId(0)) <= 10.0);
        assert!(capacity(&view, &need, TenantId(1)) >= 15.0);
    }

    #[test]
    fn what_is_held_is_never_given_up() {
        let mut problem = problem(vec![tenant("vision", 500.0), tenant("speech", 1.0)]);
        problem.tenants[0].retraining = due(60.0, 0.9);
        problem.gpus[0].instances = vec![instance(1, 2, 4, Some(Task::inference(TenantId(1))))];
        let view = View::new(&problem, &SolveOptions::default());
        let need = greedy(&view, &Shape::new(&problem.gpus[0].catalog, 1), &held(&view));
        assert_eq!(need[&(Task::inference(TenantId(1)), ProfileId(2))], 1);
        assert!(capacity(&view, &need, TenantId(0)) > 0.0);
    }
}
