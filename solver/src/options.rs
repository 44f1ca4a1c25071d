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

impl PolicyName {
    /// Every policy, as listed above.
    pub const ALL: [PolicyName; 13] = [
        PolicyName::Migrator,
        PolicyName::Greedy,
        PolicyName::Exhaustive,
        PolicyName::Monolith,
        PolicyName::Keep,
        PolicyName::Ekya,
        PolicyName::Astraea,
        PolicyName::Paris,
        PolicyName::StaticEven,
        PolicyName::StaticBest,
        PolicyName::Miso,
        PolicyName::Parvagpu,
        PolicyName::Oracle,
    ];

    /// Names by which a server's configuration may choose; the last two only to be refused with the reason.
    pub const LIVE: &[&str] =
        &["migrator", "ilp", "greedy", "keep", "ekya", "astraea", "paris", "static-even", "miso", "parvagpu", "static-best", "oracle"];

    /// Names of those that plan for a single problem.
    pub const PLANNING: &[&str] =
        &["migrator", "ilp", "greedy", "exhaustive", "monolith", "keep", "ekya", "astraea", "paris", "static-even", "miso", "parvagpu"];

    /// The name, as configurations and command lines have it.
    pub fn name(self) -> &'static str {
        match self {
            PolicyName::Migrator => "migrator",
            PolicyName::Greedy => "greedy",
            PolicyName::Exhaustive => "exhaustive",
            PolicyName::Monolith => "monolith",
            PolicyName::Keep => "keep",
            PolicyName::Ekya => "ekya",
            PolicyName::Astraea => "astraea",
            PolicyName::Paris => "paris",
            PolicyName::StaticEven => "static-even",
            PolicyName::StaticBest => "static-best",
            PolicyName::Miso => "miso",
            PolicyName::Parvagpu => "parvagpu",
            PolicyName::Oracle => "oracle",
        }
    }
}

impl std::fmt::Display for PolicyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// There is no policy of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no policy {0:?}; there are {known}", known = PolicyName::ALL.map(PolicyName::name).join(", "))]
pub struct UnknownPolicy(pub String);

impl std::str::FromStr for PolicyName {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<PolicyName, UnknownPolicy> {
        let known = PolicyName::ALL.into_iter().find(|policy| policy.name() == name);
        known.or((name == "ilp").then_some(PolicyName::Migrator)).ok_or_else(|| UnknownPolicy(name.to_owned()))
    }
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
    /// Most work of the search, in table cells of its dynamic programmes: the same whatever the machine, so that equal inputs give equal plans.
    /// 1000 cells take about a microsecond.
    pub work_limit: u64,
    /// Relative gap at which the integer program may stop.
    pub mip_gap: f32,
    /// Hysteresis: a change that takes an instance away from its task must gain this share of what keeping everything is worth. Above `mip_gap`, or two solves of one problem
    /// may swap plans that are equal within the gap.
    pub min_gain: f64,
    /// Whether slices that nobody needs go to the inference with the least headroom when nothing in force has to yield.
    pub fill: bool,
    /// Whether the report says why other things are not done. It decides nothing, but to value what was declined costs more than a cheap solve.
    pub explain: bool,
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
            work_limit: 15_000_000,
            mip_gap: 0.003,
            min_gain: 0.005,
            fill: true,
            explain: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_is_found_by_its_name_and_no_other() {
        for policy in PolicyName::ALL {
            assert_eq!(policy.name().parse(), Ok(policy));
        }
        assert_eq!("ilp".parse(), Ok(PolicyName::Migrator));
        let unknown = "best".parse::<PolicyName>().unwrap_err().to_string();
        assert!(unknown.contains("no policy \"best\"; there are migrator, greedy"), "{unknown}");
        assert!(PolicyName::LIVE.iter().chain(PolicyName::PLANNING).all(|name| name.parse::<PolicyName>().is_ok()));
    }
}
