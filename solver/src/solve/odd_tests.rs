//! Odd and bad input: a clear outcome each.

use crate::testing::{due, problem, tenant};
use crate::{Generation, Outcome, PolicyName, Problem, ProblemError, SolveOptions, audit, solve, solve_timed};

fn solved(problem: &Problem) -> Outcome {
    let outcome = solve(problem, None, &SolveOptions::new(Generation(2))).unwrap();
    assert_eq!(audit(problem, &outcome.plan), Vec::new());
    assert!(outcome.report.objective.is_finite() && outcome.report.bound.is_finite());
    outcome
}

#[test]
fn a_tenant_that_fits_no_profile_gets_nothing_and_the_others_all() {
    let mut problem = problem(vec![tenant("vision", 40.0), tenant("speech", 10.0)]);
    problem.tenants[0].memory_mib = 1 << 40;
    let outcome = solved(&problem);
    assert_eq!(outcome.report.tenants[0].slo_attainment, 0.0);
    assert!(outcome.report.tenants[1].slo_attainment > 0.95);
}

#[test]
fn where_no_tenant_fits_nothing_is_done() {
    let mut problem = problem(vec![tenant("vision", 40.0)]);
    problem.tenants[0].capacity_rps[0] = vec![0.0; 5];
    assert!(!solved(&problem).report.worth_it);
}

#[test]
fn no_demand_needs_nothing() {
    let mut problem = problem(vec![tenant("vision", 0.0), tenant("speech", 0.0)]);
    problem.tenants[1].retraining = due(60.0, 0.9);
    let outcome = solved(&problem);
    assert_eq!(outcome.report.tenants[0].slo_attainment, 1.0);
    problem.tenants.iter_mut().for_each(|tenant| tenant.demand.clear());
    assert!(!solved(&problem).report.worth_it);
}

#[test]
fn an_infinite_or_undefined_capacity_is_refused_by_name() {
    for rps in [f64::INFINITY, f64::NAN, -1.0] {
        let mut problem = problem(vec![tenant("vision", 40.0)]);
        problem.tenants[0].capacity_rps[0][2] = rps;
        let error = solve(&problem, None, &SolveOptions::new(Generation(2))).unwrap_err();
        assert!(matches!(&error, ProblemError::TenantNumber { field: "capacity_rps", .. }), "{error}");
        assert!(error.to_string().contains("vision"));
    }
}

#[test]
fn a_host_without_gpus_is_refused() {
    let mut problem = problem(vec![tenant("vision", 40.0)]);
    problem.gpus.clear();
    assert_eq!(solve(&problem, None, &SolveOptions::new(Generation(2))).unwrap_err(), ProblemError::NoGpus);
}

#[test]
fn a_curve_that_is_not_monotone_is_taken_as_it_is() {
    let mut problem = problem(vec![tenant("vision", 12.0)]);
    problem.tenants[0].capacity_rps[0] = vec![5.0, 14.0, 9.0, 3.0, 13.0];
    let outcome = solved(&problem);
    assert!(outcome.report.tenants[0].slo_attainment > 0.95, "{}", outcome.report);
}

#[test]
fn a_thousand_tenants_on_one_gpu_are_served_as_far_as_it_goes() {
    let mut problem = problem((0..1000).map(|index| tenant(&format!("t{index}"), 1.0)).collect());
    problem.window_left_s = 60.0;
    // Stops by its limit after a round of prices: what is tested is that it ends with a plan.
    let options = SolveOptions { time_limit_ms: 1, policy: PolicyName::Migrator, ..SolveOptions::new(Generation(2)) };
    let outcome = solve_timed(&problem, None, &options, &mut || 1.0).unwrap();
    assert_eq!(audit(&problem, &outcome.plan), Vec::new());
    assert!(outcome.report.objective > 0.0 && outcome.report.worth_it);
}
