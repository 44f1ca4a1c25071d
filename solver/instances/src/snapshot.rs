//! From a window to the problem that a planner is given at one second of it.

use migrator_mig::{Catalog, Site};
use migrator_solver::problem::{GpuModel, Scenario};
use migrator_solver::{
    GpuState, InstanceId, InstanceState, Problem, RetrainingState, Task, TaskKind, TenantId, TenantState, TransitionCosts,
};

use crate::rng::Rng;
use crate::window::{TRAIL_S, Truth, Window};

/// What is known at one second, beside the window itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Seconds of the window that are over.
    pub second: usize,
    /// Instances by GPU, by start.
    pub instances: Vec<Vec<InstanceState>>,
    /// What may arrive, by tenant.
    pub demand: Vec<Vec<Scenario>>,
    /// Share of each tenant's retraining that is left, 0..1; `None` = published or never due.
    pub work_left: Vec<Option<f64>>,
    /// Accuracy in service, by tenant.
    pub accuracy: Vec<f64>,
}

impl Known {
    /// Nothing on the GPUs, all retrainings due, demand as it will be: the start of a window for one who knows the future.
    pub fn start(window: &Window) -> Known {
        Known {
            second: 0,
            instances: vec![Vec::new(); window.gpus.len()],
            demand: window.tenants.iter().map(|tenant| Scenario::certain(future(window, tenant, 0))).collect(),
            work_left: window.tenants.iter().map(|tenant| tenant.retraining.map(|_| 1.0)).collect(),
            accuracy: window.tenants.iter().map(|tenant| tenant.accuracy).collect(),
        }
    }
}

/// True arrivals from `second` to the end of what is known.
pub fn future(window: &Window, tenant: &Truth, second: usize) -> Vec<f64> {
    (second..(window.seconds + TRAIL_S).max(second + 1)).map(|t| tenant.arrivals_at(t)).collect()
}

/// The problem of this window with `known`.
pub fn problem(window: &Window, known: &Known) -> Problem {
    let times = &window.times;
    let model = |catalog: &Catalog| GpuModel {
        catalog: catalog.clone(),
        create_s: vec![times.create_s; catalog.profiles.len()],
        destroy_s: vec![times.destroy_s; catalog.profiles.len()],
    };
    let gpus = window.gpus.iter().zip(&known.instances);
    Problem {
        models: window.models.iter().map(model).collect(),
        gpus: gpus.map(|(&model, instances)| GpuState { model, instances: instances.clone() }).collect(),
        tenants: (0..window.tenants.len()).map(|index| tenant(window, known, index)).collect(),
        window_left_s: window.seconds.saturating_sub(known.second) as f64,
        beyond_window_s: 0.0,
        costs: TransitionCosts { drain_s: times.drain_s, handover_s: times.handover_s, preload: times.preload },
    }
}

fn tenant(window: &Window, known: &Known, index: usize) -> TenantState {
    let truth = &window.tenants[index];
    let left = |seconds: Vec<f64>, left: f64| seconds.iter().map(|&s| if s < 0.0 { s } else { s * left }).collect();
    let retraining = truth.retraining.zip(known.work_left[index]).map(|(work, share)| RetrainingState {
        seconds_left: window.models.iter().map(|catalog| left(work.seconds(catalog), share)).collect(),
        accuracy_after: work.accuracy_after,
        restore_s: work.restore_s,
        memory_mib: 0,
    });
    TenantState {
        name: truth.name.clone(),
        weight: 1.0,
        demand: known.demand[index].clone(),
        capacity_rps: window.models.iter().map(|catalog| truth.capacity_rps(catalog)).collect(),
        memory_mib: 0,
        backlog: 0.0,
        accuracy: known.accuracy[index],
        load_s: truth.load_s,
        retraining,
        floor_rps: 0.0,
    }
}

/// A problem somewhere in the window: some legal partition in force, some instances still warming up, some retrainings under way or
/// over, demand as it will be. The same for ever.
pub fn snapshot(window: &Window, second: usize, seed: u64) -> Problem {
    let mut rng = Rng::part(seed, 1 << 32);
    let mut known = Known { second, ..Known::start(window) };
    known.demand = window.tenants.iter().map(|tenant| Scenario::certain(future(window, tenant, second))).collect();
    let over = second as f64 / window.seconds.max(1) as f64;
    for (index, truth) in window.tenants.iter().enumerate() {
        let Some(work) = truth.retraining else { continue };
        if rng.chance(0.6 * over) {
            (known.work_left[index], known.accuracy[index]) = (None, work.accuracy_after);
        } else if rng.chance(over) {
            known.work_left[index] = Some(rng.uniform(0.05, 1.0));
        }
    }
    known.instances = in_force(window, &known, &mut rng);
    problem(window, &known)
}

/// Partitions and owners that an earlier plan may have left.
fn in_force(window: &Window, known: &Known, rng: &mut Rng) -> Vec<Vec<InstanceState>> {
    let need: Vec<f64> = window.tenants.iter().map(|tenant| tenant.arrivals_at(known.second) / tenant.slice_rps).collect();
    let mut running = vec![false; window.tenants.len()];
    let mut next = 0;
    let mut instance = |site: Site, model: usize, rng: &mut Rng| {
        next += 1;
        let tenant = rng.weighted(&need);
        let retrains = rng.chance(0.25) && !running[tenant] && known.work_left[tenant].is_some();
        let id = TenantId(tenant as u16);
        let task = if retrains { Task::retraining(id) } else { Task::inference(id) };
        let task = Some(task).filter(|&task| !rng.chance(0.1) && fits(window, task, model, site));
        running[tenant] |= task == Some(Task::retraining(id));
        let ready_in_s = if task.is_some() && rng.chance(0.1) { rng.uniform(0.1, 3.0) } else { 0.0 };
        InstanceState { id: InstanceId(next), site, task, ready_in_s, pinned: false }
    };
    let mut gpu = |&model: &usize| {
        let mut sites = window.models[model].sites();
        let mut chosen: Vec<Site> = Vec::new();
        while !sites.is_empty() && !rng.chance(0.05) {
            let site = sites[rng.index(sites.len())];
            chosen.push(site);
            sites.retain(|other| !other.placement.overlaps(site.placement));
        }
        chosen.sort();
        chosen.into_iter().map(|site| instance(site, model, rng)).collect()
    };
    window.gpus.iter().map(&mut gpu).collect()
}

fn fits(window: &Window, task: Task, model: usize, site: Site) -> bool {
    let (truth, catalog) = (&window.tenants[task.tenant.index()], &window.models[model]);
    match task.kind {
        TaskKind::Inference => truth.capacity_rps(catalog)[site.profile.index()] > 0.0,
        TaskKind::Retraining => truth.retraining.is_some_and(|work| work.seconds(catalog)[site.profile.index()] >= 0.0),
    }
}

#[cfg(test)]
mod tests {
    use migrator_solver::{Generation, SolveOptions, audit, keep, solve};

    use super::*;
    use crate::generate::{Spec, window};

    #[test]
    fn snapshots_are_sound_problems_with_legal_partitions() {
        let mut warming = 0;
        for seed in 0..40 {
            let window = window(&Spec::new(1 + seed as usize % 3, 2 + seed as usize % 5), seed);
            let problem = snapshot(&window, (seed as usize * 5) % 200, seed);
            assert_eq!(audit(&problem, &keep(&problem, Generation(1))), Vec::new());
            let options = SolveOptions { policy: migrator_solver::PolicyName::Greedy, ..SolveOptions::default() };
            assert!(solve(&problem, None, &options).is_ok(), "seed {seed}");
            warming += problem.gpus.iter().flat_map(|gpu| &gpu.instances).filter(|i| i.ready_in_s > 0.0).count();
        }
        assert!(warming > 5, "{warming}");
    }

    #[test]
    fn a_snapshot_looks_forward_from_its_second() {
        let window = window(&Spec::new(1, 4), 1);
        let problem = snapshot(&window, 50, 2);
        assert_eq!((problem.window_left_s, problem.tenants[2].demand[0].rps[3]), (150.0, window.tenants[2].arrivals_at(53)));
    }
}
