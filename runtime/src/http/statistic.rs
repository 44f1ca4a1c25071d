//! The statistics extension: what each model has answered, and the same as Triton's Prometheus series.

use std::fmt::Write;

use actix_web::{HttpRequest, HttpResponse, web};
use migrator_actors::statistic::{Counts, Total};
use serde_json::{Value, json};

use super::error::ApiError;
use super::{AppState, Tenant, model};

pub(super) async fn of_all(state: web::Data<AppState>) -> HttpResponse {
    let stats: Vec<Value> = state.tenants.all().iter().map(|(name, tenant)| of(name, tenant)).collect();
    HttpResponse::Ok().json(json!({ "model_stats": stats }))
}

pub(super) async fn of_model(state: web::Data<AppState>, http: HttpRequest) -> Result<HttpResponse, ApiError> {
    let tenant = model::addressed(&state, &http)?;
    let name = http.match_info().get("name").unwrap_or_default();
    Ok(HttpResponse::Ok().json(json!({ "model_stats": [of(name, &tenant)] })))
}

fn of(name: &str, tenant: &Tenant) -> Value {
    let counts = tenant.front.counts();
    let batches: Vec<Value> = counts.by_size.iter().map(|(rows, batch)| json!({
        "batch_size": rows, "compute_input": total(batch.carried), "compute_infer": total(batch.computed), "compute_output": total(batch.returned),
    })).collect();
    json!({
        "name": name,
        "version": tenant.front.version().to_string(),
        "last_inference": counts.last_ms,
        "inference_count": counts.rows,
        "execution_count": counts.batches,
        "inference_stats": {
            "success": total(counts.success),
            "fail": total(counts.refused()),
            "queue": total(counts.waited),
            "compute_input": total(counts.carried),
            "compute_infer": total(counts.computed),
            "compute_output": total(counts.returned),
            "cache_hit": total(NONE),
            "cache_miss": total(NONE),
        },
        "response_stats": {},
        "batch_stats": batches,
        "memory_usage": [],
    })
}

/// What is not there to be measured: there is no cache.
const NONE: Total = Total { count: 0, ns: 0 };

fn total(total: Total) -> Value {
    json!({ "count": total.count, "ns": total.ns })
}

/// One of Triton's series: its name, type, help, and how it is read.
type Series = (&'static str, &'static str, &'static str, fn(&Counts) -> u64);

const SERIES: [Series; 8] = [
    ("nv_inference_request_success", "counter", "requests answered", |c| c.success.count),
    ("nv_inference_count", "counter", "rows answered", |c| c.rows),
    ("nv_inference_exec_count", "counter", "batches computed", |c| c.batches),
    ("nv_inference_request_duration_us", "counter", "microseconds from arrival to answer, of requests answered", |c| c.success.ns / 1000),
    ("nv_inference_queue_duration_us", "counter", "microseconds from arrival to dispatch", |c| c.waited.ns / 1000),
    ("nv_inference_compute_input_duration_us", "counter", "microseconds on the way to the worker", |c| c.carried.ns / 1000),
    ("nv_inference_compute_output_duration_us", "counter", "microseconds on the way back", |c| c.returned.ns / 1000),
    ("nv_inference_compute_infer_duration_us", "counter", "microseconds of computation", |c| c.computed.ns / 1000),
];

/// Triton's series of all tenants, as Prometheus text.
pub(super) fn series(state: &AppState) -> String {
    let tenants = state.tenants.all();
    let all: Vec<(&String, &Tenant, Counts)> = tenants.iter().map(|(name, tenant)| (name, &**tenant, tenant.front.counts())).collect();
    let mut out = String::new();
    for (name, kind, help, read) in SERIES {
        head(&mut out, name, kind, help);
        for (model, tenant, counts) in &all {
            let _ = writeln!(out, "{name}{{model=\"{model}\",version=\"{}\"}} {}", tenant.front.version(), read(counts));
        }
    }
    let failure = "nv_inference_request_failure";
    head(&mut out, failure, "counter", "requests that got no answer");
    for (model, tenant, counts) in &all {
        let shed: u64 = counts.shed.values().map(|total| total.count).sum();
        for (reason, count) in [("REJECTED", shed), ("BACKEND", counts.failed.count), ("CANCELED", 0), ("OTHER", 0)] {
            let version = tenant.front.version();
            let _ = writeln!(out, "{failure}{{model=\"{model}\",version=\"{version}\",reason=\"{reason}\"}} {count}");
        }
    }
    let pending = "nv_inference_pending_request_count";
    head(&mut out, pending, "gauge", "requests without an answer yet");
    for (model, tenant, _) in &all {
        let _ = writeln!(out, "{pending}{{model=\"{model}\",version=\"{}\"}} {}", tenant.front.version(), tenant.front.pending());
    }
    out
}

/// Writing into a `String` cannot fail.
fn head(out: &mut String, name: &str, kind: &str, help: &str) {
    let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
