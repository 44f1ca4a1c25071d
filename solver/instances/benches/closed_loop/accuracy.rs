//! How far forecasts are from what came, without a planner.

use std::time::Instant;

use migrator_instances::Window;
use migrator_instances::window::LEAD_S;
use migrator_solver::Forecaster;
use migrator_solver::problem::Scenario;

/// Seconds ahead at which the error of the mean is taken.
pub const AHEAD_S: [usize; 3] = [1, 10, 60];
/// Seconds ahead at which the quantile is judged: about what a change takes.
const QUANTILE_AT_S: usize = 5;
/// Seconds ahead at which the whole distribution is judged.
const CRPS_AT_S: usize = 10;
/// Which quantile.
const QUANTILE: f64 = 0.9;

/// Sums over the seconds of windows, each tenant's counts divided by its mean.
#[derive(Clone, Debug, Default)]
pub struct Accuracy {
    seconds: f64,
    absolute: [f64; AHEAD_S.len()],
    pinball: f64,
    crps: f64,
    busy_s: f64,
}

impl Accuracy {
    /// Feeds every tenant's arrivals to a fresh forecaster and looks at what it says each second.
    #[expect(clippy::disallowed_methods, reason = "a benchmark; the crate itself stays without a clock")]
    pub fn of<'a>(windows: impl Iterator<Item = &'a Window>, make: &dyn Fn() -> Box<dyn Forecaster>) -> Accuracy {
        let mut all = Accuracy::default();
        for window in windows {
            for tenant in &window.tenants {
                let mut forecaster = make();
                tenant.history.iter().chain(&tenant.arrivals[..LEAD_S]).for_each(|&count| forecaster.observe(count));
                let mean = tenant.total(window.seconds) / window.seconds as f64;
                for second in 0..window.seconds {
                    let start = Instant::now();
                    let courses = forecaster.scenarios(AHEAD_S[AHEAD_S.len() - 1]);
                    forecaster.observe(tenant.arrivals_at(second));
                    all.busy_s += start.elapsed().as_secs_f64();
                    all.count(&courses, mean.max(1e-9), |ahead| tenant.arrivals_at(second + ahead - 1));
                }
            }
        }
        all
    }

    fn count(&mut self, courses: &[Scenario], mean: f64, came: impl Fn(usize) -> f64) {
        self.seconds += 1.0;
        for (sum, &ahead) in self.absolute.iter_mut().zip(&AHEAD_S) {
            let expected: f64 = courses.iter().map(|course| course.probability * course.rps[ahead - 1]).sum();
            *sum += (came(ahead) - expected).abs() / mean;
        }
        self.crps += crps(courses, CRPS_AT_S - 1, came(CRPS_AT_S)) / mean;
        let (said, true_rps) = (quantile(courses, QUANTILE_AT_S - 1), came(QUANTILE_AT_S));
        self.pinball += (QUANTILE * (true_rps - said)).max((QUANTILE - 1.0) * (true_rps - said)) / mean;
    }

    /// Mean absolute error ÷ mean arrivals at [`AHEAD_S`]; pinball loss of the 90 % quantile 5 s ahead and CRPS 10 s ahead, both
    /// ÷ mean arrivals; microseconds per tenant and second.
    pub fn row(&self) -> String {
        let errors: Vec<String> = self.absolute.iter().map(|sum| format!("{:.3}", sum / self.seconds)).collect();
        let (pinball, crps) = (self.pinball / self.seconds, self.crps / self.seconds);
        format!("{} | {pinball:.3} | {crps:.3} | {:.0}", errors.join(" / "), 1e6 * self.busy_s / self.seconds)
    }
}

/// Continuous ranked probability score of the courses at a second: E|X − y| − E|X − X'| ÷ 2; of a point forecast its absolute error.
fn crps(courses: &[Scenario], at: usize, came: f64) -> f64 {
    let pairs = courses.iter().flat_map(|a| courses.iter().map(move |b| (a, b)));
    let within: f64 = pairs.map(|(a, b)| a.probability * b.probability * (a.rps[at] - b.rps[at]).abs()).sum();
    courses.iter().map(|course| course.probability * (course.rps[at] - came).abs()).sum::<f64>() - 0.5 * within
}

/// The quantile of the courses at a second; a point forecast's is the point.
fn quantile(courses: &[Scenario], at: usize) -> f64 {
    let mut values: Vec<(f64, f64)> = courses.iter().map(|course| (course.rps[at], course.probability)).collect();
    values.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut below = 0.0;
    let reached = values.iter().find(|(_, probability)| {
        below += probability;
        below >= QUANTILE - 1e-9
    });
    reached.or(values.last()).map_or(0.0, |(rps, _)| *rps)
}
