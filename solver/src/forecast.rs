//! Demand of the next seconds from the counts of the last ones; pure and deterministic.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::problem::Scenario;

/// Foretells one tenant's arrivals; fed one count per second.
pub trait Forecaster: Send + std::fmt::Debug {
    /// Takes in the arrivals of the second that has just ended, requests; a negative or non-finite count is taken as 0.
    fn observe(&mut self, count: f64);

    /// Expected arrivals of the next `horizon` seconds, requests/s each, never negative; all 0 before the first observation.
    fn forecast(&self, horizon: usize) -> Vec<f64>;

    /// The courses that the next `horizon` seconds may take, for a planner that weighs them; one certain course unless the forecaster
    /// knows more.
    fn scenarios(&self, horizon: usize) -> Vec<Scenario> {
        Scenario::certain(self.forecast(horizon))
    }
}

/// The forecasters, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForecastName {
    /// [`Decaying`].
    #[default]
    Decaying,
    /// [`LastValue`].
    LastValue,
    /// [`Ewma`] of 5 s.
    Ewma,
    /// [`SlidingQuantile`]: 90 % of the last 10 s.
    Quantile,
    /// [`Holt`]: 5 s, 30 s.
    Holt,
}

impl ForecastName {
    /// A forecaster that has seen nothing yet.
    pub fn make(self) -> Box<dyn Forecaster> {
        match self {
            ForecastName::Decaying => Box::new(Decaying::default()),
            ForecastName::LastValue => Box::new(LastValue::default()),
            ForecastName::Ewma => Box::new(Ewma::new(5.0)),
            ForecastName::Quantile => Box::new(SlidingQuantile::new(10, 0.9)),
            ForecastName::Holt => Box::new(Holt::new(5.0, 30.0)),
        }
    }
}

/// The last second's arrivals, forever.
#[derive(Clone, Debug, Default)]
pub struct LastValue {
    last: f64,
}

/// Exponentially weighted mean, forever.
#[derive(Clone, Debug)]
pub struct Ewma {
    alpha: f64,
    mean: Option<f64>,
}

/// A quantile of the last seconds, forever.
#[derive(Clone, Debug)]
pub struct SlidingQuantile {
    window: VecDeque<f64>,
    length: usize,
    quantile: f64,
}

/// Holt's linear trend, damped so that a ramp does not run away.
#[derive(Clone, Debug)]
pub struct Holt {
    alpha: f64,
    beta: f64,
    damping: f64,
    level: Option<f64>,
    trend: f64,
}

/// The default: the larger of a short EWMA and a sliding quantile, decaying to the long EWMA.
#[derive(Clone, Debug)]
pub struct Decaying {
    short: Ewma,
    long: Ewma,
    recent: SlidingQuantile,
    decay_s: f64,
    margin: f64,
}

impl Ewma {
    /// A mean with this time constant, seconds (at least 1).
    pub fn new(time_constant_s: f64) -> Ewma {
        Ewma { alpha: 1.0 - (-1.0 / time_constant_s.max(1.0)).exp(), mean: None }
    }
}

impl SlidingQuantile {
    /// The `quantile` (0..1) of the last `length` seconds (at least 1).
    pub fn new(length: usize, quantile: f64) -> SlidingQuantile {
        let length = length.max(1);
        SlidingQuantile { window: VecDeque::with_capacity(length), length, quantile: quantile.clamp(0.0, 1.0) }
    }
}

impl Holt {
    /// Level and trend with these time constants, seconds (at least 1).
    pub fn new(level_s: f64, trend_s: f64) -> Holt {
        let rate = |s: f64| 1.0 - (-1.0 / s.max(1.0)).exp();
        Holt { alpha: rate(level_s), beta: rate(trend_s), damping: DAMPING, level: None, trend: 0.0 }
    }
}

impl Decaying {
    /// `short_s` and `long_s` are time constants, `recent_s` the length of the quantile's window, `margin` multiplies the whole.
    pub fn new(short_s: f64, long_s: f64, recent_s: usize, quantile: f64, margin: f64) -> Decaying {
        Decaying {
            short: Ewma::new(short_s),
            long: Ewma::new(long_s),
            recent: SlidingQuantile::new(recent_s, quantile),
            decay_s: long_s.max(1.0) / 3.0,
            margin: margin.max(0.0),
        }
    }
}

impl Default for Decaying {
    /// EWMA 5 s → 60 s × 1.05, the forecast of `reference/ilp.md` section 5, and the 90 % quantile of the last 10 s.
    fn default() -> Decaying {
        Decaying::new(5.0, 60.0, 10, 0.9, 1.05)
    }
}

/// What a trend keeps of itself each second; 0.98 halves it in 34 s.
const DAMPING: f64 = 0.98;

impl Forecaster for LastValue {
    fn observe(&mut self, count: f64) {
        self.last = sane(count);
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        vec![self.last; horizon]
    }
}

impl Forecaster for Ewma {
    fn observe(&mut self, count: f64) {
        let count = sane(count);
        self.mean = Some(self.mean.map_or(count, |mean| mean + self.alpha * (count - mean)));
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        vec![self.mean.unwrap_or(0.0); horizon]
    }
}

impl SlidingQuantile {
    fn value(&self) -> f64 {
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

impl Forecaster for Holt {
    fn observe(&mut self, count: f64) {
        let count = sane(count);
        let Some(before) = self.level else {
            self.level = Some(count);
            return;
        };
        let expected = before + self.damping * self.trend;
        let level = expected + self.alpha * (count - expected);
        self.trend = self.damping * self.trend + self.beta * (level - before - self.damping * self.trend);
        self.level = Some(level);
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        let mut value = self.level.unwrap_or(0.0);
        let mut trend = self.trend;
        let step = |_| {
            trend *= self.damping;
            value += trend;
            value.max(0.0)
        };
        (0..horizon).map(step).collect()
    }
}

impl Forecaster for Decaying {
    fn observe(&mut self, count: f64) {
        self.short.observe(count);
        self.long.observe(count);
        self.recent.observe(count);
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        let near = self.short.mean.unwrap_or(0.0).max(self.recent.value());
        let far = self.long.mean.unwrap_or(0.0);
        (0..horizon).map(|t| self.margin * (far + (near - far) * (-(t as f64) / self.decay_s).exp())).collect()
    }
}

fn sane(count: f64) -> f64 {
    if count.is_finite() { count.max(0.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fed(mut forecaster: impl Forecaster, counts: &[f64]) -> Vec<f64> {
        for &count in counts {
            forecaster.observe(count);
        }
        forecaster.forecast(100)
    }

    #[test]
    fn every_forecaster_foretells_a_constant_as_itself() {
        let counts = [20.0; 50];
        for forecast in [
            fed(LastValue::default(), &counts),
            fed(Ewma::new(5.0), &counts),
            fed(SlidingQuantile::new(10, 0.9), &counts),
            fed(Holt::new(5.0, 20.0), &counts),
            fed(Decaying::new(5.0, 60.0, 10, 0.9, 1.0), &counts),
        ] {
            assert_eq!(forecast.len(), 100);
            assert!(forecast.iter().all(|rps| (rps - 20.0).abs() < 1e-6), "{forecast:?}");
        }
    }

    #[test]
    fn nothing_seen_is_nothing_foretold() {
        assert!(fed(Decaying::default(), &[]).iter().chain(&fed(Holt::new(5.0, 20.0), &[])).all(|&rps| rps == 0.0));
    }

    #[test]
    fn a_ramp_is_carried_on_by_the_trend_and_by_nothing_else() {
        let ramp: Vec<f64> = (0..60).map(f64::from).collect();
        assert!(fed(Holt::new(5.0, 10.0), &ramp)[9] > 62.0);
        assert!(fed(Ewma::new(5.0), &ramp)[9] < 59.0);
    }

    #[test]
    fn a_burst_is_foretold_near_and_forgotten_far() {
        let mut counts = vec![10.0; 120];
        counts.extend([40.0; 5]);
        let forecast = fed(Decaying::default(), &counts);
        assert!(forecast[0] >= 40.0);
        assert!(forecast[99] < 16.0);
    }

    #[test]
    fn a_falling_trend_never_foretells_less_than_nothing() {
        let fall: Vec<f64> = (0..50).map(|t| 50.0 - f64::from(t)).collect();
        assert!(fed(Holt::new(2.0, 5.0), &fall).iter().all(|&rps| rps >= 0.0));
    }

    #[test]
    fn garbage_counts_as_no_arrivals() {
        assert_eq!(fed(LastValue::default(), &[5.0, f64::NAN])[0], 0.0);
        assert_eq!(fed(LastValue::default(), &[-3.0])[0], 0.0);
    }

    #[test]
    fn a_quantile_forgets_what_has_left_its_window() {
        let mut counts = vec![100.0];
        counts.extend([1.0; 10]);
        assert_eq!(fed(SlidingQuantile::new(10, 1.0), &counts)[0], 1.0);
    }
}
