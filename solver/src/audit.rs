//! Defects of a plan, numbered; a plan with any is not executed.

use std::collections::BTreeSet;

use migrator_mig::Site;
use serde::{Deserialize, Serialize};

use crate::plan::{Allocation, Generation, GpuPlan, Plan};
use crate::problem::{GpuState, InstanceId, InstanceState, Problem, Task, TaskKind};

/// What is wrong with a plan. [`Defect::id`] numbers them for metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Defect {
    /// (A1) One entry per GPU.
    #[error("A1: the plan has {found} GPUs, the host {expected}")]
    GpuCount {
        /// GPUs of the problem.
        expected: usize,
        /// GPUs of the plan.
        found: usize,
    },
    /// (A2) Every site is among the catalog's placements.
    #[error("A2: GPU {gpu}: no profile may lie at {site:?}")]
    UnknownSite {
        /// Index of the GPU.
        gpu: usize,
        /// The site.
        site: Site,
    },
    /// (A3) No two allocations share a memory slice.
    #[error("A3: GPU {gpu}: {first:?} and {second:?} overlap")]
    Overlap {
        /// Index of the GPU.
        gpu: usize,
        /// One site.
        first: Site,
        /// The other.
        second: Site,
    },
    /// (A4) A named instance exists on that GPU.
    #[error("A4: GPU {gpu}: instance {instance:?} does not exist there")]
    UnknownInstance {
        /// Index of the GPU.
        gpu: usize,
        /// The instance.
        instance: InstanceId,
    },
    /// (A5) An instance can neither move nor grow.
    #[error("A5: GPU {gpu}: instance {instance:?} is at {from:?} and cannot become {to:?}")]
    Moved {
        /// Index of the GPU.
        gpu: usize,
        /// The instance.
        instance: InstanceId,
        /// Where it is.
        from: Site,
        /// Where the plan puts it.
        to: Site,
    },
    /// (A6) An instance is allocated once.
    #[error("A6: instance {instance:?} is allocated twice")]
    InstanceTwice {
        /// The instance.
        instance: InstanceId,
    },
    /// (A7) A site that exists already is not created again: the allocation must name its instance.
    #[error("A7: GPU {gpu}: {site:?} exists already as {instance:?}; the plan would create it anew")]
    Recreated {
        /// Index of the GPU.
        gpu: usize,
        /// The site.
        site: Site,
        /// The instance there.
        instance: InstanceId,
    },
    /// (A8) A task is of a known tenant.
    #[error("A8: GPU {gpu}: {task} is of an unknown tenant")]
    UnknownTenant {
        /// Index of the GPU.
        gpu: usize,
        /// The task.
        task: Task,
    },
    /// (A9) A tenant retrains on one instance at most.
    #[error("A9: {task} is allocated more than once")]
    RetrainingTwice {
        /// The task.
        task: Task,
    },
    /// (A10) A retraining that is placed anew is due.
    #[error("A10: GPU {gpu}: {task} is not due")]
    RetrainingNotDue {
        /// Index of the GPU.
        gpu: usize,
        /// The task.
        task: Task,
    },
    /// (A11) A task that is placed anew fits the profile.
    #[error("A11: GPU {gpu}: {task} does not fit {site:?}")]
    DoesNotFit {
        /// Index of the GPU.
        gpu: usize,
        /// The task.
        task: Task,
        /// The site.
        site: Site,
    },
    /// (A12) Allocations are listed by start.
    #[error("A12: GPU {gpu}: allocations are not listed by start")]
    Unsorted {
        /// Index of the GPU.
        gpu: usize,
    },
    /// (A14) What is pinned stays, task included.
    #[error("A14: GPU {gpu}: instance {instance:?} is pinned")]
    Pinned {
        /// Index of the GPU.
        gpu: usize,
        /// The instance.
        instance: InstanceId,
    },
    /// (A13) Generations increase.
    #[error("A13: generation {found:?} follows {previous:?}")]
    GenerationRegress {
        /// The generation in force.
        previous: Generation,
        /// The plan's.
        found: Generation,
    },
}

/// Defects of `plan` as an answer to `problem`, in the order of the plan; empty = may be executed.
pub fn audit(problem: &Problem, plan: &Plan) -> Vec<Defect> {
    let mut defects = Vec::new();
    if plan.gpus.len() != problem.gpus.len() {
        defects.push(Defect::GpuCount { expected: problem.gpus.len(), found: plan.gpus.len() });
    }
    for (gpu, (state, target)) in problem.gpus.iter().zip(&plan.gpus).enumerate() {
        audit_sites(problem, gpu, target, &mut defects);
        for allocation in &target.allocations {
            audit_instance(gpu, state, allocation, &mut defects);
            audit_task(problem, gpu, state, allocation, &mut defects);
        }
        let stays = |old: &InstanceState| target.allocations.iter().any(|new| new.instance == Some(old.id) && new.task == old.task);
        let moved = state.instances.iter().filter(|old| old.pinned && !stays(old));
        defects.extend(moved.map(|old| Defect::Pinned { gpu, instance: old.id }));
    }
    audit_uniqueness(plan, &mut defects);
    defects
}

/// [`audit`], and (A13) the plan's generation must be above `in_force`.
pub fn audit_after(problem: &Problem, in_force: Generation, plan: &Plan) -> Vec<Defect> {
    let mut defects = audit(problem, plan);
    if plan.generation <= in_force {
        defects.push(Defect::GenerationRegress { previous: in_force, found: plan.generation });
    }
    defects
}

fn audit_sites(problem: &Problem, gpu: usize, target: &GpuPlan, defects: &mut Vec<Defect>) {
    let possible = problem.models.get(problem.gpus[gpu].model).map_or_else(Vec::new, |model| model.catalog.sites());
    let sites: Vec<Site> = target.allocations.iter().map(|allocation| allocation.site).collect();
    defects.extend(sites.iter().filter(|site| !possible.contains(site)).map(|&site| Defect::UnknownSite { gpu, site }));
    if !sites.is_sorted() {
        defects.push(Defect::Unsorted { gpu });
    }
    for (index, &first) in sites.iter().enumerate() {
        let clash = |&&second: &&Site| overlap(first, second);
        defects.extend(sites[index + 1..].iter().filter(clash).map(|&second| Defect::Overlap { gpu, first, second }));
    }
}

/// In wide numbers: a plan from elsewhere may name slices whose end does not fit its type.
fn overlap(first: Site, second: Site) -> bool {
    let end = |site: Site| u16::from(site.placement.start) + u16::from(site.placement.size);
    u16::from(first.placement.start) < end(second) && u16::from(second.placement.start) < end(first)
}

fn audit_instance(gpu: usize, state: &GpuState, allocation: &Allocation, defects: &mut Vec<Defect>) {
    let site = allocation.site;
    match allocation.instance {
        Some(instance) => match state.instances.iter().find(|found| found.id == instance) {
            None => defects.push(Defect::UnknownInstance { gpu, instance }),
            Some(found) if found.site != site => defects.push(Defect::Moved { gpu, instance, from: found.site, to: site }),
            Some(_) => {}
        },
        None => {
            if let Some(found) = state.instances.iter().find(|found| found.site == site) {
                defects.push(Defect::Recreated { gpu, site, instance: found.id });
            }
        }
    }
}

fn audit_task(problem: &Problem, gpu: usize, state: &GpuState, allocation: &Allocation, defects: &mut Vec<Defect>) {
    let Allocation { site, instance, task: Some(task) } = *allocation else { return };
    let Some(tenant) = problem.tenants.get(task.tenant.index()) else {
        defects.push(Defect::UnknownTenant { gpu, task });
        return;
    };
    // What runs already may stay, even when its measured curve has meanwhile lost that profile.
    if state.instances.iter().any(|found| Some(found.id) == instance && found.task == Some(task)) {
        return;
    }
    let fits = match (task.kind, &tenant.retraining) {
        (TaskKind::Inference, _) => problem.rate(task.tenant, state.model, site.profile) > 0.0,
        (TaskKind::Retraining, Some(_)) => problem.work_s(task.tenant, state.model, site.profile).is_some(),
        (TaskKind::Retraining, None) => {
            defects.push(Defect::RetrainingNotDue { gpu, task });
            return;
        }
    };
    if !fits {
        defects.push(Defect::DoesNotFit { gpu, task, site });
    }
}

fn audit_uniqueness(plan: &Plan, defects: &mut Vec<Defect>) {
    let (mut instances, mut retrainings) = (BTreeSet::new(), BTreeSet::new());
    for allocation in plan.gpus.iter().flat_map(|gpu| &gpu.allocations) {
        if let Some(instance) = allocation.instance.filter(|&instance| !instances.insert(instance)) {
            defects.push(Defect::InstanceTwice { instance });
        }
        let retraining = allocation.task.filter(|task| task.kind == TaskKind::Retraining);
        if let Some(task) = retraining.filter(|&task| !retrainings.insert(task)) {
            defects.push(Defect::RetrainingTwice { task });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use migrator_mig::{Placement, ProfileId};

    use crate::problem::{RetrainingState, TenantId};
    use crate::solve::keep;
    use crate::testing::{instance, problem, site, tenant};

    const INFER: Task = Task { tenant: TenantId(0), kind: TaskKind::Inference };
    const RETRAIN: Task = Task { tenant: TenantId(0), kind: TaskKind::Retraining };

    fn host() -> Problem {
        let mut problem = problem(vec![tenant("vision", 40.0)]);
        problem.gpus[0].instances = vec![instance(1, 2, 0, Some(INFER)), instance(2, 2, 4, None)];
        problem
    }

    fn ids(allocations: Vec<Allocation>) -> Vec<String> {
        let plan = Plan { generation: Generation(2), gpus: vec![GpuPlan { allocations }] };
        audit(&host(), &plan).iter().map(|defect| defect.to_string().split(':').next().unwrap_or("").to_owned()).collect()
    }

    fn at(profile: u8, start: u8, instance: Option<u64>, task: Option<Task>) -> Allocation {
        Allocation { site: site(profile, start), instance: instance.map(InstanceId), task }
    }

    #[test]
    fn keeping_everything_has_no_defects() {
        assert_eq!(audit(&host(), &keep(&host(), Generation(3))), Vec::new());
    }

    #[test]
    fn every_defect_is_found_by_its_number() {
        assert_eq!(ids(vec![at(1, 1, None, None)]), ["A2"]);
        assert_eq!(ids(vec![at(3, 0, None, None), at(0, 3, None, None)]), ["A3"]);
        assert_eq!(ids(vec![at(0, 0, Some(9), None)]), ["A4"]);
        assert_eq!(ids(vec![at(2, 4, Some(1), None)]), ["A5"]);
        assert_eq!(ids(vec![at(2, 0, Some(1), None), at(2, 4, Some(1), None)]), ["A5", "A6"]);
        assert_eq!(ids(vec![at(2, 0, None, None)]), ["A7"]);
        let stranger = Task::inference(TenantId(7));
        assert_eq!(ids(vec![at(2, 0, Some(1), Some(stranger))]), ["A8"]);
        assert_eq!(ids(vec![at(0, 0, None, Some(RETRAIN))]), ["A10"]);
        assert_eq!(ids(vec![at(2, 4, Some(2), None), at(2, 0, Some(1), None)]), ["A12"]);
    }

    #[test]
    fn a_task_must_fit_and_a_retraining_runs_once() {
        let mut problem = host();
        problem.tenants[0].retraining = Some(RetrainingState {
            seconds_left: vec![vec![-1.0, 50.0, 40.0, 30.0, 20.0]],
            accuracy_after: 0.9,
            restore_s: 1.0,
            memory_mib: 0,
        });
        let plan = |allocations| Plan { generation: Generation(2), gpus: vec![GpuPlan { allocations }] };
        let small = plan(vec![at(0, 0, None, Some(RETRAIN))]);
        assert!(matches!(audit(&problem, &small)[..], [Defect::DoesNotFit { .. }]));
        let twice = plan(vec![at(2, 0, Some(1), Some(RETRAIN)), at(2, 4, Some(2), Some(RETRAIN))]);
        assert!(matches!(audit(&problem, &twice)[..], [Defect::RetrainingTwice { .. }]));
    }

    #[test]
    fn what_is_pinned_stays_with_its_task_and_its_retraining_runs_nowhere_else() {
        let mut problem = host();
        problem.tenants[0].retraining = crate::testing::due(60.0, 0.9);
        problem.gpus[0].instances[1].task = Some(RETRAIN);
        problem.gpus[0].instances[1].pinned = true;
        let found = |allocations| {
            let plan = Plan { generation: Generation(2), gpus: vec![GpuPlan { allocations }] };
            audit(&problem, &plan).iter().map(|defect| defect.to_string()[..3].trim_end_matches(':').to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(found(vec![at(2, 0, Some(1), Some(INFER)), at(2, 4, Some(2), Some(RETRAIN))]), Vec::<String>::new());
        assert_eq!(found(vec![at(2, 0, Some(1), Some(INFER))]), ["A14"], "destroyed");
        assert_eq!(found(vec![at(2, 4, Some(2), Some(INFER))]), ["A14"], "handed over");
        assert_eq!(found(vec![at(2, 4, Some(2), None)]), ["A14"], "released");
        assert_eq!(found(vec![at(1, 4, None, Some(INFER))]), ["A14"], "cut over");
        assert_eq!(found(vec![at(2, 0, Some(1), Some(RETRAIN)), at(2, 4, Some(2), Some(RETRAIN))]), ["A9"]);
    }

    #[test]
    fn each_gpu_is_judged_by_its_own_model_and_memory() {
        let mut problem = host();
        problem.models.push(crate::GpuModel {
            catalog: migrator_mig::Catalog::four_slices("A30", 24 * 1024),
            create_s: vec![0.1; 3],
            destroy_s: vec![0.1; 3],
        });
        problem.gpus.push(GpuState { model: 1, instances: Vec::new() });
        problem.tenants[0].capacity_rps.push(vec![5.0, 9.0, 17.0]);
        problem.tenants[0].memory_mib = 11 * 1024;
        let found = |site: Site| {
            let second = Allocation { site, instance: None, task: Some(INFER) };
            let gpus = vec![keep(&problem, Generation(2)).gpus[0].clone(), GpuPlan { allocations: vec![second] }];
            audit(&problem, &Plan { generation: Generation(2), gpus })
        };
        let on = |profile: u8, start: u8, size: u8| Site { placement: Placement { start, size }, profile: ProfileId(profile) };
        assert_eq!(found(on(1, 2, 2)), Vec::new(), "12 GiB hold 11");
        assert!(matches!(found(on(0, 2, 1))[..], [Defect::DoesNotFit { gpu: 1, .. }]), "6 GiB do not");
        assert!(matches!(found(on(2, 0, 4))[..], []), "4g.24gb");
        assert!(matches!(found(on(2, 4, 4))[..], [Defect::UnknownSite { gpu: 1, .. }]), "3g@4 of the other model");
    }

    #[test]
    fn a_plan_for_another_host_or_of_an_old_generation_is_refused() {
        let plan = Plan { generation: Generation(2), gpus: Vec::new() };
        assert!(matches!(audit(&host(), &plan)[..], [Defect::GpuCount { expected: 1, found: 0 }]));
        let defects = audit_after(&host(), Generation(2), &keep(&host(), Generation(2)));
        assert!(matches!(defects[..], [Defect::GenerationRegress { .. }]));
    }
}
