//! A retraining that a stop of the server interrupted goes on where its checkpoint is.

use migrator_models::TrainSpec;
use serde::{Deserialize, Serialize};

use super::RetrainingMachine;
use super::choice::Choice;
use super::gain::Prospect;
use super::job::Job;
use super::types::RetrainingState;
use crate::Time;

/// What is kept of a retraining once a worker has begun it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interrupted {
    /// Its window.
    pub window: u64,
    /// Samples to train on.
    pub samples: u64,
    /// The configuration chosen, where there was a choice.
    pub configuration: Option<TrainSpec>,
    /// Gain that it was chosen for.
    pub gain: f64,
    /// What was foretold of it.
    pub foretold: Option<Prospect>,
}

impl RetrainingMachine {
    /// What to keep of the retraining that a worker has begun; none when there is none.
    pub fn interruptible(&self) -> Option<Interrupted> {
        let job = &self.job;
        (self.computing() && job.begun).then(|| Interrupted {
            window: job.window,
            samples: job.samples,
            configuration: self.configuration().cloned(),
            gain: job.choice.map_or(0.0, |choice| choice.gain),
            foretold: job.foretold,
        })
    }

    /// Takes up a retraining of an earlier run, before the first window: it waits for an instance. `false` when it cannot be taken up:
    /// the tenant is no longer retrained, or not in that way.
    pub fn take_up(&mut self, now: Time, kept: &Interrupted) -> bool {
        let index = kept.configuration.as_ref().map(|how| self.config.configurations.iter().position(|other| other == how));
        if !self.config.enabled || self.state != RetrainingState::Idle || index == Some(None) {
            return false;
        }
        let choice = index.flatten().map(|index| Choice { index, gain: kept.gain });
        self.job = Job {
            window: kept.window,
            samples: kept.samples,
            exported: Some(now),
            begun: true,
            profiled: true,
            choice,
            foretold: kept.foretold,
            ..Job::default()
        };
        self.enter(RetrainingState::Paused, None);
        true
    }
}

#[cfg(test)]
mod tests {
    use migrator_models::Trained;
    use migrator_solver::InstanceId;

    use super::super::{RetrainingConfig, RetrainingWish, usual};
    use super::*;

    const HERE: InstanceId = InstanceId(1);

    fn machine(configurations: Vec<TrainSpec>) -> RetrainingMachine {
        RetrainingMachine::new(RetrainingConfig { configurations, ..RetrainingConfig::default() })
    }

    #[test]
    fn what_a_worker_had_begun_goes_on_from_its_checkpoint() {
        let mut first = machine(Vec::new());
        first.window_started(Time(0), 5);
        first.samples(Time(0), 100);
        assert_eq!(first.interruptible(), None);
        first.exported(Time(1), 5, Ok(160));
        first.placed(Time(2), HERE);
        let kept = first.interruptible().unwrap();
        assert_eq!((kept.window, kept.samples), (5, 160));

        let mut second = machine(Vec::new());
        assert!(second.take_up(Time(0), &kept));
        second.window_started(Time(1), 0);
        second.placed(Time(2), HERE);
        assert_eq!(second.poll(Time(2)), Some(RetrainingWish::Start { instance: HERE, window: 5, resume: true }));
        second.trained(Time(3), Trained { before: 0.5, after: 0.9, held_out: 100, ..Trained::default() });
        assert_eq!(second.poll(Time(3)), Some(RetrainingWish::Publish { window: 5 }));
        second.published(Time(4), Ok(2));
        second.swapped(Time(5), Ok(()));
        assert_eq!(second.state(), RetrainingState::Collecting, "the window that began meanwhile follows");
    }

    #[test]
    fn one_of_a_configuration_that_is_gone_is_not_taken_up() {
        let all = usual(&TrainSpec::default());
        let kept = |configuration| Interrupted { window: 1, samples: 9, configuration, gain: 0.1, foretold: None };
        assert!(machine(all.clone()).take_up(Time(0), &kept(Some(all[1].clone()))));
        assert!(!machine(all.clone()).take_up(Time(0), &kept(Some(TrainSpec { epochs: 77, ..TrainSpec::default() }))));
        assert!(machine(all).take_up(Time(0), &kept(None)));
    }
}
