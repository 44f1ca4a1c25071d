//! `migrator simulate`: many policies × scenarios × seeds on virtual time, and what came of them as a table, JSON, CSV and plots.
//!
//! Knows nothing of actors, HTTP or devices. Read in the order [`scenario`] (what is simulated; its figures are [`crate::curve`]'s), [`variant`] (who is compared),
//! [`batch`] (how it is run), [`measure`] and [`report`] (what came of it), [`table`], [`json`], [`csv`], [`plot`];
//! [`run`] puts it together.

pub mod batch;
mod command;
pub mod csv;
pub mod json;
pub mod measure;
pub mod plot;
mod progress;
pub mod report;
pub mod scenario;
pub mod statistic;
pub mod table;
#[cfg(test)]
mod tests;
pub mod variant;

pub use command::run;
