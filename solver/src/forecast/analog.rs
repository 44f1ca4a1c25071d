//! What followed when it was like this before.

use std::collections::VecDeque;

use super::{Forecaster, MOST_RPS, rate, sane};
use crate::problem::Scenario;

/// Time constants of the means that say what it is like, seconds; the shortest is next to the last count.
const NEAR_S: f64 = 1.0;
const MID_S: f64 = 10.0;
const FAR_S: f64 = 60.0;
/// How much the middle mean and the level count next to the nearest mean when moments are compared; all are logarithms. Half and twice as much of the
/// middle mean give the same within 2 % of CRPS, no level at all up to 20 % more (`docs/forecasting.md`).
const MID_WEIGHT: f64 = 0.7;
const LEVEL_WEIGHT: f64 = 0.3;
/// Requests/s below which a difference in means is taken to be chance, and the share of the level that is.
const CHANCE_RPS: f64 = 0.5;
const CHANCE_SHARE: f64 = 0.02;
/// Moments that are remembered: 17 minutes.
const MEMORY: usize = 1020;
/// Like moments that are followed: of those remembered one in [`ONE_IN`], within these bounds.
const FEWEST: usize = 8;
const MOST: usize = 64;
const ONE_IN: usize = 4;
/// A moment as unlike as the eighth closest times [`WIDTH`], with [`NARROWEST`] more, counts a quarter.
const WIDTH: f64 = 4.0;
const NARROWEST: f64 = 0.003;
/// What followed is moved from the level of then to that of now; how high it stood above the level counts less and less, seconds.
const PERSISTS_S: f64 = 60.0;
/// By this factor at most, either way: an arrival after an hour of silence tells little of what follows at 100 requests/s.
const MOST_SCALED: f64 = 3.0;
/// How long what was never seen before is taken to last, seconds.
const UNSEEN_S: f64 = 15.0;
/// The future in steps that end here, seconds from now; the last step's values hold on.
const ENDS: [usize; 10] = [1, 2, 4, 7, 12, 20, 35, 60, 100, 140];
/// Values below which a step's spread is not believed; the step before is repeated.
const FEWEST_VALUES: usize = 6;
/// Probabilities of the courses, from the lowest to the highest. The high ones are what headroom is held for, so they are told apart best.
const SHARES: [f64; 5] = [0.3, 0.3, 0.25, 0.1, 0.05];

/// Looks up the moments of the last quarter of an hour that were most like now, and takes what followed them for what may follow now: an
/// analog ensemble (Delle Monache and others 2013), with courses as its quantiles. Of a moment it compares level, recent mean and last count, so it
/// knows how long this tenant's bursts last, how its waves go on and how much it scatters, without a model of any of it.
#[derive(Clone, Debug, Default)]
pub struct Analog {
    moments: VecDeque<Moment>,
    near: f64,
    mid: f64,
    far: f64,
}

/// A second and what it was like.
#[derive(Clone, Copy, Debug)]
struct Moment {
    count: f64,
    /// Logarithm of the level.
    level: f64,
    /// Logarithm of the nearest mean ÷ the level.
    near: f64,
    /// Logarithm of the middle mean ÷ the level.
    mid: f64,
    /// The nearest mean itself, requests/s.
    near_rps: f64,
}

impl Moment {
    fn new(count: f64, near: f64, mid: f64, far: f64) -> Moment {
        let chance = CHANCE_RPS + CHANCE_SHARE * far;
        let level = (far + chance).ln();
        Moment { count, level, near: (near + chance).ln() - level, mid: (mid + chance).ln() - level, near_rps: near }
    }

    fn unlike(&self, now: &Moment) -> f64 {
        let (near, mid, level) = (self.near - now.near, self.mid - now.mid, self.level - now.level);
        near * near + MID_WEIGHT * mid * mid + LEVEL_WEIGHT * level * level
    }

    /// How a count that followed this moment by `ahead` seconds is moved to follow `now`: a factor and requests/s to add.
    fn moved(&self, now: &Moment, ahead: usize) -> (f64, f64) {
        let ahead_s = ahead as f64;
        let wanted = (now.level - self.level + (-ahead_s / PERSISTS_S).exp() * (now.near - self.near)).exp();
        let factor = wanted.clamp(1.0 / MOST_SCALED, MOST_SCALED);
        // Higher than anything like it before: the rest is taken to go as it came.
        let unseen = if wanted > factor { (now.near_rps - factor * self.near_rps).max(0.0) } else { 0.0 };
        (factor, unseen * (-ahead_s / UNSEEN_S).exp())
    }
}

impl Analog {
    /// Moments most like the last one, which is not among them, by time, and how much what followed each counts.
    fn like_now(&self) -> Vec<(usize, f64)> {
        let Some(now) = self.moments.back() else { return Vec::new() };
        let before = self.moments.len() - 1;
        let mut found: Vec<(f64, u32)> = Vec::with_capacity(before);
        found.extend(self.moments.iter().take(before).enumerate().map(|(index, moment)| (moment.unlike(now), index as u32)));
        let wanted = (before / ONE_IN).clamp(FEWEST, MOST);
        if wanted < found.len() {
            found.select_nth_unstable_by(wanted, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            found.truncate(wanted);
        }
        // As wide as the closest few are far: where many are the same as now the others hardly count.
        let closest = FEWEST.min(found.len()).saturating_sub(1);
        if found.is_empty() {
            return Vec::new();
        }
        let (_, &mut (width, _), _) = found.select_nth_unstable_by(closest, |a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let weight = |unlike: f64| (1.0 + unlike / (WIDTH * width + NARROWEST)).powi(-2);
        let mut found: Vec<(usize, f64)> = found.into_iter().map(|(unlike, index)| (index as usize, weight(unlike))).collect();
        found.sort_unstable_by_key(|(index, _)| *index);
        found
    }

    /// Counts that may come in the seconds `[from, to)` from now: what followed the like moments at three seconds of the step.
    fn followed(&self, like: &[(usize, f64)], from: usize, to: usize) -> Vec<(f64, f64)> {
        let Some(now) = self.moments.back() else { return Vec::new() };
        let mut seconds = [from, (from + to) / 2, to - 1].to_vec();
        seconds.dedup();
        let mut values = Vec::with_capacity(seconds.len() * like.len());
        for &(index, weight) in like {
            if index + 1 + from >= self.moments.len() {
                break;
            }
            let (factor, more) = self.moments[index].moved(now, from);
            let then = seconds.iter().filter_map(|ahead| self.moments.get(index + 1 + ahead));
            values.extend(then.map(|then| ((then.count * factor + more).min(MOST_RPS), weight)));
        }
        values
    }

    /// Requests/s by step and course.
    fn steps(&self) -> Vec<[f64; SHARES.len()]> {
        let like = self.like_now();
        let mut steps = vec![[self.near.max(0.0); SHARES.len()]; ENDS.len()];
        let mut from = 0;
        for (step, &to) in ENDS.iter().enumerate() {
            let mut values = self.followed(&like, from, to);
            from = to;
            if values.len() >= FEWEST_VALUES {
                steps[step] = means(&mut values);
            } else if step > 0 {
                steps[step] = steps[step - 1];
            }
        }
        steps
    }
}

/// Mean of the weighted values in each share of them, from the lowest share to the highest, so that the shares' mean is the values' mean.
fn means(values: &mut [(f64, f64)]) -> [f64; SHARES.len()] {
    values.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    let all: f64 = values.iter().map(|(_, weight)| weight).sum();
    let (mut sums, mut share, mut room) = ([0.0; SHARES.len()], 0, SHARES[0]);
    for (value, weight) in values.iter() {
        let mut left = weight / all;
        // A value at a border counts in part on either side.
        while left > room && share + 1 < SHARES.len() {
            sums[share] += room * value;
            left -= room;
            share += 1;
            room = SHARES[share];
        }
        sums[share] += left * value;
        room -= left;
    }
    let mut index = 0;
    sums.map(|sum| {
        index += 1;
        sum / SHARES[index - 1]
    })
}

impl Forecaster for Analog {
    fn observe(&mut self, count: f64) {
        let count = sane(count);
        // A mean of few counts is their plain mean.
        let plain = 1.0 / (self.moments.len() as f64 + 1.0);
        self.near += rate(NEAR_S).max(plain) * (count - self.near);
        self.mid += rate(MID_S).max(plain) * (count - self.mid);
        self.far += rate(FAR_S).max(plain) * (count - self.far);
        if self.moments.len() == MEMORY {
            self.moments.pop_front();
        }
        self.moments.push_back(Moment::new(count, self.near, self.mid, self.far));
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        let mean = |courses: &[f64; SHARES.len()]| courses.iter().zip(&SHARES).map(|(rps, share)| rps * share).sum();
        let steps: Vec<f64> = self.steps().iter().map(mean).collect();
        spread(&steps, horizon)
    }

    fn scenarios(&self, horizon: usize) -> Vec<Scenario> {
        let steps = self.steps();
        let course = |(index, &probability): (usize, &f64)| {
            let course: Vec<f64> = steps.iter().map(|courses| courses[index]).collect();
            Scenario { probability, rps: spread(&course, horizon) }
        };
        SHARES.iter().enumerate().map(course).collect()
    }
}

/// Seconds from steps.
fn spread(steps: &[f64], horizon: usize) -> Vec<f64> {
    let mut seconds = Vec::with_capacity(horizon);
    for (&rps, &end) in steps.iter().zip(&ENDS) {
        seconds.resize(end.min(horizon), rps);
        if end >= horizon {
            return seconds;
        }
    }
    seconds.resize(horizon, steps.last().copied().unwrap_or(0.0));
    seconds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Dice;

    fn fed(counts: impl Iterator<Item = f64>) -> Analog {
        let mut analog = Analog::default();
        counts.for_each(|count| analog.observe(count));
        analog
    }

    /// Level 20; every 60 s a burst of 80 that lasts `lasts` seconds.
    fn bursts(lasts: usize) -> impl Fn(usize) -> f64 {
        move |t| if t % 60 >= 50 && t % 60 < 50 + lasts { 80.0 } else { 20.0 }
    }

    #[test]
    fn a_burst_is_taken_to_last_as_long_as_bursts_did() {
        // Two seconds into a burst.
        let (short, long) = (fed((0..=651).map(bursts(3))), fed((0..=651).map(bursts(10))));
        assert!(short.forecast(10)[4] < 25.0, "{:?}", short.forecast(10));
        assert!(long.forecast(10)[4] > 70.0, "{:?}", long.forecast(10));
        assert!(short.forecast(1)[0] > 60.0 && long.forecast(60)[25] < 40.0);
    }

    #[test]
    fn the_highest_course_knows_of_bursts_that_the_mean_does_not() {
        let mut dice = Dice(5);
        let mut left = 0;
        let analog = fed((0..900).map(|t| {
            left = if left == 0 && t < 880 && dice.below(50) == 0 { 8 } else { left.max(1) - 1 };
            if left > 0 { 60.0 } else { 20.0 }
        }));
        let courses = analog.scenarios(30);
        assert!(courses[0].rps[15] <= 21.0 && courses[4].rps[15] > 50.0, "{courses:?}");
        assert!(analog.forecast(30)[15] < 35.0);
    }

    #[test]
    fn courses_average_to_the_forecast() {
        let mut dice = Dice(9);
        let analog = fed((0..400).map(|_| dice.below(100) as f64));
        let (courses, mean) = (analog.scenarios(150), analog.forecast(150));
        for t in [0, 5, 40, 149] {
            let sum: f64 = courses.iter().map(|course| course.probability * course.rps[t]).sum();
            assert!((sum - mean[t]).abs() < 1e-9);
            assert!(courses.windows(2).all(|pair| pair[0].rps[t] <= pair[1].rps[t] + 1e-9));
        }
    }

    #[test]
    fn shares_of_values_keep_their_mean() {
        let mut values: Vec<(f64, f64)> = (0..37).map(|n| (f64::from((n * 31) % 37), 2.0)).collect();
        let found = means(&mut values);
        let mean: f64 = found.iter().zip(&SHARES).map(|(rps, share)| rps * share).sum();
        assert!((mean - 18.0).abs() < 1e-9, "{found:?}");
    }

    #[test]
    fn a_tenfold_level_is_followed_at_once() {
        let mut dice = Dice(2);
        let analog = fed((0..500).map(|t| if t < 495 { 20.0 } else { 200.0 } + dice.below(5) as f64));
        let near = analog.forecast(3)[0];
        assert!((120.0..260.0).contains(&near), "{near}");
    }

    #[test]
    fn memory_is_bounded() {
        assert_eq!(fed((0..5000).map(|t| t as f64)).moments.len(), MEMORY);
    }
}
