//! Being written.

use std::process::ExitCode;

use crate::cli::DemoArgs;

/// `migrator demo`.
///
/// # Errors
/// Being written.
pub fn run(_args: DemoArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("not written yet")
}
