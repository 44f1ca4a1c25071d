//! What a model is, how fast it runs where, what it learns from: spec, curves, store, data sets. No libtorch.
//!
//! Knows nothing of workers, actors or HTTP. Read in the order [`spec`], [`curve`], [`store`], [`data`]; [`file`](mod@file) writes safely.
#![forbid(unsafe_code)]

pub mod curve;
pub mod data;
pub mod file;
pub mod microprofile;
pub mod reader;
pub mod row;
pub mod spec;
pub mod store;
pub mod synthetic;
pub mod trained;

pub use curve::{Curve, OnProfile};
pub use data::{DataError, Dataset, Part, Sample};
pub use microprofile::{Course, Microprofile};
pub use spec::{Architecture, Datatype, ModelSpec, Precision, Source, TensorSpec, TrainSpec};
pub use store::{Latest, Manifest, Store, StoreError};
pub use trained::{Older, Trained};
