//! What is known of one tenant's retraining: its labels, its data set, and how far it is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use migrator_machine::{RetrainingMachine, Time};
use migrator_solver::InstanceId;

use crate::dice::{Dice, Purpose};
use crate::setup::Setup;

/// One tenant's retraining.
#[derive(Debug)]
pub(crate) struct Trainer {
    pub machine: RetrainingMachine,
    /// Instances with a worker placed for it.
    pub placed: BTreeSet<InstanceId>,
    /// Steps that wait until nothing of it runs on an instance.
    pub drains: BTreeMap<InstanceId, Vec<usize>>,
    pub dataset: Option<Dataset>,
    pub run: Option<Training>,
    /// Distinguishes what its worker tells now from what an earlier one told.
    pub serial: u64,
    /// When labels came, and how many until then.
    pub labels: Vec<(Time, u64)>,
    /// When the window before the current one began.
    pub previous_start: Time,
    pub current_start: Time,
    pub counted_at: Option<Time>,
    /// Whether this window's retraining was due, and whether a version was published.
    pub due: bool,
    pub published: bool,
    pub dice: Dice,
}

/// What a window's retraining learns from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dataset {
    pub window: u64,
    pub samples: u64,
    pub held_out: u64,
    pub data_s: f64,
}

/// The retraining that runs, or ran last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Training {
    pub data: Dataset,
    pub instance: InstanceId,
    /// Version it starts from.
    pub parent: u32,
    pub steps: u64,
    /// Done at `since`.
    pub step: u64,
    pub since: Time,
    /// Seconds of a step, and of the validation, on its instance.
    pub step_s: f64,
    pub validation_s: f64,
    /// What it last wrote to a checkpoint.
    pub checkpoint: u64,
    pub computing: bool,
}

impl Trainer {
    pub fn new(setup: &Setup, index: usize) -> Trainer {
        Trainer {
            machine: RetrainingMachine::new(crate::machines::retraining(setup, index)),
            placed: BTreeSet::new(),
            drains: BTreeMap::new(),
            dataset: None,
            run: None,
            serial: 0,
            labels: Vec::new(),
            previous_start: Time::ZERO,
            current_start: Time::ZERO,
            counted_at: None,
            due: false,
            published: false,
            dice: Dice::new(setup.seed, Purpose::Validation(index)),
        }
    }

    /// The instance that it computes on now.
    pub fn computing_on(&self) -> Option<InstanceId> {
        self.run.as_ref().filter(|run| run.computing).map(|run| run.instance)
    }

    /// Labels came back.
    pub fn labelled(&mut self, now: Time, count: u64) {
        let before = self.labels.last().map_or(0, |last| last.1);
        if count > 0 {
            self.labels.push((now, before + count));
        }
    }

    /// Labelled samples from that moment on.
    pub fn labelled_since(&self, from: Time) -> u64 {
        let before = self.labels.partition_point(|(at, _)| *at < from);
        self.labels.last().map_or(0, |last| last.1) - before.checked_sub(1).map_or(0, |index| self.labels[index].1)
    }

    /// The moment of the middle one of the newest `count` samples.
    pub fn middle(&self, count: u64) -> Time {
        let all = self.labels.last().map_or(0, |last| last.1);
        let middle = self.labels.partition_point(|(_, until)| *until < all - (count / 2).min(all));
        self.labels.get(middle).or(self.labels.last()).map_or(Time::ZERO, |label| label.0)
    }

    /// Steps done at `now`, and CPU seconds in units of the fastest profile.
    pub fn progress(&self, now: Time, fastest_s: f64) -> Option<(u64, u64, f64)> {
        let run = self.run.as_ref()?;
        let step = if run.computing { run.step_at(now) } else { run.step };
        let core_s = step as f64 / run.steps as f64 * run.data.samples as f64 * fastest_s;
        Some((step, run.steps, core_s))
    }
}

impl Training {
    pub fn step_at(&self, now: Time) -> u64 {
        // A step that ends now counts, however the microseconds were rounded.
        let done = ((now.since(self.since).as_secs_f64() + 2e-6) / self.step_s.max(1e-9)) as u64;
        (self.step + done).min(self.steps)
    }

    pub fn ends(&self) -> Time {
        self.since + seconds((self.steps - self.step) as f64 * self.step_s)
    }
}

pub(crate) fn seconds(seconds: f64) -> Duration {
    Duration::from_micros((seconds.clamp(0.0, 1e7) * 1e6).round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::example::example;

    #[test]
    fn labels_are_counted_from_a_moment_on_and_have_a_middle() {
        let mut trainer = Trainer::new(&example(&[10], 10), 0);
        for (second, count) in [(1, 5), (2, 0), (3, 5), (4, 10)] {
            trainer.labelled(Time::from_secs(f64::from(second)), count);
        }
        assert_eq!(trainer.labelled_since(Time::ZERO), 20);
        assert_eq!(trainer.labelled_since(Time::from_secs(2.0)), 15);
        assert_eq!(trainer.labelled_since(Time::from_secs(9.0)), 0);
        assert_eq!(trainer.middle(10), Time::from_secs(4.0));
        assert_eq!(trainer.middle(20), Time::from_secs(3.0));
        assert_eq!(Trainer::new(&example(&[10], 10), 0).middle(4), Time::ZERO);
    }
}
