//! A model from a forecasting crate, for comparison: exponential smoothing whose form and rates `augurs-ets` chooses anew every second.

use std::collections::VecDeque;

use augurs_core::{Fit, Predict};
use augurs_ets::AutoETS;
use migrator_solver::Forecaster;

/// Seconds that the model is fitted to.
const FITTED_S: usize = 120;

/// AutoETS without a season (`augurs-ets` 0.10 has none) on the last two minutes.
#[derive(Clone, Debug, Default)]
pub struct Ets {
    counts: VecDeque<f64>,
}

impl Forecaster for Ets {
    fn observe(&mut self, count: f64) {
        if self.counts.len() == FITTED_S {
            self.counts.pop_front();
        }
        self.counts.push_back(if count.is_finite() { count.max(0.0) } else { 0.0 });
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        let counts: Vec<f64> = self.counts.iter().copied().collect();
        let last = counts.last().copied().unwrap_or(0.0);
        let fitted = AutoETS::non_seasonal().fit(&counts).ok();
        let point = fitted.and_then(|model| model.predict(horizon, None).ok()).map(|forecast| forecast.point);
        match point {
            Some(point) if point.len() == horizon && point.iter().all(|rps| rps.is_finite()) => {
                point.into_iter().map(|rps| rps.max(0.0)).collect()
            }
            _ => vec![last; horizon],
        }
    }
}
