//! What a version of a model gets right, when: it learns by Ekya's curve and ages by the drift of its data.

use crate::setup::{Drift, Learning};

/// A version of a tenant's model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Version {
    /// The moment its samples are of, seconds.
    pub data_s: f64,
    /// Its accuracy on data of that moment, 0..1.
    pub level: f64,
}

impl Learning {
    /// The version that is in service at second 0.
    pub fn first_version(&self) -> Version {
        Version { data_s: 0.0, level: self.first }
    }

    /// What training gives on samples of the moment `data_s` after so many passes over [`Learning::samples`] samples; with fewer samples the
    /// passes count for less, for there are fewer optimizer steps in them.
    pub fn trained(&self, data_s: f64, passes: f64) -> Version {
        Version { data_s, level: self.floor + (self.top - self.floor) * self.reached(passes) }
    }

    /// Share of `top - floor` that is reached after so many passes, 0..1.
    pub fn reached(&self, passes: f64) -> f64 {
        let (b0, b1) = self.curve;
        let share = 1.0 - 1.0 / (b0 * passes.max(0.0) + b1);
        if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Nats by which data of `to_s` have moved away from data of `from_s`; none backwards.
    pub fn ageing(&self, from_s: f64, to_s: f64) -> f64 {
        match &self.drift {
            Drift::Steady { rate } => rate.max(0.0) * (to_s - from_s).max(0.0),
            Drift::Steps(steps) => steps.iter().filter(|(at, _)| from_s < *at && *at <= to_s).map(|(_, nats)| nats.max(0.0)).sum(),
        }
    }

    /// Accuracy of a version at a moment, 0..1: what it is above the floor fades with the drift since its samples.
    pub fn accuracy(&self, version: Version, at_s: f64) -> f64 {
        let kept = (-self.ageing(version.data_s, at_s)).exp();
        let accuracy = self.floor + (version.level - self.floor) * kept;
        if accuracy.is_finite() { accuracy.clamp(0.0, 1.0) } else { 0.0 }
    }

    /// Seconds of one sample and epoch on the profile that is fastest at it; `None` when it fits none.
    pub fn fastest_s(&self) -> Option<f64> {
        self.sample_s.iter().copied().filter(|s| s.is_finite() && *s > 0.0).min_by(f64::total_cmp)
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
            floor: 0.3,
            drift,
            curve: (1.0, 1.0),
            epochs: 5,
            samples: 1000,
            sample_s: vec![f64::INFINITY, 0.02, 0.01],
            memory_mib: 0,
            label_share: 0.5,
            estimate_error: 0.0,
            min_gain: 0.002,
        }
    }

    #[test]
    fn a_version_fades_to_the_floor_and_not_below() {
        let learning = learning(Drift::Steady { rate: 0.01 });
        let first = learning.first_version();
        assert_eq!(learning.accuracy(first, 0.0), 0.8);
        let later = learning.accuracy(first, 100.0);
        assert!((later - (0.3 + 0.5 * (-1.0f64).exp())).abs() < 1e-12);
        assert!(learning.accuracy(first, 1e6) >= 0.3);
    }

    #[test]
    fn a_step_of_drift_hurts_only_what_was_trained_before_it() {
        let learning = learning(Drift::Steps(vec![(50.0, 0.7), (80.0, 0.1)]));
        let (old, new) = (learning.trained(40.0, 5.0), learning.trained(50.0, 5.0));
        assert_eq!(learning.accuracy(old, 49.0), old.level);
        assert!(learning.accuracy(old, 50.0) < old.level - 0.1);
        assert_eq!(learning.accuracy(new, 60.0), new.level);
        assert!((learning.ageing(0.0, 100.0) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn more_passes_learn_more_and_never_more_than_the_top() {
        let learning = learning(Drift::Steady { rate: 0.0 });
        let level = |passes| learning.trained(0.0, passes).level;
        assert!(level(1.0) < level(5.0) && level(1e9) <= 0.9);
        assert_eq!(level(0.0), 0.3);
        assert!((learning.reached(4.0) - 0.8).abs() < 1e-12);
    }

    #[test]
    fn the_fastest_profile_is_one_that_fits() {
        let mut learning = learning(Drift::Steady { rate: 0.0 });
        assert_eq!(learning.fastest_s(), Some(0.01));
        learning.sample_s = vec![f64::INFINITY];
        assert_eq!(learning.fastest_s(), None);
    }
}
