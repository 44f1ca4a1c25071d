//! Tenants that come and go.

use super::*;

fn three(arrivals: [u64; 3], instances: Vec<InstanceState>) -> Tick {
    Tick { tenants: arrivals.map(tenant_tick).to_vec(), instances: vec![instances] }
}

/// Tasks of a plan, by tenant.
fn served(plan: &Plan) -> Vec<u16> {
    let tasks = plan.gpus.iter().flat_map(|gpu| &gpu.allocations).filter_map(|allocation| allocation.task);
    let mut tenants: Vec<u16> = tasks.map(|task| task.tenant.0).collect();
    tenants.sort_unstable();
    tenants.dedup();
    tenants
}

#[test]
fn a_tenant_that_comes_is_given_an_instance_by_a_plan_that_waits_for_nothing() {
    let (mut machine, plan, _) = migrating();
    machine.migrated(s(1.2), &report(plan.generation));
    assert_eq!(served(&plan), [0, 1]);
    // Within the dwell time nothing is solved but for a newcomer.
    machine.tick(s(2.2), &tick([0, 0], vec![]));
    assert!(asked(&polled(&mut machine, s(2.2))).is_none());
    machine.join(s(2.5), 2, TenantPlanning { floor_rps: 1.0, ..planning("audio") });
    machine.tick(s(3.2), &three([20, 5, 0], vec![]));
    let (problem, _, options) = asked(&polled(&mut machine, s(3.2))).unwrap();
    assert_eq!(problem.tenants[2].name, "audio");
    let outcome = solve(&problem, None, &options).unwrap();
    assert_eq!(served(&outcome.plan), [0, 1, 2]);
    assert!(machine.serves(2) && !machine.serves(3));
}

#[test]
fn a_tenant_that_leaves_is_given_nothing_and_its_number_may_be_anothers() {
    let (mut machine, plan, _) = migrating();
    machine.migrated(s(1.2), &report(plan.generation));
    machine.leave(s(2.0), 1);
    machine.leave(s(2.0), 1);
    assert!(!machine.serves(1));
    let gone = Tick { tenants: vec![tenant_tick(20), TenantTick::default()], instances: vec![vec![]] };
    machine.tick(s(2.2), &gone);
    let (problem, _, options) = asked(&polled(&mut machine, s(2.2))).unwrap();
    let outcome = solve(&problem, None, &options).unwrap();
    assert_eq!(served(&outcome.plan), [0], "{:?}", problem.tenants[1]);
    assert!(machine.capacity_by_profile(1).concat().iter().all(|rps| *rps == 0.0));
    machine.join(s(2.5), 1, TenantPlanning { floor_rps: 1.0, ..planning("audio") });
    machine.tick(s(3.2), &tick([20, 0], vec![]));
    // The solve that was under way was made for others: its answer is not heard.
    machine.solved(s(3.3), options.generation, Ok(outcome), 1.0);
    let wishes = polled(&mut machine, s(3.3));
    let (problem, _, options) = asked(&wishes).unwrap();
    assert!(executed(&wishes).is_none());
    assert_eq!(problem.tenants[1].name, "audio");
    assert_eq!(served(&solve(&problem, None, &options).unwrap().plan), [0, 1]);
    assert!(verdicts(&mut machine).iter().any(|line| line.ends_with("reject: a tenant has come meanwhile")));
}

#[test]
fn every_policy_plans_round_a_tenant_that_has_left() {
    let mut planned = 0;
    for name in migrator_solver::PolicyName::LIVE {
        let (mut machine, plan, _) = migrating();
        machine.migrated(s(1.2), &report(plan.generation));
        machine.leave(s(2.0), 1);
        machine.tick(s(2.2), &Tick { tenants: vec![tenant_tick(20), TenantTick::default()], instances: vec![vec![]] });
        let (problem, _, options) = asked(&polled(&mut machine, s(2.2))).unwrap();
        let options = SolveOptions { policy: name.parse().unwrap(), ..options };
        let facts = migrator_solver::Facts { tenants: vec![Default::default(); 2], window_s: 200.0 };
        // The oracle and its like know a future that nobody has here.
        let Ok(mut policy) = migrator_solver::policy(options.policy, &facts) else { continue };
        planned += 1;
        let outcome = policy.plan(&problem, None, &options, None).unwrap();
        assert_eq!(migrator_solver::audit(&problem, &outcome.plan), [], "{name}");
    }
    assert!(planned >= 9, "{planned}");
}
