//! Randomness that is the same on every machine.

use rand::Rng;

/// One number from several, so that neighbouring seeds, classes and keyframes share nothing (SplitMix64's finaliser).
pub(super) fn mix(parts: &[u64]) -> u64 {
    parts.iter().fold(0x9e37_79b9_7f4a_7c15, |state, &part| {
        let mut z = (state ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    })
}

/// Nearly normal, mean 0, variance 1: the sum of four 16-bit uniforms taken from one draw (a load generator draws 256 a request).
pub(super) fn normal(rng: &mut impl Rng) -> f32 {
    let bits: u64 = rng.random();
    let sum: u32 = (0..4).map(|i| (bits >> (16 * i)) as u32 & 0xffff).sum();
    // Each uniform on 0–1 has variance 1/12: four have 1/3.
    (sum as f32 / 65_536.0 - 2.0) * 3f32.sqrt()
}

/// Two decimals: what a sensor or an 8-bit image carries, and a quarter of the JSON.
pub(super) fn rounded(value: f32) -> f32 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn normal_has_mean_zero_and_variance_one() {
        let mut rng = StdRng::seed_from_u64(1);
        let draws: Vec<f32> = (0..20_000).map(|_| normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f32>() / draws.len() as f32;
        let variance = draws.iter().map(|d| d * d).sum::<f32>() / draws.len() as f32;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn mixing_separates_neighbours() {
        assert_ne!(mix(&[1, 2]), mix(&[2, 1]));
        assert_ne!(mix(&[0]), mix(&[0, 0]));
        assert_eq!(rounded(0.5351), 0.54);
    }
}
