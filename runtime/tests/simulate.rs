//! `migrator simulate` from outside: a tiny scenario end to end, twice, and every kind of bad input.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

struct Ran {
    code: i32,
    out: String,
    err: String,
}

/// Runs `migrator simulate ARGS` in `folder`.
fn simulate(folder: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_migrator"));
    command.arg("simulate").args(args).current_dir(folder);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("MIGRATOR_")) {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    Ran {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

const TINY: &str = r#"
gpus = { catalog = "a100", count = 1 }
seconds = 60
seeds = [1, 2]

[[tenants]]
name = "vision"
curve = "resnet50"
slo_ms = 138
load = 0.1
arrivals = { kind = "poisson", rps = 1 }

[tenants.retraining]
samples = 500
epochs = 2

[[tenants]]
name = "text"
curve = "bert"
slo_ms = 500
load = 0.1
arrivals = { kind = "poisson", rps = 1 }

[tenants.retraining]
samples = 500
epochs = 2
"#;

/// A folder with `tiny.toml`.
fn folder() -> TempDir {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("tiny.toml"), TINY).unwrap();
    folder
}

/// The JSON without what depends on the clock of this machine.
fn timeless(json: &str) -> Value {
    let mut json: Value = serde_json::from_str(json).unwrap();
    for scenario in json["scenarios"].as_array_mut().unwrap() {
        for policy in scenario["policies"].as_object_mut().unwrap().values_mut() {
            assert!(policy.as_object_mut().unwrap().remove("speed").is_some());
        }
    }
    json
}

#[test]
fn the_json_has_the_documented_form_and_two_runs_are_equal() {
    let folder = folder();
    let args = ["tiny.toml", "--policy", "migrator,static-even,migrator:preload=false,oracle", "--format", "json", "--threads", "2"];
    let (first, second) = (simulate(folder.path(), &args), simulate(folder.path(), &args));
    assert_eq!((first.code, second.code), (0, 0), "{}", first.err);
    assert_eq!(timeless(&first.out), timeless(&second.out));
    let json = timeless(&first.out);
    let scenario = &json["scenarios"][0];
    assert_eq!((scenario["name"].as_str(), &scenario["seeds"]), (Some("tiny"), &serde_json::json!([1, 2])));
    for name in ["migrator", "static-even", "migrator:preload=false"] {
        let policy = &scenario["policies"][name];
        for share in ["goodput", "slo_attainment", "accuracy"] {
            assert!((0.0..=1.0).contains(&policy[share].as_f64().unwrap()), "{name} {share}: {policy}");
            assert!(policy["tenants"]["text"][share].is_f64(), "{name} {share}: {policy}");
        }
        assert!(policy["reconfigurations"].is_f64() && policy["overhead_s"].is_f64(), "{name}: {policy}");
        let share = policy["share_of_oracle"].as_f64().unwrap();
        assert!(share > 0.5 && share <= 1.0, "{name} reaches {share} of the bound");
    }
    assert_eq!(scenario["policies"]["oracle"]["share_of_oracle"], 1.0);
    assert_eq!((json["failures"].as_array().unwrap().len(), json["violations"].as_array().unwrap().len()), (0, 0), "{json}");
}

#[test]
fn seeds_scale_and_seconds_are_what_the_command_line_says() {
    let folder = folder();
    let rows = |args: &[&str]| -> Vec<Vec<String>> {
        let ran = simulate(folder.path(), &[&["tiny.toml", "--policy", "keep", "--format", "csv"], args].concat());
        assert_eq!(ran.code, 0, "{}", ran.err);
        ran.out.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
    };
    let requests = |row: &[String]| row[8].parse::<f64>().unwrap();
    let plain = rows(&["--seed", "3-5"]);
    assert_eq!(plain.iter().map(|row| row[2].as_str()).collect::<Vec<_>>(), ["3", "4", "5"]);
    let twice = rows(&["--seed", "3", "--scale", "2"]);
    assert!((requests(&twice[0]) / requests(&plain[0]) - 2.0).abs() < 0.1);
    let half = rows(&["--seed", "3", "--seconds", "30"]);
    assert_eq!(half[0][10], "30");
    assert!((requests(&half[0]) / requests(&plain[0]) - 0.5).abs() < 0.1);
    assert_eq!(rows(&["--tenants"]).len(), 4, "two seeds of two tenants");
}

#[test]
fn the_table_names_what_it_compares_and_the_plots_are_there() {
    let folder = folder();
    let ran = simulate(folder.path(), &["tiny.toml", "--policy", "migrator,ekya", "--plot", "plots", "--tenants"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    for words in ["tiny: 1 × A100-SXM4-80GB, 2 tenants, 60 s, 2 seeds", "goodput %", "migrator ÷", "vision"] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
    assert!(!ran.out.contains("of oracle"), "nobody asked for the oracle: {}", ran.out);
    let mut names: Vec<PathBuf> = vec![PathBuf::from("policies.svg")];
    for policy in ["migrator", "ekya"] {
        names.extend(["timeline", "capacity", "latency", "accuracy"].map(|kind| PathBuf::from(format!("tiny-{policy}-{kind}.svg"))));
    }
    for name in names {
        let svg = std::fs::read_to_string(folder.path().join("plots").join(&name)).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>") && !svg.contains("NaN"), "{}", name.display());
    }
}

#[test]
fn bad_command_lines_are_one_line_that_says_what_would_be_right() {
    let folder = folder();
    let cases: [(&[&str], &str); 8] = [
        (&["--policy", "migratr"], "did you mean \"migrator\"?"),
        (&["--policy", "migrator:prelod=false"], "did you mean \"preload\"?"),
        (&["--set", "dwell_s=-1"], "must be a number from 0 to"),
        (&["--gpu", "a100:0"], "like a100:8"),
        (&["--trace", "day.csv"], "must be TENANT=FILE"),
        (&["--seed", "none"], "like 1-10"),
        (&["--seconds", "0"], "1.."),
        (&["--scale", "0"], "must be a number above 0"),
    ];
    for (args, words) in cases {
        let ran = simulate(folder.path(), &[&["tiny.toml"], args].concat());
        assert_eq!(ran.code, 2, "{args:?}: {}", ran.err);
        assert!(ran.err.contains(words) && ran.out.is_empty(), "{args:?}: {}", ran.err);
    }
    assert_eq!(simulate(folder.path(), &[]).code, 2);
}

#[test]
fn bad_scenarios_and_files_are_a_line_each() {
    let folder = folder();
    std::fs::write(folder.path().join("bad.toml"), TINY.replace("slo_ms = 138", "slo_ms = -1").replace("[1, 2]", "[]")).unwrap();
    let cases: [(&[&str], &[&str]); 6] = [
        (&["absent.toml"], &["absent.toml: cannot be read"]),
        (&["bad.toml"], &["bad.toml:9: tenants[0].slo_ms = -1", "bad.toml:4: seeds = []"]),
        (&["tiny.toml", "--gpu", "z80"], &["z80"]),
        (&["tiny.toml", "--trace", "visoin=day.csv"], &["visoin"]),
        (&["tiny.toml", "--trace", "vision=day.csv"], &["day.csv"]),
        (&["tiny.toml", "2", "3"], &["2 is no scenario; several seeds are written --seed 1,2,3 or --seed 1-3"]),
    ];
    for (args, words) in cases {
        let ran = simulate(folder.path(), args);
        assert_eq!(ran.code, 1, "{args:?}: {}", ran.err);
        for words in words {
            assert!(ran.err.contains(words), "{args:?}: {words}: {}", ran.err);
        }
        assert!(ran.out.is_empty() && !ran.err.contains("panicked"), "{args:?}: {}", ran.err);
    }
}
