//! `migrator load`: files and flags → plan, progress, report.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use migrator_models::reader::{ReadOptions, read_arrivals, read_set};

use super::engine::run_plan;
use super::output::{write_requests, write_timeline};
use super::plan::{Arrivals, LoadPlan, Samples, Stop, TenantLoad};
use super::progress::Progress;
use super::report::percent;
use crate::cli::LoadArgs;

/// `migrator load`. The exit code tells whether any request got no answer for another reason than overload.
///
/// # Errors
/// When a file cannot be read or the plan does not fit the server.
pub fn run(args: LoadArgs) -> Result<ExitCode> {
    let plan = plan(&args)?;
    let bar = bar(&plan);
    let report = run_plan(&plan, |progress| show(&bar, progress));
    bar.finish_and_clear();
    let report = report?;
    if let Some(path) = &args.timeline {
        write_timeline(path, &report).with_context(|| format!("--timeline {}: cannot be written", path.display()))?;
    }
    if let Some(path) = &args.requests {
        write_requests(path, &report).with_context(|| format!("--requests {}: cannot be written", path.display()))?;
    }
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&report)?),
        false => print!("{report}"),
    }
    Ok(if report.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A flag that the first Ctrl-C raises; the second one ends the process at once.
///
/// # Errors
/// When the signal cannot be listened to.
pub fn stop_on_interrupt() -> Result<Stop> {
    let stop = Stop::default();
    let raised = stop.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot listen for Ctrl-C")?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            while tokio::signal::ctrl_c().await.is_ok() {
                if raised.raised() {
                    std::process::exit(130);
                }
                raised.raise();
            }
        });
    });
    Ok(stop)
}

fn plan(args: &LoadArgs) -> Result<LoadPlan> {
    let tenants = args.tenants.len();
    for (flag, given) in [("--arrivals", args.arrivals.len()), ("--samples", args.samples.len()), ("--scale", args.scales.len())] {
        if given != tenants && given != 1 {
            bail!("{flag} is given {given} times for {tenants} tenants: give it once for all, or once per --tenant");
        }
    }
    let loads: Vec<TenantLoad> = (0..tenants).map(|index| tenant(args, index)).collect::<Result<_>>()?;
    let longest = loads.iter().map(seconds).max().unwrap_or(0);
    let duration = args.duration.map_or(Duration::from_secs(longest), Duration::from_secs_f64);
    let plan = LoadPlan::new(&args.url, loads, duration);
    let connections = args.connections.unwrap_or(plan.connections);
    Ok(LoadPlan { seed: args.seed, connections, stop: stop_on_interrupt()?, ..plan })
}

fn tenant(args: &LoadArgs, index: usize) -> Result<TenantLoad> {
    let arrivals = read_arrivals(nth::<PathBuf>(&args.arrivals, index))?;
    let options = ReadOptions { scale: args.feature_scale, ..ReadOptions::default() };
    let set = read_set(nth::<PathBuf>(&args.samples, index), options)?;
    Ok(TenantLoad {
        tenant: args.tenants[index].clone(),
        arrivals: Arrivals::Counts { counts: arrivals.counts, scale: *nth(&args.scales, index) },
        samples: Samples::Set(Arc::new(set)),
        label_share: args.label_share,
        slo_ms: args.slo_ms,
    })
}

/// The tenant's own value, or the one for all.
fn nth<T>(values: &[T], index: usize) -> &T {
    values.get(index).unwrap_or(&values[0])
}

fn seconds(load: &TenantLoad) -> u64 {
    match &load.arrivals {
        Arrivals::Counts { counts, .. } => counts.len() as u64,
        Arrivals::Rate(_) => 0,
    }
}

fn bar(plan: &LoadPlan) -> ProgressBar {
    let style = ProgressStyle::with_template("{elapsed_precise} [{bar:20}] {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(plan.duration.as_secs()).with_style(style)
}

fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_position(progress.elapsed_s as u64);
    let line = |tenant: &super::TenantProgress| {
        let (attainment, accuracy) = (percent(tenant.slo_attainment), percent(tenant.accuracy));
        format!("{} {} rps, in SLO {attainment}, accuracy {accuracy}", tenant.tenant, tenant.sent_rps)
    };
    bar.set_message(progress.tenants.iter().map(line).collect::<Vec<_>>().join(" · "));
}
