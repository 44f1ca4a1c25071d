//! A tenant's arrivals: from the file's description to counts.

use migrator_models::reader::Trace;
use migrator_sim::arrivals::{Generator, State, multiplied, resampled, stream};

use rand::rngs::StdRng;

use super::file::ArrivalsEntry;

/// Where a tenant's arrivals come from.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Arrivals {
    Generated(Generator),
    /// Begins again when it ends.
    Recorded(Recorded),
}

/// A trace and how it is replayed.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Recorded {
    pub trace: Trace,
    /// How many times faster than recorded.
    pub compress: f64,
    /// Seconds left out at the beginning, of those replayed.
    pub offset_s: usize,
    /// Seconds over which counts are averaged before they are drawn anew; `None` = multiplied as they are.
    pub smooth_s: Option<u32>,
}

impl Arrivals {
    /// Mean requests/s over the first `seconds`, of all seeds.
    pub fn mean_rps(&self, seconds: u64) -> f64 {
        let sum: f64 = match self {
            Arrivals::Generated(generator) => generator.expected(seconds).iter().sum(),
            Arrivals::Recorded(recorded) => recorded.counts(seconds, &mut stream(0, 0)).into_iter().map(f64::from).sum(),
        };
        sum / seconds as f64
    }

    /// Requests by second, at `factor` times the rate.
    pub fn counts(&self, seconds: u64, factor: f64, seed: u64, tenant: usize) -> Vec<u32> {
        let mut rng = stream(seed, tenant as u64);
        match self {
            Arrivals::Generated(generator) => generator.counts(seconds, factor, &mut rng),
            Arrivals::Recorded(recorded) => {
                let counts = recorded.counts(seconds, &mut rng);
                match recorded.smooth_s {
                    Some(smooth_s) => resampled(&counts, factor, smooth_s, &mut rng),
                    None => multiplied(&counts, factor, &mut rng),
                }
            }
        }
    }
}

impl Recorded {
    /// As recorded, from the offset on, begun again where the trace is shorter.
    fn counts(&self, seconds: u64, rng: &mut StdRng) -> Vec<u32> {
        let all = self.trace.seconds(self.compress, rng).counts;
        all.iter().copied().cycle().skip(self.offset_s).take(seconds as usize).collect()
    }
}

/// The generator that an entry describes; defects go to `found` with their keys.
pub(super) fn generator(path: &str, entry: &ArrivalsEntry, found: &mut Vec<(String, String)>) -> Generator {
    let mut parts = |parts: &[ArrivalsEntry]| {
        let part = |(index, part): (usize, &ArrivalsEntry)| generator(&format!("{path}.parts[{index}]"), part, found);
        parts.iter().enumerate().map(part).collect::<Vec<_>>()
    };
    match entry {
        ArrivalsEntry::Poisson { rps } => Generator::Poisson { rps: *rps },
        ArrivalsEntry::Sum { parts: entries } => Generator::Sum(parts(entries)),
        ArrivalsEntry::Product { parts: entries } => Generator::Product(parts(entries)),
        ArrivalsEntry::Mmpp { states } => {
            if states.len() < 2 {
                found.push((format!("{path}.states"), "must be two states or more; one state is kind = \"poisson\"".to_owned()));
            }
            Generator::Mmpp { states: states.iter().map(|state| State { rps: state.rps, stay_s: state.stay_s }).collect() }
        }
        ArrivalsEntry::Diurnal { rps, swing, period_s, phase_s } => {
            Generator::Diurnal { rps: *rps, swing: *swing, period_s: *period_s, phase_s: *phase_s }
        }
        ArrivalsEntry::Ramp { from_rps, to_rps, from_s, to_s } => {
            if to_s < from_s {
                found.push((format!("{path}.to_s"), format!("must be at least from_s, which is {from_s}")));
            }
            Generator::Ramp { from_rps: *from_rps, to_rps: *to_rps, from_s: *from_s, to_s: *to_s }
        }
        ArrivalsEntry::Step { rps, steps } => {
            if !steps.is_sorted_by(|(before, _), (after, _)| before < after) {
                found.push((format!("{path}.steps"), "must be a list of [second, requests/s], seconds rising".to_owned()));
            }
            Generator::Step { rps: *rps, steps: steps.clone() }
        }
        ArrivalsEntry::Trace(_) => {
            found.push((path.to_owned(), "a trace must stand alone".to_owned()));
            Generator::Poisson { rps: 0.0 }
        }
    }
}
