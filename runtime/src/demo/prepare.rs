//! The first version of each model: data as the world looks before it drifts, trained by `migrator models train`.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use migrator_models::reader::write_set;
use migrator_models::synthetic::{Generator, Kind};
use tokio::process::Command;

use super::setting::Setting;

/// Rows per tenant: what the models need to pass 0.9 within their few epochs.
const ROWS: usize = 2000;

/// Generates data and trains every tenant's model on it.
///
/// # Errors
/// When a file cannot be written or a training fails.
pub(super) async fn first_versions(setting: &Setting) -> Result<()> {
    for &kind in &setting.kinds {
        let data = data(setting, kind)?;
        train(setting, kind, &data).await?;
    }
    Ok(())
}

fn data(setting: &Setting, kind: Kind) -> Result<PathBuf> {
    let folder = setting.state.path().join("data");
    std::fs::create_dir_all(&folder).with_context(|| format!("{}: cannot be made", folder.display()))?;
    let extension = if kind.width().is_some() { "csv" } else { "tsv" };
    let path = folder.join(format!("{}.{extension}", kind.name()));
    write_set(&path, &Generator::new(kind, setting.args.seed).set(ROWS, 0.0, 0.0))?;
    Ok(path)
}

async fn train(setting: &Setting, kind: Kind, data: &std::path::Path) -> Result<()> {
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    let mut command = Command::new(program);
    command.args(["--log", "warn", "models", "train", "--tenant", kind.name()]);
    command.arg("--config").arg(&setting.config_file).arg("--state-dir").arg(setting.state.path()).arg("--data").arg(data);
    let status = command.stdin(Stdio::null()).kill_on_drop(true).status().await.context("cannot start `migrator models train`")?;
    if !status.success() {
        bail!("the first version of {} could not be trained ({status}); see the line above", kind.name());
    }
    Ok(())
}
