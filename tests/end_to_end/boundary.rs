//! Borders that the architecture draws: who links libtorch, and who may depend on whom.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::{Pair, World, process};

#[test]
fn the_server_has_no_libtorch_and_its_workers_have() {
    let world = World::new(&Pair { window_s: None });
    let server = world.serve();
    assert!(!process::maps(server.pid(), "libtorch"));
    let workers = server.workers();
    assert!(workers.len() >= 2, "{workers:?}");
    assert!(server.serving("digits").iter().all(|pid| workers.contains(pid) && process::maps(*pid, "libtorch")));
}

/// What cargo prints.
fn cargo(args: &[&str]) -> String {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output =
        std::process::Command::new(cargo).args(args).args(["--locked", "--offline"]).current_dir(env!("CARGO_MANIFEST_DIR")).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// By crate of the workspace, all crates it is built from, over any number of steps; what only its tests need is left out.
fn closures() -> BTreeMap<String, BTreeSet<String>> {
    let metadata: Value = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])).unwrap();
    let members = metadata["packages"].as_array().unwrap().iter().map(|package| package["name"].as_str().unwrap().to_owned());
    let closure = |member: String| {
        let tree = cargo(&["tree", "--package", &member, "--edges", "normal,build", "--prefix", "none", "--format", "{p}"]);
        let needs = tree.lines().skip(1).filter_map(|line| line.split(' ').next()).map(str::to_owned).collect();
        (member, needs)
    };
    members.map(closure).collect()
}

#[test]
fn pure_crates_stay_pure_and_only_the_worker_reaches_libtorch() {
    let closures = closures();
    for pure in ["migrator-mig", "migrator-solver", "migrator-machine"] {
        for banned in ["tokio", "actix", "actix-web", "tch", "torch-sys", "migrator-actors", "migrator-device", "migrator-wire"] {
            assert!(!closures[pure].contains(banned), "{pure} depends on {banned}");
        }
    }
    let with_torch: Vec<&String> = closures.iter().filter(|(_, needs)| needs.contains("tch")).map(|(name, _)| name).collect();
    assert_eq!(with_torch, ["migrator-torch", "migrator-worker"]);
    assert!(!closures["migrator-mig"].contains("migrator-solver") && !closures["migrator-solver"].contains("migrator-machine"));
    assert!(closures.iter().all(|(name, needs)| name == "migrator" || !needs.contains("migrator")), "{:?}", closures.keys());
}
