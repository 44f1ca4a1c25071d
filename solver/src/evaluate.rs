//! What a plan is worth, second by second, transition losses included: the one evaluation that all candidates are compared by.

use migrator_mig::Site;

use crate::plan::{Allocation, Plan};
use crate::problem::{InstanceState, Task, TaskKind, TenantId};
use crate::shape::{Kind, KindId, Shape};
use crate::view::View;

/// Service that starting an instance is charged beyond what it loses, in seconds of its capacity: every change carries a risk
/// that the model knows nothing of, so equal plans must not be swapped for each other.
pub(crate) const START_CHARGE_S: f64 = 0.25;

/// Instance counts per time block, positions ignored: what the integer program decides.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Counts {
    /// Inference instances by block, tenant and kind; pinned ones are not counted.
    pub inference: Vec<Vec<Vec<u32>>>,
    /// Where and in which block each tenant's retraining starts; block 0 includes "goes on".
    pub retraining: Vec<Option<(KindId, usize)>>,
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
    /// Kind of instance and end of its retraining, seconds from now.
    pub retraining: Option<(KindId, f64)>,
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
    let mut evaluation = Evaluation::new(view, shape, future.map_or(view.horizon, |_| view.ends[0]));
    evaluation.now(plan);
    if let Some(counts) = future {
        evaluation.later(plan, counts);
    }
    evaluation.finish()
}

struct Evaluation<'a> {
    view: &'a View<'a>,
    shape: &'a Shape,
    /// Slot at which the plan gives way to the future's counts.
    first_end: usize,
    /// Requests/s by tenant and slot.
    capacity: Vec<Vec<f64>>,
    /// Capacity of pinned instances, by tenant.
    pinned: Vec<f64>,
    /// Ready times of the inference instances that are held, by tenant and kind.
    held: Vec<Vec<Vec<f64>>>,
    /// Kind, finish and whether it ran before, by tenant.
    retraining: Vec<Option<(KindId, f64, bool)>>,
    charge: Vec<f64>,
}

impl<'a> Evaluation<'a> {
    fn new(view: &'a View<'a>, shape: &'a Shape, first_end: usize) -> Evaluation<'a> {
        let tenants = view.problem.tenants.len();
        Evaluation {
            view,
            shape,
            first_end,
            capacity: vec![vec![0.0; view.horizon]; tenants],
            pinned: vec![0.0; tenants],
            held: vec![vec![Vec::new(); shape.kinds().len()]; tenants],
            retraining: vec![None; tenants],
            charge: vec![0.0; tenants],
        }
    }

    fn serve(&mut self, tenant: TenantId, kind: KindId, from_s: f64, to_s: f64) {
        let rate = self.view.kind_rate(self.shape, tenant, kind);
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
                self.serve(tenant, self.shape.kind_of(gpu, old.site.profile), old.ready_in_s, timing.stop_s(gpu, old));
            }
        }
        for (gpu, allocations) in plan.gpus.iter().map(|gpu| &gpu.allocations).enumerate() {
            for new in allocations {
                let Some(task) = new.task else { continue };
                let (ready_s, kept) = timing.ready_s(gpu, new, task);
                let kind = self.shape.kind_of(gpu, new.site.profile);
                let pinned = self.view.problem.gpus[gpu].instances.iter().any(|old| old.pinned && Some(old.id) == new.instance);
                if let (true, TaskKind::Inference) = (pinned, task.kind) {
                    self.serve(task.tenant, kind, ready_s, self.view.horizon as f64);
                    self.pinned[task.tenant.index()] += self.view.kind_rate(self.shape, task.tenant, kind);
                } else {
                    self.start(task, kind, ready_s, kept);
                }
            }
        }
        self.floor(self.first_end as f64);
    }

    fn start(&mut self, task: Task, kind: KindId, ready_s: f64, kept: bool) {
        let tenant = task.tenant;
        match task.kind {
            TaskKind::Inference => {
                self.serve(tenant, kind, ready_s, self.first_end as f64);
                self.held[tenant.index()][kind.index()].push(ready_s);
                if !kept {
                    self.charge_start(tenant, kind);
                }
            }
            TaskKind::Retraining => {
                let Kind { model, profile, .. } = self.shape.kind(kind);
                let Some(work_s) = self.view.retraining_s(tenant, model, profile) else { return };
                let finish_s = ready_s + work_s;
                self.retraining[tenant.index()] = Some((kind, finish_s, kept));
                // Held to the horizon, the instance serves its own tenant when the retraining is done; the next solve may do better.
                let after_s = finish_s + self.view.settle_s(Task::inference(tenant));
                if self.first_end == self.view.horizon {
                    self.serve(tenant, kind, after_s, self.first_end as f64);
                }
            }
        }
    }

    fn charge_start(&mut self, tenant: TenantId, kind: KindId) {
        self.charge[tenant.index()] += start_charge(self.view, tenant, self.view.kind_rate(self.shape, tenant, kind));
    }

    /// Charges missing floor capacity of what is held, for `seconds`.
    fn floor(&mut self, seconds: f64) {
        for (id, _) in self.view.tenants() {
            let rate = |kind| self.view.kind_rate(self.shape, id, kind);
            let held = self.shape.kind_ids().map(|kind| rate(kind) * self.held[id.index()][kind.index()].len() as f64);
            let missing = (self.view.floor(id) - self.pinned[id.index()] - held.sum::<f64>()).max(0.0);
            self.charge[id.index()] += self.view.floor_charge(id) * missing * seconds;
        }
    }

    fn later(&mut self, plan: &Plan, counts: &Counts) {
        let actual: Vec<Vec<u32>> = self.held.iter().map(|tenant| tenant.iter().map(|ready| ready.len() as u32).collect()).collect();
        for block in 1..self.view.ends.len() {
            let (from, to) = (self.view.ends[block - 1], self.view.ends[block]);
            self.retrain_later(block, from as f64, counts);
            let target = self.with_spares(plan, &actual, &counts.inference[block], from as f64);
            for (id, _) in self.view.tenants() {
                for kind in self.shape.kind_ids() {
                    self.adjust(id, kind, target[id.index()][kind.index()], from as f64, to as f64);
                }
            }
            self.floor((to - from) as f64);
        }
    }

    /// A retraining that the counts start in this block, or started in block 0 while the plan does not.
    fn retrain_later(&mut self, block: usize, from_s: f64, counts: &Counts) {
        for (id, _) in self.view.tenants() {
            let Some((kind, start)) = counts.retraining[id.index()] else { continue };
            let Kind { model, profile, .. } = self.shape.kind(kind);
            let Some(work_s) = self.view.retraining_s(id, model, profile).filter(|_| start.max(1) == block) else { continue };
            let task = Task::retraining(id);
            let ready_s = self.begin_s(task, from_s) + self.view.switch_s(task, model, profile);
            let finish_s = ready_s + work_s;
            // One that runs until then may go on elsewhere; what it does meanwhile is left out.
            if self.retraining[id.index()].is_none_or(|(_, old_s, _)| start > 0 && finish_s < old_s) {
                self.retraining[id.index()] = Some((kind, finish_s, false));
            }
        }
    }

    /// What the counts want, and what the plan holds beyond it as long as both fit: nothing is taken away without need.
    fn with_spares(&self, plan: &Plan, actual: &[Vec<u32>], wanted: &[Vec<u32>], from_s: f64) -> Vec<Vec<u32>> {
        let both: Vec<Vec<u32>> = actual.iter().zip(wanted).map(|(a, w)| a.iter().zip(w).map(|(a, w)| *a.max(w)).collect()).collect();
        let mut used = vec![0; self.shape.kinds().len()];
        for tenant in &both {
            used.iter_mut().zip(tenant).for_each(|(sum, n)| *sum += n);
        }
        let computes = |(id, _): &(TenantId, _)| !self.view.running(*id).is_some_and(|(_, old)| old.pinned);
        let retrained = self.view.tenants().filter(computes).filter_map(|(id, _)| self.retraining[id.index()]);
        for (kind, _, _) in retrained.filter(|(_, finish_s, _)| *finish_s > from_s) {
            used[kind.index()] += 1;
        }
        let idle = plan.gpus.iter().flat_map(|gpu| &gpu.allocations).filter(|new| new.task.is_none()).count();
        if idle == 0 && self.shape.fits(&used) { both } else { wanted.to_vec() }
    }

    /// When what a later block starts is staged: preloading begins with the block, for a plan stages nothing for a later one.
    fn begin_s(&self, task: Task, from_s: f64) -> f64 {
        from_s + self.view.preload_s(task)
    }

    fn adjust(&mut self, tenant: TenantId, kind: KindId, wanted: u32, from_s: f64, to_s: f64) {
        let Kind { model, profile, .. } = self.shape.kind(kind);
        let ready_s = self.begin_s(Task::inference(tenant), from_s) + self.view.switch_s(Task::inference(tenant), model, profile);
        // What yields serves until its heir, whoever that is, has been preloaded.
        let yields_s = self.view.tenants().map(|(id, _)| self.begin_s(Task::inference(id), from_s)).fold(from_s, f64::max);
        let mut held = std::mem::take(&mut self.held[tenant.index()][kind.index()]);
        held.sort_by(f64::total_cmp);
        for ready_s in held.split_off(held.len().min(wanted as usize)) {
            self.serve(tenant, kind, ready_s.max(from_s), yields_s.min(to_s));
        }
        while held.len() < wanted as usize {
            held.push(ready_s);
            self.charge_start(tenant, kind);
        }
        for &ready_s in &held {
            self.serve(tenant, kind, ready_s.max(from_s), to_s);
        }
        self.held[tenant.index()][kind.index()] = held;
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
        for (t, &capacity) in self.capacity[id.index()].iter().enumerate() {
            let now = state.accuracy + gain * (t as f64 + 1.0 - from_s).clamp(0.0, 1.0);
            let served: f64 = self.view.scenarios[id.index()].iter().map(|(probability, rps)| probability * rps[t].min(capacity)).sum();
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
            retraining: retraining.map(|(kind, finish_s, _)| (kind, finish_s)),
            charge: self.charge[id.index()],
        }
    }
}

/// What starting one inference instance is charged, in weighted answers.
pub(crate) fn start_charge(view: &View, tenant: TenantId, rate: f64) -> f64 {
    let useful = rate.min(view.peak_demand(tenant));
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
        let (costs, model) = (&self.view.problem.costs, &self.view.problem.models[state.model]);
        let mut at_s = self.view.preload_s(task);
        let mut cut_s = 0.0;
        for old in state.instances.iter().filter(|old| old.site.placement.overlaps(new.site.placement)) {
            if old.task.is_some() {
                at_s = at_s.max(self.stop_s(gpu, old) + costs.drain_s);
            }
            if new.instance.is_none() {
                // Device operations on one GPU are serialised.
                cut_s += model.destroy_s[old.site.profile.index()];
            }
        }
        if new.instance.is_none() {
            cut_s += model.create_s[new.site.profile.index()];
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
