//! The NVIDIA device on hosts that are files: `migrator-fake-nvml` refuses what hardware refuses.
#![allow(clippy::unwrap_used, reason = "clippy sees #[test] functions as tests, their helpers not")]

mod adopt;
mod event;
mod fault;
mod inspect;
mod lifecycle;
mod support;
