//! Load that goes to and fro between two tenants until the machine was cut up anew.

use std::sync::Arc;
use std::time::Duration;

use migrator::load::{Arrivals, LoadPlan, LoadReport, Samples, TenantLoad, run_plan};
use serde_json::Value;

use super::{DEADLINE, Server, data, settled};

/// Seconds until the other tenant has its turn.
const TURN_S: f64 = 4.0;
/// Most requests/s: this process and the server's front take their share of the cores too.
const MOST_RPS: f64 = 150.0;

/// How often the machine was cut up anew.
pub fn reconfigurations(server: &Server) -> u64 {
    server.http.json("/v1/partition")["reconfigurations"].as_u64().unwrap()
}

/// What a tenant could answer on all 7 compute slices, requests/s.
fn whole_rps(server: &Server, tenant: &str) -> f64 {
    let partition = server.http.json("/v1/partition");
    let instances = partition["gpus"].as_array().unwrap().iter().flat_map(|gpu| gpu["instances"].as_array().unwrap());
    let own = instances.filter(|i| i["tenant"] == tenant && i["task"] == "inference");
    let slices: f64 = own.map(|i| i["profile"].as_str().unwrap().split('g').next().unwrap().parse::<f64>().unwrap()).sum();
    (server.tenant(tenant)["capacity_rps"].as_f64().unwrap() * 7.0 / slices).min(MOST_RPS / 0.55)
}

fn load(server: &Server, tenant: &'static str, turn: u64) -> TenantLoad {
    let whole_rps = whole_rps(server, tenant);
    let rate = move |at_s: f64| whole_rps * if (at_s / TURN_S) as u64 % 2 == turn { 0.55 } else { 0.05 };
    TenantLoad {
        tenant: tenant.to_owned(),
        arrivals: Arrivals::Rate(Arc::new(rate)),
        samples: Samples::Set(Arc::new(data::readings(64, 0, 5))),
        label_share: 0.0,
        slo_ms: None,
    }
}

/// Drives `east` and `west` of a setup like [`Heavy`](super::Heavy) until `enough`.
fn drive(server: &Server, mut enough: impl FnMut() -> bool) -> LoadReport {
    settled("both tenants have capacity", || {
        let ready = ["east", "west"].iter().all(|tenant| whole_rps(server, tenant).is_finite() && whole_rps(server, tenant) > 0.0);
        ready.then_some(()).ok_or("no capacity yet")
    });
    let plan = LoadPlan::new(format!("http://{}", server.http.address()), vec![load(server, "east", 0), load(server, "west", 1)], DEADLINE);
    let stop = plan.stop.clone();
    let report = run_plan(&LoadPlan { timeout: Duration::from_secs(30), ..plan }, |_| {
        if enough() {
            stop.raise();
        }
    });
    report.unwrap()
}

/// Drives the server until the machine was cut up anew so many times.
///
/// # Panics
/// When that does not happen in time, when a request fails, when server and client have counted differently, or an invariant is broken.
pub fn swing(server: &Server, wanted: u64) {
    let before = reconfigurations(server);
    let report = drive(server, || reconfigurations(server) >= before + wanted);
    let happened = reconfigurations(server) - before;
    assert!(
        happened >= wanted,
        "{happened} reconfigurations in {:.0} s\n{report}\n{}",
        report.duration_s,
        server.http.get("/v1/plan?format=text").text()
    );
    assert_eq!(report.failed(), 0, "{report}");
    for tenant in &report.tenants {
        let counts = &tenant.counts;
        assert_eq!(counts.requests, counts.ok + counts.late + counts.shed, "{report}");
        assert!(counts.answered() > 0, "{report}");
        settled("the server has counted the same requests", || agrees(&server.tenant(&tenant.tenant), counts));
    }
    assert_eq!(server.metric("migrator_invariant_violations_total", ""), 0.0);
    let both = server.metric("migrator_requests_total", "");
    assert_eq!(both as u64, report.tenants.iter().map(|tenant| tenant.counts.requests).sum::<u64>());
}

/// The server counts lateness from a request's arrival and the client from its intended time, so only their sum is the same.
fn agrees(seen: &Value, counts: &migrator::load::Counts) -> Result<(), String> {
    let count = |key: &str| seen[key].as_u64().unwrap();
    let same = count("requests") == counts.requests
        && count("ok") + count("late") == counts.answered()
        && count("shed") == counts.shed
        && count("error") == 0
        && count("queue_depth") == 0;
    same.then_some(()).ok_or_else(|| format!("client {counts:?}, server {seen}"))
}
