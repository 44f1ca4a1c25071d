//! What the next retraining will come to and cost, from what the last ones did.

/// Weight of the last run's cost in the estimate.
const COST_ALPHA: f64 = 0.5;
/// Weight of the last retraining's accuracy in the estimate: few samples are held out, so a single one says little.
const REACH_ALPHA: f64 = 0.3;

/// Accuracy and cost to expect.
#[derive(Debug)]
pub(super) struct Estimate {
    prior_gain: f64,
    least_gain: f64,
    core_s: f64,
    measured: bool,
    reach: Option<f64>,
}

impl Estimate {
    /// `core_s` is per sample and epoch; `least_gain` keeps a tenant whose last retrainings gained nothing from never being tried again.
    pub fn new(prior_gain: f64, least_gain: f64, core_s: f64) -> Estimate {
        Estimate { prior_gain, least_gain, core_s, measured: false, reach: None }
    }

    /// Gain to hope for whatever the last retrainings gained, from now on.
    pub fn retune(&mut self, least_gain: f64) {
        self.least_gain = least_gain;
    }

    /// A retraining came to this accuracy on samples that were held out, whether it went into service or not.
    pub fn reached(&mut self, after: f64) {
        self.reach = Some(self.reach.map_or(after, |reach| reach + REACH_ALPHA * (after - reach)));
    }

    /// Accuracy that retrainings come to, however bad the version before was; `None` before the first.
    pub fn reach(&self) -> Option<f64> {
        self.reach
    }

    /// Gain to hope for at least: the optimistic prior before the first retraining.
    pub fn gain(&self) -> f64 {
        if self.reach.is_some() { self.least_gain } else { self.prior_gain.max(self.least_gain) }
    }

    /// A run over `work` samples times epochs took `core_s`.
    pub fn took(&mut self, core_s: f64, work: f64) {
        if core_s.is_finite() && core_s > 0.0 && work > 0.0 {
            let alpha = if self.measured { COST_ALPHA } else { 1.0 };
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
    fn a_gain_is_hoped_for_until_a_retraining_tells_what_it_reaches() {
        let mut estimate = Estimate::new(0.05, 0.002, 0.01);
        assert_eq!((estimate.gain(), estimate.reach()), (0.05, None));
        estimate.reached(0.8);
        assert_eq!((estimate.gain(), estimate.reach()), (0.002, Some(0.8)));
        estimate.retune(0.01);
        assert_eq!((estimate.gain(), estimate.reach()), (0.01, Some(0.8)));
    }

    #[test]
    fn one_poor_validation_does_not_end_the_hope() {
        let mut estimate = Estimate::new(0.05, 0.002, 0.01);
        estimate.reached(0.9);
        estimate.reached(0.6);
        assert!(estimate.reach().is_some_and(|reach| reach > 0.8));
        (0..20).for_each(|_| estimate.reached(0.6));
        assert!(estimate.reach().is_some_and(|reach| reach < 0.61));
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
