//! The last second's arrivals, forever.

use super::{Forecaster, sane};

/// The last second's arrivals, forever.
#[derive(Clone, Debug, Default)]
pub struct LastValue {
    last: f64,
}

impl Forecaster for LastValue {
    fn observe(&mut self, count: f64) {
        self.last = sane(count);
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        vec![self.last; horizon]
    }
}
