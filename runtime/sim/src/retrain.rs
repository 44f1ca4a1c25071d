//! One tenant's retraining: what its actor does around a [`RetrainingMachine`], with progress by the profile's speed for a worker.

use std::time::Duration;

use migrator_machine::retraining::{RetrainingState, RetrainingWish};
use migrator_models::Trained;
use migrator_solver::{InstanceId, Task, TenantId};

use crate::event::{Done, Event, News};
use crate::learn::Version;
use crate::machines::{HELD_OUT, collected};
use crate::trainer::{Dataset, Training, seconds};
use crate::world::World;

/// Samples in a step of the optimizer.
const BATCH: f64 = 32.0;
/// A worker tells how far it is this often, of its work.
const REPORT_S: f64 = 1.0;
/// Forward and backward cost about three times the forward pass alone; the validation has only that, for two versions.
const VALIDATION: f64 = 2.0 / 3.0;
/// How often the labelled samples are counted while too few are there.
const COUNT_EVERY: Duration = Duration::from_secs(1);

impl World<'_> {
    pub(crate) fn pump_trainer(&mut self, index: usize) {
        while let Some(wish) = self.trainers[index].machine.poll(self.now) {
            match wish {
                RetrainingWish::Export { window } => self.export(index, window),
                // Its retrainings come in one configuration.
                RetrainingWish::Profile { window, .. } => self.trainers[index].machine.profiled(self.now, window, Err(String::new())),
                RetrainingWish::Start { instance, window, resume } => self.start_training(index, instance, window, resume),
                RetrainingWish::Pause { instance } => self.pause_training(index, instance),
                RetrainingWish::Drained { instance } => self.training_drained(index, instance),
                RetrainingWish::Stalled { instance } => self.kill(instance, Task::retraining(TenantId(index as u16))),
                // Nothing is told of what its versions answer, so none is taken back.
                RetrainingWish::Rollback { .. } => self.trainers[index].machine.published(self.now, Err(String::new())),
                // The simulator's tenants have no canaries.
                RetrainingWish::Canary { .. } => self.trainers[index].machine.canaried(self.now, Err(String::new())),
                RetrainingWish::Publish { .. } => self.queue.push(self.now, Event::Published { tenant: index }),
                RetrainingWish::Discard { window, .. } => self.clean(index, window),
                RetrainingWish::Swap { version, accuracy, held_out } => self.swap(index, version, accuracy, held_out),
            }
        }
        self.rearm_trainer(index);
        if self.setup.check_always {
            self.check_trainer(index);
        }
    }

    pub(crate) fn window_started(&mut self, index: usize, window: u64) {
        self.close_window(index);
        let (now, trainer) = (self.now, &mut self.trainers[index]);
        trainer.previous_start = trainer.current_start;
        trainer.current_start = now;
        trainer.machine.window_started(now, window);
        self.count(index);
        self.pump_trainer(index);
    }

    /// Counts what the window that ends came to.
    pub(crate) fn close_window(&mut self, index: usize) {
        let trainer = &mut self.trainers[index];
        self.record.run.tenants[index].missed += u32::from(trainer.due && !trainer.published);
        trainer.due = trainer.machine.status().due;
        trainer.published = false;
    }

    /// Tells the machine how many samples an export would have now, while that matters.
    pub(crate) fn count(&mut self, index: usize) {
        let (now, limit) = (self.now, collected(self.setup.tenants[index].learning.samples));
        let trainer = &mut self.trainers[index];
        let waits = trainer.machine.state() == RetrainingState::Collecting;
        if !waits || trainer.counted_at.is_some_and(|at| now.since(at) < COUNT_EVERY / 2) {
            return;
        }
        trainer.counted_at = Some(now);
        let count = trainer.labelled_since(trainer.previous_start).min(limit);
        trainer.machine.samples(now, count);
        self.pump_trainer(index);
    }

    fn export(&mut self, index: usize, window: u64) {
        let limit = collected(self.setup.tenants[index].learning.samples);
        let trainer = &mut self.trainers[index];
        let fresh = trainer.labelled_since(trainer.previous_start).min(limit);
        let held_out = (fresh as f64 * HELD_OUT) as u64;
        let data_s = trainer.middle(fresh).as_secs();
        trainer.dataset = Some(Dataset { window, samples: fresh - held_out, held_out, data_s });
        self.queue.push(self.now, Event::Exported { tenant: index });
    }

    pub(crate) fn exported(&mut self, index: usize) {
        let (now, trainer) = (self.now, &mut self.trainers[index]);
        let (window, samples) = trainer.dataset.map_or((0, 0), |data| (data.window, data.samples));
        trainer.machine.exported(now, window, Ok(samples));
        trainer.due |= trainer.machine.status().due;
        self.pump_trainer(index);
    }

    pub(crate) fn place(&mut self, index: usize, instance: InstanceId) {
        self.trainers[index].placed.insert(instance);
        self.trainers[index].machine.placed(self.now, instance);
        self.pump_trainer(index);
    }

    pub(crate) fn take_away(&mut self, id: usize, index: usize, instance: InstanceId) {
        let (now, trainer) = (self.now, &mut self.trainers[index]);
        trainer.drains.entry(instance).or_default().push(id);
        trainer.machine.take_away(now, instance);
        self.pump_trainer(index);
    }

    pub(crate) fn training_lost(&mut self, index: usize, instance: InstanceId) {
        self.stop_training(index, instance);
        self.trainers[index].placed.remove(&instance);
        self.trainers[index].machine.instance_lost(self.now, instance);
        self.pump_trainer(index);
    }

    /// Its worker is gone, with what was done since the last checkpoint.
    pub(crate) fn stop_training(&mut self, index: usize, instance: InstanceId) {
        let trainer = &mut self.trainers[index];
        if let Some(run) = trainer.run.as_mut().filter(|run| run.instance == instance && run.computing) {
            (run.computing, run.step) = (false, run.checkpoint);
            trainer.serial += 1;
            self.record.works(self.now, instance, false);
        }
    }

    fn start_training(&mut self, index: usize, instance: InstanceId, window: u64, resume: bool) {
        let now = self.now;
        let learning = &self.setup.tenants[index].learning;
        let made = self.host.instances.get(&instance).filter(|_| self.trainers[index].placed.contains(&instance));
        let parent = self.tenants[index].newest();
        let trainer = &mut self.trainers[index];
        let (Some(&made), Some(data)) = (made, trainer.dataset.filter(|data| data.window == window)) else {
            trainer.machine.instance_lost(now, instance);
            return;
        };
        let sample_s = learning.sample_s.get(made.site.profile.index()).copied().filter(|s| s.is_finite() && *s >= 0.0);
        let Some(sample_s) = sample_s else {
            trainer.machine.failed(now, "it does not fit on its instance");
            return;
        };
        let passes = f64::from(learning.epochs) * data.samples as f64;
        let begun = trainer.run.filter(|run| resume && run.data.window == window);
        let steps = begun.map_or((passes / BATCH).ceil().max(1.0) as u64, |run| run.steps);
        let step = begun.map_or(0, |run| run.checkpoint);
        let step_s = passes * sample_s / steps as f64;
        let validation_s = data.held_out as f64 * sample_s * VALIDATION;
        let parent = begun.map_or(parent, |run| run.parent);
        let run = Training { data, instance, parent, steps, step, since: now, step_s, validation_s, checkpoint: step, computing: true };
        trainer.run = Some(run);
        trainer.serial += 1;
        self.record.occupy(now, instance, made.gpu, made.site, Some(Task::retraining(TenantId(index as u16))), true);
        self.report_next(index);
    }

    /// Arranges what its worker tells next.
    fn report_next(&mut self, index: usize) {
        let trainer = &self.trainers[index];
        let Some(run) = &trainer.run else { return };
        let at = (self.now + seconds(REPORT_S)).min(run.ends());
        self.queue.push(at, Event::Training { tenant: index, serial: trainer.serial, news: News::Progress });
    }

    fn pause_training(&mut self, index: usize, instance: InstanceId) {
        let now = self.now;
        let wait = self.steps_dice.about(self.setup.times.checkpoint_s, self.setup.times.jitter);
        let trainer = &mut self.trainers[index];
        let Some(run) = trainer.run.as_mut().filter(|run| run.instance == instance && run.computing) else {
            trainer.machine.instance_lost(now, instance);
            return;
        };
        let step = run.step_at(now);
        if step >= run.steps {
            // It validates already, and says when it is through.
            return;
        }
        (run.step, run.since) = (step, now);
        run.step_s = f64::INFINITY;
        trainer.serial += 1;
        self.queue.push(now + wait, Event::Training { tenant: index, serial: trainer.serial, news: News::Paused });
    }

    pub(crate) fn training_news(&mut self, index: usize, serial: u64, news: News) {
        if self.trainers[index].serial != serial {
            return;
        }
        match news {
            News::Progress => self.progressed(index),
            News::Paused => self.paused(index),
            News::Trained => self.trained(index),
        }
        self.pump_trainer(index);
    }

    fn progressed(&mut self, index: usize) {
        let (now, fastest_s) = (self.now, self.core_s_per_sample(index));
        let trainer = &mut self.trainers[index];
        let Some((step, steps, core_s)) = trainer.progress(now, fastest_s) else { return };
        trainer.machine.progress(now, step, steps, core_s);
        let Some(run) = trainer.run.as_mut() else { return };
        run.checkpoint = step;
        if step < steps {
            self.report_next(index);
        } else {
            let through = now + seconds(run.validation_s);
            self.queue.push(through, Event::Training { tenant: index, serial: trainer.serial, news: News::Trained });
        }
    }

    fn paused(&mut self, index: usize) {
        let (now, trainer) = (self.now, &mut self.trainers[index]);
        let Some(run) = trainer.run.as_mut() else { return };
        (run.computing, run.checkpoint) = (false, run.step);
        let (instance, step, steps) = (run.instance, run.step, run.steps);
        trainer.serial += 1;
        self.record.works(now, instance, false);
        self.trainers[index].machine.paused(now, step, steps);
    }

    fn trained(&mut self, index: usize) {
        let (now, core_s) = (self.now, self.core_s_per_sample(index));
        let Some(mut run) = self.trainers[index].run else { return };
        let data = run.data;
        let parent = self.tenants[index].versions.get((run.parent as usize).saturating_sub(1)).copied();
        let learning = &self.setup.tenants[index].learning;
        let before = parent.map_or(0.0, |parent| learning.accuracy(parent, data.data_s));
        let after = learning.accuracy(self.outcome(index, data), data.data_s);
        let trainer = &mut self.trainers[index];
        let mut measure = |accuracy| trainer.dice.successes(data.held_out, accuracy) as f64 / data.held_out.max(1) as f64;
        let (before, after) = (measure(before), measure(after));
        (run.computing, run.step) = (false, run.steps);
        trainer.run = Some(run);
        trainer.serial += 1;
        // It keeps its instance until somebody wants it.
        self.record.spare(now, run.instance);
        let trained = Trained { before, after, held_out: data.held_out, core_s: data.samples as f64 * core_s, ..Trained::default() };
        self.trainers[index].machine.trained(now, trained);
    }

    /// The version that training on a data set gives.
    fn outcome(&self, index: usize, data: Dataset) -> Version {
        let learning = &self.setup.tenants[index].learning;
        let share = data.samples as f64 / (learning.samples as f64).max(1.0);
        learning.trained(data.data_s, f64::from(learning.epochs) * share.min(1.0))
    }

    /// Seconds of one sample, all epochs, on the fastest profile.
    fn core_s_per_sample(&self, index: usize) -> f64 {
        let learning = &self.setup.tenants[index].learning;
        learning.fastest_s().unwrap_or(0.0) * f64::from(learning.epochs)
    }

    pub(crate) fn published(&mut self, index: usize) {
        let now = self.now;
        let result = match self.trainers[index].run {
            Some(run) => {
                let version = self.outcome(index, run.data);
                self.tenants[index].versions.push(version);
                self.trainers[index].published = true;
                self.record.run.tenants[index].published += 1;
                Ok(self.tenants[index].newest())
            }
            None => Err("nothing was trained".to_owned()),
        };
        let trainer = &mut self.trainers[index];
        trainer.machine.published(now, result);
        trainer.run = None;
        self.pump_trainer(index);
    }

    pub(crate) fn swapped(&mut self, index: usize) {
        self.trainers[index].machine.swapped(self.now, Ok(()));
        self.pump_trainer(index);
    }

    fn training_drained(&mut self, index: usize, instance: InstanceId) {
        let trainer = &mut self.trainers[index];
        trainer.placed.remove(&instance);
        for id in trainer.drains.remove(&instance).unwrap_or_default() {
            self.queue.push(self.now, Event::Step { id, done: Done::Drained });
        }
    }

    fn clean(&mut self, index: usize, window: u64) {
        let trainer = &mut self.trainers[index];
        trainer.run.take_if(|run| run.data.window == window);
    }
}
