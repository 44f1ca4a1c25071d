//! A host on virtual time: the machines of `migrator-machine` and the policies of `migrator-solver`, driven by events instead of actors.
//!
//! Pure: knows nothing of clocks, files, threads or libtorch; one seed decides everything. Read in the order [`setup`] (what is simulated),
//! [`learn`] (how accurate models are), [`simulate()`] (how), [`run`] (what came of it).
#![forbid(unsafe_code)]

pub mod arrivals;
mod check;
mod dice;
mod event;
pub mod example;
mod fault;
mod foresight;
mod host;
mod incoming;
pub mod learn;
mod machines;
pub mod oracle;
mod record;
mod retrain;
pub mod run;
mod serve;
pub mod setup;
mod step;
#[cfg(test)]
mod tests;
mod trainer;
mod world;

pub use oracle::{Oracle, oracle};
pub use run::Run;
pub use setup::Setup;

use migrator_solver::Policy;

/// Hears how far a simulation is.
pub trait Watch {
    /// So many simulated seconds are over; `false` ends the simulation here.
    fn second(&mut self, second: u64) -> bool;
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn second(&mut self, _: u64) -> bool {
        true
    }
}

/// Runs `setup` under `policy` from second 0 to its end.
pub fn simulate(setup: &Setup, policy: &mut dyn Policy, watch: &mut dyn Watch) -> Run {
    world::World::new(setup, policy).run(watch)
}
