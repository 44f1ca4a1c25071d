//! How a solve is to be done.

use serde::{Deserialize, Serialize};

use crate::plan::Generation;

/// Who decides: the planner of this crate in several ways, or one of those it is measured against.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyName {
    /// Column generation over the tenants' plans, compared with greedy and with keeping everything.
    #[default]
    #[serde(alias = "ilp")]
    Migrator,
    /// The best of two greedy fillings, compared with keeping everything; no integer program.
    Greedy,
    /// Every partition and every owner; for tests on one GPU with few tenants, inference only. Falls back to greedy beyond its limit.
    Exhaustive,
    /// One integer program over the whole window; a reference for tests and benches, too slow for a live server.
    Monolith,
    /// Leave everything as it is.
    Keep,
    /// Ekya (NSDI'22): thief scheduling of shares for mean accuracy, at each window's start and at the end of each retraining.
    Ekya,
    /// Astraea (ASPLOS'22): shares that carry the largest common multiple of every tenant's peak; retraining gets the rest.
    Astraea,
    /// PARIS (DAC'22): one partition per window from the batch sizes at the knee; requests go by ELSA.
    Paris,
    /// Every tenant as many slices as the others, for ever.
    StaticEven,
    /// The fixed partition that turns out best; knows the arrivals to come, so for simulations only.
    StaticBest,
    /// MISO (SoCC'22): one instance per task, the partition of the least mean slowdown, at each task's start and end.
    Miso,
    /// ParvaGPU (SC'24): the smallest instances that carry each tenant's rate, made at each window's start.
    Parvagpu,
    /// What nobody exceeds: an upper bound, no plan; for simulations only.
    Oracle,
}

/// How a solve is to be done; every field has a sane default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SolveOptions {
    /// Number of the plan to be made; must be above the previous plan's.
    pub generation: Generation,
    /// Which planner decides.
    pub policy: PolicyName,
    /// Furthest look ahead, seconds. The solve looks to the window's end, but at least [`SolveOptions::MIN_HORIZON_S`] and at most this.
    pub horizon_s: f64,
    /// Most time the integer program may take, milliseconds of wall time (`microlp` keeps it; the rest of a solve takes a few).
    pub time_limit_ms: u32,
    /// Relative gap at which the integer program may stop.
    pub mip_gap: f32,
    /// Hysteresis: a change that takes an instance away from its task must gain this share of what keeping everything is worth. Above `mip_gap`, or two solves of one problem
    /// may swap plans that are equal within the gap.
    pub min_gain: f64,
    /// Whether slices that nobody needs go to the inference with the least headroom when nothing in force has to yield.
    pub fill: bool,
}

impl SolveOptions {
    /// Shortest look ahead, seconds: near the window's end service goes on in the next window.
    pub const MIN_HORIZON_S: f64 = 30.0;

    /// The defaults with this generation.
    pub fn new(generation: Generation) -> SolveOptions {
        SolveOptions { generation, ..SolveOptions::default() }
    }
}

impl Default for SolveOptions {
    fn default() -> SolveOptions {
        SolveOptions {
            generation: Generation(1),
            policy: PolicyName::Migrator,
            horizon_s: 300.0,
            time_limit_ms: 250,
            mip_gap: 0.003,
            min_gain: 0.005,
            fill: true,
        }
    }
}
