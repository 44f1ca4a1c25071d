//! The only crate that links libtorch: loads models, answers batches, retrains.
//!
//! Knows nothing of the wire, of instances or of actors. Every call computes on the calling thread alone, or has the one GPU of this
//! process compute: executors are the caller's threads. Read in the order `model`, `train`, `place`, `error`.

mod architecture;
mod autocast;
mod checkpoint;
mod error;
mod input;
mod microprofile;
mod model;
mod network;
mod optimise;
mod optimizer;
mod place;
mod run;
mod samples;
mod script;
mod shared;
mod text;
mod thread;
mod train;
mod upload;
mod weights;

pub use error::TorchError;
pub use microprofile::{MicroprofileJob, microprofile};
pub use model::Model;
pub use place::adopt_gpu;
pub use train::{Control, Progress, TrainJob, TrainOutcome, train};

/// Version of libtorch this was built against.
pub fn torch_version() -> &'static str {
    "2.11.0"
}
