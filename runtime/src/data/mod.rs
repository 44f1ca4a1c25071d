//! `migrator data`: samples from files, and what samples there are.

mod import;
mod range;
mod stats;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;

use crate::cli::DataCommand;
use crate::config::{Config, TenantConfig};

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

fn tenant<'c>(config: &'c Config, name: &str) -> anyhow::Result<&'c TenantConfig> {
    config.tenants.iter().find(|tenant| tenant.name == name).with_context(|| {
        let known: Vec<&str> = config.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        format!("no tenant {name:?} in the configuration; it has {}", known.join(", "))
    })
}
