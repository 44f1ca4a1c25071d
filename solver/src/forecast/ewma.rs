//! Exponentially weighted mean, forever.

use super::{Forecaster, rate, sane};

/// Exponentially weighted mean, forever.
#[derive(Clone, Debug)]
pub struct Ewma {
    alpha: f64,
    mean: Option<f64>,
}

impl Ewma {
    /// A mean with this time constant, seconds (at least 1).
    pub fn new(time_constant_s: f64) -> Ewma {
        Ewma { alpha: rate(time_constant_s), mean: None }
    }

    /// The mean; 0 before the first observation.
    pub(super) fn mean(&self) -> f64 {
        self.mean.unwrap_or(0.0)
    }
}

impl Forecaster for Ewma {
    fn observe(&mut self, count: f64) {
        let count = sane(count);
        self.mean = Some(self.mean.map_or(count, |mean| mean + self.alpha * (count - mean)));
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        vec![self.mean(); horizon]
    }
}
