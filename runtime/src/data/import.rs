//! `migrator data import`: a file or folder becomes samples. Everything is looked at first, so that nothing is half imported.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use indicatif::{ProgressBar, ProgressStyle};
use migrator_actors::message::{Origin, Sample, SampleStore};
use migrator_models::reader::{self, ReadError, ReadOptions, Row};
use migrator_models::{ModelSpec, TensorSpec};

use crate::cli::DataImportArgs;
use crate::storage;

/// Samples written at once, at most: another process that writes waits no longer than that takes.
const BATCH: usize = 500;
/// Bytes written at once, about.
const BATCH_BYTES: usize = 8 << 20;
/// Rows that do not fit of which each is told.
const TOLD: usize = 20;

pub(super) fn import(args: &DataImportArgs) -> anyhow::Result<ExitCode> {
    let config = super::load(&args.config, args.state_dir.as_deref())?;
    let tenant = super::tenant(&config, &args.tenant)?;
    let source = Source::of(args, &tenant.model)?;
    let (bad, names) = source.check()?;
    if bad > TOLD as u64 {
        eprintln!("… and {} more", bad - TOLD as u64);
    }
    if bad > 0 && !args.skip_bad {
        eprintln!("nothing was imported: {bad} rows do not fit (--skip-bad leaves them out)");
        return Ok(ExitCode::FAILURE);
    }
    let samples = storage::of(&config)?;
    let before = samples.count(&tenant.name).map_err(anyhow::Error::msg)?;
    let imported = source.write(|batch| samples.add(&tenant.name, now_ms()?, batch).map_err(anyhow::Error::msg))?;
    let after = samples.count(&tenant.name).map_err(anyhow::Error::msg)?;
    let all: u64 = imported.values().sum();
    let left_out = if bad > 0 { format!(", {bad} left out") } else { String::new() };
    println!("tenant {}: {all} samples of {} classes imported{left_out}; {after} kept", tenant.name, imported.len());
    for (class, name) in names.iter().enumerate() {
        println!("  class {class} is {name}: {}", imported.get(&(class as u32)).unwrap_or(&0));
    }
    if after < before + all {
        println!("  {} of the oldest went: retraining.stored_samples, stored_mib or stored_days", before + all - after);
    }
    Ok(ExitCode::SUCCESS)
}

fn now_ms() -> anyhow::Result<u64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_millis() as u64)
}

/// What is read, and what it must fit.
struct Source<'a> {
    path: &'a Path,
    options: ReadOptions,
    input: TensorSpec,
    classes: u32,
    limit: usize,
}

impl<'a> Source<'a> {
    fn of(args: &'a DataImportArgs, model: &ModelSpec) -> anyhow::Result<Source<'a>> {
        let inputs = model.inputs();
        let count = inputs.len();
        let input = inputs.into_iter().next().filter(|_| count == 1);
        let input =
            input.with_context(|| format!("model {} takes {count} inputs: only POST …/samples takes samples of several", model.name))?;
        ensure!(
            args.classes.len() <= model.classes as usize,
            "{} names for the {} classes of {}",
            args.classes.len(),
            model.classes,
            model.name
        );
        let options = ReadOptions {
            format: args.format,
            scale: args.feature_scale,
            classes: args.classes.clone(),
            label: args.label_column.clone(),
            header: args.header,
            labels: args.labels.clone(),
            ..ReadOptions::of(&input)
        };
        let limit = args.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        Ok(Source { path: &args.path, options, input, classes: model.classes, limit })
    }

    /// Looks at every row and tells of those that do not fit; gives their number, and the names of the classes.
    fn check(&self) -> anyhow::Result<(u64, Vec<String>)> {
        let mut bad = 0;
        let names = self.each("checking", |fits| {
            if let Err(reason) = fits {
                bad += 1;
                if bad <= TOLD as u64 {
                    eprintln!("{reason}");
                }
            }
            Ok(())
        })?;
        Ok((bad, names))
    }

    /// Gives the rows that fit to `add`, batch by batch; counts them by class.
    fn write(&self, mut add: impl FnMut(&[Sample]) -> anyhow::Result<()>) -> anyhow::Result<BTreeMap<u32, u64>> {
        let (mut batch, mut bytes, mut imported) = (Vec::new(), 0, BTreeMap::new());
        self.each("importing", |fits| {
            let Ok(sample) = fits else { return Ok(()) };
            *imported.entry(sample.label).or_default() += 1;
            bytes += sample.features.len();
            batch.push(sample);
            if batch.len() == BATCH || bytes >= BATCH_BYTES {
                add(&batch)?;
                batch.clear();
                bytes = 0;
            }
            Ok(())
        })?;
        if !batch.is_empty() {
            add(&batch)?;
        }
        Ok(imported)
    }

    fn each(&self, what: &'static str, mut row: impl FnMut(Result<Sample, String>) -> anyhow::Result<()>) -> anyhow::Result<Vec<String>> {
        // Its text has its source already.
        let rows = reader::open(self.path, &self.options).map_err(|error| anyhow::anyhow!("{error}"))?;
        let names = rows.names.clone();
        let bar = match rows.total {
            Some(total) => ProgressBar::new(total.min(self.limit as u64)),
            None => ProgressBar::no_length(),
        };
        let template = if rows.total.is_some() { "{prefix} {bar:40} {pos}/{len} {eta}" } else { "{prefix} {spinner} {pos} rows" };
        let bar = bar.with_style(ProgressStyle::with_template(template)?).with_prefix(what);
        for (index, read) in rows.take(self.limit).enumerate() {
            let fits = self.fit(index, read);
            // Drawing the bar anew takes longer than reading a row.
            if fits.is_err() {
                bar.suspend(|| row(fits))?
            } else {
                row(fits)?
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        Ok(names)
    }

    fn fit(&self, index: usize, read: Result<Row, ReadError>) -> Result<Sample, String> {
        let row = read.map_err(|error| error.to_string())?;
        let place = |reason: String| format!("{}: row {}: {reason}", self.path.display(), index + 1);
        if row.label >= self.classes {
            return Err(place(format!("label {}; expected 0 to {}", row.label, self.classes.saturating_sub(1))));
        }
        let features = row.features.to_input(&self.input).map_err(place)?;
        Ok(Sample { features: Bytes::from(features), label: row.label, origin: Origin::Import })
    }
}
