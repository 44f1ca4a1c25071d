//! Counts by adding what gains most per slice; the stand-in when the integer program gives nothing, and its measure.

use crate::problem::{Task, TaskKind, TenantId};
use crate::realise::Need;
use crate::shape::{Kind, KindId, Shape};
use crate::view::View;

/// Adds one instance or one retraining at a time, the one that gains most per compute slice, until nothing gains or nothing fits.
///
/// Starts from `held`; what is held is never given up.
pub(crate) fn greedy(view: &View, shape: &Shape, held: &Need) -> Need {
    let mut need = held.clone();
    // What one tenant is given changes no other's gain.
    let mut offers: Vec<Vec<Offer>> = view.tenants().map(|(id, _)| offers_of(view, shape, &need, id)).collect();
    loop {
        let mut best: Option<&Offer> = None;
        for offer in offers.iter().flatten() {
            let better = best.is_none_or(|most| offer.density > most.density);
            if offer.density > 1e-9 && better && shape.fits(&with(shape, &need, offer.kind)) {
                best = Some(offer);
            }
        }
        let Some(&Offer { task, kind, .. }) = best else { return need };
        *need.entry((task, kind)).or_insert(0) += 1;
        offers[task.tenant.index()] = offers_of(view, shape, &need, task.tenant);
    }
}

/// One instance more, and what it gains per compute slice.
struct Offer {
    task: Task,
    kind: KindId,
    density: f64,
}

fn offers_of(view: &View, shape: &Shape, need: &Need, id: TenantId) -> Vec<Offer> {
    let capacity = capacity(view, shape, need, id);
    let before = served(view, id, capacity);
    let offer = |(task, kind): (Task, KindId)| {
        let Kind { model, profile, .. } = shape.kind(kind);
        let slices = f64::from(view.problem.models[model].catalog.profile(profile).compute_slices.max(1));
        let gain = match task.kind {
            TaskKind::Inference => inference_gain(view, id, capacity, before, view.kind_rate(shape, id, kind)),
            TaskKind::Retraining => retraining_gain(view, shape, id, kind),
        };
        Offer { task, kind, density: gain / slices }
    };
    candidates(view, shape, need, id).into_iter().map(offer).collect()
}

/// What is in force and not pinned, as counts; tasks that no longer fit or are no longer due are left out.
pub(crate) fn held(view: &View, shape: &Shape) -> Need {
    let mut need = Need::new();
    for (gpu, old) in view.instances().filter(|(_, old)| !old.pinned) {
        let Some(task) = old.task else { continue };
        let model = view.problem.gpus[gpu].model;
        let useful = match task.kind {
            TaskKind::Inference => view.rate(task.tenant, model, old.site.profile) > 0.0,
            TaskKind::Retraining => {
                view.retraining_s(task.tenant, model, old.site.profile).is_some() && !need.keys().any(|(t, _)| *t == task)
            }
        };
        if useful {
            *need.entry((task, shape.kind_of(gpu, old.site.profile))).or_insert(0) += 1;
        }
    }
    need
}

fn candidates(view: &View, shape: &Shape, need: &Need, id: TenantId) -> Vec<(Task, KindId)> {
    let serves = shape.kind_ids().filter(|&kind| view.kind_rate(shape, id, kind) > 0.0);
    let mut candidates: Vec<(Task, KindId)> = serves.map(|kind| (Task::inference(id), kind)).collect();
    let task = Task::retraining(id);
    if !need.keys().any(|(held, _)| *held == task) && view.running(id).is_none_or(|(_, old)| !old.pinned) {
        let fits = |kind: &KindId| view.retraining_s(id, shape.kind(*kind).model, shape.kind(*kind).profile).is_some();
        candidates.extend(shape.kind_ids().filter(fits).map(|kind| (task, kind)));
    }
    candidates
}

fn with(shape: &Shape, need: &Need, kind: KindId) -> Vec<u32> {
    let mut counts = vec![0; shape.kinds().len()];
    counts[kind.index()] += 1;
    for ((_, held), n) in need {
        counts[held.index()] += n;
    }
    counts
}

/// What `rate` more gains a tenant that has `capacity` and serves `before` with it.
fn inference_gain(view: &View, id: TenantId, capacity: f64, before: f64, rate: f64) -> f64 {
    let after = served(view, id, capacity + rate);
    // Below its floor a tenant comes before all others.
    let floor = (view.floor(id) - capacity).max(0.0).min(rate) * view.floor_charge(id);
    view.answer_worth(id) * (after - before) + floor * view.horizon as f64 - crate::evaluate::start_charge(view, id, rate)
}

fn retraining_gain(view: &View, shape: &Shape, id: TenantId, kind: KindId) -> f64 {
    let Kind { model, profile, .. } = shape.kind(kind);
    let Some(work_s) = view.retraining_s(id, model, profile) else { return 0.0 };
    let running = view.running(id).is_some_and(|(gpu, old)| shape.kind_of(gpu, old.site.profile) == kind);
    let finish_s = work_s + if running { 0.0 } else { view.switch_s(Task::retraining(id), model, profile) };
    if !view.counts(finish_s, running) {
        return 0.0;
    }
    view.tenant(id).weight * view.accuracy_gain(id) * view.arrivals_after(id, finish_s)
}

fn capacity(view: &View, shape: &Shape, need: &Need, id: TenantId) -> f64 {
    let own = need.iter().filter(|((task, _), _)| *task == Task::inference(id));
    own.map(|((_, kind), &n)| view.kind_rate(shape, id, *kind) * f64::from(n)).sum::<f64>() + view.pinned_rate(id)
}

fn served(view: &View, id: TenantId, capacity: f64) -> f64 {
    let scenarios = view.scenarios[id.index()].iter();
    scenarios.map(|(probability, rps)| probability * rps.iter().map(|rps| rps.min(capacity)).sum::<f64>()).sum()
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
        let shape = Shape::new(&problem);
        let need = greedy(&view, &shape, &Need::new());
        assert!(capacity(&view, &shape, &need, TenantId(0)) >= 9.0 && capacity(&view, &shape, &need, TenantId(0)) <= 10.0);
        assert!(capacity(&view, &shape, &need, TenantId(1)) >= 15.0);
    }

    #[test]
    fn what_is_held_is_never_given_up() {
        let mut problem = problem(vec![tenant("vision", 500.0), tenant("speech", 1.0)]);
        problem.tenants[0].retraining = due(60.0, 0.9);
        problem.gpus[0].instances = vec![instance(1, 2, 4, Some(Task::inference(TenantId(1))))];
        let view = View::new(&problem, &SolveOptions::default());
        let shape = Shape::new(&problem);
        let need = greedy(&view, &shape, &held(&view, &shape));
        assert_eq!(need[&(Task::inference(TenantId(1)), KindId(2))], 1);
        assert!(capacity(&view, &shape, &need, TenantId(0)) > 0.0);
    }
}
