//! The `migrator` program: command line, configuration, HTTP, Prometheus, storage, wiring, load generator and demo.
//!
//! Links no libtorch and decides nothing about plans: it connects the actors to the outside. Read in the order [`cli`],
//! [`config`], [`plan`], [`curve`], [`simulate`], [`profile`], [`http`], [`storage`], [`serve`], [`model`], [`data`], [`load`], [`demo`].
#![forbid(unsafe_code)]

pub mod cli;
pub mod config;
pub mod curve;
pub mod data;
pub mod demo;
pub mod figure;
pub mod gpu;
pub mod grpc;
pub mod http;
pub mod load;
pub mod log;
pub mod model;
pub mod plan;
pub mod profile;
pub mod serve;
pub mod simulate;
pub mod storage;
