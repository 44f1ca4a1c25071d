//! What a plan is worth, second by second, transition losses included: the one evaluation that all candidates are compared by.

use migrator_mig::{ProfileId, Site};

use crate::plan::{Allocation, Plan};
use crate::problem::{InstanceState, Task, TaskKind, TenantId};
use crate::shape::Shape;
use crate::view::View;

/// Service that starting an instance is charged beyond what it loses, in seconds of its capacity: every change carries a risk
/// that the model knows nothing of, so equal plans must not be swapped for each other.
pub(crate) const START_CHARGE_S: f64 = 0.25;

/// Instance counts per time block, positions ignored: what the integer program decides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counts {
    /// Inference instances by block, tenant and profile.
    pub inference: Vec<Vec<Vec<u32>>>,
    /// Where and in which block each tenant's retraining starts; block 0 includes "goes on".
    pub retraining: Vec<Option<(ProfileId, usize)>>,
}

/// A tenant under a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct TenantValue {
    /// Answers on time, weighted by nothing.
    pub on_time: f64,
    /// Arrivals over the horizon.
    pub arrivals: f64,
    /// Weighted answers on time and expected to be correct, what lies beyond the horizon included.
    pub goodput: f64,
    /// Those of the horizon itself, without weight.
    pub correct: f64,
    /// Mean expected accuracy over the horizon.
    pub accuracy: f64,
    /// Profile and end of its retraining, seconds from now.
    pub retraining: Option<(ProfileId, f64)>,
    charge: f64,
}

/// Worth of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Value {
    pub tenants: Vec<TenantValue>,
    /// Weighted goodput, requests.
    pub goodput: f64,
    /// Goodput less the charges for starts and missing floors: what is compared.
    pub score: f64,
}

/// Values `plan`, held to the horizon or, with `future`, followed by its blocks 1 and later.
pub(crate) fn value(view: &View, shape: &Shape, plan: &Plan, future: Option<&Counts>) -> Value {
    staged_value(view, shape, plan, future, true)
}

/// Values keeping everything for one block and following the counts then: nothing has been preloaded by that time.
pub(crate) fn wait_value(view: &View, shape: &Shape, keep: &Plan, future: &Counts) -> Value {
    staged_value(view, shape, keep, Some(future), false)
}

fn staged_value(view: &View, shape: &Shape, plan: &Plan, future: Option<&Counts>, staged: bool) -> Value {
    let mut evaluation = Evaluation::new(view, future.map_or(view.horizon, |_| view.ends[0]));
    evaluation.staged = staged;
    evaluation.now(plan);
    if let Some(counts) = future {
        evaluation.later(shape, plan, counts);
    }
    evaluation.finish()
}

struct Evaluation<'a> {
    view: &'a View<'a>,
    /// Slot at which the plan gives way to the future's counts.
    first_end: usize,
    /// Requests/s by tenant and slot.
    capacity: Vec<Vec<f64>>,
    /// Ready times of the inference instances that are held, by tenant and profile.
    held: Vec<Vec<Vec<f64>>>,
    /// Profile, finish and whether it ran before, by tenant.
    retraining: Vec<Option<(ProfileId, f64, bool)>>,
    charge: Vec<f64>,
    /// Whether what block 1 starts was preloaded during block 0.
    staged: bool,
}

impl<'a> Evaluation<'a> {
    fn new(view: &'a View<'a>, first_end: usize) -> Evaluation<'a> {
        let tenants = view.problem.tenants.len();
        Evaluation {
            view,
            first_end,
            capacity: vec![vec![0.0; view.horizon]; tenants],
            held: vec![vec![Vec::new(); view.profiles().count()]; tenants],
            retraining: vec![None; tenants],
            charge: vec![0.0; tenants],
            staged: true,
        }
    }

    fn serve(&mut self, tenant: TenantId, profile: ProfileId, from_s: f64, to_s: f64) {
        let rate = self.view.rate(tenant, profile);
        let (first, last) = (from_s.max(0.0) as usize, (to_s.max(0.0).ceil() as usize).min(self.view.horizon));
        for t in first.min(last)..last {
            let share = (to_s.min(t as f64 + 1.0) - from_s.max(t as f64)).max(0.0);
            self.capacity[tenant.index()][t] += rate * share;
        }
    }

    fn now(&mut self, plan: &Plan) {
        let timing = Timing { view: self.view, plan };
        for (gpu, old) in self.view.instances() {
            let stays = plan.gpus.get(gpu).is_some_and(|gpu| gpu.allocations.iter().any(|new| stays(old, new)));
            if let (false, Some(Task { tenant, kind: TaskKind::Inference })) = (stays, old.task) {
                self.serve(tenant, old.site.profile, old.ready_in_s, timing.stop_s(gpu, old));
            }
        }
        for (gpu, allocations) in plan.gpus.iter().map(|gpu| &gpu.allocations).enumerate() {
            for new in allocations {
                let Some(task) = new.task else { continue };
                let (ready_s, kept) = timing.ready_s(gpu, new, task);
                self.start(task, new.site.profile, ready_s, kept);
            }
        }
        self.floor(self.first_end as f64);
    }

    fn start(&mut self, task: Task, profile: ProfileId, ready_s: f64, kept: bool) {
        let tenant = task.tenant;
        match task.kind {
            TaskKind::Inference => {
                self.serve(tenant, profile, ready_s, self.first_end as f64);
                self.held[tenant.index()][profile.index()].push(ready_s);
                if !kept {
                    self.charge_start(tenant, profile);
                }
            }
            TaskKind::Retraining => {
                let Some(work_s) = self.view.retraining_s(tenant, profile) else { return };
                let finish_s = ready_s + work_s;
                self.retraining[tenant.index()] = Some((profile, finish_s, kept));
                // Held to the horizon, the instance serves its own tenant when the retraining is done; the next solve may do better.
                let after_s = finish_s + self.view.settle_s(Task::inference(tenant));
                if self.first_end == self.view.horizon {
                    self.serve(tenant, profile, after_s, self.first_end as f64);
                }
            }
        }
    }

    fn charge_start(&mut self, tenant: TenantId, profile: ProfileId) {
        self.charge[tenant.index()] += start_charge(self.view, tenant, profile);
    }

    /// Charges missing floor capacity of what is held, for `seconds`.
    fn floor(&mut self, seconds: f64) {
        for (id, _) in self.view.tenants() {
            let held = self.view.profiles().map(|q| self.view.rate(id, q) * self.held[id.index()][q.index()].len() as f64);
            let missing = (self.view.floor(id) - held.sum::<f64>()).max(0.0);
            self.charge[id.index()] += self.view.floor_charge(id) * missing * seconds;
        }
    }

    fn later(&mut self, shape: &Shape, plan: &Plan, counts: &Counts) {
        let actual: Vec<Vec<u32>> = self.held.iter().map(|tenant| tenant.iter().map(|ready| ready.len() as u32).collect()).collect();
        for block in 1..self.view.ends.len() {
            let (from, to) = (self.view.ends[block - 1], self.view.ends[block]);
            self.retrain_later(block, from as f64, counts);
            let target = self.with_spares(shape, plan, &actual, &counts.inference[block], from as f64);
            for (id, _) in self.view.tenants() {
                for profile in self.view.profiles() {
                    self.adjust(id, profile, target[id.index()][profile.index()], from as f64, to as f64);
                }
            }
            self.floor((to - from) as f64);
        }
    }

    /// A retraining that the counts start in this block, or started in block 0 while the plan does not.
    fn retrain_later(&mut self, block: usize, from_s: f64, counts: &Counts) {
        for (id, _) in self.view.tenants() {
            let Some((profile, start)) = counts.retraining[id.index()] else { continue };
            let missing = self.retraining[id.index()].is_none();
            let Some(work_s) = self.view.retraining_s(id, profile).filter(|_| missing && start.max(1) == block) else { continue };
            let task = Task::retraining(id);
            let unstaged_s = if self.staged || block > 1 { 0.0 } else { self.view.preload_s(task) };
            let ready_s = from_s + unstaged_s + self.view.switch_s(task, profile);
            self.retraining[id.index()] = Some((profile, ready_s + work_s, false));
        }
    }

    /// What the counts want, and what the plan holds beyond it as long as both fit: nothing is taken away without need.
    fn with_spares(&self, shape: &Shape, plan: &Plan, actual: &[Vec<u32>], wanted: &[Vec<u32>], from_s: f64) -> Vec<Vec<u32>> {
        let both: Vec<Vec<u32>> = actual.iter().zip(wanted).map(|(a, w)| a.iter().zip(w).map(|(a, w)| *a.max(w)).collect()).collect();
        let mut used = vec![0; self.view.profiles().count()];
        for tenant in &both {
            used.iter_mut().zip(tenant).for_each(|(sum, n)| *sum += n);
        }
        for (profile, _, _) in self.retraining.iter().flatten().filter(|(_, finish_s, _)| *finish_s > from_s) {
            used[profile.index()] += 1;
        }
        let idle = plan.gpus.iter().flat_map(|gpu| &gpu.allocations).filter(|new| new.task.is_none()).count();
        if idle == 0 && shape.fits(&used) { both } else { wanted.to_vec() }
    }

    fn adjust(&mut self, tenant: TenantId, profile: ProfileId, wanted: u32, from_s: f64, to_s: f64) {
        let unstaged_s = |id| if self.staged || from_s > self.first_end as f64 { 0.0 } else { self.view.preload_s(Task::inference(id)) };
        let switch_s = unstaged_s(tenant) + self.view.switch_s(Task::inference(tenant), profile);
        // What yields serves until its heir, whoever that is, has been preloaded.
        let yields_s = from_s + self.view.tenants().map(|(id, _)| unstaged_s(id)).fold(0.0, f64::max);
        let mut held = std::mem::take(&mut self.held[tenant.index()][profile.index()]);
        held.sort_by(f64::total_cmp);
        for ready_s in held.split_off(held.len().min(wanted as usize)) {
            self.serve(tenant, profile, ready_s.max(from_s), yields_s.min(to_s));
        }
        while held.len() < wanted as usize {
            held.push(from_s + switch_s);
            self.charge_start(tenant, profile);
        }
        for &ready_s in &held {
            self.serve(tenant, profile, ready_s.max(from_s), to_s);
        }
        self.held[tenant.index()][profile.index()] = held;
    }

    fn finish(self) -> Value {
        let tenants: Vec<TenantValue> = self.view.tenants().map(|(id, _)| self.tenant(id)).collect();
        let goodput: f64 = tenants.iter().map(|tenant| tenant.goodput).sum();
        let score = goodput - tenants.iter().map(|tenant| tenant.charge).sum::<f64>();
        Value { tenants, goodput, score }
    }

    fn tenant(&self, id: TenantId) -> TenantValue {
        let (state, gain) = (self.view.tenant(id), self.view.accuracy_gain(id));
        let retraining = self.retraining[id.index()].filter(|(_, finish_s, ran)| self.view.counts(*finish_s, *ran));
        let from_s = retraining.map_or(f64::INFINITY, |(_, finish_s, _)| finish_s);
        let (mut on_time, mut correct, mut accuracy) = (0.0, 0.0, 0.0);
        for (t, (&demand, &capacity)) in self.view.demand[id.index()].iter().zip(&self.capacity[id.index()]).enumerate() {
            let now = state.accuracy + gain * (t as f64 + 1.0 - from_s).clamp(0.0, 1.0);
            let served = demand.min(capacity);
            on_time += served;
            correct += served * now;
            accuracy += now / self.view.horizon as f64;
        }
        TenantValue {
            on_time,
            arrivals: self.view.demand[id.index()].iter().sum(),
            goodput: state.weight * (correct + gain * self.view.tail_arrivals(id, from_s)),
            correct,
            accuracy,
            retraining: retraining.map(|(profile, finish_s, _)| (profile, finish_s)),
            charge: self.charge[id.index()],
        }
    }
}

/// What starting one inference instance is charged, in weighted answers.
pub(crate) fn start_charge(view: &View, tenant: TenantId, profile: ProfileId) -> f64 {
    let useful = view.rate(tenant, profile).min(view.peak_demand(tenant));
    (START_CHARGE_S * view.answer_worth(tenant) * useful).max(1e-3)
}

/// When the plan's transition takes effect on each instance.
struct Timing<'a> {
    view: &'a View<'a>,
    plan: &'a Plan,
}

impl Timing<'_> {
    /// Ready time of an allocation's task, and whether it was there before.
    fn ready_s(&self, gpu: usize, new: &Allocation, task: Task) -> (f64, bool) {
        let state = &self.view.problem.gpus[gpu];
        if let Some(old) = state.instances.iter().find(|old| stays(old, new)) {
            return (old.ready_in_s, true);
        }
        let costs = &self.view.problem.costs;
        let mut at_s = self.view.preload_s(task);
        let mut cut_s = 0.0;
        for old in state.instances.iter().filter(|old| old.site.placement.overlaps(new.site.placement)) {
            if old.task.is_some() {
                at_s = at_s.max(self.stop_s(gpu, old) + costs.drain_s);
            }
            if new.instance.is_none() {
                // Device operations on one GPU are serialised.
                cut_s += costs.destroy_s[old.site.profile.index()];
            }
        }
        if new.instance.is_none() {
            cut_s += costs.create_s[new.site.profile.index()];
        }
        (at_s + cut_s + self.view.settle_s(task), false)
    }

    /// When an instance that yields gets no new work any more: its heirs' workers are staged by then.
    fn stop_s(&self, gpu: usize, old: &InstanceState) -> f64 {
        let heirs = self.plan.gpus.get(gpu).map_or(&[][..], |gpu| &gpu.allocations);
        let heirs = heirs.iter().filter(|new| overlaps(old.site, new.site)).filter_map(|new| new.task);
        heirs.map(|task| self.view.preload_s(task)).fold(0.0, f64::max)
    }
}

fn overlaps(old: Site, new: Site) -> bool {
    old.placement.overlaps(new.placement)
}

fn stays(old: &InstanceState, new: &Allocation) -> bool {
    new.instance == Some(old.id) && new.task == old.task
}
