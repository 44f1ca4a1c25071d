//! What the next retraining will gain and cost, from what the last ones did.

use std::collections::VecDeque;

/// Retrainings remembered.
const REMEMBERED: usize = 8;
/// Weight of a retraining relative to the next younger one: drift makes old gains say less.
const FADES: f64 = 0.7;
/// Weight of the last run's cost in the estimate.
const ALPHA: f64 = 0.5;

/// Gain and cost to expect.
#[derive(Debug)]
pub(super) struct Estimate {
    prior_gain: f64,
    least_gain: f64,
    /// Newest first; 0 for one that was not published.
    gains: VecDeque<f64>,
    core_s: f64,
    measured: bool,
    recovery: f64,
}

/// Share of what was lost since the last validation that the first retraining is hoped to win back.
const RECOVERY: f64 = 0.5;
/// Weight of the last retraining's share in the estimate.
const RECOVERY_ALPHA: f64 = 0.5;
/// Less than this lost since the last validation is noise and shows nothing.
const LOST: f64 = 0.03;

impl Estimate {
    /// `core_s` is per sample and epoch; `least_gain` keeps a tenant whose last retrainings gained nothing from never being tried again.
    pub fn new(prior_gain: f64, least_gain: f64, core_s: f64) -> Estimate {
        Estimate { prior_gain, least_gain, gains: VecDeque::new(), core_s, measured: false, recovery: RECOVERY }
    }

    pub fn gained(&mut self, gain: f64) {
        self.gains.push_front(gain.clamp(0.0, 1.0));
        self.gains.truncate(REMEMBERED);
    }

    /// The optimistic prior before the first, then a fading mean.
    pub fn gain(&self) -> f64 {
        let (mut sum, mut weights, mut weight) = (0.0, 0.0, 1.0);
        for gain in &self.gains {
            sum += weight * gain;
            weights += weight;
            weight *= FADES;
        }
        let gain = if weights > 0.0 { sum / weights } else { self.prior_gain };
        gain.max(self.least_gain)
    }

    /// A version of accuracy `before` that once had `once` was retrained to `after`.
    pub fn recovered(&mut self, once: f64, before: f64, after: f64) {
        if once - before > LOST {
            let share = ((after - before) / (once - before)).clamp(0.0, 1.0);
            self.recovery += RECOVERY_ALPHA * (share - self.recovery);
        }
    }

    /// Share of what was lost since the last validation that a retraining wins back.
    pub fn recovery(&self) -> f64 {
        self.recovery
    }

    /// A run over `work` samples times epochs took `core_s`.
    pub fn took(&mut self, core_s: f64, work: f64) {
        if core_s.is_finite() && core_s > 0.0 && work > 0.0 {
            let alpha = if self.measured { ALPHA } else { 1.0 };
            self.core_s += alpha * (core_s / work - self.core_s);
            self.measured = true;
        }
    }

    /// CPU seconds left of a run over `work` samples times epochs that did `step` of `steps` in `core_s`.
    pub fn left(&self, work: f64, step: u64, steps: u64, core_s: f64) -> f64 {
        if step > 0 && steps >= step && core_s > 0.0 {
            return core_s / step as f64 * (steps - step) as f64;
        }
        self.core_s * work
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_gain_is_hoped_for_and_later_ones_are_remembered() {
        let mut estimate = Estimate::new(0.05, 0.002, 0.01);
        assert_eq!(estimate.gain(), 0.05);
        estimate.gained(0.2);
        assert_eq!(estimate.gain(), 0.2);
        estimate.gained(0.0);
        assert!(estimate.gain() < 0.1);
        (0..20).for_each(|_| estimate.gained(0.0));
        assert_eq!(estimate.gain(), 0.002);
    }

    #[test]
    fn what_was_won_back_is_hoped_for_again() {
        let mut estimate = Estimate::new(0.05, 0.002, 0.01);
        assert_eq!(estimate.recovery(), 0.5);
        (0..8).for_each(|_| estimate.recovered(0.9, 0.7, 0.88));
        assert!((estimate.recovery() - 0.9).abs() < 0.01);
        estimate.recovered(0.9, 0.89, 0.2);
        assert!(estimate.recovery() > 0.85, "a loss within the noise says nothing");
    }

    #[test]
    fn progress_refines_the_cost() {
        let mut estimate = Estimate::new(0.05, 0.002, 0.01);
        assert!((estimate.left(500.0, 0, 0, 0.0) - 5.0).abs() < 1e-9);
        assert!((estimate.left(500.0, 10, 40, 2.0) - 6.0).abs() < 1e-9);
        estimate.took(10.0, 500.0);
        assert!((estimate.left(100.0, 0, 0, 0.0) - 2.0).abs() < 1e-9);
        estimate.took(f64::NAN, 500.0);
        assert!((estimate.left(100.0, 0, 0, 0.0) - 2.0).abs() < 1e-9);
    }
}
