//! `migrator models rollback`: an older version becomes the newest again.

use std::process::ExitCode;

use anyhow::Context as _;
use migrator_models::store::Store;

/// Publishes version `to` anew, or the newest version's parent.
pub(super) fn rollback(store: &Store, model: &str, to: Option<u64>) -> anyhow::Result<ExitCode> {
    let newest = store.latest(model)?.found.with_context(|| format!("model {model:?} has no complete version"))?.version;
    let to = match to {
        Some(to) => to,
        None => store.manifest(model, newest)?.parent.with_context(|| format!("version {newest} has no parent; say --to VERSION"))?,
    };
    anyhow::ensure!(to != newest, "version {to} is the newest already");
    let version = store.republish(model, to)?;
    println!("model {model} version {version}: a copy of version {to} (version {newest} was the newest)");
    Ok(ExitCode::SUCCESS)
}
