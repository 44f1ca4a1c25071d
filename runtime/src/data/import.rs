//! `migrator data import`: a file or folder becomes samples. Everything is looked at first, so that no row that does not fit is found half
//! way; when writing itself ends half way, it is said where to go on.

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
use crate::storage::{self, Added};

/// Samples written at once, at most: another process that writes waits no longer than that takes.
const BATCH: usize = 500;
/// Bytes written at once, about.
const BATCH_BYTES: usize = 8 << 20;
/// Times that a batch is tried while another process writes, 5 s each.
const TRIES: u32 = 6;
/// Rows that do not fit of which each is told.
const TOLD: usize = 20;

pub(super) fn import(args: &DataImportArgs) -> anyhow::Result<ExitCode> {
    let config = super::load(&args.config, args.state_dir.as_deref())?;
    let tenant = config.tenant(&args.tenant)?;
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
    let add = |batch: &[Sample]| samples.add_patiently(&tenant.name, now_ms()?, batch, TRIES).map_err(anyhow::Error::msg);
    let Imported { classes: imported, gone, .. } = source.write(add)?;
    let after = samples.count(&tenant.name).map_err(anyhow::Error::msg)?;
    let all: u64 = imported.values().sum();
    let left_out = if bad > 0 { format!(", {bad} left out") } else { String::new() };
    println!("tenant {}: {all} samples of {} classes imported{left_out}; {after} kept", tenant.name, imported.len());
    for (class, name) in names.iter().enumerate() {
        println!("  class {class} is {name}: {}", imported.get(&(class as u32)).unwrap_or(&0));
    }
    if gone > 0 {
        println!("  {gone} of the oldest went: retraining.stored_samples, stored_mib or stored_days");
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
    /// Rows left out at the start.
    skip: usize,
    limit: usize,
}

/// What has been written.
#[derive(Debug, Default)]
struct Imported {
    /// Samples by class.
    classes: BTreeMap<u32, u64>,
    /// Rows of the source that are through, those before the first one included.
    rows: usize,
    /// Samples that went for them, of theirs or older ones.
    gone: usize,
}

impl Imported {
    fn add(&mut self, batch: &[Sample], rows: usize, added: Added) {
        batch.iter().for_each(|sample| *self.classes.entry(sample.label).or_default() += 1);
        self.rows = rows;
        self.gone += batch.len() - added.kept + added.removed;
    }

    /// How to go on where it ended.
    fn advice(&self) -> String {
        match self.classes.values().sum::<u64>() {
            0 => "nothing was imported".to_owned(),
            all => format!("{all} samples are in, up to row {}; --from-row {} goes on after them", self.rows, self.rows + 1),
        }
    }
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
        let skip = usize::try_from(args.from_row.get() - 1).unwrap_or(usize::MAX);
        Ok(Source { path: &args.path, options, input, classes: model.classes, skip, limit })
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

    /// Gives the rows that fit to `add`, batch by batch. An error says what is in.
    fn write(&self, mut add: impl FnMut(&[Sample]) -> anyhow::Result<Added>) -> anyhow::Result<Imported> {
        let (mut batch, mut bytes, mut row, mut imported) = (Vec::new(), 0, self.skip, Imported::default());
        let written = self.each("importing", |fits| {
            row += 1;
            let Ok(sample) = fits else { return Ok(()) };
            bytes += sample.features.len();
            batch.push(sample);
            if batch.len() == BATCH || bytes >= BATCH_BYTES {
                imported.add(&batch, row, add(&batch)?);
                batch.clear();
                bytes = 0;
            }
            Ok(())
        });
        let written = match written {
            Ok(_) if !batch.is_empty() => add(&batch).map(|added| imported.add(&batch, row, added)),
            written => written.map(|_| ()),
        };
        match written {
            Ok(()) => Ok(imported),
            Err(error) => Err(error.context(imported.advice())),
        }
    }

    fn each(&self, what: &'static str, mut row: impl FnMut(Result<Sample, String>) -> anyhow::Result<()>) -> anyhow::Result<Vec<String>> {
        // Its text has its source already.
        let rows = reader::open(self.path, &self.options).map_err(|error| anyhow::anyhow!("{error}"))?;
        let names = rows.names.clone();
        let bar = match rows.total {
            Some(total) => ProgressBar::new(total.saturating_sub(self.skip as u64).min(self.limit as u64)),
            None => ProgressBar::no_length(),
        };
        let template = if rows.total.is_some() { "{prefix} {bar:40} {pos}/{len} {eta}" } else { "{prefix} {spinner} {pos} rows" };
        let bar = bar.with_style(ProgressStyle::with_template(template)?).with_prefix(what);
        for (index, read) in rows.enumerate().skip(self.skip).take(self.limit) {
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

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use clap::Parser;
    use migrator_models::{Architecture, Source as Kind};

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: DataImportArgs,
    }

    fn model() -> ModelSpec {
        let source = Kind::Architecture { architecture: Architecture::Mlp { features: 2, hidden: vec![] } };
        ModelSpec { name: "m".into(), classes: 3, max_batch: 1, precision: Default::default(), source }
    }

    fn args(path: &Path, more: &[&str]) -> DataImportArgs {
        let line = ["import", "--config", "c.toml", "--tenant", "t"].iter().chain(more).copied();
        Line::parse_from(line.chain([path.to_str().unwrap()])).args
    }

    #[test]
    fn an_import_that_ends_half_way_says_what_is_in_and_goes_on_from_there() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rows.csv");
        let rows = (0..1203).fold(String::new(), |mut all, n| {
            let _ = writeln!(all, "{n},1,{}", n % 3);
            all
        });
        std::fs::write(&file, rows).unwrap();
        let mut in_file = Vec::new();
        let first = args(&file, &[]);
        let ended = Source::of(&first, &model()).unwrap().write(|batch| {
            anyhow::ensure!(in_file.len() < 1000, "the disk is full");
            in_file.extend_from_slice(batch);
            Ok(Added { kept: batch.len(), removed: 0 })
        });
        let told = format!("{:#}", ended.unwrap_err());
        assert_eq!(told, "1000 samples are in, up to row 1000; --from-row 1001 goes on after them: the disk is full");
        let again = args(&file, &["--from-row", "1001"]);
        let imported = Source::of(&again, &model()).unwrap().write(|batch| {
            in_file.extend_from_slice(batch);
            Ok(Added { kept: batch.len() - 3, removed: 40 })
        });
        let imported = imported.unwrap();
        assert_eq!((imported.rows, imported.gone, imported.classes.values().sum::<u64>()), (1203, 43, 203));
        let numbers: Vec<f32> = in_file.iter().map(|sample| f32::from_le_bytes(sample.features[..4].try_into().unwrap())).collect();
        assert!(numbers.iter().copied().eq((0..1203).map(|n| n as f32)), "each once, in order");
    }
}
