//! The wire protocol between the server and its worker processes: frames over a Unix socket pair.
//!
//! A frame is a 32-byte header, a `postcard` head and a raw payload; tensors are the payload, little-endian, row-major, and are
//! never re-encoded. Knows nothing of libtorch, actors or HTTP. Read in the order [`message`], [`frame`], [`client`].

pub mod client;
pub mod frame;
pub mod message;

pub use client::{CallError, Deadlines, Exit, SpawnError, SpawnOptions, Worker, WorkerExit, WorkerHandle};
pub use frame::FrameError;
pub use message::{FailCode, FromWorker, ModelKey, ToWorker, TrainJob};
