//! `migrator plan`: a problem from a file, solved without a device; and the file's form, which the server exports and asks back.
//!
//! Knows nothing of actors or HTTP. Read in the order [`file`], [`read()`], [`write`], [`Answer`], [`what_if`], [`run`].

mod advice;
mod answer;
mod command;
mod file;
mod keys;
mod read;
#[cfg(test)]
mod tests;
pub mod what_if;
mod write;

pub use advice::{Advice, advice};
pub(crate) use answer::gpus;
pub use answer::{Answer, Depth, solve};
pub use command::run;
pub use file::ProblemFile;
pub(crate) use read::boards;
pub use read::read;

/// The keys that a problem may have at its top.
pub(crate) fn top_keys() -> impl Iterator<Item = &'static str> {
    keys::ROOT.iter().map(|key| key.name)
}
