//! `migrator data`: samples from files, and what samples there are.

mod import;
mod range;
mod stats;

use std::path::Path;
use std::process::ExitCode;

use crate::cli::DataCommand;
use crate::config::Config;

/// Runs one of the commands.
///
/// # Errors
/// One that names the file or tenant it is about.
pub fn run(command: DataCommand) -> anyhow::Result<ExitCode> {
    match command {
        DataCommand::Import(args) => import::import(&args),
        DataCommand::Stats(args) => stats::stats(&args),
    }
}

fn load(path: &Path, state_dir: Option<&Path>) -> anyhow::Result<Config> {
    let mut config = Config::load(path).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    if let Some(dir) = state_dir {
        dir.clone_into(&mut config.server.state_dir);
    }
    Ok(config)
}
