//! `migrator data`.

use std::num::NonZeroU64;
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand, ValueEnum};
use migrator_models::reader::Format;

/// `migrator data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Bring labelled samples from a file or folder into a tenant's samples; a running server learns from them. Nothing where a row does not fit.
    Import(DataImportArgs),
    /// Tell what samples there are: by class, by time, their size, their range; a running server is not disturbed.
    Stats(DataStatsArgs),
}

/// `migrator data import`.
#[derive(Clone, Debug, Args)]
pub struct DataImportArgs {
    /// Configuration file that describes the tenant's model.
    #[arg(long, env = "MIGRATOR_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Folder of models, samples and checkpoints, instead of the configuration's.
    #[arg(long, env = "MIGRATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The tenant.
    #[arg(long, env = "MIGRATOR_TENANT", value_name = "NAME")]
    pub tenant: String,
    /// File or folder: a table of numbers, CIFAR-10 binary (.bin), MNIST IDX (…idx3…), label<TAB>text (.tsv), safetensors with x and y, or a
    /// folder with a folder of images (PNG, JPEG) or texts for each class.
    #[arg(env = "MIGRATOR_DATA", value_name = "PATH")]
    pub path: PathBuf,
    /// What the file is, instead of what its name suggests.
    #[arg(long, env = "MIGRATOR_FORMAT", value_name = "FORMAT", value_parser = format())]
    pub format: Option<Format>,
    /// Names of the classes, class 0 first, where labels or folders are names; folders are otherwise classes in the order of their names.
    #[arg(long, env = "MIGRATOR_CLASSES", value_name = "A,B,…", value_delimiter = ',')]
    pub classes: Vec<String>,
    /// Column of a table's label, by its name in the header or its number from 1; the last when left out.
    #[arg(long, env = "MIGRATOR_LABEL_COLUMN", value_name = "COLUMN")]
    pub label_column: Option<String>,
    /// Whether a table's first line is a header; it is when none of its fields is a number.
    #[arg(long, env = "MIGRATOR_HEADER", value_name = "yes|no", value_parser = yes_or_no)]
    pub header: Option<bool>,
    /// Multiplies every feature of a table (optdigits: 0.0625 brings counts of 0 to 16 to 0 to 1).
    #[arg(long, env = "MIGRATOR_FEATURE_SCALE", value_name = "F", default_value_t = 1.0)]
    pub feature_scale: f32,
    /// File of MNIST's labels; beside the images when left out.
    #[arg(long, env = "MIGRATOR_LABELS", value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// First row to look at, from 1: where an import that ended half way says that it goes on.
    #[arg(long, env = "MIGRATOR_FROM_ROW", value_name = "N", default_value = "1")]
    pub from_row: NonZeroU64,
    /// Most rows, the first ones.
    #[arg(long, env = "MIGRATOR_LIMIT", value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Leave out rows that do not fit instead of importing nothing.
    #[arg(long, env = "MIGRATOR_SKIP_BAD")]
    pub skip_bad: bool,
}

/// `migrator data stats`.
#[derive(Clone, Debug, Args)]
pub struct DataStatsArgs {
    /// Configuration file that describes the tenants.
    #[arg(long, env = "MIGRATOR_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Folder of models, samples and checkpoints, instead of the configuration's.
    #[arg(long, env = "MIGRATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// The tenant; all when left out.
    #[arg(long, env = "MIGRATOR_TENANT", value_name = "NAME")]
    pub tenant: Option<String>,
    /// What the samples are counted by.
    #[arg(long, env = "MIGRATOR_BY", value_name = "PERIOD", default_value = "day")]
    pub by: Period,
    /// Print JSON.
    #[arg(long, env = "MIGRATOR_JSON")]
    pub json: bool,
}

/// What samples are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Period {
    /// Retraining windows, by their length, counted from 1970.
    Window,
    /// Hours.
    Hour,
    /// Days, UTC.
    Day,
}

fn format() -> impl TypedValueParser<Value = Format> {
    PossibleValuesParser::new(Format::NAMES.map(|(name, _)| name)).try_map(|name| name.parse::<Format>())
}

fn yes_or_no(text: &str) -> Result<bool, String> {
    match text {
        "yes" => Ok(true),
        "no" => Ok(false),
        _ => Err("must be yes or no".to_owned()),
    }
}
