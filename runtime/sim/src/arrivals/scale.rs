//! Recorded counts brought to another load.

use rand::rngs::StdRng;
use rand_distr::{Binomial, Distribution as _};

use super::MOST_PER_SECOND;
use super::generator::poisson;

/// Counts times `factor`: whole multiples of each, and each request once more with what is left of the factor as its probability.
///
/// The course keeps its shape, peak ÷ mean included. Below 1 this is thinning, which thins the noise of single requests as fewer requests would
/// have it: an index of dispersion d becomes `1 + factor · (d - 1)`. A whole factor multiplies the noise too: d becomes `factor · d`, for each
/// recorded request comes `factor` times. Use [`resampled`] where that matters.
pub fn multiplied(counts: &[u32], factor: f64, rng: &mut StdRng) -> Vec<u32> {
    let (whole, rest) = (factor.max(0.0).floor(), factor.max(0.0).fract());
    let mut one = |&count: &u32| {
        let more = Binomial::new(u64::from(count), rest).map_or(0, |draw| draw.sample(rng));
        (f64::from(count) * whole + more as f64).min(MOST_PER_SECOND) as u32
    };
    counts.iter().map(&mut one).collect()
}

/// Poisson counts around `factor` times the mean of the `smooth_s` seconds around each second (at least 1).
///
/// The course keeps its shape as seen through that window; inside it the noise is that of independent requests at the new rate, so an index of
/// dispersion at 1 s becomes 1 plus that of the smoothed course.
pub fn resampled(counts: &[u32], factor: f64, smooth_s: u32, rng: &mut StdRng) -> Vec<u32> {
    smoothed(counts, smooth_s).iter().map(|rate| poisson(rate * factor.max(0.0), rng)).collect()
}

/// Mean over the seconds around each one; fewer at both ends.
pub fn smoothed(counts: &[u32], smooth_s: u32) -> Vec<f64> {
    let (before, after) = ((smooth_s.max(1) as usize - 1) / 2, smooth_s.max(1) as usize / 2);
    let mut sums = vec![0_u64; counts.len() + 1];
    for (second, &count) in counts.iter().enumerate() {
        sums[second + 1] = sums[second] + u64::from(count);
    }
    let mean = |second: usize| {
        let (from, to) = (second.saturating_sub(before), (second + after + 1).min(counts.len()));
        (sums[to] - sums[from]) as f64 / (to - from) as f64
    };
    (0..counts.len()).map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::super::stream;
    use super::*;

    fn dispersion(counts: &[u32]) -> (f64, f64) {
        let mean = counts.iter().map(|&n| f64::from(n)).sum::<f64>() / counts.len() as f64;
        let variance = counts.iter().map(|&n| (f64::from(n) - mean).powi(2)).sum::<f64>() / counts.len() as f64;
        (mean, variance / mean)
    }

    /// 4 and 16 in turns of 100 s: mean 10, dispersion 3.6.
    fn waves() -> Vec<u32> {
        (0..20_000).map(|second| if second / 100 % 2 == 0 { 4 } else { 16 }).collect()
    }

    #[test]
    fn a_whole_factor_multiplies_each_second() {
        assert_eq!(multiplied(&[0, 3, 7], 3.0, &mut stream(1, 0)), [0, 9, 21]);
        assert_eq!(multiplied(&[5], 0.0, &mut stream(1, 0)), [0]);
    }

    #[test]
    fn thinning_keeps_the_share_and_the_noise_of_single_requests() {
        let (mean, spread) = dispersion(&multiplied(&waves(), 0.25, &mut stream(1, 0)));
        assert!((mean - 2.5).abs() < 0.05 && (spread - (1.0 + 0.25 * 2.6)).abs() < 0.1, "{mean} {spread}");
        let (mean, _) = dispersion(&multiplied(&waves(), 2.5, &mut stream(1, 0)));
        assert!((mean - 25.0).abs() < 0.2, "{mean}");
    }

    #[test]
    fn resampling_keeps_the_course_and_makes_the_noise_poisson() {
        let (mean, spread) = dispersion(&resampled(&waves(), 10.0, 1, &mut stream(2, 0)));
        assert!((mean - 100.0).abs() < 0.5 && (spread - (1.0 + 36.0)).abs() < 1.0, "{mean} {spread}");
    }

    #[test]
    fn smoothing_is_a_centred_mean() {
        assert_eq!(smoothed(&[0, 3, 6, 0], 3), [1.5, 3.0, 3.0, 3.0]);
        assert_eq!(smoothed(&[1, 5], 1), [1.0, 5.0]);
        assert_eq!(smoothed(&[], 5), [0.0; 0]);
    }
}
