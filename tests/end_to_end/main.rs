//! The real `migrator` and its real workers, seen from outside: over HTTP, by signals, by exit codes and by what is left behind.
//!
//! One process, one server at a time: a server under test owns the host's cores. Every wait is for a state, with a deadline that only
//! a hang misses. Read `harness` first.

mod answers;
mod boundary;
mod canary;
mod drain;
mod golden;
mod harness;
mod hot_swap;
mod import;
mod interruption;
mod kills;
mod labels;
mod nvidia;
mod poison;
mod profile;
mod reconfiguration;
mod refusals;
mod retraining;
mod store;
