//! Wiring: being written.

use std::process::ExitCode;

use crate::cli::{ModelsCommand, ServeArgs};

/// `migrator serve`.
///
/// # Errors
/// Being written.
pub fn run(_args: ServeArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}

/// `migrator models`.
///
/// # Errors
/// Being written.
pub fn models(_command: ModelsCommand) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
