//! One retraining window as it truly is: arrivals of every second, speeds, work, accuracies. Nobody in the loop sees it whole but
//! the oracle.

use migrator_mig::Catalog;

use crate::rng::Rng;

/// Seconds of arrivals before the window, for a forecaster to have seen.
pub const LEAD_S: usize = 120;
/// Seconds of arrivals after it: near its end planners look into the next one.
pub const TRAIL_S: usize = 60;
/// Seconds before the lead that a forecaster has seen too.
pub const HISTORY_S: usize = 900;

/// A window and the host it is served on.
#[derive(Clone, Debug, PartialEq)]
pub struct Window {
    /// Length, seconds.
    pub seconds: usize,
    /// GPU models of the host.
    pub models: Vec<Catalog>,
    /// Model of each GPU, an index in `models`.
    pub gpus: Vec<usize>,
    /// Tenants.
    pub tenants: Vec<Truth>,
    /// What changes take.
    pub times: Times,
}

/// What the steps of a transition take, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Times {
    /// Finish what is in flight.
    pub drain_s: f64,
    /// Destroy an instance.
    pub destroy_s: f64,
    /// Create an instance.
    pub create_s: f64,
    /// Hand an instance to a worker that is loaded already.
    pub handover_s: f64,
    /// Whether workers are loaded before the switch, outside any instance.
    pub preload: bool,
}

/// One tenant.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Name.
    pub name: String,
    /// Arrivals of the seconds before those: what a server that has been running for a while has seen.
    pub history: Vec<f64>,
    /// Arrivals of each second, from [`LEAD_S`] before the window to [`TRAIL_S`] after it.
    pub arrivals: Vec<f64>,
    /// Requests/s of one compute slice within the SLO, where it fits.
    pub slice_rps: f64,
    /// Capacity of `s` slices = `slice_rps · s^exponent`.
    pub exponent: f64,
    /// Fewest compute slices on which inference fits.
    pub least_slices: u8,
    /// Seconds to start a worker with its model.
    pub load_s: f64,
    /// Accuracy before retraining, 0..1.
    pub accuracy: f64,
    /// Its retraining.
    pub retraining: Option<Work>,
}

/// One retraining.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// Seconds on one compute slice, if it fits there.
    pub slice_s: f64,
    /// Speed on `s` slices relative to one = `s^exponent`.
    pub exponent: f64,
    /// Fewest compute slices on which it fits.
    pub least_slices: u8,
    /// Accuracy it publishes, 0..1.
    pub accuracy_after: f64,
    /// Seconds to load or restore it.
    pub restore_s: f64,
}

impl Truth {
    /// Requests/s within the SLO on one instance, by profile; 0 = does not fit.
    pub fn capacity_rps(&self, catalog: &Catalog) -> Vec<f64> {
        let capacity = |slices: u8| self.slice_rps * f64::from(slices).powf(self.exponent);
        catalog.profiles.iter().map(|p| if p.compute_slices < self.least_slices { 0.0 } else { capacity(p.compute_slices) }).collect()
    }

    /// Arrivals of second `second` of the window; of the last one known beyond that.
    pub fn arrivals_at(&self, second: usize) -> f64 {
        self.arrivals.get(LEAD_S + second).or(self.arrivals.last()).copied().unwrap_or(0.0)
    }

    /// Arrivals of the window.
    pub fn total(&self, seconds: usize) -> f64 {
        (0..seconds).map(|second| self.arrivals_at(second)).sum()
    }
}

impl Work {
    /// Seconds of the whole work on one instance, by profile; negative = does not fit.
    pub fn seconds(&self, catalog: &Catalog) -> Vec<f64> {
        let seconds = |slices: u8| self.slice_s / f64::from(slices).powf(self.exponent);
        catalog.profiles.iter().map(|p| if p.compute_slices < self.least_slices { -1.0 } else { seconds(p.compute_slices) }).collect()
    }
}

impl Window {
    /// The same window if changes took no time.
    pub fn free(&self) -> Window {
        let mut window = self.clone();
        let preload = self.times.preload;
        window.times = Times { drain_s: 0.0, destroy_s: 0.0, create_s: 0.0, handover_s: 0.0, preload };
        for tenant in &mut window.tenants {
            tenant.load_s = 0.0;
            if let Some(work) = &mut tenant.retraining {
                work.restore_s = 0.0;
            }
        }
        window
    }

    /// The same window with demand of these shapes: each tenant gets a part of the trace of its index (again from the first when
    /// there are fewer), from a second drawn by `seed`, scaled to the mean it had.
    pub fn with_traces(&self, traces: &[Vec<f64>], seed: u64) -> Window {
        let mut window = self.clone();
        for (index, (tenant, trace)) in window.tenants.iter_mut().zip(traces.iter().cycle()).enumerate() {
            let mut rng = Rng::part(seed, index as u64 + 77);
            let (length, mean) = (tenant.arrivals.len(), |counts: &[f64]| counts.iter().sum::<f64>() / counts.len().max(1) as f64);
            // A part in which less than half as much as usual arrives tells little: the first of 64 that is not like that, or the busiest.
            let parts: Vec<(usize, Vec<f64>)> =
                (0..64).map(|_| rng.index(trace.len())).map(|start| (start, part(trace, start, length))).collect();
            let busiest = || parts.iter().max_by(|(_, a), (_, b)| mean(a).total_cmp(&mean(b)));
            let Some((start, found)) = parts.iter().find(|(_, part)| mean(part) >= 0.5 * mean(trace)).or_else(busiest) else { continue };
            let factor = mean(&tenant.arrivals) / mean(found).max(1e-9);
            tenant.arrivals = found.iter().map(|count| count * factor).collect();
            // Never so much that going round the trace's end would show what is still to come.
            let seen = HISTORY_S.min(trace.len().saturating_sub(length));
            tenant.history = part(trace, start + trace.len() - seen, seen).iter().map(|count| count * factor).collect();
        }
        window
    }

    /// Compute slices of the whole host.
    pub fn slices(&self) -> f64 {
        self.gpus.iter().map(|&model| f64::from(self.models[model].compute_slices)).sum()
    }
}

/// `length` seconds of `trace` from `start`, from its beginning again after its end.
fn part(trace: &[f64], start: usize, length: usize) -> Vec<f64> {
    trace.iter().cycle().skip(start).take(length).copied().collect()
}

/// The counts of a file of `second,count` lines (`data/arrivals` of the project's material); `None` when a line is no such pair.
/// Seconds that are left out have no arrivals.
pub fn parse_trace(text: &str) -> Option<Vec<f64>> {
    let mut counts = Vec::new();
    for line in text.lines().skip(1).filter(|line| !line.is_empty()) {
        let (second, count) = line.split_once(',')?;
        let (second, count): (usize, f64) = (second.trim().parse().ok()?, count.trim().parse().ok()?);
        if second > 1_000_000 {
            return None;
        }
        counts.resize(counts.len().max(second + 1), 0.0);
        counts[second] += count;
    }
    Some(counts).filter(|counts| !counts.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_says_so() {
        let catalog = Catalog::seven_slices("A100", 80 * 1024);
        let work = Work { slice_s: 100.0, exponent: 1.0, least_slices: 2, accuracy_after: 0.9, restore_s: 3.0 };
        let truth = Truth {
            name: "t".to_owned(),
            history: Vec::new(),
            arrivals: vec![1.0; LEAD_S + 2],
            slice_rps: 10.0,
            exponent: 1.0,
            least_slices: 3,
            load_s: 1.0,
            accuracy: 0.6,
            retraining: Some(work),
        };
        assert_eq!(truth.capacity_rps(&catalog), [0.0, 0.0, 30.0, 40.0, 70.0]);
        assert_eq!(work.seconds(&catalog)[..2], [-1.0, 50.0]);
        assert_eq!((truth.arrivals_at(50), truth.total(3)), (1.0, 3.0));
    }

    #[test]
    fn traces_keep_their_shape_and_take_the_tenants_mean() {
        assert_eq!(parse_trace("second,count\n0,2\n2,4\n"), Some(vec![2.0, 0.0, 4.0]));
        assert_eq!(parse_trace("second,count\nx,2\n"), None);
        let before = crate::generate::window(&crate::generate::Spec::new(1, 3), 1);
        let after = before.with_traces(&[vec![1.0, 3.0], vec![5.0; 40]], 2);
        let mean = |t: &Truth| t.arrivals.iter().sum::<f64>() / t.arrivals.len() as f64;
        for (a, b) in before.tenants.iter().zip(&after.tenants) {
            assert!((mean(a) - mean(b)).abs() < 1e-6 * mean(a));
        }
        let ratio = after.tenants[0].arrivals[0] / after.tenants[0].arrivals[1];
        assert!((ratio - 3.0).abs() < 1e-9 || (ratio - 1.0 / 3.0).abs() < 1e-9);
    }
}
