//! The season of a series, by autocorrelation.

use std::collections::VecDeque;

/// Seconds per bin: a season is known no finer than this.
pub(super) const BIN_S: usize = 5;
/// Bins that are kept: half an hour.
const BINS: usize = 360;
/// Shortest season looked for, bins: shorter waves are not worth a change of instances.
const SHORTEST: usize = 6;
/// Autocorrelation from which a lag is called a season; white noise of 100 bins stays below 0.33 with 99.9 % probability.
const LEAST_CORRELATION: f64 = 0.4;

/// Share of the highest peak that a shorter season needs.
const NEARLY: f64 = 0.9;

/// The last half hour in bins, and what repeats in it.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    bins: VecDeque<f64>,
    open: f64,
    seconds: usize,
}

impl History {
    /// Takes in one second; true when a bin is complete.
    pub fn push(&mut self, count: f64) -> bool {
        self.open += count;
        self.seconds += 1;
        if self.seconds < BIN_S {
            return false;
        }
        if self.bins.len() == BINS {
            self.bins.pop_front();
        }
        self.bins.push_back(self.open / BIN_S as f64);
        (self.open, self.seconds) = (0.0, 0);
        true
    }

    /// Complete bins.
    pub fn len(&self) -> usize {
        self.bins.len()
    }

    /// The season in bins: the first of the highest peaks of the autocorrelation, two periods of which have been seen.
    pub fn season(&self) -> Option<usize> {
        let count = self.bins.len();
        let mean = self.bins.iter().sum::<f64>() / count.max(1) as f64;
        let centred: Vec<f64> = self.bins.iter().map(|bin| bin - mean).collect();
        let power = centred.iter().map(|x| x * x).sum::<f64>() / count.max(1) as f64;
        if power <= 1e-9 * mean * mean || power <= 0.0 {
            return None;
        }
        let correlation = |lag: usize| {
            let pairs = centred[lag..].iter().zip(&centred);
            pairs.map(|(a, b)| a * b).sum::<f64>() / (count - lag) as f64 / power
        };
        let longest = count / 2;
        if longest < SHORTEST {
            return None;
        }
        let by_lag: Vec<f64> = (0..=longest).map(correlation).collect();
        // Behind the first zero: a slow level is like itself at every short lag and no season.
        let first = by_lag.iter().position(|&r| r <= 0.0)?.max(SHORTEST);
        let is_peak = |lag: &usize| by_lag[*lag] >= by_lag[lag - 1] && by_lag[*lag] >= by_lag[lag + 1];
        let peaks: Vec<usize> = (first..longest).filter(is_peak).collect();
        // Twice a season is one too, by chance a little more so.
        let highest = peaks.iter().map(|&lag| by_lag[lag]).fold(LEAST_CORRELATION, f64::max);
        peaks.into_iter().find(|&lag| by_lag[lag] >= LEAST_CORRELATION.max(NEARLY * highest))
    }

    /// Mean deviation from the mean by bin of a season, the next bin to come being the first.
    pub fn profile(&self, season: usize) -> Vec<f64> {
        let count = self.bins.len();
        let mean = self.bins.iter().sum::<f64>() / count.max(1) as f64;
        let (mut sums, mut seen) = (vec![0.0; season], vec![0.0f64; season]);
        for (back, bin) in self.bins.iter().rev().enumerate() {
            let phase = season - 1 - back % season;
            sums[phase] += bin - mean;
            seen[phase] += 1.0;
        }
        sums.iter().zip(&seen).map(|(sum, n)| sum / n.max(1.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(counts: impl Iterator<Item = f64>) -> History {
        let mut history = History::default();
        for count in counts {
            history.push(count);
        }
        history
    }

    #[test]
    fn a_wave_has_its_period_and_a_level_has_none() {
        let wave = |t: usize| 50.0 + 20.0 * (std::f64::consts::TAU * t as f64 / 120.0).sin();
        assert_eq!(history((0..900).map(wave)).season(), Some(24));
        assert_eq!(history((0..900).map(|_| 50.0)).season(), None);
        assert_eq!(history((0..20).map(wave)).season(), None);
    }

    #[test]
    fn a_ramp_is_no_season() {
        assert_eq!(history((0..1800).map(|t| t as f64)).season(), None);
    }

    #[test]
    fn the_profile_begins_with_what_comes_next() {
        let saw = |t: usize| ((t / BIN_S) % 10) as f64;
        let profile = history((0..500).map(saw)).profile(10);
        assert_eq!((profile[0], profile[9]), (-4.5, 4.5));
        assert_eq!(history((0..515).map(saw)).profile(10)[0].round(), -1.0);
    }

    #[test]
    fn memory_is_bounded() {
        assert_eq!(history((0..10_000).map(|t| t as f64)).len(), BINS);
    }
}
