//! `migrator profile`.

use std::path::PathBuf;

use clap::Args;

use super::positive;

/// `migrator profile`. See docs/profiles.md for the file and who reads it.
#[derive(Clone, Debug, Args)]
pub struct ProfileArgs {
    /// Configuration file (TOML) of the tenants; their models must have a version. Stop its server first: both would share the device.
    #[arg(long, env = "MIGRATOR_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
    /// Folder of models, samples and checkpoints, instead of the file's.
    #[arg(long, env = "MIGRATOR_STATE_DIR", value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Only this tenant's model; may be repeated.
    #[arg(long = "tenant", env = "MIGRATOR_TENANT", value_name = "NAME", value_delimiter = ',')]
    pub tenants: Vec<String>,
    /// Seconds for each batch size, and for retraining, on each profile.
    #[arg(long, env = "MIGRATOR_SECONDS", value_name = "S", default_value = "1", value_parser = positive)]
    pub seconds: f64,
    /// The curve file, instead of curves.toml in the state folder, which the server reads; what it says of other models stays.
    #[arg(long, env = "MIGRATOR_OUT", value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Draw a plot (SVG) into this file.
    #[arg(long, env = "MIGRATOR_PLOT", value_name = "FILE")]
    pub plot: Option<PathBuf>,
    /// Print the figures as JSON.
    #[arg(long, env = "MIGRATOR_JSON")]
    pub json: bool,
}
