//! The actix shells: one actor per tenant, the coordinator, the migration and the retraining actors.
//!
//! An actor is a thin shell around a machine of `migrator-machine`: it owns the mailbox, the timer, the connection to its workers and
//! the metrics, and decides nothing. Read in the order [`message`], [`view`].
#![forbid(unsafe_code)]

pub mod message;
pub mod view;
