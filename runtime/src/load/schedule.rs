//! When requests are due: decided by arrivals and seed alone, never by how the server does.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::plan::Arrivals;

const SECOND_US: u64 = 1_000_000;

/// The send times of one tenant, second by second.
pub(super) struct Schedule {
    arrivals: Arrivals,
    rng: StdRng,
}

impl Schedule {
    /// Tenants of one plan have different `stream`s, or they would burst inside the second together.
    pub(super) fn new(arrivals: Arrivals, seed: u64, stream: u64) -> Self {
        Schedule { arrivals, rng: StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream) }
    }

    /// Microseconds since the start of the requests due in `second`, in order. Seconds must be asked for one after the other.
    pub(super) fn second(&mut self, second: u64) -> Vec<u64> {
        let start = second * SECOND_US;
        let rng = &mut self.rng;
        match &self.arrivals {
            Arrivals::Counts { counts, .. } if counts.is_empty() => Vec::new(),
            Arrivals::Counts { counts, scale } => {
                let expected = f64::from(counts[second as usize % counts.len()]) * scale;
                let requests = expected as u64 + u64::from(rng.random_bool(expected.fract()));
                let mut times: Vec<u64> = (0..requests).map(|_| start + rng.random_range(0..SECOND_US)).collect();
                times.sort_unstable();
                times
            }
            Arrivals::Rate(rate) => poisson(rate(second as f64 + 0.5), rng).iter().map(|s| start + (s * 1e6) as u64).collect(),
        }
    }
}

/// Arrival times in 0–1 at `rate`: gaps are exponential, so joining seconds together gives one process.
fn poisson(rate: f64, rng: &mut StdRng) -> Vec<f64> {
    let mut times = Vec::new();
    let mut gap = || if rate > 0.0 { -(1.0 - rng.random::<f64>()).ln() / rate } else { f64::INFINITY };
    let mut time = gap();
    while time < 1.0 {
        times.push(time);
        time += gap();
    }
    times
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn times(arrivals: &Arrivals, seed: u64, stream: u64, seconds: u64) -> Vec<u64> {
        let mut schedule = Schedule::new(arrivals.clone(), seed, stream);
        (0..seconds).flat_map(|second| schedule.second(second)).collect()
    }

    #[test]
    fn seed_and_stream_decide_every_send_time() {
        let both = [Arrivals::Counts { counts: vec![50, 0, 7], scale: 1.5 }, Arrivals::Rate(Arc::new(|t| 10.0 * t))];
        for arrivals in both {
            assert_eq!(times(&arrivals, 1, 0, 6), times(&arrivals, 1, 0, 6));
            assert_ne!(times(&arrivals, 1, 0, 6), times(&arrivals, 2, 0, 6));
            assert_ne!(times(&arrivals, 1, 0, 6), times(&arrivals, 1, 1, 6));
        }
    }

    #[test]
    fn counts_are_met_in_their_second_and_begin_again() {
        let mut schedule = Schedule::new(Arrivals::Counts { counts: vec![50, 0, 7], scale: 2.0 }, 1, 0);
        let counts: Vec<usize> = (0..6).map(|second| schedule.second(second).len()).collect();
        assert_eq!(counts, [100, 0, 14, 100, 0, 14]);
        let later = schedule.second(6);
        assert!(later.is_sorted() && later.iter().all(|t| (6_000_000..7_000_000).contains(t)));
    }

    #[test]
    fn what_is_left_of_a_request_is_sent_now_and_then() {
        let sent = times(&Arrivals::Counts { counts: vec![1], scale: 0.25 }, 3, 0, 4000).len();
        assert!((900..1100).contains(&sent), "{sent}");
    }

    #[test]
    fn a_poisson_rate_is_met_on_average_and_varies() {
        let mut schedule = Schedule::new(Arrivals::Rate(Arc::new(|_| 200.0)), 5, 0);
        let counts: Vec<f64> = (0..400).map(|second| schedule.second(second).len() as f64).collect();
        let mean = counts.iter().sum::<f64>() / 400.0;
        let variance = counts.iter().map(|c| (c - mean).powi(2)).sum::<f64>() / 400.0;
        assert!((mean - 200.0).abs() < 4.0 && (variance / mean - 1.0).abs() < 0.3, "{mean} {variance}");
    }

    #[test]
    fn no_rate_means_no_requests() {
        assert!(times(&Arrivals::Rate(Arc::new(|_| -1.0)), 1, 0, 3).is_empty());
        assert!(times(&Arrivals::Counts { counts: vec![], scale: 1.0 }, 1, 0, 3).is_empty());
    }
}
