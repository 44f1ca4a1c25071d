//! What is in the store.

use std::process::ExitCode;

use migrator_models::store::{Manifest, Store};

/// Prints models and versions, a line each.
pub(super) fn list(store: &Store) -> anyhow::Result<ExitCode> {
    println!("{:<24} {:>8} {:>10} {:>10}  files", "model", "versions", "newest", "accuracy");
    for model in store.models()? {
        let versions = store.versions(&model)?;
        let newest = store.latest(&model)?.found;
        let version = newest.as_ref().map_or("none".to_owned(), |manifest| manifest.version.to_string());
        println!("{model:<24} {:>8} {version:>10} {:>10}  {}", versions.len(), accuracy(newest.as_ref()), files(newest.as_ref()));
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints one model and where its versions came from.
pub(super) fn show(store: &Store, model: &str) -> anyhow::Result<ExitCode> {
    let versions = store.versions(model)?;
    anyhow::ensure!(!versions.is_empty(), "no model {model:?} in the store; it has {}", store.models()?.join(", "));
    let latest = store.latest(model)?;
    if let Some(manifest) = &latest.found {
        let output = manifest.spec.output();
        for input in manifest.spec.inputs() {
            println!("input  {:<12} {:<6} {:?}", input.name, input.datatype.name(), input.shape);
        }
        println!("output {:<12} {:<6} {:?}", output.name, output.datatype.name(), output.shape);
    }
    println!("{:>8} {:>8} {:>10} {:>10} {:>9}  state", "version", "parent", "before", "after", "samples");
    for version in versions {
        match store.verify(model, version) {
            Ok(manifest) => {
                let share = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.4}"));
                let parent = manifest.parent.map_or("-".to_owned(), |parent| parent.to_string());
                let (before, after) = (share(manifest.accuracy_before), share(manifest.accuracy_after));
                println!("{version:>8} {parent:>8} {before:>10} {after:>10} {:>9}  {}", manifest.samples, state(store, model, version));
            }
            Err(error) => println!("{version:>8} {:>8} {:>10} {:>10} {:>9}  {error}", "-", "-", "-", "-"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn state(store: &Store, model: &str, version: u64) -> &'static str {
    if store.on_trial(model, version) { "complete, on trial or not found good in its trial" } else { "complete" }
}

/// Checks checksums; exit code 1 when a version is not complete.
pub(super) fn verify(store: &Store, model: Option<&str>) -> anyhow::Result<ExitCode> {
    let models = match model {
        Some(model) => vec![model.to_owned()],
        None => store.models()?,
    };
    let (mut good, mut bad) = (0, 0);
    for model in models {
        for version in store.versions(&model)? {
            match store.verify(&model, version) {
                Ok(_) => good += 1,
                Err(error) => {
                    bad += 1;
                    println!("{model} version {version}: {}", migrator_actors::launcher::one_line(&error));
                }
            }
        }
    }
    println!("{good} complete, {bad} broken");
    Ok(if bad == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn accuracy(manifest: Option<&Manifest>) -> String {
    manifest.and_then(|manifest| manifest.accuracy_after).map_or("-".to_owned(), |value| format!("{value:.4}"))
}

fn files(manifest: Option<&Manifest>) -> String {
    let Some(manifest) = manifest else { return String::new() };
    manifest.files.iter().map(|(name, entry)| format!("{name} ({} KiB)", entry.bytes / 1024)).collect::<Vec<_>>().join(", ")
}
