//! The snapshot that a plan is made for.

use migrator_mig::{Catalog, Site};
use serde::{Deserialize, Serialize};

/// Index of a tenant in [`Problem::tenants`]; stable while the configuration is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TenantId(pub u16);

impl TenantId {
    /// The index, for tables that hold one entry per tenant.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// Identity of an instance for as long as it exists; the device hands it out and never reuses it in one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct InstanceId(pub u64);

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// Answers requests.
    Inference,
    /// Fine-tunes the model on recent labelled samples.
    Retraining,
}

/// A tenant's inference or a tenant's retraining.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Task {
    /// Whose.
    pub tenant: TenantId,
    /// Which.
    pub kind: TaskKind,
}

impl Task {
    /// A tenant's inference.
    pub fn inference(tenant: TenantId) -> Task {
        Task { tenant, kind: TaskKind::Inference }
    }

    /// A tenant's retraining.
    pub fn retraining(tenant: TenantId) -> Task {
        Task { tenant, kind: TaskKind::Retraining }
    }
}

/// Everything a solve knows; times are seconds from now, rates are requests per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Problem {
    /// GPUs and what is on them.
    pub gpus: Vec<GpuState>,
    /// Tenants, indexed by [`TenantId`].
    pub tenants: Vec<TenantState>,
    /// Seconds until the retraining window ends.
    pub window_left_s: f64,
    /// Seconds beyond the window's end for which a better model is still worth its gain (0 = myopic).
    pub beyond_window_s: f64,
    /// What a change costs.
    pub costs: TransitionCosts,
}

/// One GPU and its instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuState {
    /// Profiles and placements of this GPU.
    pub catalog: Catalog,
    /// Instances that exist now, by start.
    pub instances: Vec<InstanceState>,
}

/// An instance that exists.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceState {
    /// Its identity.
    pub id: InstanceId,
    /// Its profile and placement.
    pub site: Site,
    /// The task bound to it, if any.
    pub task: Option<Task>,
    /// Seconds until that task is admitted here; 0 when it already runs.
    pub ready_in_s: f64,
}

/// One tenant as the planner sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantState {
    /// Name, for reports.
    pub name: String,
    /// Worth of one of its good answers relative to the others' (1 = equal).
    pub weight: f64,
    /// Forecast arrivals in requests/s, one per slot of 1 s from now; the last value holds for the rest of the window.
    pub demand_rps: Vec<f64>,
    /// Requests/s within the SLO on one instance, by profile; 0 = does not fit or misses the SLO.
    pub capacity_rps: Vec<f64>,
    /// Requests queued now.
    pub backlog: f64,
    /// Accuracy of the version in service, 0..1.
    pub accuracy: f64,
    /// Seconds to start a worker and load the model on a new instance (not the device's create).
    pub load_s: f64,
    /// The retraining that is due or running, if any.
    pub retraining: Option<RetrainingState>,
    /// Fewest requests/s this tenant keeps however valuable the others are (0 = none; capped by what one instance of the smallest fitting profile gives).
    pub floor_rps: f64,
}

/// A retraining that may run in this window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainingState {
    /// Seconds of work left, by profile; infinite (absent in files: negative) = does not fit.
    pub seconds_left: Vec<f64>,
    /// Expected accuracy of the version it publishes, 0..1.
    pub accuracy_after: f64,
    /// Seconds to load or restore it on an instance it does not run on yet.
    pub restore_s: f64,
}

/// What the steps of a transition take, in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransitionCosts {
    /// Create an instance, by profile.
    pub create_s: Vec<f64>,
    /// Destroy an instance, by profile.
    pub destroy_s: Vec<f64>,
    /// Let requests in flight finish before an instance is taken away.
    pub drain_s: f64,
    /// Hand an instance over to another task without re-cutting, the model being preloaded.
    pub handover_s: f64,
    /// Whether workers and models are made ready before the switch (preloading); without it `load_s` is lost service.
    pub preload: bool,
}
