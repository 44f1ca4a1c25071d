//! `migrator simulate`.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;

use anyhow::{Context, Result, bail};
use migrator_mig::Catalog;
use migrator_sim::{Run, Setup};
use migrator_solver::{Facts, PolicyName};

use super::batch::{Batch, Done, Finished, Source};
use super::plot::{self, Subject};
use super::progress::Progress;
use super::report::{Heading, Outcome, Report};
use super::scenario::{Overrides, Scenario};
use super::variant::{Variant, file_name, variants};
use super::{csv, json, table};
use crate::cli::{SimulateArgs, SimulateFormat};
use crate::load::stop_on_interrupt;

/// Violations that are printed; the rest is counted.
const MOST_VIOLATIONS: usize = 20;

/// Simulates scenarios under policies and prints what came of it. Exit code 0 when everything ran; 1 when a scenario is refused, a run
/// failed, an invariant did not hold or Ctrl-C ended it early.
///
/// # Errors
/// When plots cannot be written, or Ctrl-C cannot be listened to.
pub fn run(args: SimulateArgs) -> Result<ExitCode> {
    let Some(scenarios) = load(&args)? else { return Ok(ExitCode::FAILURE) };
    let variants = variants(&args.policies).map_err(anyhow::Error::msg)?;
    let names: Vec<String> = variants.iter().map(|variant| variant.name.clone()).collect();
    let seeds: Vec<Vec<u64>> = scenarios.0.iter().map(|scenario| scenario.seeds().to_vec()).collect();
    let headings = scenarios.headings(args.seconds);
    let threads = args.threads.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    let batch = Batch {
        source: &scenarios,
        seeds: &seeds,
        variants: &variants,
        common: &args.changes,
        seconds: args.seconds,
        threads,
        keep: args.plot.is_some(),
    };
    if let Some(folder) = &args.plot {
        std::fs::create_dir_all(folder).with_context(|| format!("--plot {}: the folder cannot be made", folder.display()))?;
    }
    let stop = stop_on_interrupt()?;
    let (outcomes, runs) = outcomes(&batch, &headings, stop.flag(), &args)?;
    let report = Report::new(headings, &names, outcomes);
    if let Some(folder) = &args.plot {
        write(folder, "policies.svg", &plot::policies(&report)?)?;
    }
    if runs > 0 {
        print(&report, &args)?;
    }
    let interrupted = stop.raised();
    if interrupted {
        eprintln!("interrupted: {runs} of {} runs were over, and only they are told of", batch.runs());
    }
    complain(&report);
    let fine = report.failures.is_empty() && report.violations.is_empty() && !interrupted;
    Ok(if fine { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Scenarios that were read.
struct Scenarios(Vec<Scenario>);

impl Source for Scenarios {
    fn setup(&self, scenario: usize, policy: PolicyName, seed: u64) -> Setup {
        self.0[scenario].setup(policy, seed)
    }

    fn facts(&self, scenario: usize, setup: &Setup) -> Facts {
        self.0[scenario].facts(setup)
    }
}

impl Scenarios {
    fn headings(&self, seconds: Option<u64>) -> Vec<Heading> {
        let heading = |scenario: &Scenario| {
            let seeds = scenario.seeds().to_vec();
            let setup = scenario.setup(PolicyName::Migrator, seeds.first().copied().unwrap_or(0));
            Heading {
                name: scenario.name().to_owned(),
                gpus: gpus(&setup.gpus),
                tenants: setup.tenants.iter().map(|tenant| tenant.name.clone()).collect(),
                seconds: seconds.unwrap_or(u64::MAX).min(setup.seconds),
                seeds,
            }
        };
        self.0.iter().map(heading).collect()
    }
}

/// `8 × A100-SXM4-80GB`.
fn gpus(gpus: &[Catalog]) -> String {
    format!("{} × {}", gpus.len(), gpus.first().map_or("GPU", |catalog| catalog.name.as_str()))
}

/// Every scenario, or `None` when some are refused, after every defect of each was told.
fn load(args: &SimulateArgs) -> Result<Option<Scenarios>> {
    let mut seeds: Vec<u64> = Vec::new();
    for seed in args.seeds.iter().flat_map(|seeds| &seeds.0) {
        if !seeds.contains(seed) {
            seeds.push(*seed);
        }
    }
    let overrides = Overrides { gpu: args.gpu.clone(), traces: args.traces.clone(), scale: args.scale, seeds };
    let mut scenarios: Vec<Scenario> = Vec::new();
    let mut refused = false;
    for path in &args.scenarios {
        check_path(path)?;
        match Scenario::load(path, &overrides) {
            Ok(scenario) => scenarios.push(scenario),
            Err(errors) => {
                refused = true;
                eprintln!("{errors}");
            }
        }
    }
    for (index, scenario) in scenarios.iter().enumerate() {
        if scenarios[..index].iter().any(|other| other.name() == scenario.name()) {
            bail!("two of the scenarios are called {:?}: give each once, or rename one", scenario.name());
        }
    }
    Ok(if refused { None } else { Some(Scenarios(scenarios)) })
}

/// A seed that was taken for a scenario deserves more than "no such file".
fn check_path(path: &Path) -> Result<()> {
    let text = path.to_string_lossy();
    if !path.exists() && text.parse::<u64>().is_ok() {
        bail!("{text} is no scenario; several seeds are written --seed 1,2,3 or --seed 1-3");
    }
    Ok(())
}

/// Runs the batch; what came of it, and how many runs were over.
fn outcomes(batch: &Batch<'_>, headings: &[Heading], stop: &AtomicBool, args: &SimulateArgs) -> Result<(Vec<Outcome>, usize)> {
    let seconds = headings.iter().map(|heading| heading.seconds * heading.seeds.len() as u64).sum::<u64>() * batch.variants.len() as u64;
    let mut progress = Progress::new(Done { seconds, runs: batch.runs() }, args.quiet);
    let mut outcomes: Vec<Outcome> = Vec::new();
    let mut drawn = Ok(());
    batch.run(stop, |done, finished| {
        progress.at(done);
        let Some(Finished { outcome, kept }) = finished else { return };
        if let (Some(folder), Some(kept), Ok(())) = (&args.plot, kept, &drawn) {
            let (scenario, variant) = (&headings[outcome.scenario].name, &batch.variants[outcome.variant]);
            drawn = draw(folder, scenario, variant, outcome.seed, &kept);
        }
        outcomes.push(outcome);
    });
    progress.end();
    let runs = outcomes.len();
    drawn.map(|()| (outcomes, runs))
}

/// Draws every plot of one run.
fn draw(folder: &Path, scenario: &str, variant: &Variant, seed: u64, kept: &(Setup, Run)) -> Result<()> {
    let title = format!("{scenario}, {}, seed {seed}", variant.name);
    let subject = Subject { title: &title, setup: &kept.0, run: &kept.1 };
    for (kind, plot) in plot::OF_A_RUN {
        write(folder, &format!("{}-{}-{kind}.svg", file_name(scenario), file_name(&variant.name)), &plot(subject)?)?;
    }
    Ok(())
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    let path = folder.join(name);
    std::fs::write(&path, text).with_context(|| format!("--plot: {} cannot be written", path.display()))
}

fn print(report: &Report, args: &SimulateArgs) -> Result<()> {
    let text = match args.format {
        SimulateFormat::Text => table::text(report, args.tenants),
        SimulateFormat::Json => json::json(report),
        SimulateFormat::Csv => csv::csv(report, args.tenants).context("the results cannot be written as CSV")?,
    };
    // A reader that has seen enough, such as `head`, is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

/// Everything that must not happen, on standard error.
fn complain(report: &Report) {
    for failure in &report.failures {
        eprintln!("failed: {failure}");
    }
    for violation in report.violations.iter().take(MOST_VIOLATIONS) {
        eprintln!("INVARIANT VIOLATED: {violation}");
    }
    let more = report.violations.len().saturating_sub(MOST_VIOLATIONS);
    if more > 0 {
        eprintln!("INVARIANT VIOLATED: {more} times more");
    }
}
