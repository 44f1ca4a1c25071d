//! Loading, inference and retraining through the public API, on generated tasks and the files of `tests/fixture`.
#![allow(clippy::unwrap_used)]

mod forgetting;
mod infer;
mod microprofile;
mod refuse;
mod retrain;
mod task;
