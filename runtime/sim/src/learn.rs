//! What a version is worth at a time, and what it takes to make one: the formulas behind [`Learning`], shared by the world that answers
//! requests and by the bound that no policy exceeds.

use crate::setup::{Drift, Learning};

/// A version of a tenant's model, as far as its accuracy goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Version {
    /// Second of the newest samples it has learnt from.
    pub data_s: f64,
    /// Accuracy on data of that second, 0..1.
    pub fresh: f64,
}

impl Learning {
    /// The version in service at second 0.
    pub fn first_version(&self) -> Version {
        Version { data_s: 0.0, fresh: self.first.max(self.floor) }
    }

    /// The version that a retraining on data up to `data_s` publishes.
    pub fn version(&self, data_s: f64) -> Version {
        Version { data_s, fresh: self.floor + (self.top - self.floor).max(0.0) * self.reached(f64::from(self.epochs)) }
    }

    /// Share of `top - floor` after so many epochs, 0..1: `1 - 1 / (b0 · epochs + b1)`.
    pub fn reached(&self, epochs: f64) -> f64 {
        let (b0, b1) = self.curve;
        (1.0 - 1.0 / (b0 * epochs + b1).max(1.0)).clamp(0.0, 1.0)
    }

    /// Accuracy of `version` on the requests of second `at_s`, 0..1: the longer ago its data, the less is left of what it was above the
    /// floor. Before the second of its data it is as good as then.
    pub fn accuracy(&self, version: Version, at_s: f64) -> f64 {
        self.floor + (version.fresh - self.floor).max(0.0) * self.ageing(version.data_s, at_s)
    }

    /// Share of what a version is above the floor that is left at `to_s` of what it was on data of `from_s`: `exp(-nats)` of the drift in
    /// (`from_s`, `to_s`]; 1 when `to_s` is not later.
    pub fn ageing(&self, from_s: f64, to_s: f64) -> f64 {
        let nats = match &self.drift {
            Drift::Steady { rate } => rate * (to_s - from_s).max(0.0),
            Drift::Steps(steps) => steps.iter().filter(|(at_s, _)| *at_s > from_s && *at_s <= to_s).map(|(_, nats)| nats).sum(),
        };
        (-nats).exp()
    }

    /// Seconds of a whole retraining of `samples` samples alone on one instance of this profile; `None` = it does not fit.
    pub fn work_s(&self, profile: usize, samples: u64) -> Option<f64> {
        let sample_s = self.sample_s.get(profile).copied()?;
        sample_s.is_finite().then(|| samples as f64 * f64::from(self.epochs) * sample_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learning(drift: Drift) -> Learning {
        Learning {
            enabled: true,
            first: 0.8,
            top: 0.9,
            floor: 0.1,
            drift,
            curve: (1.0, 1.0),
            epochs: 3,
            samples: 1000,
            sample_s: vec![0.01, f64::INFINITY],
            memory_mib: 0,
            label_share: 1.0,
            estimate_error: 0.0,
            min_gain: 0.0,
        }
    }

    #[test]
    fn a_version_loses_what_it_is_above_the_floor_and_no_more() {
        let learning = learning(Drift::Steady { rate: 0.01 });
        let first = learning.first_version();
        assert_eq!(learning.accuracy(first, 0.0), 0.8);
        assert!((learning.accuracy(first, 100.0) - (0.1 + 0.7 * (-1.0f64).exp())).abs() < 1e-12);
        assert!((learning.accuracy(first, 1e6) - 0.1).abs() < 1e-9);
    }

    #[test]
    fn steps_cost_versions_whose_data_are_older_than_they() {
        let learning = learning(Drift::Steps(vec![(50.0, 1.0), (60.0, 0.5)]));
        assert_eq!(learning.ageing(0.0, 49.0), 1.0);
        assert!((learning.ageing(0.0, 50.0) - (-1.0f64).exp()).abs() < 1e-12);
        assert!((learning.ageing(0.0, 99.0) - (-1.5f64).exp()).abs() < 1e-12);
        assert_eq!(learning.ageing(60.0, 99.0), 1.0);
    }

    #[test]
    fn more_epochs_reach_more_of_the_top_and_cost_more() {
        let mut learning = learning(Drift::Steady { rate: 0.0 });
        assert!((learning.version(200.0).fresh - (0.1 + 0.8 * 0.75)).abs() < 1e-12);
        assert_eq!((learning.work_s(0, 1000), learning.work_s(1, 1000)), (Some(30.0), None));
        learning.epochs = 9;
        assert!((learning.version(200.0).fresh - (0.1 + 0.8 * 0.9)).abs() < 1e-12);
    }

    #[test]
    fn a_curve_that_reaches_nothing_stays_at_the_floor() {
        let mut learning = learning(Drift::Steady { rate: 0.0 });
        learning.curve = (0.0, 0.0);
        assert_eq!(learning.version(0.0).fresh, learning.floor);
    }
}
