//! The snapshot that a plan is made for.

use std::fmt;

use migrator_mig::{Catalog, ProfileId, Site};
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

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            TaskKind::Inference => "inference",
            TaskKind::Retraining => "retraining",
        };
        write!(f, "{kind} of tenant {}", self.tenant.index())
    }
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
    /// The GPU models of this host; tables of tenants are indexed like this.
    pub models: Vec<GpuModel>,
    /// GPUs and what is on them.
    pub gpus: Vec<GpuState>,
    /// Tenants, indexed by [`TenantId`].
    pub tenants: Vec<TenantState>,
    /// Seconds until the retraining window ends.
    pub window_left_s: f64,
    /// Seconds beyond the window's end for which a better model is still worth its gain (0 = myopic).
    pub beyond_window_s: f64,
    /// What a change costs, whatever the GPU.
    pub costs: TransitionCosts,
}

/// A GPU model (A100-SXM4-80GB, ...): what it can be cut into, and how long that takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuModel {
    /// Profiles and placements.
    pub catalog: Catalog,
    /// Seconds to create an instance, by profile.
    pub create_s: Vec<f64>,
    /// Seconds to destroy an instance, by profile.
    pub destroy_s: Vec<f64>,
}

/// One GPU and its instances.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GpuState {
    /// Index of its GPU model (not of a neural one) in [`Problem::models`].
    #[serde(default)]
    pub model: usize,
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
    #[serde(default)]
    pub ready_in_s: f64,
    /// Must stay as it is, task included: somebody else's instance, or one that the operator has fixed.
    #[serde(default)]
    pub pinned: bool,
}

/// One tenant as the planner sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantState {
    /// Name, for reports.
    pub name: String,
    /// Worth of one of its good answers relative to the others' (1 = equal).
    pub weight: f64,
    /// What may arrive; the probabilities sum to 1. A point forecast is one scenario.
    pub demand: Vec<Scenario>,
    /// Requests/s within the SLO on one instance, by GPU model and profile; 0 = does not fit or misses the SLO.
    pub capacity_rps: Vec<Vec<f64>>,
    /// Memory that serving takes, MiB: a profile with less does not fit.
    #[serde(default)]
    pub memory_mib: u64,
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

/// One course that a tenant's arrivals may take.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// How likely, 0..1.
    pub probability: f64,
    /// Arrivals in requests/s, one per slot of 1 s from now; the last value holds for the rest of the window.
    pub rps: Vec<f64>,
}

impl Scenario {
    /// A point forecast.
    pub fn certain(rps: Vec<f64>) -> Vec<Scenario> {
        vec![Scenario { probability: 1.0, rps }]
    }
}

/// A retraining that may run in this window.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrainingState {
    /// Seconds of work left, by GPU model and profile; infinite (in files: negative) = does not fit.
    pub seconds_left: Vec<Vec<f64>>,
    /// Expected accuracy of the version it publishes, 0..1.
    pub accuracy_after: f64,
    /// Seconds to load or restore it on an instance it does not run on yet.
    pub restore_s: f64,
    /// Memory that it takes, MiB: a profile with less does not fit.
    #[serde(default)]
    pub memory_mib: u64,
}

impl Problem {
    /// The catalog of a GPU.
    ///
    /// # Panics
    /// When there is no such GPU or its model is out of range.
    pub fn catalog(&self, gpu: usize) -> &Catalog {
        &self.models[self.gpus[gpu].model].catalog
    }

    /// Requests/s of a tenant on one instance of this profile, 0 where its memory does not suffice or nothing is known.
    pub fn rate(&self, tenant: TenantId, model: usize, profile: ProfileId) -> f64 {
        let state = self.tenants.get(tenant.index());
        let rps = state.and_then(|state| state.capacity_rps.get(model)?.get(profile.index()).copied()).unwrap_or(0.0);
        if self.holds(model, profile, state.map_or(0, |state| state.memory_mib)) { rps } else { 0.0 }
    }

    /// Seconds that a tenant's retraining still takes on this profile; `None` = not due or does not fit.
    pub fn work_s(&self, tenant: TenantId, model: usize, profile: ProfileId) -> Option<f64> {
        let due = self.tenants.get(tenant.index())?.retraining.as_ref()?;
        let seconds = due.seconds_left.get(model)?.get(profile.index()).copied()?;
        (self.holds(model, profile, due.memory_mib) && (0.0..f64::INFINITY).contains(&seconds)).then_some(seconds)
    }

    fn holds(&self, model: usize, profile: ProfileId, memory_mib: u64) -> bool {
        let profile = self.models.get(model).and_then(|model| model.catalog.profiles.get(profile.index()));
        profile.is_some_and(|profile| profile.memory_mib >= memory_mib)
    }
}

/// What the steps of a transition take, in seconds; creating and destroying: [`GpuModel`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransitionCosts {
    /// Let requests in flight finish before an instance is taken away.
    pub drain_s: f64,
    /// Hand an instance over to another task without re-cutting, the model being preloaded.
    pub handover_s: f64,
    /// Whether workers and models are made ready before the switch (preloading); without it `load_s` is lost service.
    pub preload: bool,
}
