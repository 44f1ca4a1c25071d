//! What the outside may see: a snapshot that the coordinator publishes once a second, read without asking any actor.

use std::sync::Arc;

use migrator_solver::{Outcome, Plan, Problem, Report, SolveOptions};
use serde::Serialize;

/// The whole server at one moment.
#[derive(Clone, Debug, Default, Serialize)]
pub struct View {
    /// Seconds since the server started.
    pub uptime_s: f64,
    /// Whether every tenant has at least one instance that answers.
    pub ready: bool,
    /// One entry per tenant, in configuration order.
    pub tenants: Vec<TenantView>,
    /// One entry per GPU.
    pub partition: Vec<GpuView>,
    /// The plan in force and why; `None` before the first solve.
    pub plan: Option<(Plan, Report)>,
    /// The last solve that answered: what the plan's reasons are about, and the live problem for whoever wants to ask "what if".
    #[serde(skip)]
    pub solved: Option<Arc<Solved>>,
    /// The last solve whose plan was carried out.
    #[serde(skip)]
    pub changed: Option<Arc<Solved>>,
    /// Retraining window: number (from 0), seconds gone, length in seconds.
    pub window: (u64, f64, f64),
    /// Reconfigurations carried out.
    pub reconfigurations: u64,
    /// Recent reconfigurations, newest last, at most 32.
    pub history: Vec<ReconfigurationView>,
}

/// A solve and what came of it.
#[derive(Clone, Debug)]
pub struct Solved {
    /// When it answered, seconds since the server started.
    pub at_s: f64,
    /// The snapshot.
    pub problem: Problem,
    /// How it was to be solved.
    pub options: SolveOptions,
    /// The plan and its report.
    pub outcome: Outcome,
}

/// One tenant. Counters run since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct TenantView {
    /// Name.
    pub name: String,
    /// Model in the store.
    pub model: String,
    /// Version in service.
    pub version: u32,
    /// SLO, milliseconds.
    pub slo_ms: f64,
    /// Whether an instance answers now.
    pub ready: bool,
    /// Requests received.
    pub requests: u64,
    /// Answered within the SLO.
    pub ok: u64,
    /// Answered late.
    pub late: u64,
    /// Refused or given up in the queue.
    pub shed: u64,
    /// Failed.
    pub error: u64,
    /// `ok ÷ requests`; 1 before the first.
    pub slo_attainment: f64,
    /// Share of recent labelled samples the serving version got right; `None` before the first.
    pub accuracy: Option<f64>,
    /// `ok × accuracy`: expected requests on time and correct.
    pub goodput: f64,
    /// Requests waiting now.
    pub queue_depth: u64,
    /// Arrivals in the last second, requests/s.
    pub arrival_rps: f64,
    /// Requests/s it can answer within the SLO on its instances.
    pub capacity_rps: f64,
    /// What its retraining is doing: `waiting for samples (12 of 64)`, `running 40 %`, `paused`, …
    pub retraining: String,
    /// Accuracy before and after each retraining, newest last, at most 32.
    pub windows: Vec<WindowView>,
}

/// One retraining of one window.
#[derive(Clone, Debug, Default, Serialize)]
pub struct WindowView {
    /// The window's number.
    pub window: u64,
    /// Accuracy of the version in service on the held-out samples.
    pub accuracy_before: f64,
    /// Accuracy of the retrained version on the same samples.
    pub accuracy_after: f64,
    /// Version published, or `None`: not better, kept the old one.
    pub published: Option<u32>,
    /// Seconds of one core it took.
    pub core_s: f64,
}

/// One GPU.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GpuView {
    /// UUID.
    pub uuid: String,
    /// Catalog's name.
    pub catalog: String,
    /// `4g@0 2g@4 1g@6`.
    pub text: String,
    /// Instances by start.
    pub instances: Vec<InstanceView>,
}

/// One instance.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InstanceView {
    /// Identity.
    pub id: u64,
    /// Profile name.
    pub profile: String,
    /// First memory slice.
    pub start: u8,
    /// Memory slices.
    pub size: u8,
    /// Tenant bound to it.
    pub tenant: Option<String>,
    /// `inference` or `retraining`.
    pub task: Option<String>,
    /// Version loaded.
    pub version: Option<u32>,
    /// `serving`, `draining`, `loading`, `training`, `idle`, `lost`.
    pub state: String,
    /// Process bound to it.
    pub pid: Option<u32>,
}

/// One reconfiguration that was carried out.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ReconfigurationView {
    /// Generation of its plan.
    pub generation: u64,
    /// Seconds since the server started.
    pub at_s: f64,
    /// Seconds from its first step to its last.
    pub took_s: f64,
    /// Service lost: seconds in which a tenant had less capacity than both before and after, weighted by the share missing.
    pub lost_s: f64,
    /// Slice-seconds in which compute slices that were in use before and after stood still.
    pub idle_slice_s: f64,
    /// Partition before and after.
    pub from: String,
    /// Partition after.
    pub to: String,
    /// Seconds by kind of step (`preload`, `drain`, `destroy`, `create`, `bind`, `admit`), summed.
    pub steps: Vec<(String, f64)>,
}
