//! `kill -9`.

use std::sync::Arc;
use std::time::Duration;

use migrator::load::{Arrivals, LoadPlan, Samples, TenantLoad, run_plan};

use crate::harness::{DEADLINE, Pair, World, data, eventually, process};

#[test]
fn a_killed_worker_is_replaced_and_no_request_goes_unanswered() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    let victims = eventually("an instance serves", || Some(server.serving("digits")).filter(|pids| !pids.is_empty()));
    let load = TenantLoad {
        tenant: "digits".to_owned(),
        arrivals: Arrivals::Rate(Arc::new(|_| 100.0)),
        samples: Samples::Set(Arc::new(data::readings(64, 0, 5))),
        label_share: 0.0,
        slo_ms: None,
    };
    let plan =
        LoadPlan { timeout: Duration::from_secs(30), ..LoadPlan::new(format!("http://{}", server.http.address()), vec![load], DEADLINE) };
    let stop = plan.stop.clone();
    let (mut killed, mut replaced_at) = (false, None);
    let report = run_plan(&plan, |progress| {
        let now = server.serving("digits");
        if !killed {
            victims.iter().for_each(|pid| process::signal(*pid, "KILL"));
            killed = true;
        } else if !now.is_empty() && now.iter().all(|pid| !victims.contains(pid)) {
            // One more second of load on the new worker.
            if replaced_at.is_some_and(|at| progress.elapsed_s > at + 0.5) {
                stop.raise();
            }
            replaced_at.get_or_insert(progress.elapsed_s);
        }
    });
    let report = report.unwrap();
    assert!(replaced_at.is_some(), "no other worker serves\n{report}\n{}", server.http.get("/v1/partition?format=text").text());
    let counts = &report.tenants[0].counts;
    assert_eq!(counts.lost, 0, "{report}");
    assert_eq!(counts.requests, counts.ok + counts.late + counts.shed + counts.error, "{report}");
    assert!(counts.answered() > counts.requests / 2, "{report}");
    assert!(server.metric("migrator_worker_restarts_total", "tenant=\"digits\"") >= 1.0);
    assert_eq!(server.metric("migrator_worker_restarts_total", "tenant=\"text\""), 0.0);
    assert_eq!(server.metric("migrator_invariant_violations_total", ""), 0.0);
    let rows = data::readings(32, 0, 6).rows;
    assert!(data::accuracy(&rows, &server.classes("digits", &rows)) >= 0.95);
    assert_eq!(server.tenant("text")["error"], 0);
}

#[test]
fn a_killed_server_leaves_no_worker_and_the_next_serves_the_newest_complete_version() {
    let world = World::new(&Pair { window_s: None });
    let mut first = world.serve();
    assert!(!first.workers().is_empty());
    first.signal("KILL");
    first.ended();
    first.nothing_left();

    world.train("digits", &data::readings(400, 0, 2));
    // What a publication that was cut short would leave, were it not atomic: a version without its manifest.
    let half = world.store().folder("tiny", 3).unwrap();
    std::fs::create_dir(&half).unwrap();
    std::fs::copy(world.weights("tiny", 2), half.join("weights.safetensors")).unwrap();
    let second = world.serve();
    assert_eq!(second.tenant("digits")["version"], 2);
    assert_eq!(second.infer("digits", &data::readings(1, 0, 5).rows).ok("an answer")["model_version"], "2");
    assert_eq!(second.tenant("text")["version"], 1);
}
