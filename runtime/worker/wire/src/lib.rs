//! The wire protocol between the server and its worker processes: frames over a Unix socket pair.
//!
//! A frame is a 32-byte header, a `postcard` head and a raw payload; tensors are the payload, little-endian, row-major, and are
//! never re-encoded. Knows nothing of libtorch, actors or HTTP. Read in the order [`message`], [`frame`], [`client`].

pub mod client;
pub mod frame;
pub mod message;

/// Microseconds of the host's monotonic clock, which all its processes see alike: what the way of an answer takes is told by it.
pub fn monotonic_us() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1000
}

pub use client::{CallError, Deadlines, Exit, SpawnError, SpawnOptions, Worker, WorkerExit, WorkerHandle};
pub use frame::FrameError;
pub use message::{FailCode, FromWorker, ModelKey, ToWorker, TrainJob};
