//! Being written.

use std::process::ExitCode;

use crate::cli::LoadArgs;

/// `migrator load`.
///
/// # Errors
/// Being written.
pub fn run(_args: LoadArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
