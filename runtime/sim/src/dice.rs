//! What chance decides. Every purpose draws from a stream of its own, so that two policies meet the same arrivals and the same labels.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution, StandardNormal};

/// A stream of chance: the same seed and purpose give the same draws on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Dice(ChaCha8Rng);

/// What a stream is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    Steps,
    Faults,
    Arrivals(usize),
    Service(usize),
    Labels(usize),
    Estimates(usize),
    Validation(usize),
    Loads(usize),
}

impl Dice {
    pub fn new(seed: u64, purpose: Purpose) -> Dice {
        let (kind, tenant) = match purpose {
            Purpose::Steps => (0, 0),
            Purpose::Faults => (1, 0),
            Purpose::Arrivals(tenant) => (2, tenant),
            Purpose::Service(tenant) => (3, tenant),
            Purpose::Labels(tenant) => (4, tenant),
            Purpose::Estimates(tenant) => (5, tenant),
            Purpose::Validation(tenant) => (6, tenant),
            Purpose::Loads(tenant) => (7, tenant),
        };
        let mut stream = ChaCha8Rng::seed_from_u64(seed);
        stream.set_stream(tenant as u64 * 8 + kind);
        Dice(stream)
    }

    /// A factor of mean 1 whose logarithm has this standard deviation.
    pub fn factor(&mut self, sigma: f64) -> f64 {
        if sigma.is_nan() || sigma <= 0.0 {
            return 1.0;
        }
        let normal: f64 = StandardNormal.sample(&mut self.0);
        (sigma * normal - sigma * sigma / 2.0).exp()
    }

    /// About that many seconds; nonsense is none, and an hour is the most.
    pub fn about(&mut self, seconds: f64, sigma: f64) -> Duration {
        let seconds = seconds * self.factor(sigma);
        if seconds.is_nan() { Duration::ZERO } else { Duration::from_micros((seconds.clamp(0.0, 3600.0) * 1e6).round() as u64) }
    }

    /// A moment within a second, microseconds.
    pub fn offset_us(&mut self) -> u32 {
        self.0.random_range(0..1_000_000)
    }

    /// How many of `of` draws succeed.
    pub fn successes(&mut self, of: u64, probability: f64) -> u64 {
        Binomial::new(of, probability.clamp(0.0, 1.0)).map_or(0, |binomial| binomial.sample(&mut self.0))
    }

    /// One of `0..count`; 0 when there is none.
    pub fn one_of(&mut self, count: usize) -> usize {
        self.0.random_range(0..count.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_repeats_and_another_differs() {
        let draws = |seed, purpose| -> Vec<u32> {
            let mut dice = Dice::new(seed, purpose);
            (0..8).map(|_| dice.offset_us()).collect()
        };
        assert_eq!(draws(1, Purpose::Arrivals(0)), draws(1, Purpose::Arrivals(0)));
        assert_ne!(draws(1, Purpose::Arrivals(0)), draws(1, Purpose::Arrivals(1)));
        assert_ne!(draws(1, Purpose::Arrivals(0)), draws(1, Purpose::Service(0)));
        assert_ne!(draws(1, Purpose::Arrivals(0)), draws(2, Purpose::Arrivals(0)));
    }

    #[test]
    fn factors_have_mean_one() {
        let mut dice = Dice::new(3, Purpose::Steps);
        let mean = (0..100_000).map(|_| dice.factor(0.3)).sum::<f64>() / 1e5;
        assert!((mean - 1.0).abs() < 0.01, "{mean}");
        assert_eq!(dice.factor(0.0), 1.0);
        assert_eq!(dice.about(f64::NAN, 0.0), Duration::ZERO);
        assert_eq!(dice.about(f64::INFINITY, 0.1), Duration::from_secs(3600));
    }

    #[test]
    fn successes_follow_their_probability() {
        let mut dice = Dice::new(3, Purpose::Steps);
        assert_eq!((dice.successes(10, 0.0), dice.successes(10, 1.0), dice.successes(10, f64::NAN)), (0, 10, 0));
        let mean = dice.successes(100_000, 0.8) as f64 / 1e5;
        assert!((mean - 0.8).abs() < 0.01);
    }
}
