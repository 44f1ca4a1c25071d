//! A quantile of the last seconds, forever.

use std::collections::VecDeque;

use super::{Forecaster, sane};

/// A quantile of the last seconds, forever.
#[derive(Clone, Debug)]
pub struct SlidingQuantile {
    window: VecDeque<f64>,
    length: usize,
    quantile: f64,
}

impl SlidingQuantile {
    /// The `quantile` (0..1) of the last `length` seconds (1 to 3600).
    pub fn new(length: usize, quantile: f64) -> SlidingQuantile {
        let length = length.clamp(1, 3600);
        SlidingQuantile { window: VecDeque::with_capacity(length), length, quantile: quantile.clamp(0.0, 1.0) }
    }

    /// The quantile; 0 before the first observation.
    pub(super) fn value(&self) -> f64 {
        let mut sorted: Vec<f64> = self.window.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let rank = (self.quantile * sorted.len().saturating_sub(1) as f64).ceil() as usize;
        sorted.get(rank).copied().unwrap_or(0.0)
    }
}

impl Forecaster for SlidingQuantile {
    fn observe(&mut self, count: f64) {
        if self.window.len() == self.length {
            self.window.pop_front();
        }
        self.window.push_back(sane(count));
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        vec![self.value(); horizon]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::tests::fed;

    #[test]
    fn a_quantile_forgets_what_has_left_its_window() {
        let mut counts = vec![100.0];
        counts.extend([1.0; 10]);
        assert_eq!(fed(SlidingQuantile::new(10, 1.0), &counts)[0], 1.0);
    }
}
