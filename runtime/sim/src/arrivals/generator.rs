//! Rates over time, and counts around them.

use rand::Rng as _;
use rand::rngs::StdRng;
use rand_distr::{Distribution as _, Exp1, Poisson};

use super::MOST_PER_SECOND;

/// A rate over time, requests/s; in a product also a factor on one.
#[derive(Clone, Debug, PartialEq)]
pub enum Generator {
    /// Always the same.
    Poisson {
        /// Requests/s.
        rps: f64,
    },
    /// A Markov-modulated Poisson process: states that last an exponential time, each followed by any of the others with the same probability.
    /// It begins in a state drawn by how long they last.
    Mmpp {
        /// Two or more.
        states: Vec<State>,
    },
    /// `rps · (1 + swing · sin(2π (t + phase_s) / period_s))`.
    Diurnal {
        /// Mean, requests/s.
        rps: f64,
        /// 0 = none, 1 = down to nothing and up to twice the mean.
        swing: f64,
        /// Seconds from one peak to the next.
        period_s: f64,
        /// Seconds by which the wave is ahead of a sine that begins at 0.
        phase_s: f64,
    },
    /// Linear from one rate to another, constant before and after.
    Ramp {
        /// Before, requests/s.
        from_rps: f64,
        /// After, requests/s.
        to_rps: f64,
        /// When it begins, seconds.
        from_s: f64,
        /// When it ends, seconds.
        to_s: f64,
    },
    /// From each second of the list on, the rate that goes with it.
    Step {
        /// Before the first of the list, requests/s.
        rps: f64,
        /// Seconds, rising, and requests/s.
        steps: Vec<(f64, f64)>,
    },
    /// All of them together.
    Sum(Vec<Generator>),
    /// One times the other: a diurnal wave of bursts, a step of a ramp.
    Product(Vec<Generator>),
}

/// A state of [`Generator::Mmpp`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct State {
    /// Requests/s while it lasts.
    pub rps: f64,
    /// Mean seconds that it lasts.
    pub stay_s: f64,
}

impl Generator {
    /// Requests in each of the first `seconds`, at `factor` times the rate.
    pub fn counts(&self, seconds: u64, factor: f64, rng: &mut StdRng) -> Vec<u32> {
        let rates = self.rates(seconds, rng);
        rates.iter().map(|rate| poisson(rate * factor, rng)).collect()
    }

    /// Mean rate over each of the first `seconds`, requests/s: one course that the random ones may take.
    pub fn rates(&self, seconds: u64, rng: &mut StdRng) -> Vec<f64> {
        match self {
            Generator::Mmpp { states } => modulated(states, seconds, rng),
            Generator::Sum(parts) => combined(parts, seconds, 0.0, |a, b| a + b, |part| part.rates(seconds, rng)),
            Generator::Product(parts) => combined(parts, seconds, 1.0, |a, b| a * b, |part| part.rates(seconds, rng)),
            _ => self.expected(seconds),
        }
    }

    /// Expected rate in each of the first `seconds`, requests/s: the mean over all seeds.
    pub fn expected(&self, seconds: u64) -> Vec<f64> {
        match self {
            Generator::Mmpp { states } => vec![stationary_mean(states); seconds as usize],
            Generator::Sum(parts) => combined(parts, seconds, 0.0, |a, b| a + b, |part| part.expected(seconds)),
            Generator::Product(parts) => combined(parts, seconds, 1.0, |a, b| a * b, |part| part.expected(seconds)),
            _ => (0..seconds).map(|second| self.at(second as f64 + 0.5).max(0.0)).collect(),
        }
    }

    /// The rate of those that are not random.
    fn at(&self, t: f64) -> f64 {
        match self {
            Generator::Poisson { rps } => *rps,
            Generator::Diurnal { rps, swing, period_s, phase_s } => {
                rps * (1.0 + swing * (std::f64::consts::TAU * (t + phase_s) / period_s).sin())
            }
            Generator::Ramp { from_rps, to_rps, from_s, to_s } => {
                let along = if to_s > from_s { ((t - from_s) / (to_s - from_s)).clamp(0.0, 1.0) } else { f64::from(t >= *from_s) };
                from_rps + (to_rps - from_rps) * along
            }
            Generator::Step { rps, steps } => steps.iter().rev().find(|(from, _)| *from <= t).map_or(*rps, |(_, rps)| *rps),
            Generator::Mmpp { states } => stationary_mean(states),
            Generator::Sum(parts) => parts.iter().map(|part| part.at(t)).sum(),
            Generator::Product(parts) => parts.iter().map(|part| part.at(t)).product(),
        }
    }
}

/// A draw around `mean`.
pub(super) fn poisson(mean: f64, rng: &mut StdRng) -> u32 {
    // An error means that there is nothing to draw: a mean of 0.
    Poisson::new(mean.min(MOST_PER_SECOND)).map_or(0, |around| around.sample(rng).min(MOST_PER_SECOND) as u32)
}

fn combined(
    parts: &[Generator],
    seconds: u64,
    none: f64,
    join: impl Fn(f64, f64) -> f64,
    mut rates: impl FnMut(&Generator) -> Vec<f64>,
) -> Vec<f64> {
    let mut all = vec![none; seconds as usize];
    for part in parts {
        for (sum, rate) in all.iter_mut().zip(rates(part)) {
            *sum = join(*sum, rate);
        }
    }
    all
}

/// Visits to all states are equally frequent, so the time in each is in proportion to its stay.
fn stationary_mean(states: &[State]) -> f64 {
    let time: f64 = states.iter().map(|state| state.stay_s).sum();
    if time > 0.0 { states.iter().map(|state| state.rps * state.stay_s).sum::<f64>() / time } else { 0.0 }
}

fn modulated(states: &[State], seconds: u64, rng: &mut StdRng) -> Vec<f64> {
    let mut rates = vec![0.0; seconds as usize];
    let end = seconds as f64;
    let Some(mut state) = first(states, rng) else { return rates };
    let mut now = 0.0;
    while now < end {
        let stay: f64 = Exp1.sample(rng);
        let until = (now + stay * states[state].stay_s.max(1e-3)).min(end);
        for (second, rate) in rates.iter_mut().enumerate().take(until.ceil() as usize).skip(now as usize) {
            let overlap = until.min(second as f64 + 1.0) - now.max(second as f64);
            *rate += states[state].rps * overlap.max(0.0);
        }
        now = until;
        if states.len() > 1 {
            state = (state + rng.random_range(1..states.len())) % states.len();
        }
    }
    rates
}

fn first(states: &[State], rng: &mut StdRng) -> Option<usize> {
    let time: f64 = states.iter().map(|state| state.stay_s).sum();
    let mut drawn = rng.random::<f64>() * time;
    let within = states.iter().position(|state| {
        drawn -= state.stay_s;
        drawn < 0.0
    });
    within.or_else(|| states.len().checked_sub(1))
}

#[cfg(test)]
mod tests {
    use super::super::stream;
    use super::*;

    /// Mean and variance ÷ mean of counts, each of so many seconds.
    fn moments(counts: &[u32], seconds: usize) -> (f64, f64) {
        let sums: Vec<f64> = counts.chunks_exact(seconds).map(|chunk| chunk.iter().map(|&n| f64::from(n)).sum()).collect();
        let mean = sums.iter().sum::<f64>() / sums.len() as f64;
        let variance = sums.iter().map(|sum| (sum - mean).powi(2)).sum::<f64>() / (sums.len() - 1) as f64;
        (mean / seconds as f64, variance / mean)
    }

    fn bursts() -> Generator {
        Generator::Mmpp { states: vec![State { rps: 10.0, stay_s: 60.0 }, State { rps: 90.0, stay_s: 20.0 }] }
    }

    #[test]
    fn seed_and_stream_decide_every_count() {
        let both = Generator::Sum(vec![bursts(), Generator::Poisson { rps: 5.0 }]);
        let counts = |seed, of| both.counts(200, 1.0, &mut stream(seed, of));
        assert_eq!(counts(1, 0), counts(1, 0));
        assert_ne!(counts(1, 0), counts(1, 1));
        assert_ne!(counts(1, 0), counts(2, 0));
    }

    #[test]
    fn poisson_has_its_mean_and_a_dispersion_of_one() {
        let counts = Generator::Poisson { rps: 20.0 }.counts(20_000, 2.0, &mut stream(3, 0));
        let (mean, dispersion) = moments(&counts, 1);
        assert!((mean - 40.0).abs() < 0.3 && (dispersion - 1.0).abs() < 0.05, "{mean} {dispersion}");
    }

    #[test]
    fn bursts_have_their_stationary_mean_and_are_dispersed_as_theory_says() {
        let counts = bursts().counts(400_000, 1.0, &mut stream(4, 0));
        let (mean, dispersion) = moments(&counts, 1);
        assert!((mean - 30.0).abs() < 1.0, "{mean}");
        // Two states, at rates r of 1/60 and 1/20 (s = 1/15 together): the rate's variance is 0.75 · 0.25 · 80² = 1200, its covariance
        // exp(-s·t); over seconds of length 1 that is 2 (s - 1 + exp(-s)) / s² = 0.978 of it. 1 + 0.978 · 1200 / 30 = 40.1.
        assert!((dispersion - 40.1).abs() < 2.0, "{dispersion}");
    }

    #[test]
    fn a_wave_swings_around_its_mean_and_bursts_ride_on_it() {
        let wave = Generator::Diurnal { rps: 50.0, swing: 0.8, period_s: 400.0, phase_s: 0.0 };
        let rates = wave.expected(400);
        assert!((rates.iter().sum::<f64>() / 400.0 - 50.0).abs() < 1e-9);
        assert!((rates[100] - 90.0).abs() < 0.1 && (rates[300] - 10.0).abs() < 0.1);
        let both = Generator::Product(vec![bursts(), Generator::Diurnal { rps: 1.0, swing: 0.8, period_s: 400.0, phase_s: 0.0 }]);
        assert!((both.expected(400)[100] - 54.0).abs() < 0.1);
    }

    #[test]
    fn ramps_and_steps_are_where_they_are_said_to_be() {
        let ramp = Generator::Ramp { from_rps: 10.0, to_rps: 30.0, from_s: 100.0, to_s: 200.0 };
        let at = |second: usize| ramp.expected(300)[second];
        assert_eq!([at(0), at(99), at(250)], [10.0, 10.0, 30.0]);
        assert!((at(150) - 20.1).abs() < 1e-9);
        let step = Generator::Step { rps: 1.0, steps: vec![(10.0, 5.0), (20.0, 2.0)] };
        assert_eq!([9, 10, 19, 20].map(|second| step.expected(30)[second]), [1.0, 5.0, 5.0, 2.0]);
    }

    #[test]
    fn nothing_comes_from_no_rate_and_absurd_rates_are_cut_off() {
        let none = Generator::Product(vec![bursts(), Generator::Poisson { rps: 0.0 }]);
        assert_eq!(none.counts(3, 1.0, &mut stream(1, 0)), [0, 0, 0]);
        let many = Generator::Poisson { rps: 1e12 }.counts(2, 1.0, &mut stream(1, 0));
        assert!(many.iter().all(|&count| f64::from(count) <= MOST_PER_SECOND));
    }
}
