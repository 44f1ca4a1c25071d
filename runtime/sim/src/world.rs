//! The loop: what is due next happens, then whoever it concerns has its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use migrator_machine::coordinator::{TenantTick, Tick};
use migrator_machine::migration::MigrationReport;
use migrator_machine::retraining::RetrainingStatus;
use migrator_machine::tenant::{Accuracy, Telemetry};
use migrator_machine::{CoordinatorMachine, CoordinatorWish, MigrationMachine, Time};
use migrator_solver::{Forecaster, Generation, Outcome, Plan, Policy, Problem, SolveOptions};

use crate::Watch;
use crate::dice::{Dice, Purpose};
use crate::event::{Event, Queue};
use crate::foresight::Known;
use crate::host::{Host, fails};
use crate::record::Record;
use crate::run::Run;
use crate::serve::Tenant;
use crate::setup::{Foresight, Setup};
use crate::trainer::Trainer;

/// A simulation under way.
pub(crate) struct World<'a> {
    pub setup: &'a Setup,
    policy: &'a mut dyn Policy,
    pub now: Time,
    pub queue: Queue,
    /// When each machine wants its turn: the coordinator, the migration, then two for each tenant. Kept outside of the queue, for they move
    /// with every event.
    due: Vec<Time>,
    pub coordinator: CoordinatorMachine,
    pub migration: MigrationMachine,
    pub tenants: Vec<Tenant<'a>>,
    pub trainers: Vec<Trainer>,
    pub host: Host,
    pub record: Record,
    pub steps_dice: Dice,
    pub faults_dice: Dice,
    /// The second that runs, for the forecasters that know the future.
    second: Arc<AtomicU64>,
    /// No more seconds follow: only what has arrived is answered.
    over: bool,
}

/// Never.
const NEVER: Time = Time(u64::MAX);
/// Labels come back this long after the second of their requests has ended; off the beat of the coordinator's looks.
const LABELS_AFTER: Duration = Duration::from_millis(500);
/// What the accuracy of an ablation that knows none is said to rest on.
const CERTAIN: f64 = 1e9;

impl<'a> World<'a> {
    pub fn new(setup: &'a Setup, policy: &'a mut dyn Policy) -> World<'a> {
        let second = Arc::new(AtomicU64::new(0));
        let mut world = World {
            setup,
            policy,
            now: Time::ZERO,
            queue: Queue::default(),
            due: vec![NEVER; 2 + 2 * setup.tenants.len()],
            coordinator: coordinator(setup, &second),
            migration: MigrationMachine::new(setup.migration.clone()),
            tenants: (0..setup.tenants.len()).map(|index| Tenant::new(setup, index)).collect(),
            trainers: (0..setup.tenants.len()).map(|index| Trainer::new(setup, index)).collect(),
            host: Host::new(setup),
            record: Record::new(setup),
            steps_dice: Dice::new(setup.seed, Purpose::Steps),
            faults_dice: Dice::new(setup.seed, Purpose::Faults),
            second,
            over: false,
        };
        for index in 0..world.tenants.len() {
            world.rearm_tenant(index);
        }
        for (index, fault) in setup.faults.iter().enumerate() {
            world.queue.push(Time::from_secs(fault.at_s), Event::Fault(index));
        }
        world.queue.push(Time::ZERO, Event::Second);
        world
    }

    /// To the end, and until all that has arrived is answered.
    pub fn run(mut self, watch: &mut dyn Watch) -> Run {
        while !(self.over && self.tenants.iter().all(|tenant| tenant.waiting == 0)) {
            let (slot, at) = self.soonest();
            match self.queue.next() {
                Some(next) if next <= at => {
                    let Some((at, event)) = self.queue.pop() else { break };
                    self.advance(at);
                    self.happen(event, watch);
                }
                _ if at == NEVER => break,
                _ => {
                    self.advance(at);
                    self.wake(slot);
                }
            }
        }
        self.check_all();
        self.record.finish(self.now)
    }

    fn advance(&mut self, at: Time) {
        if at < self.now {
            let text = format!("time runs back from {:.6} to {:.6}", self.now.as_secs(), at.as_secs());
            self.record.violation(self.now, &text);
        }
        self.now = self.now.max(at);
        self.record.run.events += 1;
    }

    fn soonest(&self) -> (usize, Time) {
        let mut soonest = (0, NEVER);
        for (slot, &at) in self.due.iter().enumerate() {
            if at < soonest.1 {
                soonest = (slot, at);
            }
        }
        soonest
    }

    fn happen(&mut self, event: Event, watch: &mut dyn Watch) {
        match event {
            Event::Second => self.begin_second(watch),
            Event::Labels => (0..self.tenants.len()).for_each(|index| self.label(index)),
            Event::Solved(solved) => self.solved(solved.0, solved.1),
            Event::Migrated(report) => self.migrated(&report),
            Event::Step { id, done } => self.step_over(id, done),
            Event::Batch { tenant, lane, worker, batch, version, compute_us } => {
                self.batch_done(tenant, lane, worker, batch, version, compute_us);
            }
            Event::Upgraded { tenant, lane, worker, version } => self.upgraded(tenant, lane, worker, version),
            Event::Swapped { tenant } => self.swapped(tenant),
            Event::Exported { tenant } => self.exported(tenant),
            Event::Published { tenant } => self.published(tenant),
            Event::Training { tenant, serial, news } => self.training_news(tenant, serial, news),
            Event::Killed { instance, task } => self.lost(instance, task),
            Event::Restart { instance, task } => self.restart(instance, task),
            Event::Restarted { instance, task, version } => self.restarted(instance, task, version),
            Event::Settled { instance, worker } => self.settled(instance, worker),
            Event::Fault(index) => self.fault(index),
        }
    }

    /// A machine's turn has come.
    fn wake(&mut self, slot: usize) {
        let index = slot.wrapping_sub(2) / 2;
        match slot {
            0 => {
                self.coordinator.handle_timeout(self.now);
                self.pump_coordinator();
            }
            1 => {
                self.migration.handle_timeout(self.now);
                self.pump_migration();
            }
            _ if slot % 2 == 1 => {
                self.trainers[index].machine.handle_timeout(self.now);
                self.pump_trainer(index);
            }
            _ if self.tenants[index].wake.is_some_and(|at| at <= self.now) => {
                self.tenants[index].machine.handle_timeout(self.now);
                self.pump_tenant(index);
            }
            _ => self.arrive(index),
        }
    }

    pub(crate) fn rearm_migration(&mut self) {
        self.due[1] = self.migration.timeout().unwrap_or(NEVER);
    }

    pub(crate) fn rearm_tenant(&mut self, index: usize) {
        self.due[2 + 2 * index] = self.tenants[index].due().unwrap_or(NEVER);
    }

    pub(crate) fn rearm_trainer(&mut self, index: usize) {
        self.due[3 + 2 * index] = self.trainers[index].machine.timeout().unwrap_or(NEVER);
    }

    fn begin_second(&mut self, watch: &mut dyn Watch) {
        let second = self.now.0 / 1_000_000;
        if second > 0 {
            for index in 0..self.tenants.len() {
                let (capacity, accuracy) = (self.tenants[index].capacity(), self.accuracy(index));
                self.record.end_second(index, capacity, accuracy);
            }
            self.check_all();
        }
        if second >= self.setup.seconds || second > 0 && !watch.second(second) {
            return self.close();
        }
        self.second.store(second, Ordering::Relaxed);
        self.record.begin_second(usize::try_from(second).unwrap_or(usize::MAX));
        self.queue.push(self.now + Duration::from_secs(1), Event::Second);
        if second > 0 {
            self.queue.push(self.now + LABELS_AFTER, Event::Labels);
        }
        self.look();
    }

    /// Nothing arrives any more; what has arrived is still answered.
    fn close(&mut self) {
        self.over = true;
        let (_, gone_s, _) = self.coordinator.window(self.now);
        if gone_s == 0.0 {
            (0..self.trainers.len()).for_each(|index| self.close_window(index));
        }
        for index in 0..self.tenants.len() {
            self.tenants[index].incoming.close();
            self.rearm_tenant(index);
        }
    }

    /// Accuracy of the version in service now; of the first one, before it is.
    fn accuracy(&self, index: usize) -> f64 {
        let tenant = &self.tenants[index];
        let version = tenant.versions[(tenant.version as usize).saturating_sub(1)];
        self.setup.tenants[index].learning.accuracy(version, self.now.as_secs())
    }
}

/// The coordinator: looks at everything, has plans made and carried out.
impl World<'_> {
    fn look(&mut self) {
        // A window that begins now begins first: what it supersedes is not to be planned for.
        self.coordinator.handle_timeout(self.now);
        self.pump_coordinator();
        let tenants = (0..self.tenants.len()).map(|index| self.seen(index)).collect();
        let instances = (0..self.setup.gpus.len()).map(|gpu| self.host.inventory(gpu)).collect();
        let tick = Tick { tenants, instances };
        for index in 0..self.trainers.len() {
            self.count(index);
        }
        self.coordinator.tick(self.now, &tick);
        self.pump_coordinator();
    }

    /// What the coordinator is told of a tenant; without accuracy, that it is perfect and can gain nothing.
    fn seen(&mut self, index: usize) -> TenantTick {
        let telemetry = self.tenants[index].machine.second(self.now);
        self.pump_tenant(index);
        let retraining = self.trainers[index].machine.status();
        if self.setup.planning.accuracy {
            return TenantTick { telemetry, retraining };
        }
        let perfect = Some(Accuracy { value: 1.0, samples: CERTAIN });
        TenantTick {
            telemetry: Telemetry { accuracy: perfect, ..telemetry },
            retraining: RetrainingStatus { expected_gain: 0.0, validated: None, ..retraining },
        }
    }

    pub(crate) fn pump_coordinator(&mut self) {
        while let Some(wish) = self.coordinator.poll(self.now) {
            match wish {
                CoordinatorWish::Solve { problem, previous, options } => self.solve(&problem, previous.as_ref(), &options),
                CoordinatorWish::Execute { problem, plan, transition } => {
                    let generation = plan.generation;
                    match self.migration.begin(self.now, &problem, &plan, transition) {
                        Ok(()) => self.pump_migration(),
                        Err(refused) => self.coordinator.refused(self.now, generation, &refused.to_string()),
                    }
                }
                CoordinatorWish::StartWindow { window } => {
                    (0..self.trainers.len()).for_each(|index| self.window_started(index, window));
                }
            }
        }
        let decisions = self.coordinator.take_decisions();
        self.record.run.decisions.extend(decisions);
        self.due[0] = self.coordinator.timeout().filter(|_| !self.over).unwrap_or(NEVER);
        if self.setup.check_always {
            self.check_coordinator();
        }
    }

    fn solve(&mut self, problem: &Problem, previous: Option<&Plan>, options: &SolveOptions) {
        let result = if fails(&mut self.host.failing_solves) {
            Err("the solver was told to fail".to_owned())
        } else {
            self.record.run.solves += 1;
            // Nobody reads why not.
            let options = SolveOptions { explain: false, ..options.clone() };
            self.policy.plan(problem, previous, &options, None).map_err(|error| error.to_string())
        };
        let result = result.map(|mut outcome| {
            if !self.setup.planning.hand_over {
                without_hand_over(problem, &mut outcome.plan);
            }
            outcome
        });
        let after = Duration::try_from_secs_f64(self.setup.planning.solve_s).unwrap_or_default();
        self.queue.push(self.now + after, Event::Solved(Box::new((options.generation, result))));
    }

    fn solved(&mut self, generation: Generation, result: Result<Outcome, String>) {
        self.coordinator.solved(self.now, generation, result, self.setup.planning.solve_s * 1e3);
        self.pump_coordinator();
    }

    fn migrated(&mut self, report: &MigrationReport) {
        self.record.run.reconfigurations += 1;
        self.record.run.overhead_s += report.lost_s;
        self.record.run.idle_slice_s += report.idle_slice_s;
        self.coordinator.migrated(self.now, report);
        self.pump_coordinator();
        if !self.over {
            self.look();
        }
    }
}

fn coordinator(setup: &Setup, second: &Arc<AtomicU64>) -> CoordinatorMachine {
    let machine = CoordinatorMachine::new(crate::machines::coordinator(setup), Generation(0));
    let known = |tenant: &crate::setup::TenantSetup| -> Box<dyn Forecaster> {
        Box::new(Known { arrivals: tenant.arrivals.clone(), second: Arc::clone(second) })
    };
    match setup.planning.foresight {
        Foresight::Forecast(_) => machine,
        Foresight::Perfect => machine.forecast_by(setup.tenants.iter().map(known).collect()),
    }
}

/// What a running instance would be handed over for is made anew at the same place.
fn without_hand_over(problem: &Problem, plan: &mut Plan) {
    for (gpu, planned) in problem.gpus.iter().zip(&mut plan.gpus) {
        for allocation in &mut planned.allocations {
            let there = gpu.instances.iter().find(|instance| Some(instance.id) == allocation.instance);
            if there.is_some_and(|there| there.task.is_some() && there.task != allocation.task) {
                allocation.instance = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use migrator_solver::{Allocation, GpuPlan, GpuState, InstanceId, InstanceState, Task, TenantId, TransitionCosts};

    use super::*;
    use crate::example::example;

    #[test]
    fn without_hand_over_only_what_changes_its_owner_is_made_anew() {
        let site = |index: usize| example(&[], 1).gpus[0].sites()[index];
        let task = |tenant| Some(Task::inference(TenantId(tenant)));
        let there = |id, task| InstanceState { id: InstanceId(id), site: site(id as usize), task, ready_in_s: 0.0, pinned: false };
        let costs = TransitionCosts { drain_s: 0.0, handover_s: 0.0, preload: true };
        let gpus = vec![GpuState { model: 0, instances: vec![there(0, task(0)), there(1, task(1)), there(2, None)] }];
        let problem = Problem { models: Vec::new(), gpus, tenants: Vec::new(), window_left_s: 0.0, beyond_window_s: 0.0, costs };
        let stays = |id, task| Allocation { site: site(id as usize), instance: Some(InstanceId(id)), task };
        let mut plan =
            Plan { gpus: vec![GpuPlan { allocations: vec![stays(0, task(0)), stays(1, task(0)), stays(2, task(1))] }], ..Plan::default() };
        without_hand_over(&problem, &mut plan);
        let kept: Vec<bool> = plan.gpus[0].allocations.iter().map(|allocation| allocation.instance.is_some()).collect();
        assert_eq!(kept, [true, false, true]);
    }
}
