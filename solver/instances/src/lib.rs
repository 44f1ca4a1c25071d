//! Problems to measure and test planners with, from a seed: whole windows ([`window()`]), snapshots of them ([`snapshot()`]).
//!
//! For development only; pure and deterministic: knows nothing of clocks, files or devices. Read in the order [`mod@window`],
//! [`generate`], [`mod@snapshot`].
#![forbid(unsafe_code)]

pub mod generate;
pub mod rng;
pub mod snapshot;
pub mod window;

pub use generate::{Spec, window};
pub use rng::Rng;
pub use snapshot::{Known, problem, snapshot};
pub use window::{Times, Truth, Window, Work};
