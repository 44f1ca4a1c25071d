//! What came of many runs: scenario by scenario, policy by policy, with 95 % intervals over the seeds.

use super::measure::{Measures, Metric, TenantMeasures};
use super::statistic::Estimate;

/// One simulation that was asked for, and what came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Index of its scenario.
    pub scenario: usize,
    /// Index of its variant.
    pub variant: usize,
    /// Its seed.
    pub seed: u64,
    /// The numbers, or why there are none.
    pub result: Result<Measures, String>,
}

/// A scenario, as far as a report tells of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Heading {
    /// Its name.
    pub name: String,
    /// Its GPUs, in words.
    pub gpus: String,
    /// Its tenants' names.
    pub tenants: Vec<String>,
    /// Seconds simulated.
    pub seconds: u64,
    /// Seeds.
    pub seeds: Vec<u64>,
}

/// What came of many runs.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// By scenario.
    pub scenarios: Vec<ScenarioReport>,
    /// Over all scenarios, each counting the same; empty with a single one.
    pub overall: Vec<PolicyReport>,
    /// Name of the variant that the others are compared with.
    pub reference: String,
    /// Runs that gave no numbers, a line each.
    pub failures: Vec<String>,
    /// Invariants that did not hold, a line each.
    pub violations: Vec<String>,
}

/// One scenario of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct ScenarioReport {
    /// What it is.
    pub heading: Heading,
    /// By variant, in the order asked for.
    pub policies: Vec<PolicyReport>,
}

/// One variant in one scenario, or over all.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyReport {
    /// The variant's name.
    pub name: String,
    /// By [`Metric::ALL`]; `None` = no numbers.
    pub metrics: [Option<Estimate>; Metric::ALL.len()],
    /// Goodput ÷ the oracle's, seed by seed.
    pub share_of_oracle: Option<Estimate>,
    /// Goodput of the reference ÷ its own, seed by seed; a geometric mean.
    pub ratio: Option<Estimate>,
    /// By tenant and [`TenantMeasures::NAMES`]; empty over all scenarios.
    pub tenants: Vec<[Option<Estimate>; TenantMeasures::NAMES.len()]>,
    /// Its runs by seed; empty over all scenarios.
    pub runs: Vec<(u64, Measures)>,
}

impl Report {
    /// Sums up `outcomes`, in whatever order they come. Shares of the oracle are there when a variant of that name is.
    pub fn new(headings: Vec<Heading>, variants: &[String], mut outcomes: Vec<Outcome>) -> Report {
        outcomes.sort_by_key(|outcome| (outcome.scenario, outcome.variant, outcome.seed));
        let reference = variants.iter().position(|name| name == "migrator").unwrap_or(0);
        let lines = |lines: &dyn Fn(&Outcome) -> Vec<String>| -> Vec<String> {
            let place =
                |outcome: &Outcome| format!("{}, {}, seed {}", headings[outcome.scenario].name, variants[outcome.variant], outcome.seed);
            outcomes.iter().flat_map(|outcome| lines(outcome).into_iter().map(move |line| format!("{}: {line}", place(outcome)))).collect()
        };
        let failures = lines(&|outcome| outcome.result.as_ref().err().cloned().into_iter().collect());
        let violations = lines(&|outcome| outcome.result.as_ref().map(|measures| measures.violations.clone()).unwrap_or_default());
        let scenarios: Vec<ScenarioReport> = headings
            .into_iter()
            .enumerate()
            .map(|(index, heading)| {
                let own: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.scenario == index).collect();
                ScenarioReport::new(heading, variants, reference, &own)
            })
            .collect();
        let overall = if scenarios.len() > 1 { overall(&scenarios, variants) } else { Vec::new() };
        Report { scenarios, overall, reference: variants.get(reference).cloned().unwrap_or_default(), failures, violations }
    }
}

impl ScenarioReport {
    fn new(heading: Heading, variants: &[String], reference: usize, outcomes: &[&Outcome]) -> ScenarioReport {
        let runs = |variant: usize| -> Vec<(u64, Measures)> {
            let own = outcomes.iter().filter(|outcome| outcome.variant == variant);
            own.filter_map(|outcome| Some((outcome.seed, outcome.result.as_ref().ok()?.clone()))).collect()
        };
        let oracle = variants.iter().position(|name| name == "oracle").map(runs).unwrap_or_default();
        let reference = runs(reference);
        let policy = |(index, name): (usize, &String)| PolicyReport::new(name, runs(index), &reference, &oracle);
        let policies = variants.iter().enumerate().map(policy).collect();
        ScenarioReport { heading, policies }
    }
}

impl PolicyReport {
    fn new(name: &str, runs: Vec<(u64, Measures)>, reference: &[(u64, Measures)], oracle: &[(u64, Measures)]) -> PolicyReport {
        let column = |index: usize| estimate(runs.iter().map(|(_, run)| run.values[index]));
        let tenants = runs.iter().map(|(_, run)| run.tenants.len()).min().unwrap_or(0);
        let tenant = |tenant: usize| std::array::from_fn(|index| estimate(runs.iter().map(|(_, run)| run.tenants[tenant].0[index])));
        PolicyReport {
            name: name.to_owned(),
            metrics: std::array::from_fn(column),
            share_of_oracle: Estimate::mean(&quotients(&runs, oracle)),
            ratio: Estimate::ratio(&quotients(reference, &runs)),
            tenants: (0..tenants).map(tenant).collect(),
            runs,
        }
    }

    /// Mean requests of a run.
    pub fn requests(&self) -> f64 {
        self.runs.iter().map(|(_, run)| run.requests as f64).sum::<f64>() / (self.runs.len() as f64).max(1.0)
    }

    /// Wall seconds of all its runs.
    pub fn wall_s(&self) -> f64 {
        self.runs.iter().map(|(_, run)| run.wall_s).sum()
    }

    /// Simulated seconds of all its runs.
    pub fn seconds(&self) -> u64 {
        self.runs.iter().map(|(_, run)| run.seconds).sum()
    }
}

/// The mean where every run has the number.
fn estimate(samples: impl Iterator<Item = Option<f64>>) -> Option<Estimate> {
    Estimate::mean(&samples.collect::<Option<Vec<f64>>>()?)
}

/// Goodput of `above` ÷ goodput of `below`, for the seeds that both have.
fn quotients(above: &[(u64, Measures)], below: &[(u64, Measures)]) -> Vec<f64> {
    let of = |runs: &[(u64, Measures)], seed: u64| runs.iter().find(|(other, _)| *other == seed).and_then(|(_, run)| run.goodput());
    above.iter().filter_map(|(seed, run)| Some(run.goodput()? / of(below, *seed)?)).collect()
}

/// Means over the scenarios; a variant without a number in one of them has none here, for it would not compare.
fn overall(scenarios: &[ScenarioReport], variants: &[String]) -> Vec<PolicyReport> {
    let average = |variant: usize, part: &dyn Fn(&PolicyReport) -> Option<Estimate>| {
        let parts: Option<Vec<Estimate>> = scenarios.iter().map(|scenario| part(&scenario.policies[variant])).collect();
        Estimate::average(&parts?)
    };
    let policy = |(variant, name): (usize, &String)| PolicyReport {
        name: name.clone(),
        metrics: std::array::from_fn(|index| average(variant, &|policy| policy.metrics[index])),
        share_of_oracle: average(variant, &|policy| policy.share_of_oracle),
        ratio: average(variant, &|policy| policy.ratio),
        tenants: Vec::new(),
        runs: Vec::new(),
    };
    variants.iter().enumerate().map(policy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::{heading, outcome};

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|&name| name.to_owned()).collect()
    }

    fn value(estimate: Option<Estimate>) -> f64 {
        estimate.unwrap().value()
    }

    #[test]
    fn ratios_and_shares_are_taken_seed_by_seed() {
        let outcomes = [(0, [0.8, 0.4]), (1, [0.4, 0.1]), (2, [1.0, 0.5])];
        let outcomes =
            outcomes.iter().flat_map(|(variant, goodputs)| (0..2).map(|seed| outcome(0, *variant, seed, goodputs[seed as usize])));
        let report = Report::new(vec![heading("one", 2)], &names(&["migrator", "ekya", "oracle"]), outcomes.rev().collect());
        let policies = &report.scenarios[0].policies;
        assert!((value(policies[1].ratio) - 8f64.sqrt()).abs() < 1e-12, "2 and 4 have the geometric mean √8");
        assert_eq!(value(policies[0].ratio), 1.0);
        assert!((value(policies[1].share_of_oracle) - 0.3).abs() < 1e-12);
        assert!(policies[1].metrics[0].unwrap().interval().is_some());
        assert_eq!(report.reference, "migrator");
        assert!(report.overall.is_empty());
    }

    #[test]
    fn a_run_that_failed_is_a_line_and_the_others_count() {
        let mut failed = outcome(0, 0, 1, 0.0);
        failed.result = Err("needs a GPU".to_owned());
        let report = Report::new(vec![heading("one", 2)], &names(&["ekya"]), vec![failed, outcome(0, 0, 0, 0.5)]);
        assert_eq!(report.failures, ["one, ekya, seed 1: needs a GPU"]);
        assert_eq!(value(report.scenarios[0].policies[0].metrics[0]), 0.5);
    }

    #[test]
    fn a_violation_names_its_run() {
        let mut broken = outcome(0, 0, 7, 0.5);
        broken.result.as_mut().unwrap().violations = vec!["I3: two tasks on one instance".to_owned()];
        let report = Report::new(vec![heading("one", 1)], &names(&["ekya"]), vec![broken]);
        assert_eq!(report.violations, ["one, ekya, seed 7: I3: two tasks on one instance"]);
    }

    #[test]
    fn every_scenario_counts_the_same_and_one_that_is_missing_leaves_no_number() {
        let headings = vec![heading("one", 2), heading("two", 1)];
        let outcomes = vec![outcome(0, 0, 0, 0.2), outcome(0, 0, 1, 0.4), outcome(1, 0, 0, 0.9), outcome(0, 1, 0, 0.5)];
        let report = Report::new(headings, &names(&["migrator", "ekya"]), outcomes);
        assert!((value(report.overall[0].metrics[0]) - 0.6).abs() < 1e-12);
        assert_eq!(report.overall[1].metrics[0], None);
    }

    #[test]
    fn without_the_oracle_nobody_has_a_share_of_it() {
        let report = Report::new(vec![heading("one", 1)], &names(&["miso"]), vec![outcome(0, 0, 0, 0.2)]);
        assert_eq!(report.scenarios[0].policies[0].share_of_oracle, None);
        assert_eq!(report.reference, "miso");
    }
}
