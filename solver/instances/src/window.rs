//! One retraining window as it truly is: arrivals of every second, speeds, work, accuracies. Nobody in the loop sees it whole but
//! the oracle.

use migrator_mig::Catalog;

/// Seconds of arrivals before the window, for a forecaster to have seen.
pub const LEAD_S: usize = 120;
/// Seconds of arrivals after it: near its end planners look into the next one.
pub const TRAIL_S: usize = 60;

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
    /// Compute slices of the whole host.
    pub fn slices(&self) -> f64 {
        self.gpus.iter().map(|&model| f64::from(self.models[model].compute_slices)).sum()
    }
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
}
