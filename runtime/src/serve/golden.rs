//! A tenant's golden model: found, checked, and put to work.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix::Addr;
use anyhow::{Context as _, ensure};
use migrator_actors::golden::{Answered, GoldenParts, run};
use migrator_actors::launcher::Launcher;
use migrator_actors::tenant::TenantActor;
use migrator_models::store::{Store, TOKENIZER, TORCHSCRIPT, WEIGHTS};
use migrator_models::{ModelSpec, Source};
use migrator_solver::TenantId;
use tokio::sync::mpsc;

use crate::config::{GoldenConfig, TenantConfig};

/// Puts a golden model to work in the background, as far as possible from requests; it ends with the tenant's actor.
pub(super) fn start(
    id: TenantId,
    tenant: &TenantConfig,
    golden: &GoldenConfig,
    (spec, folder): (ModelSpec, PathBuf),
    launcher: &Arc<Launcher>,
    address: Addr<TenantActor>,
    offered: mpsc::Receiver<Answered>,
) {
    let parts = GoldenParts {
        id,
        name: tenant.name.clone(),
        spec: Arc::new(spec),
        folder,
        max_rps: golden.max_rps,
        min_confidence: golden.min_confidence,
        launcher: Arc::clone(launcher),
        tenant: address,
    };
    actix::spawn(run(parts, offered));
}

/// What the golden model is, and the folder of its weights; blocks for as long as it takes to copy them.
///
/// # Errors
/// When there is no such model, or it is none for this tenant.
pub(super) fn find(tenant: &TenantConfig, golden: &GoldenConfig, store: &Store, state_dir: &Path) -> anyhow::Result<(ModelSpec, PathBuf)> {
    let own = &tenant.model;
    let (spec, folder) = match (&golden.model, &golden.file) {
        (Some(name), _) => {
            let newest = store.latest(name)?.found.with_context(|| format!("the store has no complete version of {name:?}"))?;
            let folder = store.folder(name, newest.version)?;
            (newest.spec, folder)
        }
        (None, Some(file)) => {
            let source = golden.source.clone().unwrap_or_else(|| Source::Torchscript { inputs: own.inputs() });
            let spec = ModelSpec { name: format!("golden-{}", tenant.name), source, ..own.clone() };
            let folder = std::path::absolute(state_dir.join("golden").join(&tenant.name))?;
            copy(file, &spec, &folder)?;
            (spec, folder)
        }
        (None, None) => anyhow::bail!("neither model nor file is given"),
    };
    let inputs = |spec: &ModelSpec| spec.inputs().into_iter().map(|input| (input.datatype, input.shape)).collect::<Vec<_>>();
    ensure!(
        inputs(&spec) == inputs(own) && spec.classes == own.classes,
        "{} takes {:?} and tells {} classes apart, the tenant's model takes {:?} and tells {} apart: they must be the same",
        spec.name,
        inputs(&spec),
        spec.classes,
        inputs(own),
        own.classes
    );
    Ok((spec, folder))
}

/// Workers find a model's files by their names in a folder.
fn copy(file: &Path, spec: &ModelSpec, folder: &Path) -> anyhow::Result<()> {
    let name = match spec.source {
        Source::Torchscript { .. } => TORCHSCRIPT,
        Source::Architecture { .. } => WEIGHTS,
    };
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    std::fs::copy(file, folder.join(name)).with_context(|| format!("{} cannot be copied", file.display()))?;
    let tokenizer = file.with_file_name(TOKENIZER);
    if tokenizer.is_file() {
        std::fs::copy(&tokenizer, folder.join(TOKENIZER)).with_context(|| format!("{} cannot be copied", tokenizer.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use migrator_models::store::Manifest;

    use super::*;
    use crate::config::Config;

    fn tenant(golden: &str) -> TenantConfig {
        let text = format!(
            r#"
[[tenants]]
name = "a"
slo_ms = 20
golden = {golden}
model = {{ name = "m", classes = 3, max_batch = 8, source = {{ source = "architecture", architecture = {{ kind = "mlp", features = 4, hidden = [8] }} }} }}
"#
        );
        Config::parse("c.toml", &text).unwrap_or_else(|e| panic!("{e}")).tenants.remove(0)
    }

    fn found(folder: &Path, golden: &str) -> anyhow::Result<(ModelSpec, PathBuf)> {
        let tenant = tenant(golden);
        let store = Store::open(&folder.join("models"))?;
        find(&tenant, tenant.golden.as_ref().unwrap(), &store, folder)
    }

    fn publish(folder: &Path, name: &str, classes: u32) {
        let store = Store::open(&folder.join("models")).unwrap();
        let spec = ModelSpec { name: name.to_owned(), classes, ..tenant("{ model = \"x\" }").model };
        let staged = store.staging(name).unwrap();
        std::fs::write(staged.join(WEIGHTS), b"weights").unwrap();
        store.publish(name, &staged, Manifest::new(spec)).unwrap();
    }

    #[test]
    fn a_golden_model_comes_from_the_store_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        publish(folder.path(), "teacher", 3);
        let (spec, at) = found(folder.path(), "{ model = \"teacher\" }").unwrap();
        assert_eq!((spec.name.as_str(), at.join(WEIGHTS).is_file()), ("teacher", true));
        let file = folder.path().join("big.pt");
        std::fs::write(&file, b"script").unwrap();
        let (spec, at) = found(folder.path(), &format!("{{ file = {:?} }}", file.display().to_string())).unwrap();
        assert_eq!(std::fs::read(at.join(TORCHSCRIPT)).unwrap(), b"script");
        assert!(matches!(spec.source, Source::Torchscript { inputs } if inputs[0].shape == [4]));
    }

    #[test]
    fn one_that_is_missing_or_of_other_classes_is_refused_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        publish(folder.path(), "other", 5);
        let error = |golden: &str| format!("{:#}", found(folder.path(), golden).unwrap_err());
        assert!(
            error("{ model = \"none\" }").contains("the store has no complete version of \"none\""),
            "{}",
            error("{ model = \"none\" }")
        );
        assert!(error("{ model = \"other\" }").contains("tells 5 classes apart"), "{}", error("{ model = \"other\" }"));
        assert!(error("{ file = \"/nowhere/x.pt\" }").contains("/nowhere/x.pt cannot be copied"));
    }
}
