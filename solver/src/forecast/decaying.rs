//! Near: a recent mean or quantile; far: a long mean.

use super::{Ewma, Forecaster, SlidingQuantile};

/// The larger of a short EWMA and a sliding quantile, decaying to the long EWMA.
#[derive(Clone, Debug)]
pub struct Decaying {
    short: Ewma,
    long: Ewma,
    recent: SlidingQuantile,
    decay_s: f64,
    margin: f64,
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

impl Forecaster for Decaying {
    fn observe(&mut self, count: f64) {
        self.short.observe(count);
        self.long.observe(count);
        self.recent.observe(count);
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        let near = self.short.mean().max(self.recent.value());
        let far = self.long.mean();
        (0..horizon).map(|t| self.margin * (far + (near - far) * (-(t as f64) / self.decay_s).exp())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::tests::fed;

    #[test]
    fn a_burst_is_foretold_near_and_forgotten_far() {
        let mut counts = vec![10.0; 120];
        counts.extend([40.0; 5]);
        let forecast = fed(Decaying::default(), &counts);
        assert!(forecast[0] >= 40.0);
        assert!(forecast[99] < 16.0);
    }
}
