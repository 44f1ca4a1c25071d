//! The load generator: open-loop requests from arrivals and labelled samples, and what became of each of them.
//!
//! Knows the server by HTTP alone. Send times follow from arrivals and seed; latency counts from the *intended* send time, so a slow
//! server cannot slow the load down and look better for it. Read in the order [`LoadPlan`], [`run_plan`], [`LoadReport`].

mod body;
mod client;
mod command;
mod engine;
mod label;
pub mod output;
pub mod plan;
pub mod progress;
pub mod record;
pub mod report;
mod schedule;
pub(crate) mod target;
#[cfg(test)]
mod tests;

pub use command::{run, stop_on_interrupt};
pub use engine::run_plan;
pub use plan::{Arrivals, LoadPlan, OverTime, Samples, Stop, TenantLoad};
pub use progress::{Progress, TenantProgress};
pub use record::{Counts, Latency, Outcome, Record};
pub use report::{LoadReport, TenantReport};
pub use target::Reconfiguration;
