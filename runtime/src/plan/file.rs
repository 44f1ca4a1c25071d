//! A problem as a person writes it: everything by name, nothing that can be left out.

use std::collections::BTreeMap;

use migrator_mig::Profile;
use migrator_solver::{PolicyName, SolveOptions, TaskKind};
use serde::{Deserialize, Serialize};

/// The file; its JSON is the same, key by key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProblemFile {
    /// Seconds until the retraining window ends.
    pub window_left_s: f64,
    /// Seconds beyond the window's end for which a better model is still worth its gain.
    #[serde(default)]
    pub beyond_window_s: f64,
    /// Who plans, unless the command line says otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PolicyName>,
    /// Furthest look ahead, seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon_s: Option<f64>,
    /// Longest a solve may take, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_limit_ms: Option<u32>,
    /// Hysteresis, a share of what keeping everything is worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_gain: Option<f64>,
    /// The GPUs.
    pub gpus: Gpus,
    /// What a change costs, whatever the GPU.
    #[serde(default)]
    pub costs: Costs,
    /// GPU models; without any, there is one of [`DEFAULT_MODEL`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelEntry>,
    /// What is on the GPUs now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<InstanceEntry>,
    /// The tenants.
    pub tenants: Vec<TenantEntry>,
}

/// The GPU model of a file that names none.
pub(super) const DEFAULT_MODEL: &str = "A100-SXM4-80GB";

/// GPUs: so many of the first model, or the model of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Gpus {
    /// So many of the first model.
    Count(u32),
    /// The model of each.
    Models(Vec<String>),
}

/// `[costs]`, seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Costs {
    /// To let requests in flight finish.
    pub drain_s: f64,
    /// To hand an instance over without cutting it anew.
    pub handover_s: f64,
    /// Whether workers are made ready before the switch.
    pub preload: bool,
}

impl Default for Costs {
    fn default() -> Costs {
        Costs { drain_s: 0.2, handover_s: 0.2, preload: true }
    }
}

/// `[[models]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelEntry {
    /// Its name; one that is known needs no more.
    pub name: String,
    /// Memory of a GPU of seven slices, MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Compute slices, where the profiles are given too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_slices: Option<u8>,
    /// Memory slices, where the profiles are given too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_slices: Option<u8>,
    /// The profiles of a GPU unlike any other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<Profile>,
    /// Seconds to create an instance.
    #[serde(default = "operation")]
    pub create_s: Cell,
    /// Seconds to destroy an instance.
    #[serde(default = "operation")]
    pub destroy_s: Cell,
}

impl ModelEntry {
    /// A model that is known by its name.
    pub(super) fn named(name: &str) -> ModelEntry {
        let (create_s, destroy_s) = (operation(), operation());
        ModelEntry {
            name: name.to_owned(),
            memory_mib: None,
            compute_slices: None,
            memory_slices: None,
            profiles: Vec::new(),
            create_s,
            destroy_s,
        }
    }
}

/// As the coordinator assumes before it has measured.
fn operation() -> Cell {
    Cell::Number(0.3)
}

/// One number for all, or one for each of some names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Cell {
    /// For all.
    Number(f64),
    /// By profile.
    Table(BTreeMap<String, f64>),
}

/// Numbers by profile, or by GPU model and profile.
pub type Table = BTreeMap<String, Cell>;

/// `[[instances]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceEntry {
    /// Index of the GPU.
    #[serde(default)]
    pub gpu: usize,
    /// `3g`, or the whole name.
    pub profile: String,
    /// First memory slice.
    pub start: u8,
    /// What runs on it; nothing without `tenant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskKind>,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Seconds until the task is admitted.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub ready_in_s: f64,
    /// Whether it must stay as it is.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// Its identity; numbered from 1 when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
}

/// `[[tenants]]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantEntry {
    /// Name.
    pub name: String,
    /// Worth of one good answer.
    #[serde(default = "one")]
    pub weight: f64,
    /// Forecast arrivals, requests/s.
    pub demand_rps: Demand,
    /// Requests/s within the SLO on one instance; a profile left out gives none.
    pub capacity_rps: Table,
    /// Memory that serving takes, MiB.
    #[serde(default, skip_serializing_if = "is_none")]
    pub memory_mib: u64,
    /// Requests queued now.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub backlog: f64,
    /// Accuracy of the version in service.
    pub accuracy: f64,
    /// Seconds to start a worker and load the model.
    #[serde(default = "load")]
    pub load_s: f64,
    /// Fewest requests/s it keeps.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub floor_rps: f64,
    /// The retraining that is due or running.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retraining: Option<RetrainingEntry>,
}

/// `[tenants.retraining]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainingEntry {
    /// Seconds of work left; a profile left out does not fit.
    pub seconds_left: Table,
    /// Accuracy of the version it publishes.
    pub accuracy_after: f64,
    /// Seconds to load or restore it elsewhere; the tenant's `load_s` when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore_s: Option<f64>,
    /// Memory that it takes, MiB.
    #[serde(default, skip_serializing_if = "is_none")]
    pub memory_mib: u64,
}

/// Forecast arrivals: a course, or several with their probabilities.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Demand {
    /// A point forecast.
    Course(Course),
    /// Several, the probabilities of which sum to 1.
    Scenarios(Vec<ScenarioEntry>),
}

/// `{ probability = 0.3, rps = … }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScenarioEntry {
    /// How likely.
    pub probability: f64,
    /// Arrivals.
    pub rps: Course,
}

/// Arrivals over time, requests/s.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Course {
    /// The same all the time.
    Constant(f64),
    /// Second by second from now; the last holds on.
    Seconds(Vec<f64>),
    /// From the second on that each key names.
    Steps(BTreeMap<String, f64>),
}

impl ProblemFile {
    /// How the file wants to be solved, everything else by default.
    pub fn options(&self) -> SolveOptions {
        let default = SolveOptions::default();
        SolveOptions {
            policy: self.policy.unwrap_or(default.policy),
            horizon_s: self.horizon_s.unwrap_or(default.horizon_s),
            time_limit_ms: self.time_limit_ms.unwrap_or(default.time_limit_ms),
            min_gain: self.min_gain.unwrap_or(default.min_gain),
            ..default
        }
    }
}

fn one() -> f64 {
    1.0
}

fn load() -> f64 {
    3.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_none(value: &u64) -> bool {
    *value == 0
}
