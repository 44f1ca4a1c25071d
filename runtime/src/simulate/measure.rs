//! What is told of one run: [`Metric`] by [`Metric`], and tenant by tenant.

use migrator_sim::Run;
use migrator_sim::run::TenantRun;

/// What a run is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Metric {
    /// Share of the arrivals answered on time and correctly.
    Goodput,
    /// Share of the arrivals answered within the SLO.
    SloAttainment,
    /// Share of the answers that are correct.
    Accuracy,
    /// Reconfigurations carried out.
    Reconfigurations,
    /// Service lost in them, seconds.
    OverheadS,
}

impl Metric {
    /// All, in the order in which they are told.
    pub const ALL: [Metric; 5] = [Metric::Goodput, Metric::SloAttainment, Metric::Accuracy, Metric::Reconfigurations, Metric::OverheadS];

    /// Its name in JSON and CSV.
    pub fn name(self) -> &'static str {
        match self {
            Metric::Goodput => "goodput",
            Metric::SloAttainment => "slo_attainment",
            Metric::Accuracy => "accuracy",
            Metric::Reconfigurations => "reconfigurations",
            Metric::OverheadS => "overhead_s",
        }
    }

    /// Its value in a run.
    pub fn of(self, run: &Run) -> f64 {
        match self {
            Metric::Goodput => run.goodput(),
            Metric::SloAttainment => run.slo_attainment(),
            Metric::Accuracy => run.accuracy(),
            Metric::Reconfigurations => run.reconfigurations as f64,
            Metric::OverheadS => run.overhead_s,
        }
    }
}

/// What is told of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Measures {
    /// By [`Metric::ALL`]; `None` = the policy has none, as the oracle, which is a bound and not a run.
    pub values: [Option<f64>; Metric::ALL.len()],
    /// By tenant; empty for the oracle, whose bound holds for all of them together only.
    pub tenants: Vec<TenantMeasures>,
    /// Requests that arrived.
    pub requests: u64,
    /// Seconds simulated.
    pub seconds: u64,
    /// Solves.
    pub solves: u64,
    /// Wall time, seconds.
    pub wall_s: f64,
    /// Invariants that did not hold, a line each.
    pub violations: Vec<String>,
}

/// What is told of one tenant of a run: numbers by [`TenantMeasures::NAMES`].
#[derive(Clone, Debug, PartialEq)]
pub struct TenantMeasures(pub [Option<f64>; TenantMeasures::NAMES.len()]);

impl Measures {
    /// What is told of a run of `seconds` that took `wall_s`.
    pub fn of(run: &Run, seconds: u64, wall_s: f64) -> Measures {
        Measures {
            values: Metric::ALL.map(|metric| Some(metric.of(run))),
            tenants: run.tenants.iter().map(TenantMeasures::of).collect(),
            requests: run.arrived(),
            seconds,
            solves: run.solves,
            wall_s,
            violations: run.violations.clone(),
        }
    }

    /// What is told of a bound: its goodput.
    pub fn bound(goodput: f64, requests: u64, seconds: u64, wall_s: f64) -> Measures {
        let values = Metric::ALL.map(|metric| (metric == Metric::Goodput).then_some(goodput));
        Measures { values, requests, seconds, wall_s, ..Measures::default() }
    }

    /// Share of the arrivals answered on time and correctly.
    pub fn goodput(&self) -> Option<f64> {
        self.values[0]
    }
}

impl TenantMeasures {
    /// What the numbers are.
    pub const NAMES: [&str; 12] = [
        "goodput",
        "slo_attainment",
        "accuracy",
        "requests",
        "ok",
        "late",
        "shed",
        "error",
        "p50_ms",
        "p99_ms",
        "retrainings_published",
        "retrainings_missed",
    ];

    fn of(tenant: &TenantRun) -> TenantMeasures {
        let arrivals = (tenant.arrived as f64).max(1.0);
        let answers = (tenant.ok + tenant.late) as f64;
        TenantMeasures([
            Some(tenant.good / arrivals),
            Some(tenant.ok as f64 / arrivals),
            (answers > 0.0).then(|| tenant.correct / answers),
            Some(tenant.arrived as f64),
            Some(tenant.ok as f64),
            Some(tenant.late as f64),
            Some(tenant.shed as f64),
            Some(tenant.error as f64),
            quantile(&tenant.latency, 0.5),
            quantile(&tenant.latency, 0.99),
            Some(f64::from(tenant.published)),
            Some(f64::from(tenant.missed)),
        ])
    }
}

/// Upper edge of the bin in which the quantile of a histogram (upper edge, count; ascending) lies; `None` when it is empty.
pub fn quantile(histogram: &[(f64, u64)], quantile: f64) -> Option<f64> {
    let total: u64 = histogram.iter().map(|(_, count)| count).sum();
    let rank = (quantile * total as f64).ceil().max(1.0) as u64;
    let mut below = 0;
    histogram.iter().find_map(|&(edge, count)| {
        below += count;
        (below >= rank).then_some(edge)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::run;

    #[test]
    fn the_numbers_of_a_run_are_those_of_its_tenants_together() {
        let measures = Measures::of(&run(), 60, 0.5);
        // 100 requests of each: 90 and 60 on time, of which 81 and 30 expected correct.
        assert_eq!(measures.values[..2], [Some(111.0 / 200.0), Some(150.0 / 200.0)]);
        assert_eq!(measures.requests, 200);
        assert_eq!(measures.tenants[1].0[..2], [Some(0.3), Some(0.6)]);
        assert_eq!(measures.tenants[0].0[8..10], [Some(10.0), Some(40.0)]);
    }

    #[test]
    fn a_bound_has_a_goodput_and_nothing_else() {
        let measures = Measures::bound(0.9, 200, 60, 0.1);
        assert_eq!(measures.values, [Some(0.9), None, None, None, None]);
        assert_eq!(measures.tenants, []);
    }

    #[test]
    fn a_quantile_is_the_edge_below_which_so_many_lie() {
        let histogram = [(1.0, 50), (2.0, 49), (3.0, 1)];
        assert_eq!([0.0, 0.5, 0.51, 0.99, 1.0].map(|q| quantile(&histogram, q)), [1.0, 1.0, 2.0, 2.0, 3.0].map(Some));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
