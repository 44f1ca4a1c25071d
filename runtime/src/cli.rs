//! The command line. Every flag has a twin in the environment, `MIGRATOR_…`; the flag wins.

mod data;
mod gpu;
mod profile;
mod simulate;

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use migrator_solver::PolicyName;

pub use data::{DataCommand, DataImportArgs, DataStatsArgs, Period};
pub use gpu::{CatalogArgs, GpuCommand, LibraryArgs, ModeArgs, Switch, TransitionArgs};
pub use profile::ProfileArgs;
pub use simulate::{Seeds, SimulateArgs, SimulateFormat};

/// Serves models of several tenants on one host and keeps retraining them on fresh labelled data.
#[derive(Debug, Parser)]
#[command(name = "migrator", version, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// What to log: error, warn, info, debug, trace, or per module, e.g. "info,migrator_actors=debug".
    #[arg(long, global = true, env = "MIGRATOR_LOG", default_value = "info", value_name = "FILTER")]
    pub log: String,
    /// How to log: text for people, json for machines (one object a line).
    #[arg(long, global = true, env = "MIGRATOR_LOG_FORMAT", default_value = "text", value_name = "FORMAT")]
    pub log_format: LogFormat,
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve the tenants of a configuration until Ctrl-C or SIGTERM.
    Serve(ServeArgs),
    /// Check a configuration and explain it; exits with 1 when anything is wrong.
    Check(CheckArgs),
    /// Solve a problem from a file, without a device, and explain the plan; exits with 1 when the problem is refused, with 3 when no tenant fits any profile.
    Plan(PlanArgs),
    /// Measure the tenants' models on every profile of the device, serving and retraining, and write the curve file.
    Profile(ProfileArgs),
    /// Simulate scenarios under several policies, without a device, and compare what came of it; exits with 1 when a run fails or an invariant does not hold.
    Simulate(SimulateArgs),
    /// Show the whole system at work: three tenants, drifting data, load that bursts and shifts.
    Demo(DemoArgs),
    /// Drive a running server with open-loop load and report what came back.
    Load(LoadArgs),
    /// Look after the model store.
    #[command(subcommand)]
    Models(ModelsCommand),
    /// Look after the labelled samples.
    #[command(subcommand)]
    Data(DataCommand),
    /// Look at the GPUs of this host and at what GPU models can be cut into.
    #[command(subcommand)]
    Gpu(GpuCommand),
}

/// `migrator serve`.
#[derive(Clone, Debug, Args)]
pub struct ServeArgs {
    /// Configuration file (TOML).
    #[arg(long, env = "MIGRATOR_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Port of the inference protocol, instead of the file's; 0 picks a free one and prints it.
    #[arg(long, env = "MIGRATOR_HTTP_PORT", value_name = "N")]
    pub http_port: Option<u16>,
    /// Port of /metrics, instead of the file's; 0 picks a free one and prints it.
    #[arg(long, env = "MIGRATOR_METRICS_PORT", value_name = "N")]
    pub metrics_port: Option<u16>,
    /// Port of the inference protocol over gRPC, instead of the file's; 0 picks a free one and prints it.
    #[arg(long, env = "MIGRATOR_GRPC_PORT", value_name = "N")]
    pub grpc_port: Option<u16>,
    /// Folder of models, samples and checkpoints, instead of the file's.
    #[arg(long, env = "MIGRATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Do not make workers and models ready before a switch (to see what preloading saves).
    #[arg(long, env = "MIGRATOR_NO_PRELOAD")]
    pub no_preload: bool,
}

/// `migrator check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Configuration file (TOML).
    #[arg(long, env = "MIGRATOR_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Folder of models, samples and checkpoints, instead of the file's.
    #[arg(long, env = "MIGRATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `migrator plan`.
#[derive(Clone, Debug, Args)]
pub struct PlanArgs {
    /// The problem (TOML, as GET /v1/problem gives it); - reads standard input.
    #[arg(env = "MIGRATOR_PROBLEM", value_name = "PROBLEM")]
    pub problem: PathBuf,
    /// Print the plan and its report as JSON.
    #[arg(long, env = "MIGRATOR_JSON")]
    pub json: bool,
    /// Also tell the steps of the transition with the seconds expected, and what scarce slices are worth.
    #[arg(long, env = "MIGRATOR_EXPLAIN")]
    pub explain: bool,
    /// Who plans, instead of the file's policy.
    #[arg(long, env = "MIGRATOR_POLICY", value_name = "NAME", value_parser = planning_policy())]
    pub policy: Option<PolicyName>,
    /// Furthest look ahead in seconds, instead of the file's.
    #[arg(long, env = "MIGRATOR_HORIZON", value_name = "N", value_parser = seconds)]
    pub horizon: Option<f64>,
    /// Longest the solve may take in milliseconds, instead of the file's.
    #[arg(long, env = "MIGRATOR_TIME_LIMIT", value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=600_000))]
    pub time_limit: Option<u32>,
    /// The plan in force (JSON of a plan or of an answer), from which the new one is numbered on.
    #[arg(long, env = "MIGRATOR_PREVIOUS", value_name = "FILE")]
    pub previous: Option<PathBuf>,
}

/// The policies that plan for a single problem.
fn planning_policy() -> impl TypedValueParser<Value = PolicyName> {
    PossibleValuesParser::new(PolicyName::PLANNING).try_map(|name| name.parse::<PolicyName>())
}

/// `migrator demo`.
#[derive(Clone, Debug, Args)]
pub struct DemoArgs {
    /// Configuration file; its tenants must be the demo's (vision, sensor, text).
    #[arg(long, env = "MIGRATOR_CONFIG", value_name = "FILE", default_value = "configs/demo.toml")]
    pub config: PathBuf,
    /// Run on a GPU of this model behind the fake NVIDIA driver instead of the configuration's device, e.g. a100 or h200; its instances
    /// compute on this host's cores.
    #[arg(long, env = "MIGRATOR_DEMO_FAKE_GPU", value_name = "MODEL")]
    pub fake_gpu: Option<String>,
    /// Exit after the report instead of serving on until Ctrl-C.
    #[arg(long, env = "MIGRATOR_DEMO_EXIT")]
    pub exit: bool,
    /// Retraining windows to run before the report.
    #[arg(long, env = "MIGRATOR_DEMO_WINDOWS", value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    pub windows: u32,
    /// Port of the inference protocol, instead of the file's; 0 picks a free one and prints it.
    #[arg(long, env = "MIGRATOR_HTTP_PORT", value_name = "N")]
    pub http_port: Option<u16>,
    /// Port of /metrics, instead of the file's; 0 picks a free one and prints it.
    #[arg(long, env = "MIGRATOR_METRICS_PORT", value_name = "N")]
    pub metrics_port: Option<u16>,
    /// Folder of models, samples and checkpoints; the default is a fresh temporary one, removed at the end.
    #[arg(long, env = "MIGRATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Multiplies the demand of all tenants; the default fits the demand to this host.
    #[arg(long, env = "MIGRATOR_DEMO_SCALE", value_name = "F", value_parser = positive)]
    pub scale: Option<f64>,
    /// Decides data, drift and arrivals.
    #[arg(long, env = "MIGRATOR_SEED", value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Do not make workers and models ready before a switch (to see what preloading saves).
    #[arg(long, env = "MIGRATOR_NO_PRELOAD")]
    pub no_preload: bool,
}

/// `migrator load`. For several tenants, repeat --tenant, --arrivals and --samples, in the same order.
#[derive(Clone, Debug, Args)]
pub struct LoadArgs {
    /// The server, e.g. http://127.0.0.1:8000.
    #[arg(long, env = "MIGRATOR_URL", value_name = "URL", default_value = "http://127.0.0.1:8000")]
    pub url: String,
    /// Tenant to drive; may be repeated.
    #[arg(long = "tenant", env = "MIGRATOR_TENANT", value_name = "NAME", required = true, value_delimiter = ',')]
    pub tenants: Vec<String>,
    /// Arrivals of that tenant: CSV of "second,count"; once per --tenant.
    #[arg(long = "arrivals", env = "MIGRATOR_ARRIVALS", value_name = "FILE", required = true, value_delimiter = ',')]
    pub arrivals: Vec<PathBuf>,
    /// Labelled samples of that tenant: CSV of features and label, or CIFAR-10 binary (.bin); once per --tenant.
    #[arg(long = "samples", env = "MIGRATOR_SAMPLES", value_name = "FILE", required = true, value_delimiter = ',')]
    pub samples: Vec<PathBuf>,
    /// Multiplies the counts; once for all tenants, or once per --tenant.
    #[arg(long = "scale", env = "MIGRATOR_SCALE", value_name = "F", default_value = "1", value_delimiter = ',', value_parser = positive)]
    pub scales: Vec<f64>,
    /// Share of the requests whose label is sent back to the server afterwards, 0 to 1.
    #[arg(long, env = "MIGRATOR_LABEL_SHARE", value_name = "F", default_value_t = 0.0, value_parser = share)]
    pub label_share: f64,
    /// Seconds to run; the default is as long as the arrivals last.
    #[arg(long, env = "MIGRATOR_DURATION", value_name = "S", value_parser = positive)]
    pub duration: Option<f64>,
    /// Decides which samples are sent and when within each second.
    #[arg(long, env = "MIGRATOR_SEED", value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// SLO of all tenants in milliseconds, instead of what the server says.
    #[arg(long, env = "MIGRATOR_SLO_MS", value_name = "MS", value_parser = positive)]
    pub slo_ms: Option<f64>,
    /// Multiplies every feature of a CSV (optdigits: 0.0625 brings counts of 0 to 16 to 0 to 1).
    #[arg(long, env = "MIGRATOR_FEATURE_SCALE", value_name = "F", default_value_t = 1.0)]
    pub feature_scale: f32,
    /// Most connections per tenant; requests beyond wait, and the wait counts as latency.
    #[arg(long, env = "MIGRATOR_CONNECTIONS", value_name = "N")]
    pub connections: Option<usize>,
    /// Write one row per second and tenant to this CSV file.
    #[arg(long, env = "MIGRATOR_TIMELINE", value_name = "FILE")]
    pub timeline: Option<PathBuf>,
    /// Write one row per request to this CSV file: intended time, latency, outcome, correct.
    #[arg(long, env = "MIGRATOR_REQUESTS", value_name = "FILE")]
    pub requests: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long, env = "MIGRATOR_JSON")]
    pub json: bool,
}

/// `migrator models`.
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// List models and versions.
    List(StoreArgs),
    /// Show one model: what it takes and gives, its versions, where each came from.
    Show(ModelArgs),
    /// Check the files of one model against their checksums (all models without --model).
    Verify(VerifyArgs),
    /// Make an older version the newest again: it is checked and published anew; a server takes it at its next start.
    Rollback(RollbackArgs),
    /// Bring a model file into the store as a new version of a tenant's model.
    Import(ImportArgs),
    /// Train the next version of a tenant's model from a file of labelled samples (the first version from random weights).
    Train(TrainArgs),
}

/// Where the store is: a configuration names it, or the folder is given.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = true)]
pub struct StoreArgs {
    /// Configuration file whose state_dir holds the store.
    #[arg(long, env = "MIGRATOR_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder of models, samples and checkpoints, instead of the configuration's.
    #[arg(long, env = "MIGRATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// A model of the store.
#[derive(Clone, Debug, Args)]
pub struct ModelArgs {
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The model's name.
    #[arg(long, env = "MIGRATOR_MODEL", value_name = "NAME")]
    pub model: String,
}

/// `migrator models rollback`.
#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// Which model.
    #[command(flatten)]
    pub model: ModelArgs,
    /// Version to go back to; the newest version's parent when left out.
    #[arg(long, env = "MIGRATOR_TO_VERSION", value_name = "N")]
    pub to: Option<u64>,
}

/// `migrator models verify`.
#[derive(Clone, Debug, Args)]
pub struct VerifyArgs {
    /// Where the store is.
    #[command(flatten)]
    pub store: StoreArgs,
    /// The model's name; all models when left out.
    #[arg(long, env = "MIGRATOR_MODEL", value_name = "NAME")]
    pub model: Option<String>,
}

/// `migrator models import`.
#[derive(Clone, Debug, Args)]
pub struct ImportArgs {
    /// Configuration file that describes the tenant's model.
    #[arg(long, env = "MIGRATOR_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Folder of models, samples and checkpoints, instead of the configuration's.
    #[arg(long, env = "MIGRATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The tenant.
    #[arg(long, env = "MIGRATOR_TENANT", value_name = "NAME")]
    pub tenant: String,
    /// Model file: TorchScript (.pt) or weights (.safetensors), as the tenant's model says.
    #[arg(long, env = "MIGRATOR_FILE", value_name = "FILE")]
    pub file: PathBuf,
    /// Tokenizer (tokenizer.json) of a text classifier.
    #[arg(long, env = "MIGRATOR_TOKENIZER", value_name = "FILE")]
    pub tokenizer: Option<PathBuf>,
}

/// `migrator models train`.
#[derive(Clone, Debug, Args)]
pub struct TrainArgs {
    /// Configuration file that describes the tenant's model.
    #[arg(long, env = "MIGRATOR_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Folder of models, samples and checkpoints, instead of the configuration's.
    #[arg(long, env = "MIGRATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The tenant.
    #[arg(long, env = "MIGRATOR_TENANT", value_name = "NAME")]
    pub tenant: String,
    /// Labelled samples, a file or folder as for `migrator data import`: a table with the label last, CIFAR-10 binary (.bin), images, texts, …
    #[arg(long, env = "MIGRATOR_DATA", value_name = "FILE")]
    pub data: PathBuf,
}

fn positive(text: &str) -> Result<f64, String> {
    number(text).filter(|n| *n > 0.0).ok_or_else(|| "must be a number above 0".to_owned())
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text).filter(|n| (1.0..=3600.0).contains(n)).ok_or_else(|| "must be a number from 1 to 3600".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    number(text).filter(|n| (0.0..=1.0).contains(n)).ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|n: &f64| n.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_flag_has_an_environment_twin() {
        fn walk(command: &clap::Command) {
            for arg in command.get_arguments().filter(|a| !["help", "version"].contains(&a.get_id().as_str())) {
                let env = arg.get_env().unwrap_or_else(|| panic!("{} --{} has no twin", command.get_name(), arg.get_id()));
                assert!(env.to_string_lossy().starts_with("MIGRATOR_"));
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    #[test]
    fn load_takes_several_tenants() {
        let line = "migrator load --tenant a --arrivals a.csv --samples a.bin --tenant b --arrivals b.csv --samples b.csv --scale 0.5";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Command::Load(args) = cli.command else { panic!("not load") };
        assert_eq!((args.tenants.len(), args.arrivals.len(), args.samples.len(), args.scales), (2, 2, 2, vec![0.5]));
    }

    #[test]
    fn a_share_beyond_one_is_refused_in_words() {
        let line = "migrator load --tenant a --arrivals a --samples a --label-share 1.5";
        let error = Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
        assert!(error.contains("must be a number from 0 to 1"), "{error}");
    }
}
