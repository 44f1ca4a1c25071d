//! `migrator plan` from outside: the ready-made problems give the plans that docs/planning.md explains, and bad input has a clear outcome.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs `migrator ARGS` with `input` on standard input.
fn migrator(args: &[&str], input: &str) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migrator"));
    let piped = command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let done = child.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ran { code: done.status.code().unwrap(), out: text(done.stdout), err: text(done.stderr) }
}

/// A ready-made problem solved, as JSON; with time enough on any machine.
fn solved(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/problem").join(name);
    let ran = migrator(&["plan", file.to_str().unwrap(), "--json", "--explain", "--time-limit", "60000"], "");
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    serde_json::from_str(&ran.out).unwrap()
}

fn tenant<'v>(answer: &'v Value, name: &str) -> &'v Value {
    answer["report"]["tenants"].as_array().unwrap().iter().find(|tenant| tenant["name"] == name).unwrap()
}

fn on_time(answer: &Value, name: &str) -> f64 {
    tenant(answer, name)["slo_attainment"].as_f64().unwrap()
}

fn gain(answer: &Value) -> f64 {
    let of = |key: &str| answer["report"][key].as_f64().unwrap();
    of("objective") - of("keep_objective")
}

#[test]
fn before_a_burst_its_tenant_gets_what_the_others_do_not_need() {
    let answer = solved("burst.toml");
    assert!(gain(&answer) > 1000.0, "{answer:#}");
    assert!(on_time(&answer, "vision") > 0.92 && on_time(&answer, "text") > 0.96 && on_time(&answer, "sensor") > 0.96, "{answer:#}");
    let changes = answer["report"]["changes"].to_string() + &answer["report"]["declined"].to_string();
    assert!(changes.contains("vision gets ") && changes.contains("its demand rises from 40 to 120 requests/s"), "{answer:#}");
    assert!(answer["report"]["runner_up"]["what"].is_string(), "{answer:#}");
}

#[test]
fn a_drifting_tenant_is_retrained_and_one_with_little_to_gain_is_not() {
    let answer = solved("drift.toml");
    assert!(gain(&answer) > 1000.0, "{answer:#}");
    assert!(tenant(&answer, "vision")["retraining"].is_string() && tenant(&answer, "sensor")["retraining"].is_null(), "{answer:#}");
    assert!(on_time(&answer, "vision") > 0.95 && on_time(&answer, "text") > 0.97, "{answer:#}");
    let instances = answer["gpus"][0]["instances"].as_array().unwrap();
    let retrains: Vec<&Value> = instances.iter().filter(|instance| instance["task"] == "retraining").collect();
    assert!(retrains.len() == 1 && retrains[0]["at"] == "3g@4" && retrains[0]["tenant"] == "vision", "{answer:#}");
    let declined = answer["report"]["declined"].to_string();
    assert!(declined.contains("sensor is not retrained: 0.2 points of accuracy would give"), "{declined}");
}

#[test]
fn in_a_burst_retraining_finds_its_place_and_the_burst_is_answered() {
    let answer = solved("burst-and-drift.toml");
    assert!(gain(&answer) > 1500.0, "{answer:#}");
    assert!(tenant(&answer, "vision")["retraining"].is_string(), "{answer:#}");
    assert!(on_time(&answer, "text") > 0.9 && on_time(&answer, "sensor") > 0.96, "{answer:#}");
}

const TENANT: &str = "[[tenants]]\nname = \"a\"\ndemand_rps = 20\ncapacity_rps = { 1g = 10, 2g = 20, 3g = 30 }\naccuracy = 0.8\n";

fn problem(from: &str, to: &str) -> String {
    let text = format!("window_left_s = 60\ngpus = 1\n\n{TENANT}");
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

/// What is replaced by what in a good problem; the exit code, and the one line of standard error.
const ODD: &[(&str, &str, i32, &str)] = &[
    ("gpus = 1", "gpus = 1", 0, ""),
    ("{ 1g = 10, 2g = 20, 3g = 30 }", "{}", 3, "stdin: warning: no tenant fits any profile of the GPUs: nothing can be served"),
    ("= 0.8", "= 0.8\nmemory_mib = 100000", 3, "stdin: warning: no tenant fits any profile of the GPUs: nothing can be served"),
    ("demand_rps = 20", "demand_rps = 0", 0, "stdin: warning: no tenant has any demand: there is nothing to answer"),
    ("demand_rps = 20", "demand_rps = inf", 1, "stdin:6: tenants[0].demand_rps = inf: must be a number from 0 to 1000000000"),
    ("demand_rps = 20", "demand_rps = nan", 1, "stdin:6: tenants[0].demand_rps = nan: must be a number from 0 to 1000000000"),
    ("demand_rps = 20", "slo_ms = inf\ndemand_rps = 20", 1, "stdin:6: tenants[0].slo_ms: unknown key; allowed here: name, weight"),
    ("= 0.8", "= nan", 1, "stdin:8: tenants[0].accuracy = nan: must be a number from 0 to 1"),
    ("gpus = 1", "gpus = 0", 1, "stdin:2: gpus = 0: must be an integer from 1 to 1024"),
    (
        "2g = 20, 3g = 30",
        "2g = 20, 3g = 15",
        0,
        "stdin: warning: a answers 15 requests/s on 3g but 20 on 2g: is its curve right? It is planned with as it is",
    ),
    ("window_left_s = 60", "window_left_s = ", 1, "stdin:1: "),
];

#[test]
fn odd_and_bad_problems_have_an_exit_code_and_one_line() {
    for (from, to, code, line) in ODD {
        let ran = migrator(&["plan", "-"], &problem(from, to));
        assert_eq!(ran.code, *code, "{to}: {}", ran.err);
        assert!(ran.err.starts_with(line) && ran.err.lines().count() == usize::from(!line.is_empty()), "{to}: {}", ran.err);
        assert_eq!(ran.out.starts_with("Plan 1: "), *code != 1, "{to}: {}", ran.out);
    }
}

#[test]
fn an_infinite_slo_is_refused_where_slos_are_given() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("c.toml");
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/demo.toml")).unwrap();
    let slo = shipped.lines().find(|line| line.starts_with("slo_ms")).unwrap();
    std::fs::write(&file, shipped.replacen(slo, "slo_ms = inf", 1)).unwrap();
    let ran = migrator(&["check", "--config", file.to_str().unwrap()], "");
    assert!(ran.code == 1 && ran.err.contains(".slo_ms = inf: must be a number from 1 to 60000"), "{}", ran.err);
}

#[test]
fn a_thousand_tenants_on_one_gpu_are_planned_for() {
    let tenants = (0..1000).map(|index| {
        TENANT.replace("\"a\"", &format!("\"t{index}\"")).replace("demand_rps = 20", &format!("demand_rps = {}", 1 + index % 30))
    });
    let text = format!("window_left_s = 60\ngpus = 1\n{}", tenants.collect::<String>());
    let ran = migrator(&["plan", "-"], &text);
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", &ran.out[..ran.out.len().min(400)]);
    assert!(ran.out.starts_with("Plan 1: change"), "{}", &ran.out[..ran.out.len().min(400)]);
    let most = migrator(&["plan", "-"], &text.replace("gpus = 1\n", "gpus = 1025\n"));
    assert_eq!((most.code, most.err.lines().count()), (1, 1), "{}", most.err);
}

#[test]
fn what_is_not_a_file_or_not_a_policy_is_named() {
    let gone = migrator(&["plan", "/nowhere/p.toml"], "");
    assert_eq!((gone.code, gone.err.lines().count()), (1, 1), "{}", gone.err);
    assert!(gone.err.contains("/nowhere/p.toml cannot be read"), "{}", gone.err);
    assert_eq!(migrator(&["plan", "-", "--policy", "best"], "").code, 2);
    assert_eq!(migrator(&["plan", "-", "--horizon", "nan"], "").code, 2);
    let previous = migrator(&["plan", "-", "--previous", "/nowhere/plan.json"], &problem("gpus = 1", "gpus = 1"));
    assert!(previous.code == 1 && previous.err.contains("--previous /nowhere/plan.json"), "{}", previous.err);
}

#[test]
fn a_previous_plan_is_numbered_on_and_every_policy_answers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plan.json");
    let text = problem("gpus = 1", "gpus = 1");
    let first = migrator(&["plan", "-", "--json"], &text);
    std::fs::write(&file, &first.out).unwrap();
    let next = migrator(&["plan", "-", "--previous", file.to_str().unwrap()], &text);
    assert!(next.out.starts_with("Plan 2: "), "{}{}", next.out, next.err);
    for policy in ["ilp", "greedy", "exhaustive", "keep"] {
        let ran = migrator(&["plan", "-", "--json", "--policy", policy], &text);
        let answer: Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((ran.code, answer["report"]["worth_it"] == (policy != "keep")), (0, true), "{policy}: {answer:#}");
    }
}
