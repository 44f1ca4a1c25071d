//! The verbs of `migrator gpu`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// `migrator gpu`.
#[derive(Debug, Subcommand)]
pub enum GpuCommand {
    /// List the NVIDIA GPUs of this host: product, memory, MIG mode.
    List(LibraryArgs),
    /// Show what a GPU model can be cut into; without a name, the models that are known.
    Catalog(CatalogArgs),
    /// Show what each GPU is cut into now, and who is on it.
    State(LibraryArgs),
    /// Show the steps from one partition to another and what they are expected to take; changes nothing.
    PlanTransition(TransitionArgs),
    /// Switch the MIG mode of a GPU that nothing uses; the only command that ever does.
    Mode(ModeArgs),
}

/// How the driver is reached.
#[derive(Clone, Debug, Args)]
pub struct LibraryArgs {
    /// NVIDIA's management library, instead of libnvidia-ml.so.1 as the dynamic linker finds it.
    #[arg(long, env = "MIGRATOR_NVML", value_name = "FILE")]
    pub library: Option<PathBuf>,
    /// Print JSON.
    #[arg(long, env = "MIGRATOR_JSON")]
    pub json: bool,
}

/// `migrator gpu catalog`.
#[derive(Clone, Debug, Args)]
pub struct CatalogArgs {
    /// A GPU model, by its name or short name, e.g. h200.
    #[arg(env = "MIGRATOR_BOARD", value_name = "MODEL")]
    pub board: Option<String>,
    /// Print JSON.
    #[arg(long, env = "MIGRATOR_JSON")]
    pub json: bool,
}

/// `migrator gpu plan-transition`.
#[derive(Clone, Debug, Args)]
pub struct TransitionArgs {
    /// The GPU model, by its name or short name, e.g. h200.
    #[arg(long, env = "MIGRATOR_BOARD", value_name = "MODEL")]
    pub board: String,
    /// What is there, e.g. "4g@0=vision 3g@4=text/retraining"; empty = nothing.
    #[arg(long, env = "MIGRATOR_FROM", value_name = "PARTITION", default_value = "")]
    pub from: String,
    /// What is to be there.
    #[arg(long, env = "MIGRATOR_TO", value_name = "PARTITION")]
    pub to: String,
    /// Do not make workers and models ready before the switch.
    #[arg(long, env = "MIGRATOR_NO_PRELOAD")]
    pub no_preload: bool,
    /// Print JSON.
    #[arg(long, env = "MIGRATOR_JSON")]
    pub json: bool,
}

/// `migrator gpu mode`.
#[derive(Clone, Debug, Args)]
pub struct ModeArgs {
    /// The GPU, by index, UUID or PCI bus id.
    #[arg(env = "MIGRATOR_GPU", value_name = "GPU")]
    pub gpu: String,
    /// Whether it is to be cut up.
    #[arg(env = "MIGRATOR_MODE", value_name = "on|off")]
    pub mode: Switch,
    /// How the driver is reached.
    #[command(flatten)]
    pub library: LibraryArgs,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// MIG on.
    On,
    /// MIG off.
    Off,
}
