use migrator_solver::{InstanceId, PolicyName, TaskKind};

use super::file::ProblemFile;
use super::*;

const SMALL: &str = r#"
window_left_s = 100
gpus = 1

[[instances]]
profile = "3g"
start = 4
task = "inference"
tenant = "vision"

[[tenants]]
name = "vision"
demand_rps = { 0 = 40, 12 = 120, 30 = 40 }
capacity_rps = { 1g = 20, 2g = 45, 3g = 60 }
accuracy = 0.8
retraining = { seconds_left = { 2g = 30, 3g = 20 }, accuracy_after = 0.9 }

[[tenants]]
name = "text"
demand_rps = 5
capacity_rps = { 1g = 20 }
accuracy = 0.7
"#;

fn accepted(text: &str) -> (migrator_solver::Problem, migrator_solver::SolveOptions) {
    read("p.toml", text).unwrap_or_else(|errors| panic!("{errors}"))
}

fn defects(text: &str) -> String {
    read("p.toml", text).unwrap_err().to_string()
}

#[test]
fn names_become_indexes_and_what_is_left_out_has_a_meaning() {
    let (problem, options) = accepted(SMALL);
    assert_eq!((problem.models.len(), problem.gpus.len(), problem.models[0].catalog.name.as_str()), (1, 1, "A100-SXM4-80GB"));
    let instance = &problem.gpus[0].instances[0];
    assert_eq!((instance.id, instance.site.profile.0, instance.site.placement.size, instance.pinned), (InstanceId(1), 2, 4, false));
    assert_eq!(instance.task.map(|task| (task.tenant.0, task.kind)), Some((0, TaskKind::Inference)));
    let vision = &problem.tenants[0];
    assert_eq!(vision.demand[0].rps.len(), 31);
    assert_eq!(
        (vision.demand[0].rps[11], vision.demand[0].rps[12], vision.demand[0].rps[29], vision.demand[0].rps[30]),
        (40.0, 120.0, 120.0, 40.0)
    );
    assert_eq!(vision.capacity_rps, [[20.0, 45.0, 60.0, 0.0, 0.0]]);
    let due = vision.retraining.as_ref().unwrap();
    assert_eq!(due.seconds_left, [[f64::INFINITY, 30.0, 20.0, f64::INFINITY, f64::INFINITY]]);
    assert_eq!((due.restore_s, vision.load_s, vision.weight, options.policy), (3.0, 3.0, 1.0, PolicyName::Migrator));
}

#[test]
fn an_exported_problem_is_read_back_as_the_same() {
    let mixed = r#"
window_left_s = 60.5
beyond_window_s = 20
policy = "greedy"
horizon_s = 120
time_limit_ms = 50
min_gain = 0.01
gpus = ["A100-SXM4-80GB", "odd", "cpu"]
costs = { drain_s = 0.1, handover_s = 0.4, preload = false }
models = [
    { name = "A100-SXM4-80GB", create_s = { 1g = 0.1, 2g = 0.2, 3g = 0.3, 4g = 0.4, 7g = 0.5 } },
    { name = "odd", compute_slices = 2, memory_slices = 2, profiles = [
        { name = "1g.6gb", compute_slices = 1, memory_slices = 1, memory_mib = 6000, starts = [0, 1] },
        { name = "1g.12gb", compute_slices = 1, memory_slices = 2, memory_mib = 12000, starts = [0] },
        { name = "2g.12gb", compute_slices = 2, memory_slices = 2, memory_mib = 12000, starts = [0] },
    ] },
    { name = "cpu", memory_mib = 18096, destroy_s = 0 },
]
instances = [
    { gpu = 1, profile = "1g.12gb", start = 0, task = "retraining", tenant = "a", pinned = true, id = 7 },
    { gpu = 2, profile = "3g", start = 0, ready_in_s = 0.25 },
]

[[tenants]]
name = "a"
weight = 2.5
demand_rps = [{ probability = 0.7, rps = 40 }, { probability = 0.3, rps = [40, 41.5, 120] }]
capacity_rps = { "A100-SXM4-80GB" = { 1g = 10, 3g = 30.5 }, odd = { "1g.12gb" = 3 }, cpu = { 1g = 1 } }
memory_mib = 3000
backlog = 12
accuracy = 0.61
load_s = 2
floor_rps = 1
retraining = { seconds_left = { 1g = 80, "1g.12gb" = inf }, accuracy_after = 0.7, restore_s = 4, memory_mib = 5000 }
"#;
    for text in [SMALL, mixed] {
        let (problem, options) = accepted(text);
        let exported = ProblemFile::of(&problem, &options).to_toml();
        let (again, same) = accepted(&exported);
        assert_eq!((&again, &same), (&problem, &options), "{exported}");
        let solve = |problem| migrator_solver::solve(problem, None, &same).unwrap();
        assert_eq!(solve(&again), solve(&problem));
        let json = serde_json::to_vec(&ProblemFile::of(&problem, &options)).unwrap();
        let live = ProblemFile::of(&accepted(SMALL).0, &options);
        assert_eq!(what_if::ask(&live, &json), Ok((problem, options)), "the JSON form is the same");
    }
    let (problem, options) = accepted(SMALL);
    let exported = ProblemFile::of(&problem, &options).to_toml();
    assert!(exported.contains("demand_rps = { 0 = 40, 12 = 120, 30 = 40 }"), "{exported}");
    assert!(exported.contains("capacity_rps = { 1g = 20, 2g = 45, 3g = 60 }"), "{exported}");
}

#[test]
fn two_equal_seconds_in_a_row_are_not_lost_and_the_last_one_holds() {
    let text = SMALL.replace("demand_rps = 5", "demand_rps = [5, 5, 6, 6, 6]");
    let (problem, options) = accepted(&text);
    let (again, _) = accepted(&ProblemFile::of(&problem, &options).to_toml());
    assert_eq!(again.tenants[1].demand[0].rps, [5.0, 5.0, 6.0]);
    let solve = |problem| migrator_solver::solve(problem, None, &options).unwrap();
    assert_eq!(solve(&again), solve(&problem));
}

/// What is replaced in a good file by what, and the one line that must come of it.
const REPLACED: &[(&str, &str, &str)] = &[
    ("gpus = 1", "gpus = 0", "p.toml:3: gpus = 0: must be an integer from 1 to 1024"),
    ("gpus = 1", "gpus = []", "p.toml:3: gpus = []: must be a list of one or more, each a text in quotes, not empty"),
    ("gpus = 1", "gpus = \"one\"", "p.toml:3: gpus = \"one\": must be an integer from 1 to 1024; or a list of one or more, each a text"),
    ("gpus = 1", "gpus = [\"H100\"]", "p.toml:3: gpus[0] = \"H100\": must be the name of one of models: A100-SXM4-80GB"),
    ("window_left_s = 100", "window_left_s = inf", "p.toml:2: window_left_s = inf: must be a number from 0 to 1000000000"),
    ("window_left_s = 100", "window = 100", "p.toml:2: window: unknown key; allowed here: window_left_s, beyond_window_s"),
    ("window_left_s = 100", "window_left = 100", "p.toml:2: window_left: unknown key; did you mean window_left_s?"),
    ("start = 4", "start = 2", "p.toml:7: instances[0].start = 2: must be one of 0, 4, where a 3g may start"),
    (
        "profile = \"3g\"",
        "profile = \"5g\"",
        "p.toml:6: instances[0].profile = \"5g\": must be a profile: 1g, 2g, 3g, 4g, 7g of A100-SXM4-80GB",
    ),
    ("profile = \"3g\"", "gpu = 3\nprofile = \"3g\"", "p.toml:6: instances[0].gpu = 3: must be below 1, the number of GPUs"),
    ("tenant = \"vision\"\n", "tenant = \"visoin\"\n", "p.toml:9: instances[0].tenant = \"visoin\": must be one of tenants: vision, text"),
    ("task = \"inference\"", "task = \"infer\"", "p.toml:8: instances[0].task = \"infer\": must be \"inference\" or \"retraining\""),
    ("tenant = \"vision\"\n", "", "task and tenant go together"),
    ("demand_rps = 5", "demand_rps = nan", "p.toml:20: tenants[1].demand_rps = nan: must be a number from 0 to 1000000000"),
    ("demand_rps = 5", "demand_rps = inf", "p.toml:20: tenants[1].demand_rps = inf: must be a number from 0 to 1000000000"),
    ("demand_rps = 5", "demand_rps = [5, -1]", "p.toml:20: tenants[1].demand_rps[1] = -1: must be a number from 0 to 1000000000"),
    ("demand_rps = 5", "demand_rps = { 3 = 5 }", "tenants[1].demand_rps: must say what arrives from second 0 on"),
    ("demand_rps = 5", "demand_rps = { 0 = 5, x = 5 }", "tenants[1].demand_rps.x = 5: the key must be a second from 0 to 3600"),
    ("demand_rps = 5", "demand_rps = \"5\"", "p.toml:20: tenants[1].demand_rps = \"5\": must be a number from 0"),
    (
        "demand_rps = 5",
        "demand_rps = [{ probability = 0.5, rps = 4 }, { probability = 0.4, rps = 5 }]",
        "the probabilities must sum to 1, not to 0.9",
    ),
    ("demand_rps = 5", "demand_rps = [{ probability = 0.5, rp = 4 }]", "tenants[1].demand_rps[0].rp: unknown key; did you mean rps?"),
    ("demand_rps = 5\n", "", "p.toml:18: tenants[1]: demand_rps is missing: must be a number from 0"),
    ("{ 1g = 20 }", "{ 1g = -20 }", "p.toml:21: tenants[1].capacity_rps.1g = -20: must be a number from 0 to 1000000000"),
    ("{ 1g = 20 }", "{ 5g = 20 }", "p.toml:21: tenants[1].capacity_rps.5g = 20: must be a profile: 1g, 2g, 3g, 4g, 7g of A100-SXM4-80GB"),
    ("{ 1g = 20 }", "{ H100 = { 1g = 20 } }", "p.toml:21: tenants[1].capacity_rps.H100: must be one of models: A100-SXM4-80GB"),
    ("accuracy = 0.7\n", "accuracy = 70\n", "p.toml:22: tenants[1].accuracy = 70: must be a number from 0 to 1"),
    (
        "seconds_left = { 2g = 30",
        "seconds_left = { 2g = nan",
        "p.toml:16: tenants[0].retraining.seconds_left.2g = nan: must be a number from 0, or inf",
    ),
    ("name = \"text\"", "name = \"vision\"", "p.toml:19: tenants[1].name = \"vision\": must be unique; tenants[0] has this name too"),
    (
        "name = \"text\"",
        "slo_ms = inf\nname = \"text\"",
        "p.toml:19: tenants[1].slo_ms: unknown key; allowed here: name, weight, demand_rps",
    ),
    (
        "[[tenants]]\nname = \"text\"",
        "[[models]]\nname = \"RTX\"\n[[tenants]]\nname = \"text\"",
        "models[0].name = \"RTX\": must be \"A30-24GB\" or \"A100-SXM4-40GB\" or",
    ),
];

#[test]
fn each_defect_is_one_line_with_file_line_key_value_and_what_is_allowed() {
    for (good, bad, line) in REPLACED {
        assert!(SMALL.contains(good), "{good}");
        let found = defects(&SMALL.replacen(good, bad, 1));
        assert!(found.contains(line), "{good} -> {bad}:\n{found}");
        assert!(found.lines().all(|line| line.starts_with("p.toml:")), "{found}");
    }
}

#[test]
fn instances_that_overlap_or_share_a_number_are_refused() {
    let second = "[[instances]]\nprofile = \"4g\"\nstart = 0\nid = 1\n\n[[tenants]]\nname = \"text\"";
    let text = SMALL.replace("[[tenants]]\nname = \"text\"", second);
    accepted(&text);
    let twice = text.replacen("profile = \"3g\"", "id = 1\nprofile = \"3g\"", 1);
    assert!(defects(&twice).contains("listed twice"), "{}", defects(&twice));
    let overlapping = text.replace("profile = \"4g\"\nstart = 0", "profile = \"2g\"\nstart = 4");
    assert!(defects(&overlapping).contains("must not overlap the 3g at 4 of the same GPU"), "{}", defects(&overlapping));
}

#[test]
fn what_is_odd_is_said_but_planned() {
    let warnings = |text: &str| advice(&accepted(text).0).warnings;
    assert_eq!(warnings(SMALL), Vec::<String>::new());
    let falling = warnings(&SMALL.replace("3g = 60", "3g = 30"));
    assert_eq!(falling, ["vision answers 30 requests/s on 3g but 45 on 2g: is its curve right? It is planned with as it is"]);
}

#[test]
fn what_if_changes_what_it_names_and_nothing_else() {
    let (problem, options) = accepted(SMALL);
    let live = ProblemFile::of(&problem, &options);
    let ask = |body: &str| what_if::ask(&live, body.as_bytes());
    assert_eq!(ask("{}"), Ok((problem.clone(), options.clone())));
    assert_eq!(ask(""), Ok((problem.clone(), options.clone())));
    let (more, greedy) =
        ask(r#"{"tenants": {"vision": {"demand_rps": 200, "capacity_rps": {"3g": 90}}}, "policy": "greedy", "gpus": 2}"#).unwrap();
    assert_eq!((more.gpus.len(), greedy.policy, more.tenants[0].demand[0].rps.clone()), (2, PolicyName::Greedy, vec![200.0]));
    assert_eq!(more.tenants[0].capacity_rps, [[20.0, 45.0, 90.0, 0.0, 0.0]]);
    assert_eq!((&more.tenants[1], &more.costs, greedy.horizon_s), (&problem.tenants[1], &problem.costs, options.horizon_s));
    let (fewer, _) = ask(r#"{"tenants": {"vision": null}}"#).unwrap();
    assert_eq!((fewer.tenants.len(), fewer.gpus[0].instances[0].task), (1, None));
    let (calm, _) = ask(r#"{"tenants": {"vision": {"retraining": null}}, "instances": null}"#).unwrap();
    assert!(calm.tenants[0].retraining.is_none() && calm.gpus[0].instances.is_empty());
    let (joined, _) = ask(r#"{"tenants": {"new": {"demand_rps": 3, "capacity_rps": {"1g": 9}, "accuracy": 0.5}}}"#).unwrap();
    assert_eq!(joined.tenants[2].name, "new");
    assert_eq!(ask(SMALL).map(|(whole, _)| whole), Ok(problem));
}

#[test]
fn a_bad_what_if_is_one_line_that_names_the_key() {
    let (problem, options) = accepted(SMALL);
    let live = ProblemFile::of(&problem, &options);
    for (body, line) in [
        (r#"{"tenants": {"visoin": {"demand_rps": 3}}}"#, "tenants.visoin: no such tenant; there are vision, text. A new one needs"),
        (r#"{"tenants": {"vision": 3}}"#, "tenants.vision = 3: must be an object, or null"),
        (r#"{"tenants": 3}"#, "tenants: must be an object by name, or a list of all tenants"),
        (r#"{"tenants": {"vision": {"demand_rps": -3}}}"#, "body: tenants[0].demand_rps = -3: must be a number from 0"),
        (r#"{"tenants": {"vision": {"demand": 3}}}"#, "body: tenants[0].demand: unknown key; did you mean demand_rps?"),
        (r#"{"tenants": {"vision": {"demand_rps": null}}}"#, "demand_rps is missing"),
        (r#"{"gpus": 0}"#, "body: gpus = 0: must be an integer from 1 to 1024"),
        (r#"{"policy": "best"}"#, "body: policy = \"best\": must be \"migrator\" or \"ilp\" or \"greedy\" or \"exhaustive\" or"),
        (r#"{"gpus": 1e400}"#, "the body is not JSON: number out of range"),
        ("[1]", "body"),
        ("{", "the body is not JSON: EOF"),
        ("gpus = ", "body:1: "),
    ] {
        let error = what_if::ask(&live, body.as_bytes()).unwrap_err();
        assert!(error.contains(line) && !error.contains('\n'), "{body}: {error}");
    }
}

#[test]
fn an_answer_holds_no_number_that_json_cannot() {
    let (problem, options) = accepted(SMALL);
    let answer = solve(problem, None, &options).unwrap();
    let json = answer.json(Depth::Explained);
    assert!(answer.outcome.report.bound.is_finite() && answer.outcome.report.gap.is_finite());
    let report: migrator_solver::Report = serde_json::from_value(json["report"].clone()).unwrap();
    assert_eq!(report, answer.outcome.report);
    assert_eq!(json["gpus"][0]["now"], "3g@4");
    assert!(json["steps"].is_array() && json["warnings"].is_array());
}
