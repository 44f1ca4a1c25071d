//! Demand of the next seconds from the counts of the last ones; pure and deterministic.
//!
//! How they were compared and why the default is the default: `docs/forecasting.md`.

mod analog;
mod decaying;
mod ewma;
mod holt;
mod holt_winters;
mod last_value;
mod season;
mod sliding_quantile;
#[cfg(test)]
mod tests;

use serde::{Deserialize, Serialize};

use crate::problem::Scenario;
pub use analog::Analog;
pub use decaying::Decaying;
pub use ewma::Ewma;
pub use holt::Holt;
pub use holt_winters::HoltWinters;
pub use last_value::LastValue;
pub use sliding_quantile::SlidingQuantile;

/// Foretells one tenant's arrivals; fed one count per second.
pub trait Forecaster: Send + std::fmt::Debug {
    /// Takes in the arrivals of the second that has just ended, requests; a negative or non-finite count is taken as 0.
    fn observe(&mut self, count: f64);

    /// Expected arrivals of the next `horizon` seconds, requests/s each, never negative; all 0 before the first observation.
    fn forecast(&self, horizon: usize) -> Vec<f64>;

    /// The courses that the next `horizon` seconds may take, for a planner that weighs them; one certain course unless the forecaster
    /// knows more.
    fn scenarios(&self, horizon: usize) -> Vec<Scenario> {
        Scenario::certain(self.forecast(horizon))
    }
}

/// The forecasters, by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForecastName {
    /// [`Decaying`].
    Decaying,
    /// [`Analog`].
    #[default]
    Analog,
    /// [`LastValue`].
    LastValue,
    /// [`Ewma`] of 5 s.
    Ewma,
    /// [`SlidingQuantile`]: 90 % of the last 10 s.
    Quantile,
    /// [`Holt`]: 5 s, 30 s.
    Holt,
    /// [`HoltWinters`]: 5 s, the season found in the counts.
    HoltWinters,
}

impl ForecastName {
    /// Every forecaster.
    pub const ALL: [ForecastName; 7] = [
        ForecastName::Decaying,
        ForecastName::Analog,
        ForecastName::LastValue,
        ForecastName::Ewma,
        ForecastName::Quantile,
        ForecastName::Holt,
        ForecastName::HoltWinters,
    ];

    /// Their names.
    pub const NAMES: &'static [&'static str] = &["decaying", "analog", "last-value", "ewma", "quantile", "holt", "holt-winters"];

    /// A forecaster that has seen nothing yet.
    pub fn make(self) -> Box<dyn Forecaster> {
        match self {
            ForecastName::Decaying => Box::new(Decaying::default()),
            ForecastName::Analog => Box::new(Analog::default()),
            ForecastName::LastValue => Box::new(LastValue::default()),
            ForecastName::Ewma => Box::new(Ewma::new(5.0)),
            ForecastName::Quantile => Box::new(SlidingQuantile::new(10, 0.9)),
            ForecastName::Holt => Box::new(Holt::new(5.0, 30.0)),
            ForecastName::HoltWinters => Box::new(HoltWinters::default()),
        }
    }

    /// The name in configuration and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            ForecastName::Decaying => "decaying",
            ForecastName::Analog => "analog",
            ForecastName::LastValue => "last-value",
            ForecastName::Ewma => "ewma",
            ForecastName::Quantile => "quantile",
            ForecastName::Holt => "holt",
            ForecastName::HoltWinters => "holt-winters",
        }
    }
}

impl std::fmt::Display for ForecastName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// More per second than any host answers, and with every margin still a demand that a problem may state (1e9): what a broken counter may do.
const MOST_RPS: f64 = 5e8;

fn sane(count: f64) -> f64 {
    if count.is_finite() { count.clamp(0.0, MOST_RPS) } else { 0.0 }
}

/// Weight of a new value in a mean of this time constant, seconds (at least 1).
fn rate(time_constant_s: f64) -> f64 {
    1.0 - (-1.0 / time_constant_s.max(1.0)).exp()
}
