//! A scenario as a person writes it.

use std::path::PathBuf;

use migrator_solver::forecast::ForecastName;
use serde::Deserialize;

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScenarioFile {
    /// Name in reports; the file's own without its extension when left out.
    pub name: Option<String>,
    pub gpus: Gpus,
    /// Seconds simulated.
    pub seconds: u64,
    /// Length of the retraining window.
    #[serde(default = "window")]
    pub window_s: f64,
    #[serde(default = "seeds")]
    pub seeds: Vec<u64>,
    /// Further curve files, relative to this one.
    #[serde(default)]
    pub curves: Vec<PathBuf>,
    #[serde(default)]
    pub planner: Planner,
    #[serde(default)]
    pub steps: Steps,
    #[serde(default)]
    pub interference: Interfering,
    #[serde(default)]
    pub faults: Vec<FaultEntry>,
    pub tenants: Vec<TenantEntry>,
}

/// `gpus = { … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Gpus {
    pub catalog: String,
    #[serde(default = "one_gpu")]
    pub count: u32,
    /// The GPU model whose figures are used for one that has none.
    pub like: Option<String>,
    /// How much faster this GPU is taken to be than the one of the figures.
    #[serde(default = "one")]
    pub speed: f64,
}

/// `[planner]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Planner {
    pub foresight: Known,
    pub forecast: ForecastName,
    pub beyond_window_s: f64,
    pub horizon_s: f64,
    pub dwell_s: f64,
    pub solve_every_s: f64,
    pub solve_s: f64,
    pub utilisation: f64,
    pub min_gain: f64,
    pub preload: bool,
    pub hand_over: bool,
    pub accuracy: bool,
}

/// What is known of the arrivals to come.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Known {
    Forecast,
    Perfect,
}

impl Default for Planner {
    /// As the live server plans; it takes a few milliseconds for a solve.
    fn default() -> Planner {
        Planner {
            foresight: Known::Forecast,
            forecast: ForecastName::default(),
            beyond_window_s: 100.0,
            horizon_s: 300.0,
            dwell_s: 3.0,
            solve_every_s: 1.0,
            solve_s: 0.01,
            utilisation: 0.85,
            min_gain: 0.005,
            preload: true,
            hand_over: true,
            accuracy: true,
        }
    }
}

/// `[steps]`; create and destroy are the GPU model's measured ones when left out.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Steps {
    pub create_s: Option<f64>,
    pub destroy_s: Option<f64>,
    pub release_s: f64,
    pub bind_s: f64,
    pub admit_s: f64,
    pub checkpoint_s: f64,
    pub jitter: f64,
}

impl Default for Steps {
    fn default() -> Steps {
        Steps { create_s: None, destroy_s: None, release_s: 0.05, bind_s: 0.05, admit_s: 0.0, checkpoint_s: 0.2, jitter: 0.1 }
    }
}

/// `[interference]`, for policies that share a GPU by MPS.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Interfering {
    pub inference: f64,
    pub retraining: f64,
}

impl Default for Interfering {
    /// Two tasks whose capped MPS shares sum to the whole GPU slow each other down by 9.7 % on average, 15.5 % at the 90 % quantile: 750 pairs of
    /// iGniter's on a V100 (`reference/igniter-herald.md` 2.7). The other's share is half of the GPU on average, so 0.097 / 0.5; a retraining computes all the time and
    /// in large batches, so it is taken to be as bad as the quantile: 0.155 / 0.5.
    fn default() -> Interfering {
        Interfering { inference: 0.194, retraining: 0.31 }
    }
}

/// `[[faults]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FaultEntry {
    pub at_s: f64,
    pub kind: FaultName,
    pub tenant: Option<String>,
    pub gpu: Option<usize>,
    #[serde(default = "once")]
    pub times: u32,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum FaultName {
    WorkerDies,
    CreateFails,
    DestroyInUse,
    SolveFails,
}

/// `[[tenants]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantEntry {
    pub name: String,
    /// Model of the inference figures.
    pub curve: String,
    pub slo_ms: f64,
    pub arrivals: ArrivalsEntry,
    /// Share of the GPUs' capacity that the mean demand takes.
    pub load: Option<f64>,
    /// Factor on the arrivals, after `load`.
    #[serde(default = "one")]
    pub scale: f64,
    #[serde(default = "one")]
    pub weight: f64,
    #[serde(default)]
    pub floor_rps: f64,
    #[serde(default = "max_batch")]
    pub max_batch: u32,
    #[serde(default = "queue")]
    pub queue: usize,
    #[serde(default = "jitter")]
    pub jitter: f64,
    #[serde(default = "memory")]
    pub memory_mib: u64,
    #[serde(default = "load_s")]
    pub load_s: f64,
    #[serde(default)]
    pub retraining: RetrainingEntry,
}

/// `[tenants.retraining]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetrainingEntry {
    pub enabled: bool,
    /// Model of the training figures; the tenant's own when left out.
    pub curve: Option<String>,
    pub batch: Option<u32>,
    pub samples: u64,
    pub epochs: u32,
    pub first: f64,
    pub top: f64,
    pub floor: f64,
    pub learning: Vec<f64>,
    pub drift: Option<f64>,
    pub drift_steps: Option<Vec<(f64, f64)>>,
    pub memory_mib: u64,
    pub label_share: f64,
    pub estimate_error: f64,
    pub min_gain: f64,
}

impl Default for RetrainingEntry {
    /// Ekya's micro-profiler is off by 5.8 % (median), a standard deviation of 0.086 for a normal error; its streams lose 8-24 % of accuracy to a
    /// change of scene (`profiles/ekya/datadrift.csv`), here about 13 % in a window of 200 s: `0.0008 · 200` nats of `top - floor`.
    fn default() -> RetrainingEntry {
        RetrainingEntry {
            enabled: true,
            curve: None,
            batch: None,
            samples: 2000,
            epochs: 10,
            first: 0.85,
            top: 0.95,
            floor: 0.3,
            learning: vec![1.5, 1.0],
            drift: None,
            drift_steps: None,
            memory_mib: 0,
            label_share: 0.1,
            estimate_error: 0.086,
            min_gain: 0.0,
        }
    }
}

/// `arrivals = { kind = …, … }`.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub(super) enum ArrivalsEntry {
    Poisson {
        rps: f64,
    },
    Mmpp {
        states: Vec<StateEntry>,
    },
    Diurnal {
        rps: f64,
        #[serde(default = "swing")]
        swing: f64,
        #[serde(default = "period")]
        period_s: f64,
        #[serde(default)]
        phase_s: f64,
    },
    Ramp {
        from_rps: f64,
        to_rps: f64,
        from_s: f64,
        to_s: f64,
    },
    Step {
        rps: f64,
        steps: Vec<(f64, f64)>,
    },
    Sum {
        parts: Vec<ArrivalsEntry>,
    },
    Product {
        parts: Vec<ArrivalsEntry>,
    },
    Trace(TraceEntry),
}

/// `{ rps = …, stay_s = … }`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StateEntry {
    pub rps: f64,
    pub stay_s: f64,
}

/// `{ kind = "trace", file = … }`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TraceEntry {
    pub file: String,
    /// `zero`: seconds that the file leaves out had no arrivals.
    pub gaps: Option<String>,
    /// Row of an Azure Functions file, from 0.
    pub row: Option<usize>,
    /// Or the beginning of its function's hash.
    pub function: Option<String>,
    /// How many times faster than recorded.
    #[serde(default = "one")]
    pub compress: f64,
    /// Seconds (after `compress`) left out at the beginning.
    #[serde(default)]
    pub offset_s: usize,
    /// Seconds around each over which the counts are averaged before they are drawn anew; left out = multiplied as they are.
    pub smooth_s: Option<u32>,
}

fn one_gpu() -> u32 {
    1
}

fn one() -> f64 {
    1.0
}

fn once() -> u32 {
    1
}

fn window() -> f64 {
    200.0
}

fn seeds() -> Vec<u64> {
    vec![1, 2, 3]
}

fn max_batch() -> u32 {
    64
}

fn queue() -> usize {
    1024
}

/// Of its curve: iGniter's measured latencies vary by a median of 0.9 %, 3.1 % at the 90 % quantile.
fn jitter() -> f64 {
    0.02
}

fn memory() -> u64 {
    2048
}

/// Starting a process, a CUDA context and loading the model: MIGRator's 6 s less MIG's operations would be more, warm page caches make it less.
fn load_s() -> f64 {
    3.0
}

fn swing() -> f64 {
    0.6
}

fn period() -> f64 {
    1200.0
}
