//! Arrivals by second: generators, and traces brought to a load. Everything follows from a seed.
//!
//! A generator is a rate over time, itself random or not; its counts are drawn around the rate (Poisson). Read in the order [`generator`],
//! [`scale`].

pub mod generator;
pub mod scale;

pub use generator::{Generator, State};
pub use scale::{multiplied, resampled};

use rand::SeedableRng as _;
use rand::rngs::StdRng;

/// Most arrivals in one second; what is beyond is cut off.
pub const MOST_PER_SECOND: f64 = 1e6;

/// The random numbers of one tenant's arrivals; streams of one seed have nothing to do with each other.
pub fn stream(seed: u64, stream: u64) -> StdRng {
    StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ stream.wrapping_mul(0xd1b5_4a32_d192_ed03))
}
