//! What came of a simulation.

use migrator_machine::coordinator::Decision;
use migrator_mig::Site;
use migrator_solver::{Task, TenantId};
use serde::Serialize;

/// One simulation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Run {
    /// By tenant.
    pub tenants: Vec<TenantRun>,
    /// Reconfigurations that were carried out.
    pub reconfigurations: u64,
    /// Service lost by them, seconds: the share of `min(before, after)` capacity missing, integrated over time, summed over tenants.
    pub overhead_s: f64,
    /// Compute slices that stood idle in them, slice-seconds.
    pub idle_slice_s: f64,
    /// Who had which site from when to when.
    pub occupancy: Vec<Occupancy>,
    /// What the coordinator decided, as the live server logs it.
    pub decisions: Vec<Decision>,
    /// Events processed.
    pub events: u64,
    /// Solves.
    pub solves: u64,
    /// Invariants that did not hold, a line each; none may.
    pub violations: Vec<String>,
}

/// One tenant of a simulation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct TenantRun {
    /// Its name.
    pub name: String,
    /// Requests that arrived.
    pub arrived: u64,
    /// Answered within the SLO.
    pub ok: u64,
    /// Answered late.
    pub late: u64,
    /// Shed.
    pub shed: u64,
    /// Failed.
    pub error: u64,
    /// Σ over answers within the SLO of the accuracy of the version that gave them: expected requests on time and correct.
    pub good: f64,
    /// Σ over all answers of the accuracy of the version that gave them.
    pub correct: f64,
    /// Retrainings published, and retrainings that were due in a window and not published in it.
    pub published: u32,
    /// See `published`.
    pub missed: u32,
    /// By second.
    pub seconds: Vec<Second>,
    /// Answers by latency: (upper edge in milliseconds, answers), ascending, late ones included.
    pub latency: Vec<(f64, u64)>,
}

/// One second of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// Requests that arrived in it.
    pub arrived: u32,
    /// Answers within the SLO given in it.
    pub ok: u32,
    /// Answers given late, shed and failed in it.
    pub missed: u32,
    /// Requests/s that its instances carry at its end, by their curves, within the SLO.
    pub capacity_rps: f32,
    /// Accuracy of the version in service at its end.
    pub accuracy: f32,
}

/// An instance that a task had for a while.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Occupancy {
    /// Index of the GPU.
    pub gpu: usize,
    /// Where on it.
    pub site: Site,
    /// Whose; `None` = nobody's, or kept by a retraining that is over.
    pub task: Option<Task>,
    /// From when, seconds.
    pub from_s: f64,
    /// To when, seconds.
    pub to_s: f64,
    /// Whether it answered requests or computed (and was not being bound, loaded, drained or released).
    pub working: bool,
}

impl Run {
    /// Requests that arrived.
    pub fn arrived(&self) -> u64 {
        self.tenants.iter().map(|tenant| tenant.arrived).sum()
    }

    /// Expected share of the arrivals answered on time and correctly.
    pub fn goodput(&self) -> f64 {
        self.tenants.iter().map(|tenant| tenant.good).sum::<f64>() / (self.arrived() as f64).max(1.0)
    }

    /// Share of the arrivals answered within the SLO.
    pub fn slo_attainment(&self) -> f64 {
        self.tenants.iter().map(|tenant| tenant.ok).sum::<u64>() as f64 / (self.arrived() as f64).max(1.0)
    }

    /// Expected share of the answers that are correct.
    pub fn accuracy(&self) -> f64 {
        let answers: u64 = self.tenants.iter().map(|tenant| tenant.ok + tenant.late).sum();
        self.tenants.iter().map(|tenant| tenant.correct).sum::<f64>() / (answers as f64).max(1.0)
    }

    /// One tenant.
    pub fn tenant(&self, id: TenantId) -> &TenantRun {
        &self.tenants[id.index()]
    }
}
