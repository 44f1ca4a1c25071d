//! Forecasts, asks for plans, decides whether and when they are carried out.

mod costs;
mod decide;
mod roster;
mod snapshot;
#[cfg(test)]
mod tests;
mod types;

use std::collections::VecDeque;
use std::time::Duration;

use migrator_solver::{Forecaster, Generation, InstanceId, Outcome, Plan, Problem, Report};

pub use types::{CoordinatorConfig, CoordinatorWish, Decision, GpuConfig, TenantPlanning, TenantTick, Tick, Verdict};

use crate::Time;
use crate::invariant::{Invariant, Violation, demand};
use crate::migration::MigrationReport;
use costs::Costs;

/// The state of planning: forecasts, plan in force, window clock, measured costs.
///
/// One thing at a time: a solve, then perhaps its migration, then the next solve. The plan in force stays whenever a solve fails, is
/// late, finds nothing worth its cost or no longer fits what is on the GPUs.
#[derive(Debug)]
pub struct CoordinatorMachine {
    config: CoordinatorConfig,
    /// By tenant.
    forecasters: Vec<Box<dyn Forecaster>>,
    /// Arrivals, and the seconds they took, that no forecaster has seen yet, by tenant.
    parts: Vec<(f64, f64)>,
    /// Observed ÷ curve service time, by tenant.
    ratios: Vec<f64>,
    /// Answered in time while overloaded ÷ what the curve promises, by tenant.
    yields: Vec<f64>,
    costs: Costs,
    tick: Tick,
    /// The last one handed out.
    generation: Generation,
    in_force: Option<Plan>,
    report: Option<Report>,
    doing: Doing,
    last_solve: Option<Time>,
    /// No planned change before this.
    quiet_until: Time,
    /// Migrations in a row that did not come to their plan.
    failures: u32,
    /// An instance was lost and no solve has seen it yet.
    lost: bool,
    /// A tenant came or went and no solve has seen it yet.
    changed: bool,
    /// By tenant: it has left, and its number waits for another one.
    gone: Vec<bool>,
    window: Option<u64>,
    window_order: bool,
    decisions: VecDeque<Decision>,
    outbox: VecDeque<CoordinatorWish>,
}

/// What is under way.
#[derive(Debug)]
enum Doing {
    Nothing,
    Solving { generation: Generation, problem: Box<Problem>, deadline: Time },
    Migrating { generation: Generation, plan: Plan, deadline: Time },
}

/// Decisions kept for `take_decisions`.
const DECISIONS: usize = 1024;
/// The migration machine ends by itself; this is for a shell that lost it.
const MIGRATION_DEADLINE: Duration = Duration::from_secs(900);

impl CoordinatorMachine {
    /// Nothing in force yet; window 0 begins at time 0. `generation` is the highest ever used on this host (0 on a fresh one).
    pub fn new(config: CoordinatorConfig, generation: Generation) -> CoordinatorMachine {
        CoordinatorMachine {
            forecasters: config.tenants.iter().map(|_| config.forecast.make()).collect(),
            parts: vec![(0.0, 0.0); config.tenants.len()],
            ratios: vec![1.0; config.tenants.len()],
            yields: vec![1.0; config.tenants.len()],
            gone: vec![false; config.tenants.len()],
            costs: Costs::new(&config),
            config,
            tick: Tick::default(),
            generation,
            in_force: None,
            report: None,
            doing: Doing::Nothing,
            last_solve: None,
            quiet_until: Time::ZERO,
            failures: 0,
            lost: false,
            changed: false,
            window: None,
            window_order: true,
            decisions: VecDeque::new(),
            outbox: VecDeque::new(),
        }
    }

    /// Forecasts by these instead, one per tenant.
    ///
    /// # Panics
    /// When there are not as many as tenants.
    pub fn forecast_by(mut self, forecasters: Vec<Box<dyn Forecaster>>) -> CoordinatorMachine {
        assert_eq!(forecasters.len(), self.config.tenants.len(), "one forecaster per tenant");
        self.forecasters = forecasters;
        self
    }

    /// Plans for a tenant with this SLO, weight and floor from the next solve on.
    pub fn retune(&mut self, tenant: usize, slo_ms: f64, weight: f64, floor_rps: f64) {
        if let Some(planning) = self.config.tenants.get_mut(tenant) {
            (planning.slo_ms, planning.weight, planning.floor_rps) = (slo_ms, weight, floor_rps);
        }
    }

    /// What it was made with.
    pub fn config(&self) -> &CoordinatorConfig {
        &self.config
    }

    /// Once a second: what the tenants did and what is on the GPUs. Instances whose worker is dead are listed without a task.
    pub fn tick(&mut self, now: Time, tick: &Tick) {
        self.observe(&tick.tenants);
        self.tick.clone_from(tick);
        self.handle_timeout(now);
        self.solve_if_due(now);
    }

    /// The solve of this generation is over and took `solve_ms`. A late one is ignored.
    pub fn solved(&mut self, now: Time, generation: Generation, result: Result<Outcome, String>, solve_ms: f64) {
        let Doing::Solving { generation: awaited, .. } = &self.doing else { return };
        if *awaited != generation {
            return;
        }
        let Doing::Solving { problem, .. } = std::mem::replace(&mut self.doing, Doing::Nothing) else { return };
        match result {
            Err(message) => self.decide(now, generation, Verdict::SolveFailed(message)),
            Ok(mut outcome) => {
                outcome.report.solve_ms = solve_ms;
                self.weigh(now, *problem, outcome);
            }
        }
    }

    /// The migration that [`CoordinatorWish::Execute`] asked for is over.
    pub fn migrated(&mut self, now: Time, report: &MigrationReport) {
        let Doing::Migrating { generation, plan, .. } = &mut self.doing else { return };
        if *generation != report.generation {
            return;
        }
        self.in_force = Some(std::mem::take(plan));
        self.doing = Doing::Nothing;
        if self.config.learn_costs {
            self.costs.learn(report);
        }
        self.failures = if report.complete() { 0 } else { self.failures + 1 };
        self.be_quiet(now);
        self.decide(now, report.generation, Verdict::Migrated(decide::told(report)));
    }

    /// The migration machine refused the transition that [`CoordinatorWish::Execute`] asked for.
    pub fn refused(&mut self, now: Time, generation: Generation, reason: &str) {
        if matches!(&self.doing, Doing::Migrating { generation: running, .. } if *running == generation) {
            self.doing = Doing::Nothing;
            self.failures += 1;
            self.be_quiet(now);
            self.decide(now, generation, Verdict::Reject(reason.to_owned()));
        }
    }

    /// An instance or its worker is gone: plan anew with the next tick on which no migration runs, dwell time or not.
    pub fn instance_lost(&mut self, now: Time, instance: InstanceId) {
        self.lost = true;
        self.decide(now, self.generation, Verdict::Lost(format!("instance {}", instance.0)));
    }

    /// What to do next. Call until `None`.
    pub fn poll(&mut self, _now: Time) -> Option<CoordinatorWish> {
        self.outbox.pop_front()
    }

    /// When [`handle_timeout`](CoordinatorMachine::handle_timeout) is due.
    pub fn timeout(&self) -> Option<Time> {
        let doing = match &self.doing {
            Doing::Nothing => None,
            Doing::Solving { deadline, .. } | Doing::Migrating { deadline, .. } => Some(*deadline),
        };
        doing.into_iter().chain(Some(self.next_window())).min()
    }

    /// The timer fired; then `poll`.
    pub fn handle_timeout(&mut self, now: Time) {
        self.start_window_if_due(now);
        match &self.doing {
            Doing::Solving { generation, deadline, .. } if *deadline <= now => {
                let (generation, after) = (*generation, self.config.solve_deadline_s);
                self.doing = Doing::Nothing;
                self.decide(now, generation, Verdict::SolveFailed(format!("no answer within {after:.1} s")));
            }
            Doing::Migrating { generation, deadline, .. } if *deadline <= now => {
                self.refused(now, *generation, "the migration never ended");
            }
            _ => {}
        }
    }

    /// The plan in force, and the report of the last solve that answered; `None` before the first plan is in force.
    pub fn plan(&self) -> Option<(&Plan, &Report)> {
        self.in_force.as_ref().zip(self.report.as_ref())
    }

    /// The generation that is being carried out.
    pub fn migrating(&self) -> Option<Generation> {
        if let Doing::Migrating { generation, .. } = self.doing { Some(generation) } else { None }
    }

    /// Retraining window at `now`: number, seconds gone, length in seconds.
    pub fn window(&self, now: Time) -> (u64, f64, f64) {
        let length = self.window_length();
        let number = now.0 / length;
        (number, Time(now.0 - number * length).as_secs(), Time(length).as_secs())
    }

    /// Decisions since the last call, oldest first; at most 1,024 are kept.
    pub fn take_decisions(&mut self) -> Vec<Decision> {
        std::mem::take(&mut self.decisions).into()
    }

    /// What is not as it must be (C1 to C3).
    pub fn check(&self) -> Vec<Violation> {
        let mut found = Vec::new();
        let asked = |wish: &&CoordinatorWish| matches!(wish, CoordinatorWish::Solve { .. });
        let solves = self.outbox.iter().filter(asked).count();
        let busy = matches!(self.doing, Doing::Migrating { .. });
        demand(&mut found, Invariant::OneDecisionAtATime, solves <= usize::from(!busy), || format!("{solves} solves, {:?}", self.doing));
        let in_force = self.in_force.as_ref().map_or(Generation(0), |plan| plan.generation);
        demand(&mut found, Invariant::GenerationsIncrease, in_force <= self.generation, || format!("{in_force:?}"));
        demand(&mut found, Invariant::WindowsIncrease, self.window_order, || format!("{:?}", self.window));
        found
    }
}
