//! `migrator models import`: a model file from elsewhere becomes a version.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use migrator_models::store::{Manifest, TOKENIZER, TORCHSCRIPT, WEIGHTS};
use migrator_models::{ModelSpec, Source};
use migrator_wire::message::{FromWorker, ModelKey, ToWorker};

use super::worker::with_worker;
use crate::cli::ImportArgs;

/// Copies the file, lets a worker load it, publishes it.
pub(super) fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let (_, tenant, store) = super::tenant_of(&args.config, args.state_dir.as_ref(), &args.tenant)?;
    let spec = tenant.model;
    let staged = store.staging(&spec.name)?;
    let name = match spec.source {
        Source::Torchscript { .. } => TORCHSCRIPT,
        Source::Architecture { .. } => WEIGHTS,
    };
    copy(&args.file, &staged.join(name))?;
    if let Some(tokenizer) = &args.tokenizer {
        copy(tokenizer, &staged.join(TOKENIZER))?;
    }
    let memory_mib = try_out(&spec, &staged).with_context(|| format!("{} is not this tenant's model", args.file.display()))?;
    let version = store.publish(&spec.name, &staged, Manifest::new(spec.clone()))?;
    println!("model {} version {version}: loads, answers, takes {memory_mib} MiB", spec.name);
    Ok(ExitCode::SUCCESS)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::copy(from, to).with_context(|| format!("cannot copy {}", from.display())).map(|_| ())
}

/// Loads and warms it in a worker; a file that cannot answer never becomes a version.
fn try_out(spec: &ModelSpec, folder: &Path) -> anyhow::Result<u64> {
    with_worker(&spec.name, |worker| async move {
        let load = ToWorker::Load { key: ModelKey(1), spec: spec.clone(), folder: folder.to_owned(), warm: vec![1] };
        match worker.call(load, Vec::new()).await? {
            (FromWorker::Loaded { memory_mib, .. }, _) => Ok(memory_mib),
            (other, _) => anyhow::bail!("the worker answered out of turn: {other:?}"),
        }
    })
}
