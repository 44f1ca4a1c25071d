//! What is simulated: GPUs, tenants, arrivals, and what is true of them whatever a planner believes.

use migrator_machine::{MigrationConfig, Time};
use migrator_mig::Catalog;
use migrator_models::Curve;
use migrator_solver::PolicyName;
use migrator_solver::forecast::ForecastName;

/// One host, its tenants and their arrivals; every number that a simulation depends on.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Name, for reports.
    pub name: String,
    /// One entry per GPU; all of one catalog (tables by profile are indexed by it).
    pub gpus: Vec<Catalog>,
    /// Tenants, in the order of their ids.
    pub tenants: Vec<TenantSetup>,
    /// Seconds simulated.
    pub seconds: u64,
    /// Length of the retraining window, seconds.
    pub window_s: f64,
    /// Decides arrivals within their second, service times, labels and faults.
    pub seed: u64,
    /// What steps really take.
    pub times: StepTimes,
    /// How tasks on one GPU slow each other down; all 0 for MIG.
    pub interference: Interference,
    /// How the coordinator plans.
    pub planning: Planning,
    /// How the migration machine carries plans out.
    pub migration: MigrationConfig,
    /// What goes wrong.
    pub faults: Vec<Fault>,
    /// Whether the invariants of all that an event touched are checked after every event, as tests want it, or once a simulated second.
    pub check_always: bool,
}

/// How the coordinator plans: what `CoordinatorConfig` wants beyond the tenants.
#[derive(Clone, Debug)]
pub struct Planning {
    /// Who decides.
    pub policy: PolicyName,
    /// Where the demand of the next seconds comes from.
    pub foresight: Foresight,
    /// Seconds beyond the window's end for which a better model is still worth its gain.
    pub beyond_window_s: f64,
    /// Furthest look ahead, seconds.
    pub horizon_s: f64,
    /// Least seconds between two reconfigurations.
    pub dwell_s: f64,
    /// Seconds between two solves.
    pub solve_every_s: f64,
    /// Seconds a solve is taken to last (virtual time; the real one does not matter).
    pub solve_s: f64,
    /// Share of an instance's full speed that is planned with.
    pub utilisation: f64,
    /// Hysteresis.
    pub min_gain: f64,
    /// Whether workers are preloaded.
    pub preload: bool,
    /// Whether running instances may be handed over without re-cutting (an ablation: without, they are destroyed and made anew).
    pub hand_over: bool,
    /// Whether accuracy counts in what the planner maximises (an ablation: without, every tenant's is 1 and retraining gains what an idle instance gives it).
    pub accuracy: bool,
}

/// Where the demand of the next seconds comes from.
#[derive(Clone, Copy, Debug)]
pub enum Foresight {
    /// A forecaster per tenant, fed with the seconds gone by.
    Forecast(ForecastName),
    /// The arrivals to come are known.
    Perfect,
}

/// One tenant.
#[derive(Clone, Debug)]
pub struct TenantSetup {
    /// Name.
    pub name: String,
    /// SLO, milliseconds.
    pub slo_ms: f64,
    /// Worth of its good answers relative to the others'.
    pub weight: f64,
    /// Fewest requests/s it keeps; the live server gives every tenant at least 1, or it could be left without an instance.
    pub floor_rps: f64,
    /// Most rows in one batch.
    pub max_batch: u32,
    /// Most requests that wait.
    pub queue: usize,
    /// Milliseconds of a batch on one whole instance, by profile (`core_ms` at share 1); an empty curve = does not fit.
    pub speed: Vec<Curve>,
    /// Spread of one batch's time around its curve: the standard deviation of its logarithm.
    pub jitter: f64,
    /// Memory that serving takes, MiB.
    pub memory_mib: u64,
    /// Seconds to start a worker and load the model, a live one or a retraining's.
    pub load_s: f64,
    /// Requests by second.
    pub arrivals: Vec<u32>,
    /// Their very moments, ascending; empty = spread within each second by chance.
    pub moments: Vec<Time>,
    /// Accuracy, drift and what retraining does.
    pub learning: Learning,
}

/// A tenant's accuracy over time and its retraining.
#[derive(Clone, Debug)]
pub struct Learning {
    /// Whether it is retrained at all.
    pub enabled: bool,
    /// Accuracy of the first version at second 0.
    pub first: f64,
    /// Accuracy of an infinitely trained version on data of the moment its samples are of.
    pub top: f64,
    /// No version gets worse than this.
    pub floor: f64,
    /// What drift costs: see [`Learning::ageing`].
    pub drift: Drift,
    /// Share of `top - floor` that a version reaches after so many epochs: `1 - 1 / (b0 · epochs + b1)`, Ekya's curve without its constant
    /// (`ekya/microprofilers/modelling_funcs.py`, 2a6c820).
    pub curve: (f64, f64),
    /// Passes over the samples.
    pub epochs: u32,
    /// Samples of a retraining. It begins once they are there, or once as many are as nine tenths of a window usually bring; its passes then
    /// count for as much less.
    pub samples: u64,
    /// Seconds of one sample and epoch, by profile; infinite = does not fit.
    pub sample_s: Vec<f64>,
    /// Memory that retraining takes, MiB.
    pub memory_mib: u64,
    /// Share of the requests whose label comes back.
    pub label_share: f64,
    /// What the micro-profile's work and gain are off by: the standard deviation of their logarithm.
    pub estimate_error: f64,
    /// Least gain worth publishing.
    pub min_gain: f64,
}

/// How the world moves on from what a model was trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum Drift {
    /// By so much per second.
    Steady {
        /// Nats of `top - floor` per second: after t seconds a version keeps `exp(-rate · t)` of what it is above the floor.
        rate: f64,
    },
    /// At these seconds, by these nats.
    Steps(Vec<(f64, f64)>),
}

/// What steps really take, seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct StepTimes {
    /// Creating an instance, by profile.
    pub create_s: Vec<f64>,
    /// Destroying one, by profile.
    pub destroy_s: Vec<f64>,
    /// Stopping a worker.
    pub release_s: f64,
    /// Putting a loaded worker onto an instance (or onto its share).
    pub bind_s: f64,
    /// Opening it for work.
    pub admit_s: f64,
    /// Until a retraining that is paused has written its checkpoint; its instance waits for it.
    pub checkpoint_s: f64,
    /// Spread of all of these and of loads: the standard deviation of their logarithm.
    pub jitter: f64,
}

/// How tasks that share a GPU without isolation slow each other down: a batch takes
/// `1 + inference · (share of the GPU on which other inference computes) + retraining · (share on which retraining computes)` times as long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Interference {
    /// Per share of the GPU on which other tasks' inference computes.
    pub inference: f64,
    /// Per share of the GPU on which other tasks' retraining computes.
    pub retraining: f64,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fault {
    /// When, seconds.
    pub at_s: f64,
    /// What.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FaultKind {
    /// A worker of a tenant's inference dies; it is started anew on its instance.
    WorkerDies {
        /// Whose.
        tenant: usize,
    },
    /// The next create on this GPU fails, so many times.
    CreateFails {
        /// Which.
        gpu: usize,
        /// How often.
        times: u32,
    },
    /// A destroy on this GPU says "in use", so many times.
    DestroyInUse {
        /// Which.
        gpu: usize,
        /// How often.
        times: u32,
    },
    /// The next solves fail, so many of them.
    SolveFails {
        /// How many.
        times: u32,
    },
}
