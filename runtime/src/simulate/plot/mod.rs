//! Plots of simulations, as SVG.
//!
//! Every plot is a pure function from results to the text of a file. At most [`column::MOST`] columns of time are drawn, whatever the
//! horizon. Colours are those of Okabe and Ito, which people of any colour vision can tell apart.

mod accuracy;
mod capacity;
mod column;
mod latency;
mod policies;
mod timeline;

pub use accuracy::accuracy;
pub use capacity::capacity;
pub use latency::latency;
pub use policies::policies;
pub use timeline::timeline;

use anyhow::Result;
use migrator_sim::{Run, Setup};

/// A run that is drawn.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'s> {
    /// Which: scenario, policy and seed in words.
    pub title: &'s str,
    /// What was simulated.
    pub setup: &'s Setup,
    /// What came of it.
    pub run: &'s Run,
}

/// Draws one kind of plot.
pub type Draw = fn(Subject<'_>) -> Result<String>;

/// The plots of one run, by the last part of their file names.
pub const OF_A_RUN: [(&str, Draw); 4] = [("timeline", timeline), ("capacity", capacity), ("latency", latency), ("accuracy", accuracy)];
