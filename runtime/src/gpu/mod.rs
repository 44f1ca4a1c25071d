//! `migrator gpu`: the GPUs of this host, what GPU models can be cut into, and what a change would take.

mod catalog;
mod command;
mod inventory;
mod partition;
mod transition;

pub(crate) use catalog::board;
pub use command::run;
