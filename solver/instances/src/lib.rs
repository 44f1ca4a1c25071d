//! Problems to measure and test planners with, from a seed: whole windows ([`window()`]), snapshots of them ([`snapshot()`]), and the
//! closed loop over a window ([`closed_loop::run`]).
//!
//! For development only; pure and deterministic: knows nothing of clocks, files or devices. Read in the order [`mod@window`],
//! [`generate`], [`mod@snapshot`], [`host`], [`closed_loop`].
#![forbid(unsafe_code)]

pub mod closed_loop;
pub mod generate;
pub mod host;
pub mod rng;
pub mod snapshot;
pub mod window;

pub use generate::{Spec, window};
pub use rng::Rng;
pub use snapshot::{Known, problem, snapshot};
pub use window::{Times, Truth, Window, Work};
