//! A generator of its own, so that a seed means the same numbers whatever version of whatever crate is about.

/// SplitMix64 (Steele, Lea, Flood 2014): one 64-bit state, every seed is good.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of this seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A sequence of its own for part `index` of what this seed makes: parts do not shift when another draws more.
    pub fn part(seed: u64, index: u64) -> Rng {
        Rng(Rng(seed ^ index.wrapping_mul(0xD1B5_4A32_D192_ED03)).next())
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "an endless sequence of bits; no iterator is wanted")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in `[low, high)`.
    pub fn uniform(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }

    /// Uniform in `0..count`; 0 when `count` is 0.
    pub fn index(&mut self, count: usize) -> usize {
        ((self.unit() * count as f64) as usize).min(count.saturating_sub(1))
    }

    /// True with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// Normal with mean 0 and variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.unit()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.unit()).cos()
    }

    /// Poisson of this mean: exact below 30, a rounded normal above, where the two cannot be told apart in a plan.
    pub fn poisson(&mut self, mean: f64) -> f64 {
        if mean >= 30.0 {
            return (mean + mean.sqrt() * self.normal()).round().max(0.0);
        }
        let (limit, mut product, mut count) = ((-mean.max(0.0)).exp(), self.unit(), 0.0);
        while product > limit {
            product *= self.unit();
            count += 1.0;
        }
        count
    }

    /// An index drawn in proportion to `weights`; the last when all are 0.
    pub fn weighted(&mut self, weights: &[f64]) -> usize {
        let mut rest = self.unit() * weights.iter().sum::<f64>();
        let found = weights.iter().position(|weight| {
            rest -= weight;
            rest < 0.0
        });
        found.unwrap_or(weights.len().saturating_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_always_means_the_same_numbers() {
        // The first output of the reference implementation for seed 0.
        assert_eq!(Rng::new(0).next(), 0xE220_A839_7B1D_CDAF);
        assert_ne!(Rng::part(1, 0).next(), Rng::part(1, 1).next());
    }

    #[test]
    fn means_are_as_asked_for() {
        let mut rng = Rng::new(5);
        for mean in [0.3, 7.0, 400.0] {
            let seen = (0..4000).map(|_| rng.poisson(mean)).sum::<f64>() / 4000.0;
            assert!((seen - mean).abs() < 4.0 * (mean / 4000.0f64).sqrt(), "{seen} for {mean}");
        }
        let normal = (0..4000).map(|_| rng.normal()).sum::<f64>() / 4000.0;
        assert!(normal.abs() < 0.07, "{normal}");
    }

    #[test]
    fn what_weighs_nothing_is_never_drawn() {
        let mut rng = Rng::new(6);
        assert!((0..500).all(|_| [1, 2].contains(&rng.weighted(&[0.0, 1.0, 3.0, 0.0]))));
        assert_eq!((rng.index(0), rng.weighted(&[0.0, 0.0])), (0, 1));
    }
}
