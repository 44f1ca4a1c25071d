//! What leaves and what arrives, with the seconds each part of it takes.

use migrator_mig::Site;

use super::{SiteKey, Target};
use crate::plan::Plan;
use crate::problem::{InstanceId, InstanceState, Problem, Task, TaskKind, TenantId};

/// What is done to one instance: its task and perhaps its existence end, or begin.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub gpu: usize,
    pub site: Site,
    /// The task that ends or begins, if any.
    pub task: Option<Task>,
    pub what: What,
    /// Jobs that must come before it in any order.
    pub needs: Vec<usize>,
    /// Of a retraining that moves: its other job.
    pub twin: Option<usize>,
    /// Requests/s that end or begin; 0 for a retraining.
    pub rps: f64,
    /// Compute slices that fall idle or to work.
    pub slices: f64,
}

/// Which of the two, and how long its parts take.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    /// Drain and release; then, if it is to go, destroy.
    Leave {
        instance: InstanceId,
        destroyed: bool,
        drain_s: f64,
        destroy_s: f64,
        /// When the workers of all who get its slices are staged: not to be drained before.
        heirs_s: f64,
    },
    /// If new, create; then bind and admit.
    Arrive {
        target: Target,
        create_s: f64,
        /// When its worker is staged.
        preload_s: f64,
        /// Bind and admit.
        settle_s: f64,
    },
}

/// All jobs of a transition, leaving ones first, and what the tenants have before and after.
#[derive(Clone, Debug)]
pub(super) struct Jobs {
    pub all: Vec<Job>,
    pub gpus: usize,
    /// Capacity before, requests/s by tenant.
    pub before: Vec<f64>,
    /// Capacity after, requests/s by tenant.
    pub after: Vec<f64>,
}

impl Job {
    pub fn leaves(&self) -> bool {
        matches!(self.what, What::Leave { .. })
    }

    /// The tenant whose requests are at stake.
    pub fn serves(&self) -> Option<TenantId> {
        self.task.filter(|task| task.kind == TaskKind::Inference).map(|task| task.tenant)
    }

    pub fn trains(&self) -> bool {
        self.task.is_some_and(|task| task.kind == TaskKind::Retraining)
    }

    /// Whether it makes an instance.
    pub fn creates(&self) -> bool {
        matches!(self.what, What::Arrive { target: Target::New(_), .. })
    }

    /// Whether the two cannot be on the GPU at once.
    pub fn overlaps(&self, other: &Job) -> bool {
        self.gpu == other.gpu && self.site.placement.overlaps(other.site.placement)
    }
}

impl Jobs {
    pub fn new(problem: &Problem, plan: &Plan) -> Jobs {
        let mut jobs = Jobs {
            all: Vec::new(),
            gpus: problem.gpus.len(),
            before: vec![0.0; problem.tenants.len()],
            after: vec![0.0; problem.tenants.len()],
        };
        jobs.leave(problem, plan);
        jobs.arrive(problem, plan);
        jobs.link();
        jobs
    }

    /// These jobs alone, with the tenants they are about; they need no others.
    pub fn part(&self, group: &[usize]) -> Jobs {
        let place = |old: &usize| group.iter().position(|index| index == old);
        let alone = |&index: &usize| {
            let job = self.all[index].clone();
            Job { needs: job.needs.iter().filter_map(place).collect(), twin: job.twin.as_ref().and_then(place), ..job }
        };
        let all: Vec<Job> = group.iter().map(alone).collect();
        let own = |sums: &[f64]| {
            let about = |tenant: usize| all.iter().any(|job| job.serves().is_some_and(|id| id.index() == tenant));
            sums.iter().enumerate().map(|(tenant, &rps)| if about(tenant) { rps } else { 0.0 }).collect::<Vec<f64>>()
        };
        Jobs { before: own(&self.before), after: own(&self.after), all, gpus: self.gpus }
    }

    fn leave(&mut self, problem: &Problem, plan: &Plan) {
        for (gpu, (state, target)) in problem.gpus.iter().zip(&plan.gpus).enumerate() {
            for old in &state.instances {
                add(&mut self.before, problem, gpu, old.site, old.task);
                let new = target.allocations.iter().find(|allocation| allocation.instance == Some(old.id));
                if new.is_none_or(|new| new.task != old.task && old.task.is_some()) {
                    self.all.push(leaving(problem, gpu, old, new.is_none()));
                }
            }
        }
    }

    fn arrive(&mut self, problem: &Problem, plan: &Plan) {
        for (gpu, (state, target)) in problem.gpus.iter().zip(&plan.gpus).enumerate() {
            for new in &target.allocations {
                add(&mut self.after, problem, gpu, new.site, new.task);
                let old = state.instances.iter().find(|old| Some(old.id) == new.instance);
                if old.is_none_or(|old| old.task != new.task && new.task.is_some()) {
                    let made = Target::New(SiteKey { gpu, site: new.site });
                    self.all.push(arriving(problem, gpu, new.site, new.instance.map_or(made, Target::Existing), new.task));
                }
            }
        }
    }

    fn link(&mut self) {
        for index in 0..self.all.len() {
            let job = &self.all[index];
            if job.leaves() {
                let staged = |heir: &Job| match heir.what {
                    What::Arrive { preload_s, .. } if heir.overlaps(job) => preload_s,
                    _ => 0.0,
                };
                let ready_s = self.all.iter().map(staged).fold(0.0, f64::max);
                if let What::Leave { heirs_s, .. } = &mut self.all[index].what {
                    *heirs_s = ready_s;
                }
            } else {
                // Its slices must be clear.
                let needed = |old: &Job| old.leaves() && old.overlaps(job);
                let needs = (0..self.all.len()).filter(|&other| needed(&self.all[other])).collect();
                let twin = (0..self.all.len()).find(|&other| job.trains() && self.all[other].leaves() && self.all[other].task == job.task);
                self.all[index].twin = twin;
                self.all[index].needs = needs;
                if let Some(twin) = twin {
                    self.all[twin].twin = Some(index);
                }
            }
        }
    }
}

fn add(sums: &mut [f64], problem: &Problem, gpu: usize, site: Site, task: Option<Task>) {
    if let Some(Task { tenant, kind: TaskKind::Inference }) = task
        && let Some(sum) = sums.get_mut(tenant.index())
    {
        *sum += rate(problem, gpu, site, tenant);
    }
}

/// Requests/s, finite and not negative whatever the problem says.
fn rate(problem: &Problem, gpu: usize, site: Site, tenant: TenantId) -> f64 {
    let rps = problem.gpus.get(gpu).map_or(0.0, |state| problem.rate(tenant, state.model, site.profile));
    if rps.is_finite() { rps.max(0.0) } else { 0.0 }
}

fn leaving(problem: &Problem, gpu: usize, old: &InstanceState, destroyed: bool) -> Job {
    let of = problem.gpus.get(gpu).and_then(|state| problem.models.get(state.model));
    let destroy_s = of.and_then(|of| of.destroy_s.get(old.site.profile.index())).copied().unwrap_or(0.0);
    let drain_s = if old.task.is_some() { problem.costs.drain_s } else { 0.0 };
    let what = What::Leave { instance: old.id, destroyed, drain_s, destroy_s, heirs_s: 0.0 };
    job(problem, gpu, old.site, old.task, what)
}

fn arriving(problem: &Problem, gpu: usize, site: Site, target: Target, task: Option<Task>) -> Job {
    let of = problem.gpus.get(gpu).and_then(|state| problem.models.get(state.model));
    let create_s = of.and_then(|of| of.create_s.get(site.profile.index())).copied().unwrap_or(0.0);
    let own_s = task.map_or(0.0, |task| own_s(problem, task));
    let (preload_s, settle_s) = if problem.costs.preload { (own_s, problem.costs.handover_s) } else { (0.0, own_s) };
    let settle_s = if task.is_some() { settle_s } else { 0.0 };
    job(problem, gpu, site, task, What::Arrive { target, create_s, preload_s, settle_s })
}

fn own_s(problem: &Problem, task: Task) -> f64 {
    let Some(tenant) = problem.tenants.get(task.tenant.index()) else { return 0.0 };
    match task.kind {
        TaskKind::Inference => tenant.load_s,
        TaskKind::Retraining => tenant.retraining.as_ref().map_or(0.0, |due| due.restore_s),
    }
}

fn job(problem: &Problem, gpu: usize, site: Site, task: Option<Task>, what: What) -> Job {
    let of = problem.gpus.get(gpu).and_then(|state| problem.models.get(state.model));
    let slices = of.and_then(|of| of.catalog.profiles.get(site.profile.index())).map_or(0.0, |profile| f64::from(profile.compute_slices));
    let serves = task.filter(|task| task.kind == TaskKind::Inference);
    let rps = serves.map_or(0.0, |task| rate(problem, gpu, site, task.tenant));
    Job { gpu, site, task, what, needs: Vec::new(), twin: None, rps, slices: if task.is_some() { slices } else { 0.0 } }
}
