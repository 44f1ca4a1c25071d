//! Holt-Winters: level, damped trend and additive season.

use super::season::{BIN_S, History};
use super::{Forecaster, rate, sane};

/// What a trend keeps of itself each second; 0.98 halves it in 34 s.
const DAMPING: f64 = 0.98;
/// Bins between two looks for a season: one a minute.
const LOOK_EVERY: usize = 12;
/// Share of a period by which a season found anew must differ from the one in use to replace it.
const DIFFERS: f64 = 0.1;
/// Periods after which a bin of the season has forgotten what it was.
const SEASON_PERIODS: f64 = 3.0;

/// Level, damped trend and an additive season whose length is given or found by autocorrelation (Holt 1957, Winters 1960; damped:
/// Gardner and McKenzie 1985). Without a season it is [`super::Holt`].
#[derive(Clone, Debug)]
pub struct HoltWinters {
    alpha: f64,
    beta: f64,
    given: Option<usize>,
    history: History,
    level: Option<f64>,
    trend: f64,
    /// Deviation by bin of the season; empty = none.
    season: Vec<f64>,
    /// Second within the season of the next observation.
    phase_s: usize,
    since_look: usize,
}

impl HoltWinters {
    /// Level and trend with these time constants, seconds (at least 1); a season of `season_s` seconds (rounded to 5 s, at most
    /// 15 minutes), or `None` to look for one.
    pub fn new(level_s: f64, trend_s: f64, season_s: Option<usize>) -> HoltWinters {
        HoltWinters {
            alpha: rate(level_s),
            beta: rate(trend_s),
            given: season_s.map(|s| (s / BIN_S).clamp(2, 180)),
            history: History::default(),
            level: None,
            trend: 0.0,
            season: Vec::new(),
            phase_s: 0,
            since_look: 0,
        }
    }

    /// Length of the season in use, seconds.
    pub fn season_s(&self) -> Option<usize> {
        (!self.season.is_empty()).then_some(self.season.len() * BIN_S)
    }

    fn look(&mut self) {
        self.since_look += 1;
        if self.since_look < LOOK_EVERY {
            return;
        }
        self.since_look = 0;
        let enough = |bins: &usize| self.history.len() >= 2 * bins;
        let found = self.given.filter(enough).or_else(|| self.history.season().filter(|_| self.given.is_none()));
        let Some(found) = found else {
            // Gone: what the season carried goes back to the level.
            if self.given.is_none() && !self.season.is_empty() {
                self.level = self.level.map(|level| level + self.deviation(0));
                self.season.clear();
            }
            return;
        };
        let close = (found as f64 - self.season.len() as f64).abs() <= (DIFFERS * found as f64).max(1.0);
        if !self.season.is_empty() && close {
            return;
        }
        let before = self.deviation(0);
        (self.season, self.phase_s) = (self.history.profile(found), 0);
        self.level = self.level.map(|level| level + before - self.deviation(0));
    }

    /// Deviation of the season `ahead` seconds after the next observation.
    fn deviation(&self, ahead: usize) -> f64 {
        let length = self.season.len() * BIN_S;
        if length == 0 { 0.0 } else { self.season[(self.phase_s + ahead) % length / BIN_S] }
    }
}

impl Default for HoltWinters {
    /// Level 5 s, trend 30 s, a season if there is one.
    fn default() -> HoltWinters {
        HoltWinters::new(5.0, 30.0, None)
    }
}

impl Forecaster for HoltWinters {
    fn observe(&mut self, count: f64) {
        let count = sane(count);
        let deviation = self.deviation(0);
        let before = self.level.unwrap_or(count);
        let expected = before + DAMPING * self.trend;
        let level = expected + self.alpha * (count - deviation - expected);
        if self.level.is_some() {
            self.trend = DAMPING * self.trend + self.beta * (level - before - DAMPING * self.trend);
        }
        self.level = Some(level);
        let length = self.season.len() * BIN_S;
        if length > 0 {
            // BIN_S observations a period move a bin.
            let gamma = rate(SEASON_PERIODS * BIN_S as f64);
            self.season[self.phase_s / BIN_S] += gamma * (count - level - deviation);
            self.phase_s = (self.phase_s + 1) % length;
        }
        if self.history.push(count) {
            self.look();
        }
    }

    fn forecast(&self, horizon: usize) -> Vec<f64> {
        let mut value = self.level.unwrap_or(0.0);
        let mut trend = self.trend;
        let step = |ahead| {
            trend *= DAMPING;
            value += trend;
            (value + self.deviation(ahead)).max(0.0)
        };
        (0..horizon).map(step).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Holt;

    fn wave(t: usize) -> f64 {
        50.0 + 20.0 * (std::f64::consts::TAU * t as f64 / 100.0).sin()
    }

    fn error(forecaster: &mut dyn Forecaster, seconds: usize) -> f64 {
        (0..seconds).for_each(|t| forecaster.observe(wave(t)));
        let forecast = forecaster.forecast(100);
        forecast.iter().enumerate().map(|(ahead, rps)| (rps - wave(seconds + ahead)).abs()).sum::<f64>() / 100.0
    }

    #[test]
    fn a_season_is_found_and_carried_on() {
        let mut found = HoltWinters::default();
        let error_found = error(&mut found, 900);
        assert_eq!(found.season_s(), Some(100));
        assert!(error_found < 3.0, "{error_found}");
        assert!(error(&mut Holt::new(5.0, 30.0), 900) > 10.0);
    }

    #[test]
    fn a_given_season_is_used_from_two_periods_on() {
        let mut given = HoltWinters::new(5.0, 30.0, Some(100));
        assert!(error(&mut given, 260) < 4.0);
        assert_eq!(given.season_s(), Some(100));
    }

    #[test]
    fn a_season_that_ends_is_given_up_without_a_jump() {
        let mut forecaster = HoltWinters::default();
        (0..900).for_each(|t| forecaster.observe(wave(t)));
        (0..3600).for_each(|_| forecaster.observe(50.0));
        assert!(forecaster.forecast(100).iter().all(|rps| (rps - 50.0).abs() < 1.0));
    }
}
