//! The bound against what can be counted out, and against the linear program whose dual it is.

use good_lp::{Expression, ProblemVariables, Solution, SolverModel, default_solver, variable};

use super::bundle::Offer;
use super::{Buyer, ITERATIONS, Room, buyer, room, upper_bound};
use crate::problem::{Problem, Scenario, TenantId};
use crate::testing::{due, problem, tenant};

fn host(seconds: f64, demands: &[f64]) -> Problem {
    let mut problem = problem(demands.iter().map(|&rps| tenant("t", rps)).collect());
    problem.window_left_s = seconds;
    problem
}

/// Σ_t of the best split of one GPU between two tenants, every pair of counts tried.
fn best_split(problem: &Problem) -> f64 {
    let catalog = &problem.models[0].catalog;
    let rps = &problem.tenants[0].capacity_rps[0];
    let capacity = |counts: &[u32]| counts.iter().zip(rps).map(|(&n, c)| f64::from(n) * c).sum::<f64>();
    let mut best = 0.0f64;
    for partition in catalog.maximal_partitions() {
        let count = |q| partition.sites().iter().filter(|site| site.profile == q).count() as u32;
        let whole: Vec<u32> = catalog.profile_ids().map(count).collect();
        let mut parts = vec![Vec::new()];
        for &n in &whole {
            parts = parts.into_iter().flat_map(|part: Vec<u32>| (0..=n).map(move |n| [part.clone(), vec![n]].concat())).collect();
        }
        for part in parts {
            let rest: Vec<u32> = whole.iter().zip(&part).map(|(all, own)| all - own).collect();
            let served = |index: usize, counts: &[u32]| {
                let tenant = &problem.tenants[index];
                tenant.weight * tenant.accuracy * tenant.demand[0].rps[0].min(capacity(counts))
            };
            best = best.max(served(0, &part) + served(1, &rest));
        }
    }
    best * problem.window_left_s
}

/// The linear program over convex combinations of what each tenant may do; its optimum is min_μ L(μ).
fn linear_program(room: &Room, buyers: &[Buyer], seconds: usize) -> f64 {
    let mut vars = ProblemVariables::new();
    let mut value = Expression::default();
    let mut used = vec![vec![Expression::default(); room.most.len()]; seconds];
    let mut rows = Vec::new();
    for buyer in buyers {
        let Offer::Whole(bundles) = &buyer.offer else { panic!("few bundles are expected") };
        let speeds = buyer.jobs.first().map_or(&[][..], |job| &job.speeds);
        let ends = if speeds.is_empty() { 0..1 } else { 0..seconds + 1 };
        let mut all = Expression::default();
        for end in ends {
            let end = if speeds.is_empty() { seconds } else { end };
            let taken = vars.add(variable().min(0.0));
            all += taken;
            let mut work = Expression::default();
            for (t, used) in used.iter_mut().enumerate() {
                let mut held = Expression::default();
                for bundle in bundles {
                    let x = vars.add(variable().min(0.0));
                    held += x;
                    value += x * buyer.versions[usize::from(t >= end)].worth[t] * bundle.rps.min(buyer.arrivals[t]);
                    used.iter_mut().zip(&bundle.room).for_each(|(sum, &a)| *sum += a * x);
                }
                rows.push((held - taken).eq(0.0));
                let mut trains = Expression::default();
                for (kind, &speed) in speeds.iter().enumerate().filter(|(_, speed)| **speed > 0.0 && t <= end && end < seconds) {
                    let x = vars.add(variable().min(0.0));
                    trains += x;
                    work += speed * x;
                    used.iter_mut().zip(&room.kinds[kind]).for_each(|(sum, &a)| *sum += a * x);
                }
                rows.push((trains - taken).leq(0.0));
            }
            if end < seconds {
                rows.push((work - taken).geq(0.0));
            }
        }
        rows.push(all.eq(1.0));
    }
    for used in used {
        rows.extend(used.into_iter().zip(&room.most).map(|(sum, &most)| sum.leq(most)));
    }
    let mut model = vars.maximise(&value).using(default_solver);
    for row in rows {
        model = model.with(row);
    }
    model.solve().unwrap().eval(&value)
}

fn program(problem: &Problem) -> f64 {
    let ((room, kinds), seconds) = (room(problem), problem.window_left_s as usize);
    let buyers: Vec<Buyer> =
        (0..problem.tenants.len()).map(|index| buyer(problem, &room, &kinds, TenantId(index as u16), 0, seconds)).collect();
    linear_program(&room, &buyers, seconds)
}

fn assert_tight(problem: &Problem, allowed: f64) {
    let (bound, program) = (upper_bound(problem, ITERATIONS), program(problem));
    assert!(bound >= program * (1.0 - 1e-7), "{bound} < {program}");
    assert!(bound <= program * (1.0 + allowed), "{bound} > {program}");
}

#[test]
fn no_split_of_a_gpu_is_above_the_bound_and_the_best_is_near_it() {
    for (a, b) in [(10.0, 10.0), (30.0, 35.0), (60.0, 20.0), (50.0, 90.0), (5.0, 200.0)] {
        let mut problem = host(3.0, &[a, b]);
        problem.tenants[1].accuracy = 0.9;
        let (bound, best) = (upper_bound(&problem, ITERATIONS), best_split(&problem));
        assert!(bound >= best * (1.0 - 1e-9), "{bound} < {best} of {a} and {b}");
        assert!(bound <= best * 1.05, "{bound} against {best} of {a} and {b}");
    }
}

#[test]
fn without_competition_the_bound_is_what_arrives() {
    let problem = host(50.0, &[20.0, 10.0]);
    assert!((upper_bound(&problem, ITERATIONS) - 50.0 * 30.0 * 0.7).abs() < 0.5);
}

#[test]
fn the_bound_is_the_linear_programs_optimum() {
    let mut problem = host(6.0, &[30.0, 45.0, 25.0]);
    problem.tenants[0].demand = Scenario::certain(vec![10.0, 50.0, 80.0, 20.0, 20.0, 5.0]);
    assert_tight(&problem, 1e-3);
}

#[test]
fn with_retrainings_the_bound_is_the_linear_programs_optimum_too() {
    let mut problem = host(6.0, &[30.0, 45.0]);
    problem.tenants[0].retraining = due(6.0, 0.95);
    problem.tenants[1].retraining = due(4.0, 0.8);
    problem.tenants[1].demand = Scenario::certain(vec![70.0, 50.0, 20.0, 20.0, 60.0, 60.0]);
    assert_tight(&problem, 2e-3);
}

#[test]
fn a_retraining_that_fits_nowhere_or_comes_too_late_gains_nothing() {
    let plain = upper_bound(&host(20.0, &[20.0, 10.0]), 50);
    for retraining in [due(1e5, 0.9), due(-1.0, 0.9)] {
        let mut problem = host(20.0, &[20.0, 10.0]);
        problem.tenants[0].retraining = retraining;
        assert!((upper_bound(&problem, 50) - plain).abs() < 1e-6);
    }
}

#[test]
fn more_iterations_never_raise_a_bound_and_none_is_valid() {
    let problem = host(10.0, &[60.0, 60.0]);
    let free = upper_bound(&problem, 0);
    assert!((free - 10.0 * 120.0 * 0.7).abs() < 1e-6);
    assert!(upper_bound(&problem, ITERATIONS) < free);
}

#[test]
fn a_tenant_of_very_many_instances_may_hold_fractions_of_them() {
    let room = Room { kinds: vec![vec![1.0, 0.0], vec![0.0, 1.0]], most: vec![1e4, 1e4] };
    assert!(matches!(Offer::new(&room, &[1.0, 1.01], 1500.0), Offer::Fractions(_)));
    assert!(matches!(Offer::new(&room, &[1.0, 1.01], 15.0), Offer::Whole(_)));
}

#[test]
fn a_course_that_is_twice_as_likely_counts_twice() {
    let alone = |rps: f64| upper_bound(&host(10.0, &[rps, 20.0]), ITERATIONS);
    let mut both = host(10.0, &[30.0, 20.0]);
    both.tenants[0].demand = vec![Scenario { probability: 0.25, rps: vec![30.0] }, Scenario { probability: 0.75, rps: vec![70.0] }];
    let expected = 0.25 * alone(30.0) + 0.75 * alone(70.0);
    assert!((upper_bound(&both, ITERATIONS) - expected).abs() < 1e-6 * expected);
}
