//! Holt's linear trend, damped.

use super::{Forecaster, rate, sane};

/// What a trend keeps of itself each second; 0.98 halves it in 34 s.
const DAMPING: f64 = 0.98;

/// Holt's linear trend, damped so that a ramp does not run away.
#[derive(Clone, Debug)]
pub struct Holt {
    alpha: f64,
    beta: f64,
    level: Option<f64>,
    trend: f64,
}

impl Holt {
    /// Level and trend with these time constants, seconds (at least 1).
    pub fn new(level_s: f64, trend_s: f64) -> Holt {
        Holt { alpha: rate(level_s), beta: rate(trend_s), level: None, trend: 0.0 }
    }
}

impl Forecaster for Holt {
    fn observe(&mut self, count: f64) {
        let count = sane(count);
        let Some(before) = self.level else {
            self.level = Some(count);
            return;
        };
        let expected = before + DAMPING * self.trend;
        let level = expected + self.alpha * (count - expected);
        self.trend = DAMPING * self.trend + self.beta * (level - before - DAMPING * self.trend);
        self.level = Some(level);
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        let mut value = self.level.unwrap_or(0.0);
        let mut trend = self.trend;
        let step = |_| {
            trend *= DAMPING;
            value += trend;
            value.max(0.0)
        };
        (0..horizon).map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Ewma;
    use crate::forecast::tests::fed;

    #[test]
    fn a_ramp_is_carried_on_by_the_trend_and_by_nothing_else() {
        let ramp: Vec<f64> = (0..60).map(f64::from).collect();
        assert!(fed(Holt::new(5.0, 10.0), &ramp)[9] > 62.0);
        assert!(fed(Ewma::new(5.0), &ramp)[9] < 59.0);
    }

    #[test]
    fn a_falling_trend_never_foretells_less_than_nothing() {
        let fall: Vec<f64> = (0..50).map(|t| 50.0 - f64::from(t)).collect();
        assert!(fed(Holt::new(2.0, 5.0), &fall).iter().all(|&rps| rps >= 0.0));
    }
}
