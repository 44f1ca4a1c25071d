//! `migrator models train`: the next version of a tenant's model from a file of labelled samples.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use migrator_models::reader::{ReadOptions, Row, read_set};
use migrator_models::store::Manifest;
use migrator_models::{ModelSpec, Part, Trained, data};
use migrator_wire::message::{FromWorker, TrainJob};

use super::worker::with_worker;
use crate::cli::TrainArgs;

/// Every fifth sample measures accuracy and is not trained on.
const HELD_OUT_EVERY: usize = 5;

/// Trains in a worker of its own, with a progress bar; publishes what comes out, better or not: the operator asked for it.
pub(super) fn train(args: &TrainArgs) -> anyhow::Result<ExitCode> {
    let (_, tenant, store) = super::tenant_of(&args.config, args.state_dir.as_ref(), &args.tenant)?;
    let spec = tenant.model;
    let out = store.staging(&spec.name)?;
    let scratch = store.staging(&spec.name)?;
    let dataset = scratch.join("dataset.safetensors");
    let samples = write(&spec, &args.data, &dataset)?;
    let parent = store.latest(&spec.name)?.found.map(|manifest| manifest.version);
    let base = parent.map(|version| store.folder(&spec.name, version)).transpose()?;
    let job = TrainJob {
        spec: spec.clone(),
        base,
        dataset,
        train: tenant.train,
        checkpoint: scratch.join("checkpoint.safetensors"),
        out: out.clone(),
    };
    let trained = run(&spec.name, job);
    // Left-overs of staging go with the next start as well.
    let _ = std::fs::remove_dir_all(&scratch);
    let trained = trained?;
    let manifest = Manifest {
        parent,
        accuracy_before: parent.map(|_| trained.before),
        accuracy_after: Some(trained.after),
        samples: samples as u64,
        ..Manifest::new(spec.clone())
    };
    let version = store.publish(&spec.name, &out, manifest)?;
    let before = parent.map_or(String::new(), |_| format!(" (was {:.4})", trained.before));
    println!(
        "model {} version {version}: accuracy {:.4}{before} on {} held-out samples, {:.1} s of one core",
        spec.name, trained.after, trained.held_out, trained.core_s
    );
    Ok(ExitCode::SUCCESS)
}

/// Writes the file's samples as a data set; gives the number to train on.
fn write(spec: &ModelSpec, file: &Path, dataset: &Path) -> anyhow::Result<usize> {
    let inputs = spec.inputs();
    let [input] = &inputs[..] else {
        anyhow::bail!("{} takes {} inputs: it is trained on what is sent over HTTP only", spec.name, inputs.len())
    };
    let set = read_set(file, ReadOptions::of(input)).map_err(|error| anyhow::anyhow!("{error}"))?;
    let raw = |(index, row): (usize, &Row)| {
        let raw = row.features.to_input(input).map_err(|reason| anyhow::anyhow!("{}: row {}: {reason}", file.display(), index + 1))?;
        Ok((raw, row.label))
    };
    let rows: Vec<(Vec<u8>, u32)> = set.rows.iter().enumerate().map(raw).collect::<anyhow::Result<_>>()?;
    let samples: Vec<data::Sample<'_>> = rows
        .iter()
        .enumerate()
        .map(|(index, (features, label))| data::Sample {
            features,
            label: *label,
            part: if index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1 { Part::HeldOut } else { Part::Train },
        })
        .collect();
    data::write(dataset, spec, &samples).with_context(|| format!("{} does not fit the model", file.display()))?;
    Ok(samples.iter().filter(|sample| sample.part == Part::Train).count())
}

fn run(name: &str, job: TrainJob) -> anyhow::Result<Trained> {
    with_worker(name, |worker| async move {
        let (_, mut news) = worker.train(job)?;
        let bar = ProgressBar::new(0).with_style(ProgressStyle::with_template("{prefix} {bar:40} {pos}/{len} steps {msg}")?);
        bar.set_prefix(format!("training {name}"));
        while let Some(message) = news.recv().await {
            match message {
                FromWorker::Progress { step, steps, loss, .. } => {
                    bar.set_length(steps);
                    bar.set_position(step);
                    bar.set_message(format!("loss {loss:.3}"));
                }
                FromWorker::Trained(trained) => {
                    bar.finish_and_clear();
                    return Ok(trained);
                }
                FromWorker::Failed { message, .. } => anyhow::bail!("training failed: {message}"),
                other => anyhow::bail!("the worker answered out of turn: {other:?}"),
            }
        }
        anyhow::bail!("the worker died while training")
    })
}
