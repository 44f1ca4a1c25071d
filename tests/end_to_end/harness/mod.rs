//! Starts the real binaries, talks to them, and makes sure that nothing of them is left. Read in the order [`World`], [`Server`],
//! [`Client`], then `data` and `process`.

mod client;
mod command;
mod config;
pub mod data;
pub mod process;
mod server;
mod swing;
mod world;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

pub use client::{Client, Reply};
pub use command::{Ran, bin, run};
pub use config::{Fake, Heavy, Pair, Setup};
pub use server::Server;
pub use swing::swing;
pub use world::World;

/// What must happen at all happens within this; only a hang takes longer. Not a claim about speed.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// How often it is looked.
const POLL: Duration = Duration::from_millis(20);

/// Looks until `state` gives something.
///
/// # Panics
/// When it has not by the deadline; says what was awaited.
pub fn eventually<T>(what: &str, mut state: impl FnMut() -> Option<T>) -> T {
    settled(what, || state().ok_or("it did not happen"))
}

/// Looks until `state` is in order.
///
/// # Panics
/// When it is not by the deadline; says what was awaited, and what was wrong the last time.
#[allow(clippy::disallowed_methods, reason = "the pause between two looks; nothing is concluded from the time")]
pub fn settled<T, E: std::fmt::Display>(what: &str, mut state: impl FnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match state() {
            Ok(found) => return found,
            Err(wrong) => assert!(Instant::now() < deadline, "{what}: not within {DEADLINE:?}: {wrong}"),
        }
        std::thread::sleep(POLL);
    }
}

/// Seconds that a test goes on, from the environment: a few in `make test`, more when something is to be shown.
///
/// # Panics
/// When the variable is no whole number.
pub fn seconds(variable: &str, usual: u64) -> Duration {
    Duration::from_secs(number(variable, usual))
}

/// A number from the environment.
///
/// # Panics
/// When the variable is no whole number.
pub fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |value| value.parse().unwrap_or_else(|e| panic!("{variable}={value}: {e}")))
}

/// Raises a flag when dropped, also by a panic: a thread that waits for it always ends.
pub struct Raise<'f>(pub &'f AtomicBool);

impl Drop for Raise<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
