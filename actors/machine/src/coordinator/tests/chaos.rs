//! Random events; the invariants hold after every one.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
struct Second {
    arrivals: [u64; 2],
    due: [bool; 2],
    loses: u8,
    fails: u8,
}

fn second() -> impl Strategy<Value = Second> {
    ((0u64..120, 0u64..120), any::<[bool; 2]>(), 0u8..20, 0u8..12).prop_map(|((a, b), due, loses, fails)| Second {
        arrivals: [a, b],
        due,
        loses,
        fails,
    })
}

/// Coordinator, solver, migration and a device that does what it is told, or fails.
struct World {
    coordinator: CoordinatorMachine,
    migration: MigrationMachine,
    instances: Vec<InstanceState>,
    running: Vec<(usize, Step, Option<InstanceId>)>,
    made: u64,
    executed: u32,
}

impl World {
    fn second(&mut self, now: Time, what: Second) {
        if what.loses == 0 && self.migration.running().is_none() && !self.instances.is_empty() {
            let lost = self.instances.remove(0);
            self.coordinator.instance_lost(now, lost.id);
        }
        let mut tick = tick(what.arrivals, self.instances.clone());
        for (tenant, due) in tick.tenants.iter_mut().zip(what.due) {
            tenant.retraining = RetrainingStatus { due, core_s_left: 20.0, expected_gain: 0.1, ..Default::default() };
        }
        self.coordinator.tick(now, &tick);
        self.settle(now);
        self.step(now, what.fails);
        self.settle(now);
    }

    fn settle(&mut self, now: Time) {
        loop {
            let mut quiet = true;
            for wish in polled(&mut self.coordinator, now) {
                quiet = false;
                match wish {
                    CoordinatorWish::Solve { problem, previous, options } => {
                        let outcome = solve(&problem, previous.as_ref(), &options).map_err(|error| error.to_string());
                        self.coordinator.solved(now, options.generation, outcome, 1.0);
                    }
                    CoordinatorWish::Execute { problem, plan, transition } => {
                        self.executed += 1;
                        self.migration.begin(now, &problem, &plan, transition).expect("begun");
                    }
                    CoordinatorWish::StartWindow { .. } => {}
                }
            }
            while let Some(wish) = self.migration.poll(now) {
                quiet = false;
                match wish {
                    MigrationWish::Do { id, step, instance, .. } => self.running.push((id, step, instance)),
                    MigrationWish::Finished(report) => self.coordinator.migrated(now, &report),
                    MigrationWish::Unstage { .. } => {}
                }
            }
            assert_eq!(self.migration.check(), []);
            if quiet {
                return;
            }
        }
    }

    /// Every step that runs is over; the first fails when `fails` is 0.
    fn step(&mut self, now: Time, fails: u8) {
        self.migration.handle_timeout(now);
        for (index, (id, step, instance)) in std::mem::take(&mut self.running).into_iter().enumerate() {
            let result = if index == 0 && fails == 0 { Err(StepError::Failed("broken".into())) } else { Ok(self.device(step, instance)) };
            self.migration.done(now, id, result);
        }
    }

    fn device(&mut self, step: Step, instance: Option<InstanceId>) -> StepOk {
        match step {
            Step::Create { key } => {
                self.made += 1;
                let id = InstanceId(self.made);
                let overlaps = self.instances.iter().any(|i| i.site.placement.overlaps(key.site.placement));
                assert!(!overlaps, "the device refuses {key:?}");
                self.instances.push(InstanceState { id, site: key.site, task: None, ready_in_s: 0.0, pinned: false });
                self.instances.sort_by_key(|i| i.site);
                return StepOk { instance: Some(id) };
            }
            Step::Destroy { instance, .. } => self.instances.retain(|i| i.id != instance),
            Step::Release { instance, .. } => self.bind(Some(instance), None),
            Step::Bind { task, .. } => self.bind(instance, Some(task)),
            Step::Drain { .. } | Step::Preload { .. } | Step::Admit { .. } => {}
        }
        StepOk::default()
    }

    fn bind(&mut self, instance: Option<InstanceId>, task: Option<Task>) {
        let found = self.instances.iter_mut().find(|i| Some(i.id) == instance).expect("it exists");
        assert!(task.is_none() || found.task.is_none(), "two tasks on one instance");
        found.task = task;
    }
}

fn world() -> World {
    let config = CoordinatorConfig { policy: migrator_solver::PolicyName::Greedy, ..config() };
    let coordinator = CoordinatorMachine::new(config, Generation(0));
    let migration = MigrationMachine::new(MigrationConfig::default());
    World { coordinator, migration, instances: vec![], running: vec![], made: 0, executed: 0 }
}

#[test]
fn steady_demand_is_planned_for_once_and_then_left_alone() {
    let mut world = world();
    for at in 0..120 {
        world.second(s(f64::from(at)), Second { arrivals: [20, 5], due: [false; 2], loses: 1, fails: 1 });
    }
    assert!(world.coordinator.capacity_rps().iter().all(|&rps| rps > 5.0), "{:?}", world.coordinator.capacity_rps());
    assert!((1..=3).contains(&world.executed), "{} changes: {:#?}", world.executed, verdicts(&mut world.coordinator));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn coordinator_and_migration_hold_their_invariants_and_recover(seconds in prop::collection::vec(second(), 1..60)) {
        let mut world = world();
        let mut now = 0.0;
        for what in seconds {
            world.second(s(now), what);
            now += 1.0;
        }
        for _ in 0..200 {
            world.second(s(now), Second { arrivals: [20, 20], due: [false; 2], loses: 1, fails: 1 });
            now += 1.0;
        }
        let capacity = world.coordinator.capacity_rps();
        prop_assert!(capacity.iter().all(|&rps| rps > 0.0), "{capacity:?} {:?}", world.coordinator.take_decisions().last());
    }
}
