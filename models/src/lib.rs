//! What a model is, how fast it runs where, what it learns from: spec, curves, store, data sets. No libtorch.
//!
//! Knows nothing of workers, actors or HTTP. Read in the order [`spec`], [`curve`], [`store`], [`data`].
#![forbid(unsafe_code)]

pub mod curve;
pub mod spec;

pub use curve::Curve;
pub use spec::{Architecture, Datatype, ModelSpec, Source, TensorSpec, TrainSpec};
