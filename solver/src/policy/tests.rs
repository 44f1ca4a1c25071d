//! Claims about every rival: its plans are legal and can be carried out, it holds what it has decided, and decides when it should.

use migrator_mig::Catalog;

use super::{Facts, Policy, TenantFacts, TrainingFacts, policy};
use crate::problem::{Problem, Task, TaskKind, TenantId};
use crate::solve::tests::executed;
use crate::testing::{due, mixed, problem, tenant};
use crate::transition::transition;
use crate::{Generation, Outcome, Plan, PolicyName, SolveOptions, audit};

/// All that have a rule of their own.
const RIVALS: [PolicyName; 7] = [
    PolicyName::Ekya,
    PolicyName::Astraea,
    PolicyName::Paris,
    PolicyName::Miso,
    PolicyName::Parvagpu,
    PolicyName::StaticEven,
    PolicyName::StaticBest,
];

/// The policy for a host whose forecast comes true and whose curves are those of its capacities.
fn of(name: PolicyName, host: &Problem) -> Box<dyn Policy> {
    let tenant = |index: usize| {
        let state = &host.tenants[index];
        let table =
            |rps: &f64| if *rps > 0.0 { [1, 4, 16].map(|b| (b, (8.0 + f64::from(b)) * 1000.0 / rps / 2.0)).to_vec() } else { vec![] };
        TenantFacts {
            slo_ms: 400.0,
            latency_ms: state.capacity_rps.iter().map(|row| row.iter().map(table).collect()).collect(),
            future_rps: state.demand[0].rps.clone(),
            training: state.retraining.as_ref().map(|due| TrainingFacts {
                seconds: due.seconds_left.clone(),
                trained: due.accuracy_after,
                untrained: state.accuracy,
            }),
        }
    };
    policy(name, &Facts { tenants: (0..host.tenants.len()).map(tenant).collect(), window_s: 200.0 }).unwrap()
}

fn made(name: PolicyName) -> Box<dyn Policy> {
    policy(name, &Facts::default()).unwrap()
}

fn asked(policy: &mut dyn Policy, problem: &Problem, generation: u64) -> Outcome {
    let outcome = policy.plan(problem, None, &SolveOptions::new(Generation(generation)), None).unwrap();
    assert_eq!(audit(problem, &outcome.plan), Vec::new(), "{:?}", outcome.plan);
    assert!(outcome.report.reason.as_deref().is_none_or(|reason| !reason.contains("dropped")), "{:?}", outcome.report.reason);
    outcome
}

/// Every step of the way is there: instances end up as the plan wants them.
fn carried_out(problem: &Problem, plan: &Plan) -> Problem {
    let steps = transition(problem, plan).steps;
    let creates = steps.iter().filter(|step| matches!(step.step, crate::Step::Create { .. })).count();
    assert_eq!(creates, plan.gpus.iter().flat_map(|gpu| &gpu.allocations).filter(|new| new.instance.is_none()).count());
    let mut after = executed(problem, plan);
    for (gpu, old) in problem.gpus.iter().enumerate().flat_map(|(gpu, state)| state.instances.iter().map(move |old| (gpu, old))) {
        after.gpus[gpu].instances.iter_mut().filter(|new| new.id == old.id).for_each(|new| new.pinned = old.pinned);
    }
    after
}

fn shared(mut host: Problem) -> Problem {
    let slices = 20;
    for model in &mut host.models {
        *model = crate::GpuModel {
            catalog: Catalog::shares("shared", slices, 80 * 1024),
            create_s: vec![0.0; usize::from(slices)],
            destroy_s: vec![0.0; usize::from(slices)],
        };
    }
    let (models, share) = (host.models.len(), |n: u8| f64::from(n) / f64::from(slices));
    for tenant in &mut host.tenants {
        let full = tenant.capacity_rps[0].iter().copied().fold(0.0, f64::max);
        tenant.capacity_rps = vec![(1..=slices).map(|n| full * share(n).powf(0.8)).collect(); models];
        if let Some(due) = &mut tenant.retraining {
            due.seconds_left = vec![(1..=slices).map(|n| 30.0 / share(n)).collect(); models];
        }
    }
    host.gpus.iter_mut().for_each(|gpu| gpu.instances.clear());
    host
}

#[test]
fn plans_are_legal_and_executable_and_solving_again_changes_nothing() {
    for name in RIVALS {
        for seed in mixed::seeds(60) {
            let host = mixed::host(seed, 1 + seed as usize % 8, 1 + seed as usize % 3, true);
            let mut rival = of(name, &host);
            let first = asked(&mut *rival, &host, 1);
            let after = carried_out(&host, &first.plan);
            let again = asked(&mut *rival, &after, 2);
            assert!(!again.report.worth_it, "{name:?} seed {seed}: {:?} then {:?}", first.plan, again.plan);
            // On several GPUs what is in force decides who shares a GPU with whom.
            let anew = asked(&mut *of(name, &host), &after, 2);
            assert!(!anew.report.worth_it || host.gpus.len() > 1, "{name:?} seed {seed}: {:?} then {:?}", first.plan, anew.plan);
        }
    }
}

#[test]
fn shared_gpus_never_get_more_than_they_have_however_often_they_are_planned() {
    for name in RIVALS {
        for seed in mixed::seeds(20) {
            let mut host = shared(mixed::host(seed, 1 + seed as usize % 8, 1, false));
            let mut rival = of(name, &host);
            for call in 0..8 {
                for (index, tenant) in host.tenants.iter_mut().enumerate() {
                    let rps = 5.0 + ((seed + call) * 7 + index as u64 * 13) as f64 % 60.0;
                    tenant.demand = crate::Scenario::certain(vec![rps]);
                }
                host.window_left_s = if host.window_left_s > 100.0 { 50.0 } else { 200.0 };
                let plan = asked(&mut *rival, &host, call + 1).plan;
                for gpu in &plan.gpus {
                    let slices: u32 = gpu.allocations.iter().map(|new| u32::from(new.site.placement.size)).sum();
                    assert!(slices <= 20, "{name:?} seed {seed} call {call}: {slices}");
                }
                host = carried_out(&host, &plan);
            }
        }
    }
}

fn three() -> Problem {
    problem(vec![tenant("vision", 20.0), tenant("speech", 8.0), tenant("text", 4.0)])
}

/// Instances that serve a tenant, in compute slices.
fn serves(problem: &Problem, plan: &Plan, tenant: u16) -> u32 {
    let all = plan.gpus.iter().enumerate().flat_map(|(gpu, plan)| plan.allocations.iter().map(move |new| (gpu, new)));
    let own = all.filter(|(_, new)| new.task == Some(Task::inference(TenantId(tenant))));
    own.map(|(gpu, new)| u32::from(problem.catalog(gpu).profile(new.site.profile).compute_slices)).sum()
}

fn retrains(plan: &Plan) -> Vec<TenantId> {
    let tasks = plan.gpus.iter().flat_map(|gpu| &gpu.allocations).filter_map(|new| new.task);
    tasks.filter(|task| task.kind == TaskKind::Retraining).map(|task| task.tenant).collect()
}

#[test]
fn an_even_split_is_even_and_never_cut_again() {
    let mut host = three();
    let mut rival = made(PolicyName::StaticEven);
    let first = asked(&mut *rival, &host, 1).plan;
    assert_eq!([0, 1, 2].map(|tenant| serves(&host, &first, tenant)), [2, 2, 2]);
    host = executed(&host, &first);
    // What is due takes turns on the seventh slice.
    host.tenants[2].retraining = due(60.0, 0.9);
    host.tenants[1].retraining = due(90.0, 0.9);
    let second = asked(&mut *rival, &host, 2).plan;
    assert_eq!(retrains(&second), [TenantId(2)]);
    host = executed(&host, &second);
    asked(&mut *rival, &host, 3);
    host.tenants[2].retraining = None;
    host.window_left_s = 150.0;
    let third = asked(&mut *rival, &host, 4).plan;
    assert_eq!(retrains(&third), [TenantId(1)]);
    host = executed(&host, &third);
    host.tenants[0].demand = crate::Scenario::certain(vec![500.0]);
    (host.tenants[1].retraining, host.window_left_s) = (None, 200.0);
    let fourth = asked(&mut *rival, &host, 5);
    assert!(!fourth.report.worth_it);
    let sites = |plan: &Plan| plan.gpus[0].allocations.iter().map(|new| new.site).collect::<Vec<_>>();
    assert!([second, third, fourth.plan].iter().all(|plan| sites(plan) == sites(&first)));
}

/// A tenant that has left, as a live host keeps its number.
fn gone() -> crate::TenantState {
    let mut gone = tenant("(gone)", 0.0);
    gone.capacity_rps.iter_mut().flatten().for_each(|rps| *rps = 0.0);
    gone
}

#[test]
fn those_that_remain_get_what_they_would_get_alone() {
    for name in RIVALS {
        for (gpus, is_shared) in [(1, false), (2, false), (1, true)] {
            let host = |tenants: Vec<crate::TenantState>| {
                let mut host = problem(tenants);
                host.tenants.last_mut().unwrap().retraining = due(60.0, 0.9);
                host.gpus = vec![host.gpus[0].clone(); gpus];
                if is_shared { shared(host) } else { host }
            };
            let alone = host(vec![tenant("vision", 20.0), tenant("text", 12.0)]);
            let with = host(vec![gone(), tenant("vision", 20.0), gone(), gone(), tenant("text", 12.0)]);
            let [plan, beside] = [&alone, &with].map(|host| asked(&mut *of(name, host), host, 1).plan);
            let got = [0, 1].map(|id| serves(&alone, &plan, id));
            assert!(got.iter().all(|slices| *slices > 0), "{name:?} {gpus} {is_shared}: {plan:?}");
            assert_eq!([1, 4].map(|id| serves(&with, &beside, id)), got, "{name:?} {gpus} {is_shared}: {beside:?}");
            assert_eq!(retrains(&beside).len(), retrains(&plan).len(), "{name:?} {gpus} {is_shared}");
        }
    }
}

#[test]
fn ekya_decides_at_a_windows_start_and_at_the_end_of_a_retraining_only() {
    let mut host = three();
    host.tenants[0].retraining = due(120.0, 0.9);
    let mut rival = made(PolicyName::Ekya);
    let mut generation = 0;
    let mut next = |host: &Problem| {
        generation += 1;
        asked(&mut *rival, host, generation)
    };
    let first = next(&host);
    assert_eq!(retrains(&first.plan), [TenantId(0)]);
    host = executed(&host, &first.plan);
    host.window_left_s = 199.0;
    // Demand alone moves nothing.
    host.tenants[2].demand = crate::Scenario::certain(vec![40.0]);
    assert!(!next(&host).report.worth_it);
    host.tenants[0].retraining = None;
    let freed = next(&host);
    assert!(freed.report.worth_it && retrains(&freed.plan).is_empty());
    assert!(serves(&host, &freed.plan, 2) > serves(&host, &first.plan, 2), "{:?}", freed.plan);
    host = executed(&host, &freed.plan);
    host.tenants[2].demand = crate::Scenario::certain(vec![4.0]);
    host.tenants[0].demand = crate::Scenario::certain(vec![45.0]);
    host.window_left_s = 100.0;
    assert!(!next(&host).report.worth_it);
    host.window_left_s = 200.0;
    assert!(!next(&host).report.worth_it, "the window's retrainings are not known yet");
    host.window_left_s = 194.0;
    assert!(next(&host).report.worth_it);
}

#[test]
fn what_was_decided_before_any_demand_was_seen_is_decided_again() {
    for (name, again) in [(PolicyName::Paris, true), (PolicyName::Ekya, true), (PolicyName::StaticEven, false)] {
        let mut host = three();
        let demand: Vec<_> = host.tenants.iter().map(|tenant| tenant.demand.clone()).collect();
        host.tenants.iter_mut().for_each(|tenant| tenant.demand = crate::Scenario::certain(vec![0.0]));
        let mut rival = made(name);
        let first = asked(&mut *rival, &host, 1);
        host = executed(&host, &first.plan);
        host.tenants.iter_mut().zip(demand).for_each(|(tenant, demand)| tenant.demand = demand);
        host.window_left_s = 198.0;
        assert!(!asked(&mut *rival, &host, 2).report.worth_it, "{name}: too early");
        host.tenants[0].demand = crate::Scenario::certain(vec![45.0]);
        host.window_left_s = 195.0;
        assert_eq!(asked(&mut *rival, &host, 3).report.worth_it, again, "{name}");
    }
}

#[test]
fn who_needs_the_future_says_so() {
    let refused = |name| policy(name, &Facts::default()).err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused(PolicyName::StaticBest).contains("arrivals to come"));
    assert!(refused(PolicyName::Oracle).contains("makes no plans"));
}
