//! A problem as the planners read it: seconds instead of functions, times instead of costs.

use migrator_mig::ProfileId;

use crate::options::SolveOptions;
use crate::problem::{InstanceState, Problem, Scenario, Task, TaskKind, TenantId, TenantState};
use crate::shape::{Kind, KindId, Shape};

/// Boundaries of the time blocks lie at multiples of this, counted back from the window's end, so that the next solve finds
/// them again (`reference/ilp.md` section 0, item 3: anchoring is worth 7 points).
const UNIT_S: f64 = 5.0;

/// Never plan further than this, whatever is asked: evaluation is linear in it.
const LONGEST_S: f64 = 3600.0;

/// How many of the most valuable instances a floor outbids; more than one instance never has to yield for it, and a few more make
/// it hold within the gap too.
const FLOOR_OUTBIDS: f64 = 4.0;

/// A valid problem and what follows from it.
pub(crate) struct View<'a> {
    pub problem: &'a Problem,
    /// Slots of 1 s that are planned for.
    pub horizon: usize,
    /// Expected requests/s by tenant and slot, backlog included.
    pub demand: Vec<Vec<f64>>,
    /// The same by tenant and scenario: probability and requests/s by slot.
    pub scenarios: Vec<Vec<(f64, Vec<f64>)>>,
    /// Highest requests/s over the horizon in any scenario, and the mean of the expectation, by tenant.
    peak: Vec<f64>,
    mean: Vec<f64>,
    /// Second from now at which a better model is worth nothing any more.
    pub worth_until: f64,
    /// Most that any instance answers per second, by its tenant's weight.
    dearest: f64,
    /// Ends of the time blocks in slots, ascending; the last is the horizon.
    pub ends: Vec<usize>,
}

impl<'a> View<'a> {
    pub fn new(problem: &'a Problem, options: &SolveOptions) -> View<'a> {
        let most = options.horizon_s.clamp(1.0, LONGEST_S);
        let horizon = problem.window_left_s.max(SolveOptions::MIN_HORIZON_S).min(most).ceil() as usize;
        let worth_until = (problem.window_left_s + problem.beyond_window_s).max(horizon as f64);
        let (demand, scenarios, peak, mean) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut view = View { problem, horizon, demand, scenarios, peak, mean, worth_until, dearest: 0.0, ends: Vec::new() };
        view.ends = view.anchored();
        view.dearest = view
            .inferences()
            .map(|(id, model, q)| problem.tenants[id.index()].weight.max(1.0) * view.rate(id, model, q))
            .fold(0.0, f64::max);
        let scenarios = |tenant: &TenantState| {
            tenant.demand.iter().map(|scenario| (scenario.probability, view.seconds(tenant.backlog, scenario))).collect::<Vec<_>>()
        };
        view.scenarios = problem.tenants.iter().map(scenarios).collect();
        view.demand = view.scenarios.iter().map(|scenarios| expected(scenarios, horizon)).collect();
        let highest = |scenarios: &Vec<(f64, Vec<f64>)>| scenarios.iter().flat_map(|(_, rps)| rps).copied().fold(0.0, f64::max);
        view.peak = view.scenarios.iter().map(highest).collect();
        view.mean = view.tenants().map(|(id, _)| view.mean_demand(id, 0, horizon)).collect();
        view
    }

    /// Ends at absolute multiples of U while less than 6 U ahead, of 2 U while less than 14 U, and of 4 U beyond; U ≥ every warm-up.
    /// What lies ahead now is there again a second later (nested), so that the plan of now can be read again then.
    fn anchored(&self) -> Vec<usize> {
        // A block shorter than a warm-up would let the optimiser drop an instance before its heir is ready, for free.
        let slowest = self.inferences().fold(0.0, |most: f64, (tenant, model, profile)| {
            most.max(self.switch_s(Task::inference(tenant), model, profile) + self.preload_s(Task::inference(tenant)))
        });
        let unit = UNIT_S.max(slowest.min(LONGEST_S).ceil());
        let mut ends: Vec<usize> = Vec::new();
        let mut last = 0.0;
        while last < self.horizon as f64 {
            let step = unit
                * if last < 6.0 * unit {
                    1.0
                } else if last < 14.0 * unit {
                    2.0
                } else {
                    4.0
                };
            // Counted back from the window's end, and on beyond it.
            let steps_left = ((self.problem.window_left_s - last) / step - 1e-6).floor();
            last = self.problem.window_left_s - steps_left * step;
            ends.push(last.ceil() as usize);
        }
        ends.dedup();
        ends.retain(|&end| end < self.horizon);
        ends.push(self.horizon);
        ends
    }

    fn seconds(&self, backlog: f64, scenario: &Scenario) -> Vec<f64> {
        let last = scenario.rps.last().copied().unwrap_or(0.0);
        let mut seconds: Vec<f64> = (0..self.horizon).map(|t| scenario.rps.get(t).copied().unwrap_or(last)).collect();
        // What is queued is answered in block 0 or never.
        let first = self.ends[0];
        seconds[..first].iter_mut().for_each(|rps| *rps += backlog / first as f64);
        seconds
    }

    pub fn tenants(&self) -> impl Iterator<Item = (TenantId, &'a TenantState)> + use<'a> {
        self.problem.tenants.iter().enumerate().map(|(index, tenant)| (TenantId(index as u16), tenant))
    }

    pub fn tenant(&self, id: TenantId) -> &'a TenantState {
        &self.problem.tenants[id.index()]
    }

    /// Tenants, and the GPU models and profiles that serve them.
    pub fn inferences(&self) -> impl Iterator<Item = (TenantId, usize, ProfileId)> + '_ {
        let profiles = move || {
            let models = self.problem.models.iter().enumerate();
            models.flat_map(|(model, of)| of.catalog.profile_ids().map(move |profile| (model, profile)))
        };
        let used = move |model: usize| self.problem.gpus.iter().any(|gpu| gpu.model == model);
        let serves = move |id: TenantId| profiles().filter(move |&(model, q)| used(model) && self.rate(id, model, q) > 0.0);
        self.tenants().flat_map(move |(id, _)| serves(id).map(move |(model, q)| (id, model, q)))
    }

    pub fn instances(&self) -> impl Iterator<Item = (usize, &'a InstanceState)> + use<'a> {
        self.problem.gpus.iter().enumerate().flat_map(|(gpu, state)| state.instances.iter().map(move |instance| (gpu, instance)))
    }

    /// Worth of one answer of this tenant by the model in service.
    pub fn answer_worth(&self, id: TenantId) -> f64 {
        self.tenant(id).weight * self.tenant(id).accuracy
    }

    /// Requests/s of one instance.
    pub fn rate(&self, id: TenantId, model: usize, profile: ProfileId) -> f64 {
        self.problem.rate(id, model, profile)
    }

    /// Requests/s of one instance of a kind.
    pub fn kind_rate(&self, shape: &Shape, id: TenantId, kind: KindId) -> f64 {
        let Kind { model, profile, .. } = shape.kind(kind);
        self.rate(id, model, profile)
    }

    /// Requests/s of an instance of a GPU.
    pub fn rate_on(&self, id: TenantId, gpu: usize, profile: ProfileId) -> f64 {
        self.rate(id, self.problem.gpus[gpu].model, profile)
    }

    /// Capacity that a tenant keeps however valuable the others are: its floor, but no more than its smallest instance gives.
    pub fn floor(&self, id: TenantId) -> f64 {
        let own = |model: usize| {
            let mut rates = self.problem.models[model].catalog.profile_ids().map(|q| self.rate(id, model, q));
            rates.find(|&rps| rps > 0.0)
        };
        let smallest = self.problem.gpus.iter().filter_map(|gpu| own(gpu.model)).reduce(f64::min).unwrap_or(0.0);
        self.tenant(id).floor_rps.min(smallest)
    }

    /// What a missing request/s of a floor is charged per second: the whole floor missing outbids [`FLOOR_OUTBIDS`] instances of
    /// whatever tenant is worth most.
    pub fn floor_charge(&self, id: TenantId) -> f64 {
        FLOOR_OUTBIDS * self.dearest / self.floor(id).max(1e-3)
    }

    /// Mean demand over slots `[from, to)`, requests/s.
    pub fn mean_demand(&self, id: TenantId, from: usize, to: usize) -> f64 {
        let slots = &self.demand[id.index()][from..to];
        slots.iter().sum::<f64>() / slots.len().max(1) as f64
    }

    /// Highest demand over the horizon in any scenario, requests/s.
    pub fn peak_demand(&self, id: TenantId) -> f64 {
        self.peak[id.index()]
    }

    /// Seconds to make a task ready outside any instance, while the old owners serve; 0 without preloading.
    pub fn preload_s(&self, task: Task) -> f64 {
        if self.problem.costs.preload { self.own_s(task) } else { 0.0 }
    }

    /// Seconds from an instance's existence to the task's admission.
    pub fn settle_s(&self, task: Task) -> f64 {
        if self.problem.costs.preload { self.problem.costs.handover_s } else { self.own_s(task) }
    }

    fn own_s(&self, task: Task) -> f64 {
        let tenant = self.tenant(task.tenant);
        match task.kind {
            TaskKind::Inference => tenant.load_s,
            TaskKind::Retraining => tenant.retraining.as_ref().map_or(0.0, |due| due.restore_s),
        }
    }

    /// Seconds without service when a task starts where something else has to yield: the unavoidable part of a start.
    pub fn switch_s(&self, task: Task, model: usize, profile: ProfileId) -> f64 {
        let of = &self.problem.models[model];
        let cut = of.destroy_s[profile.index()] + of.create_s[profile.index()];
        self.problem.costs.drain_s + cut + self.settle_s(task)
    }

    /// Work left on this profile, seconds; `None` = does not fit or is not due.
    pub fn retraining_s(&self, id: TenantId, model: usize, profile: ProfileId) -> Option<f64> {
        self.problem.work_s(id, model, profile)
    }

    /// Whether a retraining that ends then still counts; one that runs already may end after its window.
    pub fn counts(&self, finish_s: f64, running: bool) -> bool {
        finish_s <= if running { self.worth_until } else { self.problem.window_left_s }
    }

    /// Gain in accuracy, never negative: a version that is worse is not published.
    pub fn accuracy_gain(&self, id: TenantId) -> f64 {
        let tenant = self.tenant(id);
        tenant.retraining.as_ref().map_or(0.0, |due| (due.accuracy_after - tenant.accuracy).max(0.0))
    }

    /// Answers that a version published at `from_s` improves, if all arrivals are answered: arrivals from then on.
    pub fn arrivals_after(&self, id: TenantId, from_s: f64) -> f64 {
        let slots = self.demand[id.index()].iter().enumerate();
        let seen: f64 = slots.map(|(t, rps)| rps * (t as f64 + 1.0 - from_s).clamp(0.0, 1.0)).sum();
        seen + self.tail_arrivals(id, from_s)
    }

    /// Arrivals beyond the horizon for which a version published at `from_s` is still worth its gain.
    pub fn tail_arrivals(&self, id: TenantId, from_s: f64) -> f64 {
        self.mean[id.index()] * (self.worth_until - from_s.max(self.horizon as f64)).max(0.0)
    }

    /// Capacity of a tenant's pinned instances, requests/s.
    pub fn pinned_rate(&self, id: TenantId) -> f64 {
        let own = self.instances().filter(|(_, old)| old.pinned && old.task == Some(Task::inference(id)));
        own.map(|(gpu, old)| self.rate_on(id, gpu, old.site.profile)).sum()
    }

    /// The instance on which a tenant's retraining is now.
    pub fn running(&self, id: TenantId) -> Option<(usize, &'a InstanceState)> {
        self.instances().find(|(_, instance)| instance.task == Some(Task::retraining(id)))
    }
}

fn expected(scenarios: &[(f64, Vec<f64>)], horizon: usize) -> Vec<f64> {
    (0..horizon).map(|t| scenarios.iter().map(|(probability, rps)| probability * rps[t]).sum()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{problem, tenant};

    fn ends(window_left_s: f64) -> Vec<usize> {
        let mut problem = problem(vec![tenant("vision", 40.0)]);
        problem.window_left_s = window_left_s;
        View::new(&problem, &SolveOptions::default()).ends
    }

    #[test]
    fn a_second_later_the_blocks_end_at_the_same_moments() {
        assert_eq!(ends(200.0), [5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 100, 120, 140, 160, 180, 200]);
        for left in 31..300 {
            let (now, later) = (ends(f64::from(left)), ends(f64::from(left) - 1.0));
            assert!(now.iter().filter(|end| **end > 1).all(|end| later.contains(&(end - 1)) || *end <= 30), "{now:?} {later:?}");
        }
    }

    #[test]
    fn the_last_block_ends_at_the_horizon_which_reaches_into_the_next_window() {
        assert_eq!(ends(3.0).last(), Some(&30));
        assert_eq!(ends(1000.0).last(), Some(&300));
    }

    #[test]
    fn the_backlog_is_demand_of_the_first_block() {
        let mut problem = problem(vec![tenant("vision", 40.0)]);
        problem.tenants[0].backlog = 50.0;
        let view = View::new(&problem, &SolveOptions::default());
        assert_eq!(view.demand[0][..6], [50.0, 50.0, 50.0, 50.0, 50.0, 40.0]);
    }
}
