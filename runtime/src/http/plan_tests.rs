//! The plan, its problem and "what if" over HTTP, without actors.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use actix_web::body::to_bytes;
use actix_web::dev::Service;
use actix_web::http::StatusCode;
use actix_web::test::{TestRequest, init_service};
use actix_web::{App, web};
use migrator_actors::view::{Solved, View};
use migrator_solver::Generation;
use serde_json::Value;
use tokio::sync::watch;

use super::{AppState, Limits, route};
use crate::plan::read;

const PROBLEM: &str = r#"
window_left_s = 60
gpus = 1
instances = [
    { profile = "3g", start = 0, task = "inference", tenant = "vision" },
    { profile = "3g", start = 4, task = "inference", tenant = "text" },
]

[[tenants]]
name = "vision"
demand_rps = { 0 = 90, 12 = 120 }
capacity_rps = { 1g = 20, 2g = 40, 3g = 60, 4g = 80, 7g = 140 }
accuracy = 0.8

[[tenants]]
name = "text"
demand_rps = 15
capacity_rps = { 1g = 20, 2g = 40, 3g = 60, 4g = 80, 7g = 140 }
accuracy = 0.7
"#;

/// A server that has just solved the problem; the sender keeps the view alive.
fn state() -> (web::Data<AppState>, watch::Sender<Arc<View>>) {
    let (problem, mut options) = read("p.toml", PROBLEM).unwrap();
    options.generation = Generation(7);
    options.time_limit_ms = 20_000;
    let outcome = migrator_solver::solve(&problem, None, &options).unwrap();
    let solved = Arc::new(Solved { at_s: 3.0, problem, options, outcome: outcome.clone() });
    let plan = Some((outcome.plan, outcome.report));
    let view = View { uptime_s: 5.0, plan, solved: Some(Arc::clone(&solved)), changed: Some(solved), ..View::default() };
    let (sender, receiver) = watch::channel(Arc::new(view));
    (web::Data::new(AppState::new(BTreeMap::new(), receiver, Arc::new(AtomicBool::new(false)), Limits::default())), sender)
}

async fn send(state: &web::Data<AppState>, request: TestRequest) -> (StatusCode, String) {
    let app = init_service(App::new().app_data(state.clone()).configure(route::routes)).await;
    let response = app.call(request.to_request()).await.unwrap();
    let status = response.status();
    (status, String::from_utf8(to_bytes(response.into_body()).await.unwrap().to_vec()).unwrap())
}

async fn get(state: &web::Data<AppState>, path: &str) -> String {
    let (status, body) = send(state, TestRequest::get().uri(path)).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body
}

async fn ask(state: &web::Data<AppState>, body: &str) -> (StatusCode, Value) {
    let request = TestRequest::post().uri("/v1/plan/what-if").insert_header(("content-length", body.len()));
    let (status, body) = send(state, request.set_payload(body.to_owned())).await;
    (status, serde_json::from_str(&body).unwrap())
}

#[actix_web::test]
async fn a_plan_is_shown_by_name_and_in_words() {
    let (state, _view) = state();
    let json: Value = serde_json::from_str(&get(&state, "/v1/plan").await).unwrap();
    assert_eq!((&json["plan"]["generation"], &json["gpus"][0]["now"]), (&7.into(), &"3g@0 3g@4".into()), "{json:#}");
    let planned = json["gpus"][0]["instances"].as_array().unwrap();
    let new = planned.iter().find(|instance| instance["instance"].is_null()).unwrap();
    assert!(new["at"].as_str().unwrap().contains("g@") && new["new"] == true && new["tenant"].is_string(), "{json:#}");
    assert_eq!(json["last_change"]["generation"], 7);
    let text = get(&state, "/v1/plan?format=text").await;
    for part in ["Plan 7: change", "| 3g vision", "What changes and why\n  - vision gets ", "What to expect"] {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[actix_web::test]
async fn the_problem_is_exported_as_a_file_that_gives_the_same_plan() {
    let (state, _view) = state();
    let live = state.view().solved.clone().unwrap();
    let (problem, options) = read("exported", &get(&state, "/v1/problem").await).unwrap();
    let outcome = migrator_solver::solve(&problem, None, &migrator_solver::SolveOptions { generation: Generation(7), ..options }).unwrap();
    assert_eq!((&problem, &outcome), (&live.problem, &live.outcome));
    let json: Value = serde_json::from_str(&get(&state, "/v1/problem?format=json").await).unwrap();
    assert_eq!(json["tenants"][0]["demand_rps"]["12"], 120.0);
    let (_, whole) = ask(&state, &json.to_string()).await;
    assert_eq!(whole["plan"]["gpus"], serde_json::json!(live.outcome.plan.gpus));
}

#[actix_web::test]
async fn what_if_solves_the_live_problem_with_what_the_body_changes() {
    let (state, _view) = state();
    let live = state.view().solved.clone().unwrap();
    let (status, same) = ask(&state, "{}").await;
    assert_eq!((status, &same["plan"]["gpus"]), (StatusCode::OK, &serde_json::json!(live.outcome.plan.gpus)));
    let (_, calm) = ask(&state, r#"{"tenants": {"vision": {"demand_rps": 20}}}"#).await;
    assert_eq!(calm["report"]["worth_it"], false, "{calm:#}");
    let (_, larger) = ask(&state, r#"{"gpus": 2, "policy": "greedy"}"#).await;
    assert_eq!(larger["gpus"].as_array().map(Vec::len), Some(2));
    assert!(larger["report"]["objective"].as_f64() > same["report"]["objective"].as_f64());
}

#[actix_web::test]
async fn a_bad_what_if_is_told_why_and_a_second_one_waits() {
    let (state, view) = state();
    for (body, line) in [
        (r#"{"tenants": {"vision": {"demand_rps": -1}}}"#, "body: tenants[0].demand_rps = -1: must be a number from 0"),
        (r#"{"tenants": {"nobody": {}}}"#, "tenants.nobody: no such tenant; there are vision, text"),
        (r#"{"gpus": 65}"#, "2 tenants on 65 GPUs: at most 256 on 64"),
    ] {
        let (status, answer) = ask(&state, body).await;
        assert!(status == StatusCode::BAD_REQUEST && answer["error"].as_str().unwrap().contains(line), "{answer}");
    }
    let held = Arc::clone(&state.what_if).try_acquire_owned().unwrap();
    let (status, answer) = ask(&state, "{}").await;
    assert_eq!((status, answer["error"].as_str()), (StatusCode::SERVICE_UNAVAILABLE, Some("busy: another what-if is being solved")));
    drop(held);
    view.send_replace(Arc::new(View::default()));
    assert_eq!(ask(&state, "{}").await.0, StatusCode::SERVICE_UNAVAILABLE, "nothing has been solved yet");
}
