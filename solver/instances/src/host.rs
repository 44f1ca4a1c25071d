//! The GPUs of a simulated host: instances, and the transition that is under way on them, in fluid time.

use migrator_mig::Site;
use migrator_solver::{InstanceId, InstanceState, Plan, Problem, Step, Target, Task, TaskKind, Transition, transition};

/// An instance on the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Index of the GPU.
    pub gpu: usize,
    /// Its identity.
    pub id: InstanceId,
    /// Where.
    pub site: Site,
    /// Its task.
    pub task: Option<Task>,
    /// Second at which the task is admitted.
    pub ready_s: f64,
    /// Second from which the task gets no new work; infinite = it stays.
    pub stop_s: f64,
    /// Second from which it can be seen: its creation or binding has begun.
    seen_s: f64,
    /// Second at which it is gone or handed over; infinite = it stays.
    gone_s: f64,
    /// Whether it is destroyed then, rather than handed over.
    destroyed: bool,
}

/// How plans are carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Execution {
    /// By the transition's steps, at their sites.
    Placed,
    /// As if instances had no sites: what stays in number stays in service. The measure of what placement costs.
    Counted,
}

/// The GPUs.
#[derive(Clone, Debug)]
pub struct Host {
    execution: Execution,
    running: Vec<Running>,
    next: u64,
    target: Option<Plan>,
    /// Second at which the last step of the transition under way is done.
    pub done_s: f64,
    /// Inference or retraining instances that were started.
    pub starts: u32,
    /// Transitions that were begun.
    pub transitions: u32,
}

impl Host {
    /// Empty GPUs.
    pub fn new(execution: Execution) -> Host {
        Host { execution, running: Vec::new(), next: 0, target: None, done_s: 0.0, starts: 0, transitions: 0 }
    }

    /// What a planner sees at `now_s`: by GPU, by start.
    pub fn instances(&self, gpus: usize, now_s: f64) -> Vec<Vec<InstanceState>> {
        let mut seen = vec![Vec::new(); gpus];
        for one in self.running.iter().filter(|one| one.seen_s <= now_s && one.gone_s > now_s && !(one.destroyed && one.stop_s <= now_s)) {
            let task = one.task.filter(|_| one.stop_s > now_s);
            let ready_in_s = if task.is_some() { (one.ready_s - now_s).max(0.0) } else { 0.0 };
            seen[one.gpu].push(InstanceState { id: one.id, site: one.site, task, ready_in_s, pinned: false });
        }
        seen.iter_mut().for_each(|instances| instances.sort_by_key(|instance| instance.site));
        seen
    }

    /// Puts `plan` in force at once, everything ready: the state before the first second.
    pub fn install(&mut self, plan: &Plan) {
        self.running.clear();
        for (gpu, target) in plan.gpus.iter().enumerate() {
            for new in &target.allocations {
                let id = self.fresh();
                self.running.push(Running::new(gpu, id, new.site, new.task, f64::NEG_INFINITY, f64::NEG_INFINITY));
            }
        }
    }

    /// Begins the transition from `problem` (made of [`Host::instances`] at `now_s`) to `plan`; whatever of an earlier one has not
    /// begun by then is given up, unless it leads to the same.
    pub fn begin(&mut self, problem: &Problem, plan: &Plan, now_s: f64) {
        if now_s < self.done_s && self.target.as_ref().is_some_and(|target| same(target, plan)) {
            return;
        }
        let steps = transition(problem, plan);
        if steps.is_empty() && self.execution == Execution::Placed && now_s >= self.done_s {
            return;
        }
        self.transitions += u32::from(!steps.is_empty());
        self.settle(now_s);
        match self.execution {
            Execution::Placed => self.place(problem, &steps, now_s),
            Execution::Counted => self.count(problem, plan, now_s),
        }
        self.target = Some(plan.clone());
    }

    fn fresh(&mut self) -> InstanceId {
        self.next += 1;
        InstanceId(self.next)
    }

    /// Fixes what has happened by `now_s` and forgets the rest of the transition.
    fn settle(&mut self, now_s: f64) {
        self.running.retain(|one| one.seen_s <= now_s && one.gone_s > now_s && !(one.destroyed && one.stop_s <= now_s));
        for one in &mut self.running {
            if one.stop_s <= now_s {
                (one.task, one.ready_s) = (None, now_s);
            }
            (one.stop_s, one.gone_s, one.destroyed) = (f64::INFINITY, f64::INFINITY, false);
        }
    }

    fn place(&mut self, problem: &Problem, steps: &Transition, now_s: f64) {
        let times = step_times(problem, steps);
        self.done_s = times.iter().map(|(_, end)| now_s + end).fold(now_s, f64::max);
        for (planned, &(from, to)) in steps.steps.iter().zip(&times) {
            let (from_s, to_s) = (now_s + from, now_s + to);
            match planned.step {
                Step::Drain { instance, .. } => self.each(instance, |one| one.stop_s = one.stop_s.min(from_s)),
                Step::Destroy { instance, .. } => self.each(instance, |one| {
                    (one.stop_s, one.gone_s, one.destroyed) = (one.stop_s.min(from_s), to_s, true);
                }),
                Step::Create { key } => {
                    let id = self.fresh();
                    self.running.push(Running::new(key.gpu, id, key.site, None, f64::INFINITY, from_s));
                }
                Step::Bind { target, task } => self.bind(target, task, from_s),
                Step::Admit { target, task } => self.admit(target, task, to_s),
                Step::Release { .. } | Step::Preload { .. } => {}
            }
        }
    }

    fn each(&mut self, id: InstanceId, change: impl FnMut(&mut Running)) {
        self.running.iter_mut().filter(|one| one.id == id).for_each(change);
    }

    fn bind(&mut self, target: Target, task: Task, from_s: f64) {
        self.starts += 1;
        match target {
            Target::New(key) => {
                let new = self.running.iter_mut().rev().find(|one| one.gpu == key.gpu && one.site == key.site && one.gone_s.is_infinite());
                if let Some(one) = new {
                    one.task = Some(task);
                }
            }
            Target::Existing(id) => {
                // The heir takes the owner's place; until then the owner is seen.
                let Some(old) = self.running.iter_mut().find(|one| one.id == id) else { return };
                old.gone_s = old.gone_s.min(from_s);
                let (gpu, site) = (old.gpu, old.site);
                self.running.push(Running::new(gpu, id, site, Some(task), f64::INFINITY, from_s));
            }
        }
    }

    fn admit(&mut self, target: Target, task: Task, at_s: f64) {
        let hit = |one: &&mut Running| {
            let there = match target {
                Target::New(key) => one.gpu == key.gpu && one.site == key.site,
                Target::Existing(id) => one.id == id,
            };
            there && one.task == Some(task) && one.ready_s == f64::INFINITY
        };
        if let Some(one) = self.running.iter_mut().find(hit) {
            one.ready_s = at_s;
        }
    }

    /// Sites are taken from the plan, service from the counts: of each task's instances by profile, as many as before stay ready.
    fn count(&mut self, problem: &Problem, plan: &Plan, now_s: f64) {
        let mut before = std::mem::take(&mut self.running);
        let costs = &problem.costs;
        for (gpu, target) in plan.gpus.iter().enumerate() {
            let model = &problem.models[problem.gpus[gpu].model];
            for new in &target.allocations {
                let kept = |one: &Running| {
                    one.task == new.task && one.site.profile == new.site.profile && problem.gpus[one.gpu].model == problem.gpus[gpu].model
                };
                let ready: Option<usize> =
                    (0..before.len()).filter(|&i| kept(&before[i])).min_by(|&a, &b| before[a].ready_s.total_cmp(&before[b].ready_s));
                let at_s = match (ready, new.task) {
                    (Some(index), _) => before.swap_remove(index).ready_s,
                    (None, None) => now_s,
                    (None, Some(task)) => {
                        self.starts += 1;
                        let q = new.site.profile.index();
                        let settle_s = if costs.preload { costs.handover_s } else { own_s(problem, task) };
                        now_s + costs.drain_s + model.destroy_s[q] + model.create_s[q] + settle_s
                    }
                };
                let id = self.fresh();
                self.running.push(Running::new(gpu, id, new.site, new.task, at_s, f64::NEG_INFINITY));
            }
        }
        self.done_s = now_s;
    }

    /// Ends a retraining: its instance has no task from `at_s` on.
    pub fn finish(&mut self, task: Task, at_s: f64) {
        for one in self.running.iter_mut().filter(|one| one.task == Some(task)) {
            one.stop_s = one.stop_s.min(at_s);
        }
    }

    /// Instances that work for `task` within `[from_s, to_s)`: the GPU, the site, and the seconds from when to when.
    pub fn working(&self, from_s: f64, to_s: f64) -> impl Iterator<Item = (&Running, f64, f64)> + '_ {
        let clip = move |one: &Running| (one.ready_s.max(from_s), one.stop_s.min(one.gone_s).min(to_s));
        self.running
            .iter()
            .filter(|one| one.task.is_some())
            .map(move |one| (one, clip(one)))
            .filter(|(_, (a, b))| b > a)
            .map(|(one, (a, b))| (one, a, b))
    }
}

impl Running {
    fn new(gpu: usize, id: InstanceId, site: Site, task: Option<Task>, ready_s: f64, seen_s: f64) -> Running {
        Running { gpu, id, site, task, ready_s, stop_s: f64::INFINITY, seen_s, gone_s: f64::INFINITY, destroyed: false }
    }
}

fn same(a: &Plan, b: &Plan) -> bool {
    let tasks = |plan: &Plan| -> Vec<Vec<(Site, Option<Task>)>> {
        plan.gpus.iter().map(|gpu| gpu.allocations.iter().map(|new| (new.site, new.task)).collect()).collect()
    };
    tasks(a) == tasks(b)
}

fn own_s(problem: &Problem, task: Task) -> f64 {
    let tenant = &problem.tenants[task.tenant.index()];
    match task.kind {
        TaskKind::Inference => tenant.load_s,
        TaskKind::Retraining => tenant.retraining.as_ref().map_or(0.0, |due| due.restore_s),
    }
}

/// When each step begins and ends, seconds from the start: as soon as its predecessors are done, device operations of one GPU one
/// after the other.
fn step_times(problem: &Problem, transition: &Transition) -> Vec<(f64, f64)> {
    let mut times: Vec<(f64, f64)> = Vec::new();
    let mut device = vec![0.0f64; problem.gpus.len()];
    let costs = &problem.costs;
    for planned in &transition.steps {
        let ready = planned.after.iter().map(|&id| times[id].1).fold(0.0, f64::max);
        let mut on_device = |gpu: usize, takes: f64| {
            let from = ready.max(device[gpu]);
            device[gpu] = from + takes;
            (from, from + takes)
        };
        times.push(match planned.step {
            Step::Drain { .. } => (ready, ready + costs.drain_s),
            Step::Release { .. } | Step::Admit { .. } => (ready, ready),
            Step::Destroy { gpu, site, .. } => on_device(gpu, problem.models[problem.gpus[gpu].model].destroy_s[site.profile.index()]),
            Step::Create { key } => on_device(key.gpu, problem.models[problem.gpus[key.gpu].model].create_s[key.site.profile.index()]),
            Step::Preload { task, .. } => (ready, ready + own_s(problem, task)),
            Step::Bind { task, .. } => (ready, ready + if costs.preload { costs.handover_s } else { own_s(problem, task) }),
        });
    }
    times
}
