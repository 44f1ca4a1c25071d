//! The actix shells: one actor per tenant, the coordinator, the migration and the retraining actors.
//!
//! An actor is a thin shell around a machine of `migrator-machine`: it owns the mailbox, the timer, the connection to its workers and
//! the metrics, and decides nothing. Read in the order [`message`], [`view`], [`tenant`], [`retraining`], [`launcher`], [`migration`],
//! [`coordinator`].
#![forbid(unsafe_code)]

pub mod clock;
pub mod coordinator;
pub mod golden;
pub mod launcher;
pub mod message;
pub mod meter;
pub mod migration;
pub mod retraining;
pub mod statistic;
pub mod tenant;
pub mod view;
