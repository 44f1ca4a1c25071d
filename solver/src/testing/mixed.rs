//! Random hosts of mixed GPU models, pinned instances included, and random legal plans for them; the same for the same seed.

use migrator_mig::{Catalog, Partition, ProfileId, Site};

use crate::dice::Dice;
use crate::plan::{Allocation, Generation, GpuPlan, Plan};
use crate::problem::{GpuModel, GpuState, InstanceId, InstanceState, Problem, Task, TenantId};
use crate::realise::Need;
use crate::shape::Shape;
use crate::testing::{due, problem, tenant};

impl Dice {
    /// Once in `n` times.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// In steps of a tenth.
    pub fn tenths(&mut self, from: usize, to: usize) -> f64 {
        (from + self.below(to - from)) as f64 / 10.0
    }

    pub fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

/// Seeds to try: `few`, or as many as the environment's `CASES` says.
pub fn seeds(few: u64) -> std::ops::Range<u64> {
    0..std::env::var("CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(few)
}

fn catalogs() -> [Catalog; 3] {
    [
        Catalog::seven_slices("A100-SXM4-80GB", 80 * 1024),
        Catalog::seven_slices_and_double("H100", 80 * 1024),
        Catalog::four_slices("A30", 24 * 1024),
    ]
}

/// A host of `gpus` GPUs of up to `models` models with any instances on them; with `pins`, some of them pinned.
pub fn host(seed: u64, gpus: usize, models: usize, pins: bool) -> Problem {
    let dice = &mut Dice(seed);
    let tenants = 2 + dice.below(2 + 2 * gpus);
    let mut host = problem((0..tenants).map(|_| tenant("t", dice.tenths(10, 400))).collect());
    host.costs.preload = dice.one_in(2);
    host.models = catalogs()[..models].iter().map(|catalog| model(catalog, dice)).collect();
    for index in 0..tenants {
        let state = &mut host.tenants[index];
        let unit = dice.tenths(40, 140);
        let rate = |profile: &migrator_mig::Profile| unit * f64::from(profile.compute_slices).powf(0.9);
        let tables = host.models.iter().map(|model| model.catalog.profiles.iter().map(rate).collect()).collect();
        (state.capacity_rps, state.weight, state.load_s) = (tables, dice.tenths(5, 20), dice.tenths(5, 40));
        state.memory_mib = if dice.one_in(4) { 12 * 1024 } else { 0 };
        if dice.one_in(3) {
            let work = |profile: &migrator_mig::Profile| 100.0 / f64::from(profile.compute_slices);
            let tables = host.models.iter().map(|model| model.catalog.profiles.iter().map(work).collect()).collect();
            state.retraining = due(100.0, 0.9).map(|due| crate::RetrainingState { seconds_left: tables, ..due });
        }
    }
    host.gpus = (0..gpus).map(|_| GpuState { model: dice.below(models), instances: Vec::new() }).collect();
    let mut next = 0;
    for gpu in 0..gpus {
        let partition = any_partition(&host, gpu, &[], dice);
        for &site in partition.sites() {
            next += 1;
            let task = any_task(&host, gpu, site.profile, &running(&host), dice);
            let ready_in_s = if dice.one_in(5) { dice.tenths(0, 30) } else { 0.0 };
            let pinned = pins && dice.one_in(6);
            host.gpus[gpu].instances.push(InstanceState { id: InstanceId(next), site, task, ready_in_s, pinned });
        }
    }
    host
}

fn model(catalog: &Catalog, dice: &mut Dice) -> GpuModel {
    let mut seconds = |from, to| catalog.profiles.iter().map(|_| dice.tenths(from, to)).collect();
    GpuModel { catalog: catalog.clone(), create_s: seconds(1, 6), destroy_s: seconds(1, 4) }
}

fn any_partition(host: &Problem, gpu: usize, pinned: &[Site], dice: &mut Dice) -> Partition {
    dice.of(&host.catalog(gpu).partitions_around(pinned)).clone()
}

fn running(host: &Problem) -> Vec<Task> {
    host.gpus.iter().flat_map(|gpu| &gpu.instances).filter_map(|old| old.task).collect()
}

/// Nothing, or a task that fits; no retraining that is `taken`.
fn any_task(host: &Problem, gpu: usize, profile: ProfileId, taken: &[Task], dice: &mut Dice) -> Option<Task> {
    let (model, mut tasks) = (host.gpus[gpu].model, vec![None]);
    for id in (0..host.tenants.len()).map(|index| TenantId(index as u16)) {
        tasks.extend((host.rate(id, model, profile) > 0.0).then_some(Some(Task::inference(id))));
        let retraining = Task::retraining(id);
        tasks.extend((host.work_s(id, model, profile).is_some() && !taken.contains(&retraining)).then_some(Some(retraining)));
    }
    *dice.of(&tasks)
}

/// Any legal plan for the host.
pub fn plan(host: &Problem, seed: u64) -> Plan {
    let dice = &mut Dice(seed);
    let pinned = |gpu: &GpuState| gpu.instances.iter().filter(|old| old.pinned).cloned().collect::<Vec<InstanceState>>();
    let mut taken: Vec<Task> = host.gpus.iter().flat_map(pinned).filter_map(|old| old.task).collect();
    let mut gpus = Vec::new();
    for (gpu, state) in host.gpus.iter().enumerate() {
        let stay: Vec<Site> = pinned(state).iter().map(|old| old.site).collect();
        let mut allocations: Vec<Allocation> =
            pinned(state).iter().map(|old| Allocation { site: old.site, instance: Some(old.id), task: old.task }).collect();
        // One GPU in three stays as it is, as far as it may.
        let stays = dice.one_in(3);
        let sites: Vec<Site> = state.instances.iter().filter(|old| !old.pinned).map(|old| old.site).collect();
        let sites = if stays { sites } else { any_partition(host, gpu, &stay, dice).sites().to_vec() };
        for site in sites {
            let old = state.instances.iter().find(|old| old.site == site);
            let keeps =
                old.and_then(|old| old.task).filter(|task| (stays || dice.one_in(2)) && !taken.contains(&Task::retraining(task.tenant)));
            let task = keeps.or_else(|| any_task(host, gpu, site.profile, &taken, dice));
            taken.extend(task);
            allocations.push(Allocation { site, instance: old.map(|old| old.id), task });
        }
        allocations.sort_by_key(|allocation| allocation.site);
        gpus.push(GpuPlan { allocations });
    }
    Plan { generation: Generation(2), gpus }
}

/// What a plan has beyond pinned instances, as counts.
pub fn need(host: &Problem, shape: &Shape, plan: &Plan) -> Need {
    let mut need = Need::new();
    for (gpu, planned) in plan.gpus.iter().enumerate() {
        let pinned = |new: &Allocation| host.gpus[gpu].instances.iter().any(|old| old.pinned && old.site == new.site);
        for new in planned.allocations.iter().filter(|new| !pinned(new)) {
            if let Some(task) = new.task {
                *need.entry((task, shape.kind_of(gpu, new.site.profile))).or_insert(0) += 1;
            }
        }
    }
    need
}
