//! `migrator models`: looks after the model store.

mod import;
mod list;
mod rollback;
mod train;
mod worker;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use migrator_models::store::Store;

use crate::cli::{ModelsCommand, StoreArgs};
use crate::config::{Config, TenantConfig};

/// Runs one of the store's commands.
///
/// # Errors
/// One that names the file, version or tenant it is about.
pub fn run(command: ModelsCommand) -> anyhow::Result<ExitCode> {
    match command {
        ModelsCommand::List(args) => list::list(&open(&args)?),
        ModelsCommand::Show(args) => list::show(&open(&args.store)?, &args.model),
        ModelsCommand::Verify(args) => list::verify(&open(&args.store)?, args.model.as_deref()),
        ModelsCommand::Rollback(args) => rollback::rollback(&open(&args.model.store)?, &args.model.model, args.to),
        ModelsCommand::Import(args) => import::import(&args),
        ModelsCommand::Train(args) => train::train(&args),
    }
}

fn open(args: &StoreArgs) -> anyhow::Result<Store> {
    let folder = match (&args.state_dir, &args.config) {
        (Some(dir), _) => dir.join("models"),
        (None, Some(path)) => load(path)?.server.models_dir(),
        (None, None) => anyhow::bail!("where is the store? give --config FILE or --state-dir DIR"),
    };
    // Looking must not make folders.
    anyhow::ensure!(folder.is_dir(), "{} is no folder: no model was ever stored there", folder.display());
    Ok(Store::open(&folder)?)
}

fn load(path: &Path) -> anyhow::Result<Config> {
    Config::load(path).map_err(|errors| anyhow::anyhow!("{errors}"))
}

/// The configuration with its state folder, the tenant, and the store, made when absent.
fn tenant_of(config: &Path, state_dir: Option<&PathBuf>, name: &str) -> anyhow::Result<(Config, TenantConfig, Store)> {
    let mut config = load(config)?;
    if let Some(dir) = state_dir {
        config.server.state_dir.clone_from(dir);
    }
    let tenant = config.tenant(name)?.clone();
    let store = Store::open(&config.server.models_dir())?;
    Ok((config, tenant, store))
}
