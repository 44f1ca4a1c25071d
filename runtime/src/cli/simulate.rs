//! `migrator simulate`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::positive;
use crate::simulate::variant::{Change, variants};

/// Most GPUs of a host, as in problem files.
const MOST_GPUS: u32 = 1024;
/// Most seeds of one range: more would be a slip of the pen.
const MOST_SEEDS: u64 = 10_000;

/// `migrator simulate`. See docs/simulate.md for every column and plot.
#[derive(Clone, Debug, Args)]
pub struct SimulateArgs {
    /// Scenarios (TOML), as in configs/scenario.
    #[arg(env = "MIGRATOR_SCENARIO", value_name = "SCENARIO", required = true, value_delimiter = ',')]
    pub scenarios: Vec<PathBuf>,
    /// Who plans: names; all (every policy and the oracle) or ablations (migrator without one thing each); or a name with changes, like
    /// migrator:preload=false+dwell_s=5.
    #[arg(long = "policy", env = "MIGRATOR_POLICY", value_name = "NAME[:KEY=VALUE+…]", default_value = "all", value_delimiter = ',', value_parser = policy)]
    pub policies: Vec<String>,
    /// Change how every policy plans, e.g. solve_every_s=window; what a policy's own name says wins.
    #[arg(long = "set", env = "MIGRATOR_SET", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = change)]
    pub changes: Vec<Change>,
    /// GPU model and number, instead of the scenarios'; N is 1 when left out.
    #[arg(long, env = "MIGRATOR_GPU", value_name = "CATALOG[:N]", value_parser = gpu)]
    pub gpu: Option<(String, u32)>,
    /// Arrivals of a tenant from a file, instead of the scenarios'; may be repeated.
    #[arg(long = "trace", env = "MIGRATOR_TRACE", value_name = "TENANT=FILE", value_delimiter = ',', value_parser = trace)]
    pub traces: Vec<(String, PathBuf)>,
    /// Multiplies the arrivals of all tenants.
    #[arg(long, env = "MIGRATOR_SCALE", value_name = "F", value_parser = positive)]
    pub scale: Option<f64>,
    /// Seeds, instead of the scenarios': numbers and ranges, like 1,2,7-9; may be repeated.
    #[arg(long = "seed", env = "MIGRATOR_SEED", value_name = "N", value_delimiter = ',', value_parser = seeds)]
    pub seeds: Vec<Seeds>,
    /// Most seconds to simulate of each scenario.
    #[arg(long, env = "MIGRATOR_SECONDS", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// How to print the results.
    #[arg(long, env = "MIGRATOR_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub format: SimulateFormat,
    /// Also tell of every tenant (text, csv; JSON always does).
    #[arg(long, env = "MIGRATOR_TENANTS")]
    pub tenants: bool,
    /// Draw plots (SVG) of each scenario and policy, for the first seed, into this folder.
    #[arg(long, env = "MIGRATOR_PLOT", value_name = "DIR")]
    pub plot: Option<PathBuf>,
    /// Simulations at a time; the default is as many as there are cores.
    #[arg(long, env = "MIGRATOR_THREADS", value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub threads: Option<u16>,
    /// Do not tell how far it is.
    #[arg(long, env = "MIGRATOR_QUIET")]
    pub quiet: bool,
}

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SimulateFormat {
    /// A table for people.
    Text,
    /// One JSON document.
    Json,
    /// One row per scenario, policy and seed (and tenant with --tenants).
    Csv,
}

/// One `--seed`: a number, or a range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

fn policy(text: &str) -> Result<String, String> {
    variants(&[text.to_owned()]).map(|_| text.to_owned())
}

fn change(text: &str) -> Result<Change, String> {
    Change::parse(text)
}

fn gpu(text: &str) -> Result<(String, u32), String> {
    let (name, count) = text.split_once(':').unwrap_or((text, "1"));
    let count = count.parse().ok().filter(|count| (1..=MOST_GPUS).contains(count));
    match count {
        Some(count) if !name.is_empty() => Ok((name.to_owned(), count)),
        _ => Err(format!("must be a GPU model, or one and how many of it from 1 to {MOST_GPUS}, like a100:8")),
    }
}

fn trace(text: &str) -> Result<(String, PathBuf), String> {
    let parts = text.split_once('=').filter(|(tenant, file)| !tenant.is_empty() && !file.is_empty());
    parts
        .map(|(tenant, file)| (tenant.to_owned(), PathBuf::from(file)))
        .ok_or_else(|| "must be TENANT=FILE, like vision=day.csv".to_owned())
}

fn seeds(text: &str) -> Result<Seeds, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last && last - first < MOST_SEEDS => Ok(Seeds((first..=last).collect())),
        _ => Err(format!("must be a number, or a range of at most {MOST_SEEDS} like 1-10")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gpu_without_a_number_is_one() {
        assert_eq!(gpu("a100"), Ok(("a100".to_owned(), 1)));
        assert_eq!(gpu("a30:8"), Ok(("a30".to_owned(), 8)));
        for nonsense in ["", ":2", "a100:", "a100:0", "a100:x", "a100:1025", "a100:-1"] {
            assert!(gpu(nonsense).unwrap_err().contains("like a100:8"), "{nonsense}");
        }
    }

    #[test]
    fn seeds_are_numbers_and_ranges() {
        assert_eq!(seeds("7"), Ok(Seeds(vec![7])));
        assert_eq!(seeds("1-3"), Ok(Seeds(vec![1, 2, 3])));
        for nonsense in ["", "-1", "3-1", "1.5", "x", "0-99999"] {
            assert!(seeds(nonsense).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_trace_names_its_tenant() {
        assert_eq!(trace("vision=a=b.csv"), Ok(("vision".to_owned(), PathBuf::from("a=b.csv"))));
        assert!(trace("day.csv").is_err() && trace("=day.csv").is_err() && trace("vision=").is_err());
    }
}
