//! The GPUs: instances, what is bound to each, and the workers made ready for what comes.

use std::collections::BTreeMap;

use migrator_mig::Site;
use migrator_solver::{InstanceId, InstanceState, Target, Task, TaskKind};

use crate::setup::{FaultKind, Setup};

/// Everything on the GPUs.
#[derive(Debug)]
pub(crate) struct Host {
    pub instances: BTreeMap<InstanceId, Made>,
    pub bound: BTreeMap<InstanceId, Bound>,
    /// Workers in the staging area, and the version that they have loaded.
    pub staged: BTreeMap<(Target, Task), u32>,
    /// Tenants whose first worker, loaded before the first plan, nobody took yet.
    pub stash: Vec<bool>,
    /// Restarts in a row of an instance's worker.
    pub restarts: BTreeMap<InstanceId, u32>,
    /// Calls that are to fail, by GPU.
    pub failing: Vec<Failing>,
    /// Solves that are to fail.
    pub failing_solves: u32,
    instances_made: u64,
    workers_made: u64,
}

/// An instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Made {
    pub gpu: usize,
    pub site: Site,
}

/// A worker on its instance.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub task: Task,
    pub worker: u64,
    pub version: u32,
    pub state: BoundState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BoundState {
    /// Not admitted yet.
    Loading,
    /// Admitted.
    Serving,
    /// Gets no new work.
    Draining,
    /// Its worker died; another one is being started.
    Lost,
}

/// Device calls of one GPU that are to fail.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Failing {
    pub creates: u32,
    pub destroys: u32,
}

impl Host {
    /// Empty GPUs; each tenant that fits somewhere has one loaded worker, as after the server has measured its curve.
    pub fn new(setup: &Setup) -> Host {
        let fits = |tenant: &crate::setup::TenantSetup| (0..tenant.speed.len()).any(|profile| tenant.fits(profile));
        Host {
            instances: BTreeMap::new(),
            bound: BTreeMap::new(),
            staged: BTreeMap::new(),
            stash: setup.tenants.iter().map(fits).collect(),
            restarts: BTreeMap::new(),
            failing: vec![Failing::default(); setup.gpus.len()],
            failing_solves: 0,
            instances_made: 0,
            workers_made: 0,
        }
    }

    /// A new instance; an error names the one that is in its way.
    pub fn make(&mut self, gpu: usize, site: Site) -> Result<InstanceId, String> {
        let overlaps = |made: &Made| made.gpu == gpu && made.site.placement.overlaps(site.placement);
        if let Some((id, made)) = self.instances.iter().find(|(_, made)| overlaps(made)) {
            return Err(format!("{site:?} on GPU {gpu} overlaps instance {} at {:?}", id.0, made.site));
        }
        self.instances_made += 1;
        let id = InstanceId(self.instances_made);
        self.instances.insert(id, Made { gpu, site });
        Ok(id)
    }

    /// A worker is on its instance and not admitted yet.
    pub fn bind(&mut self, instance: InstanceId, task: Task, version: u32) {
        self.workers_made += 1;
        self.bound.insert(instance, Bound { task, worker: self.workers_made, version, state: BoundState::Loading });
    }

    /// The worker that is loaded already, if this task's first start is now; `version` is the newest.
    pub fn take_stashed(&mut self, task: Task, version: u32) -> bool {
        let stashed = task.kind == TaskKind::Inference && self.stash.get(task.tenant.index()).copied().unwrap_or(false);
        if stashed {
            self.stash[task.tenant.index()] = false;
        }
        stashed && version == 1
    }

    /// What the planner is told of a GPU, by start.
    pub fn inventory(&self, gpu: usize) -> Vec<InstanceState> {
        let state = |(&id, made): (&InstanceId, &Made)| {
            let bound = self.bound.get(&id);
            let coming = bound.is_some_and(|bound| matches!(bound.state, BoundState::Lost | BoundState::Loading));
            InstanceState {
                id,
                site: made.site,
                task: bound.map(|bound| bound.task),
                ready_in_s: if coming { 1.0 } else { 0.0 },
                pinned: false,
            }
        };
        let mut states: Vec<InstanceState> = self.instances.iter().filter(|(_, made)| made.gpu == gpu).map(state).collect();
        states.sort_by_key(|state| state.site);
        states
    }

    /// Instances on which a task's worker takes work.
    pub fn serving(&self, task: Task) -> Vec<InstanceId> {
        let serves = |bound: &Bound| bound.task == task && bound.state == BoundState::Serving;
        self.bound.iter().filter(|(_, bound)| serves(bound)).map(|(&id, _)| id).collect()
    }

    /// The next calls fail.
    pub fn fail(&mut self, kind: FaultKind) {
        match kind {
            FaultKind::CreateFails { gpu, times } => {
                if let Some(failing) = self.failing.get_mut(gpu) {
                    failing.creates += times;
                }
            }
            FaultKind::DestroyInUse { gpu, times } => {
                if let Some(failing) = self.failing.get_mut(gpu) {
                    failing.destroys += times;
                }
            }
            FaultKind::SolveFails { times } => self.failing_solves += times,
            FaultKind::WorkerDies { .. } => {}
        }
    }
}

/// Takes one off a count of calls that are to fail; whether there was one.
pub(crate) fn fails(count: &mut u32) -> bool {
    let fails = *count > 0;
    *count = count.saturating_sub(1);
    fails
}
