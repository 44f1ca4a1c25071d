//! `migrator data stats`: what samples there are.

use std::fmt::Write;
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use serde::Serialize;

use super::range::{Range, Ranges};
use crate::cli::{DataStatsArgs, Period};
use crate::config::{Config, TenantConfig};
use crate::storage::look::{Look, look};

/// Classes and periods of which each has a line of its own.
const SHOWN: usize = 40;
/// Width of the largest bar, characters.
const BAR: usize = 30;

/// What is told of a tenant.
#[derive(Serialize)]
struct Tenant {
    name: String,
    /// Most samples that are kept.
    stored_samples: u32,
    #[serde(flatten)]
    look: Look,
    features: Vec<Range>,
}

/// What is told of all.
#[derive(Serialize)]
struct Stats {
    /// Bytes of the file of all tenants' samples on disk, with its log.
    file_bytes: u64,
    /// What `periods` of each tenant are, seconds.
    period_s: f64,
    tenants: Vec<Tenant>,
}

pub(super) fn stats(args: &DataStatsArgs) -> anyhow::Result<ExitCode> {
    let config = super::load(&args.config, args.state_dir.as_deref())?;
    let period_s = match args.by {
        Period::Window => config.retraining.window_s,
        Period::Hour => 3600.0,
        Period::Day => 86_400.0,
    };
    let tenants = match &args.tenant {
        Some(name) => vec![config.tenant(name)?],
        None => config.tenants.iter().collect(),
    };
    let tenants = tenants.into_iter().map(|tenant| of(&config, tenant, period_s)).collect::<anyhow::Result<_>>()?;
    let stats = Stats { file_bytes: file_bytes(&config), period_s, tenants };
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&stats)?),
        false => print!("{}", stats.text()),
    }
    Ok(ExitCode::SUCCESS)
}

fn of(config: &Config, tenant: &TenantConfig, period_s: f64) -> anyhow::Result<Tenant> {
    let mut ranges = Ranges::new(tenant.model.inputs());
    let period_ms = (period_s * 1000.0) as u64;
    let found = look(&config.server.samples_file(), &tenant.name, period_ms, |features, _| ranges.add(features))?;
    let stored_samples = config.retraining_of(tenant).stored_samples;
    Ok(Tenant { name: tenant.name.clone(), stored_samples, look: found.unwrap_or_default(), features: ranges.finish() })
}

fn file_bytes(config: &Config) -> u64 {
    let file = config.server.samples_file();
    let with = |end: &str| {
        let mut name = file.clone().into_os_string();
        name.push(end);
        std::fs::metadata(name).map_or(0, |metadata| metadata.len())
    };
    with("") + with("-wal")
}

/// Writing into a `String` cannot fail.
macro_rules! line {
    ($out:expr, $($arg:tt)*) => {{
        let _ = writeln!($out, $($arg)*);
    }};
}

impl Stats {
    fn text(&self) -> String {
        let mut out = String::new();
        for tenant in &self.tenants {
            tenant.describe(&mut out, self.period_s);
        }
        line!(out, "on disk: {} for the samples of all tenants", mib(self.file_bytes));
        out
    }
}

impl Tenant {
    fn describe(&self, out: &mut String, period_s: f64) {
        let look = &self.look;
        if look.samples == 0 {
            line!(out, "{}: no samples", self.name);
            return;
        }
        let (samples, distinct, bytes) = (look.samples, look.distinct, mib(look.bytes));
        line!(out, "{}: {samples} samples of at most {}, {distinct} of them different, {bytes}", self.name, self.stored_samples);
        line!(out, "  from {} to {}", time(look.oldest_ms), time(look.newest_ms));
        let origins: Vec<String> = look.origins.iter().map(|(origin, count)| format!("{count} {origin}")).collect();
        line!(out, "  labels: {}", origins.join(", "));
        for range in &self.features {
            line!(out, "  {}", range.text());
        }
        line!(out, "  by class");
        table(out, look.classes.iter().map(|(class, count)| (class.to_string(), *count)).collect(), samples);
        line!(out, "  by {}", period(period_s));
        table(out, look.periods.iter().map(|(start, count)| (time(*start), *count)).collect(), samples);
    }
}

impl Range {
    fn text(&self) -> String {
        let Range { input, datatype, nan, infinite, .. } = self;
        let (Some(least), Some(most), Some(mean)) = (self.least, self.most, self.mean) else {
            return format!("{input} {datatype}: no numbers; {nan} NaN, {infinite} infinite");
        };
        match *datatype {
            "BYTES" => format!("{input} {datatype}: {least} to {most} bytes, mean {mean:.1}"),
            _ => format!("{input} {datatype}: {least} to {most}, mean {mean:.4}; {nan} NaN, {infinite} infinite"),
        }
    }
}

/// A line each with a bar; of many, the last ones.
fn table(out: &mut String, rows: Vec<(String, u64)>, all: u64) {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let most = rows.iter().map(|(_, count)| *count).max().unwrap_or(1).max(1);
    if rows.len() > SHOWN {
        line!(out, "    … {} before", rows.len() - SHOWN);
    }
    for (name, count) in rows.iter().skip(rows.len().saturating_sub(SHOWN)) {
        let bar = "▪".repeat((*count as f64 / most as f64 * BAR as f64).ceil() as usize);
        line!(out, "    {name:>width$} {count:>9} {:>5.1} % {bar}", *count as f64 / all as f64 * 100.0);
    }
}

fn period(period_s: f64) -> String {
    match period_s {
        3600.0 => "hour".to_owned(),
        86_400.0 => "day".to_owned(),
        window_s => format!("window of {window_s} s"),
    }
}

fn time(ms: u64) -> String {
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
}

fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / (1 << 20) as f64)
}
