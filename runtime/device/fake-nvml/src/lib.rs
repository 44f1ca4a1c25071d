//! An NVML library with no GPU behind it: hosts made of files, which refuse what hardware refuses.
//!
//! Knows nothing of the runtime that it is used to test. `libfake_nvml.so` is loaded in place of `libnvidia-ml.so.1`; tests link this
//! crate for [`FakeHost`], which makes hosts and plays the parts that no caller of NVML can: other clients, faults, broken hardware.
//! Read in the order [`gpu`] (what a GPU accepts), `driver` (what the calls mean), `abi` (how C calls them), [`FakeHost`].

mod abi;
pub mod audit;
mod claim;
mod code;
pub mod compute;
mod driver;
mod fault;
pub mod gpu;
mod handle;
mod host;
mod latency;
mod play;
mod uuid;

pub use claim::User;
pub use code::Code;
pub use fault::{Effect, Fault, Rule};
pub use host::{Call, GpuSpec, HostError, HostSpec, Permission};
pub use play::{FakeHost, FakeInstance, PlayError};
