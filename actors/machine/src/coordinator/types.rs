//! What goes into the coordinator's machine and what comes out.

use migrator_mig::Catalog;
use migrator_models::{Curve, OnProfile};
use migrator_solver::forecast::ForecastName;
use migrator_solver::{Generation, InstanceState, Plan, PolicyName, Problem, SolveOptions, Transition};
use serde::{Deserialize, Serialize};

use crate::Time;
use crate::retraining::RetrainingStatus;
use crate::tenant::Telemetry;

/// How the coordinator plans.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CoordinatorConfig {
    /// GPUs, in the order of [`Problem::gpus`].
    pub gpus: Vec<GpuConfig>,
    /// Tenants, in the order of their ids.
    pub tenants: Vec<TenantPlanning>,
    /// Length of the retraining window, seconds.
    pub window_s: f64,
    /// Seconds beyond the window's end for which a better model is still worth its gain.
    pub beyond_window_s: f64,
    /// Furthest look ahead, seconds; the demand is forecast that far.
    pub horizon_s: f64,
    /// Who foretells the demand.
    pub forecast: ForecastName,
    /// Least seconds between two reconfigurations; lost instances are exempt.
    pub dwell_s: f64,
    /// Least seconds between two solves.
    pub solve_every_s: f64,
    /// Seconds after which a solve that has not answered is given up; the plan in force stays.
    pub solve_deadline_s: f64,
    /// Share of an instance's full speed that is planned with.
    pub utilisation: f64,
    /// Whether workers are preloaded.
    pub preload: bool,
    /// Which planner decides.
    pub policy: PolicyName,
    /// Most wall time of the integer program, milliseconds.
    pub time_limit_ms: u32,
    /// Hysteresis: a change must gain this share of what keeping everything is worth.
    pub min_gain: f64,
    /// Fewest labelled samples for the running accuracy to be believed.
    pub min_accuracy_samples: f64,
    /// Whether expected costs of steps follow what migrations measured.
    pub learn_costs: bool,
    /// Expected seconds of a create and of a destroy, a drain and a hand-over, before any was measured.
    pub create_s: f64,
    /// See `create_s`.
    pub destroy_s: f64,
    /// See `create_s`.
    pub drain_s: f64,
    /// See `create_s`.
    pub handover_s: f64,
}

impl Default for CoordinatorConfig {
    fn default() -> CoordinatorConfig {
        let options = SolveOptions::default();
        CoordinatorConfig {
            gpus: Vec::new(),
            tenants: Vec::new(),
            window_s: 200.0,
            beyond_window_s: 100.0,
            horizon_s: options.horizon_s,
            forecast: ForecastName::default(),
            dwell_s: 10.0,
            solve_every_s: 1.0,
            solve_deadline_s: 5.0,
            utilisation: 0.85,
            preload: true,
            policy: options.policy,
            time_limit_ms: options.time_limit_ms,
            min_gain: options.min_gain,
            min_accuracy_samples: 30.0,
            learn_costs: true,
            create_s: 0.3,
            destroy_s: 0.3,
            drain_s: 0.2,
            handover_s: 0.2,
        }
    }
}

/// One GPU as the coordinator knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuConfig {
    /// Profiles and placements.
    pub catalog: Catalog,
    /// Cores per compute slice (cpu device).
    pub cores_per_slice: f64,
}

/// One tenant as the coordinator knows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TenantPlanning {
    /// Name, for reports.
    pub name: String,
    /// Worth of its good answers relative to the others'.
    pub weight: f64,
    /// SLO, milliseconds.
    pub slo_ms: f64,
    /// Fewest requests/s it keeps.
    pub floor_rps: f64,
    /// Measured speed by share and batch.
    pub curve: Curve,
    /// Speed measured on each profile, by profile; empty = `curve`, scaled by the share.
    pub on_profile: Vec<OnProfile>,
    /// How fast it retrains on each profile, in units of a core (or of the whole GPU, on which its seconds of work were measured), by
    /// profile, 0 = does not fit; empty = by the cores of the profile's compute slices.
    pub retrain_speeds: Vec<f64>,
    /// Memory that serving takes, MiB.
    pub memory_mib: u64,
    /// Memory that retraining takes, MiB.
    pub retrain_memory_mib: u64,
    /// Expected seconds to start a worker and load the model, before any was measured.
    pub load_s: f64,
    /// Accuracy assumed before any was measured.
    pub prior_accuracy: f64,
}

impl Default for TenantPlanning {
    fn default() -> TenantPlanning {
        TenantPlanning {
            name: String::new(),
            weight: 1.0,
            slo_ms: 100.0,
            floor_rps: 0.0,
            curve: Curve::default(),
            on_profile: Vec::new(),
            retrain_speeds: Vec::new(),
            memory_mib: 0,
            retrain_memory_mib: 0,
            load_s: 3.0,
            prior_accuracy: 0.7,
        }
    }
}

/// One second of the whole server.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tick {
    /// One entry per tenant.
    pub tenants: Vec<TenantTick>,
    /// Instances in force, by GPU.
    pub instances: Vec<Vec<InstanceState>>,
}

/// One second of one tenant.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TenantTick {
    /// Its requests.
    pub telemetry: Telemetry,
    /// Its retraining.
    pub retraining: RetrainingStatus,
}

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq)]
pub enum CoordinatorWish {
    /// Solve in the background, then `solved(now, options.generation, …)`.
    Solve {
        /// The snapshot.
        problem: Box<Problem>,
        /// The plan in force.
        previous: Option<Plan>,
        /// How; its generation identifies the solve.
        options: SolveOptions,
    },
    /// Hand these to the migration machine's `begin`, then `migrated` or `refused`.
    Execute {
        /// The instances it starts from.
        problem: Box<Problem>,
        /// The plan.
        plan: Plan,
        /// Its steps.
        transition: Transition,
    },
    /// A retraining window begins: tell every tenant's retraining.
    StartWindow {
        /// Its number.
        window: u64,
    },
}

/// What was decided about one generation, for the log that the live server and the simulator must agree on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// When.
    pub at: Time,
    /// About which plan.
    pub generation: Generation,
    /// What.
    pub verdict: Verdict,
}

/// What became of a solve or a migration.
#[derive(Clone, Debug, PartialEq, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Carried out: these changes.
    #[error("execute: {0}")]
    Execute(String),
    /// The plan in force stays: why.
    #[error("keep: {0}")]
    Keep(String),
    /// The plan could not be used: why.
    #[error("reject: {0}")]
    Reject(String),
    /// The solve failed or was too late: why.
    #[error("solve failed: {0}")]
    SolveFailed(String),
    /// The migration is over: how.
    #[error("migrated: {0}")]
    Migrated(String),
    /// An instance was lost.
    #[error("lost: {0}")]
    Lost(String),
}

impl std::fmt::Display for Decision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.3} g{} {}", self.at.as_secs(), self.generation.0, self.verdict)
    }
}
