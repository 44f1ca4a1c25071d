//! The steps of a migration: how long each takes, and what is so when it is over.

use std::time::Duration;

use migrator_machine::MigrationWish;
use migrator_machine::migration::{StepError, StepOk};
use migrator_solver::{InstanceId, SiteKey, Step, Target, Task, TaskKind};

use crate::event::{Done, Event};
use crate::host::{BoundState, Made, fails};
use crate::world::World;

impl World<'_> {
    pub(crate) fn pump_migration(&mut self) {
        while let Some(wish) = self.migration.poll(self.now) {
            match wish {
                MigrationWish::Do { id, step, instance, .. } => self.carry_out(id, step, instance),
                MigrationWish::Unstage { target, task } => {
                    self.host.staged.remove(&(target, task));
                }
                MigrationWish::Finished(report) => {
                    self.host.staged.clear();
                    self.queue.push(self.now, Event::Migrated(Box::new(report)));
                }
            }
        }
        self.rearm_migration();
        if self.setup.check_always {
            self.check_migration();
        }
    }

    fn carry_out(&mut self, id: usize, step: Step, instance: Option<InstanceId>) {
        match (step, instance) {
            (Step::Preload { target, task }, _) => self.preload(id, target, task),
            (Step::Create { key }, _) => self.create(id, key),
            (Step::Drain { task, .. }, Some(instance)) => self.drain(id, instance, task),
            (Step::Release { .. }, Some(instance)) => self.release(id, instance),
            (Step::Destroy { .. }, Some(instance)) => self.destroy(id, instance),
            (Step::Bind { target, task }, Some(instance)) => self.bind(id, target, instance, task),
            (Step::Admit { task, .. }, Some(instance)) => {
                let after = self.about(self.setup.times.admit_s);
                self.finish(id, after, Done::Admitted { instance, task });
            }
            (_, None) => self.finish(id, Duration::ZERO, Done::Failed(failed("its instance does not exist"))),
        }
    }

    fn finish(&mut self, id: usize, after: Duration, done: Done) {
        self.queue.push(self.now + after, Event::Step { id, done });
    }

    fn about(&mut self, seconds: f64) -> Duration {
        self.steps_dice.about(seconds, self.setup.times.jitter)
    }

    /// Until a worker is started and has the task's model loaded, and which version that is.
    pub(crate) fn load(&mut self, task: Task) -> (Duration, u32) {
        let version = self.tenants[task.tenant.index()].newest();
        if self.host.take_stashed(task, version) {
            return (Duration::ZERO, version);
        }
        (self.about(self.setup.tenants[task.tenant.index()].load_s), version)
    }

    fn preload(&mut self, id: usize, target: Target, task: Task) {
        let (after, version) = self.load(task);
        self.finish(id, after, Done::Staged { target, task, version });
    }

    fn create(&mut self, id: usize, key: SiteKey) {
        let after = self.about(by_profile(&self.setup.times.create_s, key.site.profile.index()));
        let broken = self.host.failing.get_mut(key.gpu).is_some_and(|failing| fails(&mut failing.creates));
        let done = if broken { Done::Failed(failed("the device refused the create")) } else { Done::Created { key } };
        self.finish(id, after, done);
    }

    fn destroy(&mut self, id: usize, instance: InstanceId) {
        let Some(made) = self.host.instances.get(&instance).copied() else {
            return self.finish(id, Duration::ZERO, Done::Failed(failed("its instance does not exist")));
        };
        let in_use = self.host.failing.get_mut(made.gpu).is_some_and(|failing| fails(&mut failing.destroys));
        if in_use || self.host.bound.contains_key(&instance) {
            return self.finish(id, Duration::ZERO, Done::Failed(StepError::InUse));
        }
        let after = self.about(by_profile(&self.setup.times.destroy_s, made.site.profile.index()));
        self.finish(id, after, Done::Destroyed { instance });
    }

    fn drain(&mut self, id: usize, instance: InstanceId, task: Task) {
        if let Some(bound) = self.host.bound.get_mut(&instance) {
            bound.state = BoundState::Draining;
            self.record.works(self.now, instance, false);
        }
        match task.kind {
            TaskKind::Inference => self.drain_lane(id, task.tenant.index(), instance),
            TaskKind::Retraining => self.take_away(id, task.tenant.index(), instance),
        }
    }

    fn release(&mut self, id: usize, instance: InstanceId) {
        if let Some(bound) = self.host.bound.remove(&instance)
            && bound.task.kind == TaskKind::Retraining
        {
            self.stop_training(bound.task.tenant.index(), instance);
        }
        self.show(instance);
        let after = self.about(self.setup.times.release_s);
        self.finish(id, after, Done::Released);
    }

    fn bind(&mut self, id: usize, target: Target, instance: InstanceId, task: Task) {
        let bind = self.about(self.setup.times.bind_s);
        let (load, version) = match self.host.staged.remove(&(target, task)) {
            Some(version) => (Duration::ZERO, version),
            None => (self.about(self.setup.tenants[task.tenant.index()].load_s), self.tenants[task.tenant.index()].newest()),
        };
        self.finish(id, load + bind, Done::Bound { instance, task, version });
    }

    /// A step is over: its effect, then the machine's turn.
    pub(crate) fn step_over(&mut self, id: usize, done: Done) {
        let result = self.take_effect(done);
        self.migration.done(self.now, id, result);
        self.pump_migration();
    }

    fn take_effect(&mut self, done: Done) -> Result<StepOk, StepError> {
        match done {
            Done::Staged { target, task, version } => {
                self.host.staged.insert((target, task), version);
            }
            Done::Created { key } => {
                let made = self.host.make(key.gpu, key.site).map_err(|clash| {
                    self.record.violation(self.now, &format!("two owners of one site: {clash}"));
                    StepError::Failed(clash)
                })?;
                self.show(made);
                return Ok(StepOk { instance: Some(made) });
            }
            Done::Destroyed { instance } => {
                self.host.instances.remove(&instance);
                self.host.restarts.remove(&instance);
                self.record.vacate(self.now, instance);
            }
            Done::Bound { instance, task, version } => {
                if !self.host.instances.contains_key(&instance) {
                    return Err(failed("its instance does not exist"));
                }
                self.host.bind(instance, task, version);
                self.show(instance);
            }
            Done::Admitted { instance, task } => self.open(instance, task)?,
            Done::Drained | Done::Released => {}
            Done::Failed(error) => return Err(error),
        }
        Ok(StepOk::default())
    }

    /// Opens a bound worker for its task's work.
    pub(crate) fn open(&mut self, instance: InstanceId, task: Task) -> Result<(), StepError> {
        let bound = self.host.bound.get_mut(&instance).filter(|bound| bound.task == task).ok_or_else(|| failed("its worker is gone"))?;
        bound.state = BoundState::Serving;
        let (worker, version) = (bound.worker, bound.version);
        self.show(instance);
        match task.kind {
            TaskKind::Inference => self.lane_up(task.tenant.index(), instance, worker, version),
            TaskKind::Retraining => self.place(task.tenant.index(), instance),
        }
        Ok(())
    }

    /// Writes down whose an instance is now; a retraining works once it computes.
    pub(crate) fn show(&mut self, instance: InstanceId) {
        let Some(&Made { gpu, site }) = self.host.instances.get(&instance) else { return };
        let bound = self.host.bound.get(&instance);
        let serves = bound.is_some_and(|bound| bound.state == BoundState::Serving && bound.task.kind == TaskKind::Inference);
        self.record.occupy(self.now, instance, gpu, site, bound.map(|bound| bound.task), serves);
    }
}

pub(crate) fn failed(reason: &str) -> StepError {
    StepError::Failed(reason.to_owned())
}

fn by_profile(table: &[f64], profile: usize) -> f64 {
    table.get(profile).copied().unwrap_or(0.0)
}
