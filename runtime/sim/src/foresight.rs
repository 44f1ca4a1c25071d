//! A forecaster that knows what is to come.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use migrator_solver::Forecaster;

/// Tells the arrivals to come; reads the second that has begun, for a look at the tenants may come at any time.
#[derive(Debug)]
pub(crate) struct Known {
    pub arrivals: Vec<u32>,
    pub second: Arc<AtomicU64>,
}

/// Seconds before the end of the arrivals whose mean stands for what would come after it.
const LAST: usize = 30;

impl Forecaster for Known {
    fn observe(&mut self, _: f64) {}

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        let from = usize::try_from(self.second.load(Ordering::Relaxed)).unwrap_or(usize::MAX);
        let last = &self.arrivals[self.arrivals.len().saturating_sub(LAST)..];
        let beyond = last.iter().map(|&count| f64::from(count)).sum::<f64>() / last.len().max(1) as f64;
        (0..horizon).map(|t| self.arrivals.get(from.saturating_add(t)).map_or(beyond, |&count| f64::from(count))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seconds_to_come_are_told_and_the_end_goes_on() {
        let known = Known { arrivals: vec![1, 2, 3], second: Arc::new(AtomicU64::new(1)) };
        assert_eq!(known.forecast(4), [2.0, 3.0, 2.0, 2.0]);
        assert_eq!(Known { arrivals: Vec::new(), second: Arc::default() }.forecast(2), [0.0, 0.0]);
    }
}
