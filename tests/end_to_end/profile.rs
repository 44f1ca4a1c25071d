//! `migrator profile`: what it measures is a curve file that the server plans by and refines, and that scenarios read.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::harness::{Pair, Ran, Setup, World, data};

/// What of a curve file is looked at.
#[derive(Debug, PartialEq, Deserialize)]
struct Curves {
    host: String,
    inference: Vec<Inference>,
    training: Vec<Training>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Inference {
    model: String,
    batch_ms: BTreeMap<String, Vec<(u32, f64)>>,
}

#[derive(Debug, PartialEq, Deserialize)]
struct Training {
    model: String,
    iteration_s: BTreeMap<String, f64>,
}

fn curves(world: &World) -> Curves {
    toml::from_str(&std::fs::read_to_string(world.state().join("curves.toml")).unwrap()).unwrap()
}

fn profile(world: &World, more: &[&str]) -> Ran {
    let ran = world.run(&[&["profile", "--seconds", "0.03"], more].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    ran
}

#[test]
fn what_is_measured_is_planned_by_refined_and_simulated() {
    let world = World::new(&Pair { window_s: Some(600.0) });
    let (plot, ran) = (world.file("plot.svg"), profile(&world, &["--plot", &world.file("plot.svg").to_string_lossy()]));
    assert!(ran.out.contains("digits: model tiny version 1") && ran.err.contains("text 7g: one row"), "{ran:?}");
    assert!(std::fs::read_to_string(plot).unwrap().contains("digits: retraining"));
    let measured = curves(&world);
    assert_eq!(measured.inference.len(), 2);
    for of in &measured.inference {
        assert_eq!(of.batch_ms.keys().collect::<Vec<_>>(), ["1g", "2g", "3g", "4g", "7g"], "{of:?}");
    }
    // The other one is never retrained.
    let [of] = &measured.training[..] else { panic!("{measured:?}") };
    assert!(of.model == "tiny" && of.iteration_s.len() == 5 && of.iteration_s.values().all(|seconds| *seconds > 0.0), "{of:?}");

    // One tenant alone: the other's figures stay.
    profile(&world, &["--tenant", "digits"]);
    let text = |curves: &Curves| curves.inference.iter().position(|of| of.model == "text").map(|at| curves.inference[at].batch_ms.clone());
    assert_eq!(text(&curves(&world)), text(&measured));

    let before = curves(&world);
    let mut server = world.serve();
    assert!(server.log().contains("speeds by profile are those of the curve file"), "{}", server.log());
    let rows = data::readings(200, 0, 4).rows;
    for row in &rows {
        server.infer("digits", std::slice::from_ref(row)).ok("a request");
    }
    server.signal("TERM");
    assert!(server.ended().success());
    let after = curves(&world);
    let singles = |curves: &Curves| {
        curves.inference.iter().filter(|of| of.model == "tiny").flat_map(|of| of.batch_ms.values().map(|of| of[0])).collect::<Vec<_>>()
    };
    assert_ne!(singles(&after), singles(&before), "nothing was refined");

    let scenario = world.file("mine.toml");
    let curve_file = world.state().join("curves.toml");
    let lines = format!(
        "seconds = 60\nwindow_s = 20\ncurves = [{curve_file:?}]\n[gpus]\ncatalog = \"cpu\"\n[steps]\ncreate_s = 0.1\ndestroy_s = 0.1\n\
         [[tenants]]\nname = \"digits\"\ncurve = \"tiny\"\nslo_ms = 200\nload = 0.3\nmemory_mib = 100\n\
         arrivals = {{ kind = \"poisson\", rps = 10 }}\nretraining = {{ enabled = false }}\n"
    );
    std::fs::write(&scenario, lines).unwrap();
    let ran = crate::harness::run(&["simulate", scenario.to_str().unwrap(), "--policy", "migrator", "--seed", "1", "--quiet"]);
    assert!(ran.code == 0 && ran.out.contains("migrator"), "{ran:?}");
}

#[test]
fn figures_of_another_host_are_told_of_and_not_used() {
    let world = World::new(&Pair { window_s: None });
    profile(&world, &["--tenant", "digits"]);
    let path = world.state().join("curves.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replacen("host = \"", "host = \"a better ", 1)).unwrap();
    let refused = world.run(&["profile", "--tenant", "digits"]);
    assert!(refused.code == 1 && refused.err.contains("measured on a better "), "{refused:?}");
    let server = world.serve();
    let log = server.log();
    assert!(log.contains("the measured curves are not used") && !log.contains("are those of the curve file"), "{log}");
    assert_eq!(server.classes("digits", &data::readings(3, 0, 4).rows).len(), 3);

    let nobody = world.run(&["profile", "--tenant", "nobody"]);
    assert!(nobody.code == 1 && nobody.err.contains("no tenant \"nobody\" in the configuration; it has digits, text"), "{nobody:?}");
}

#[test]
fn a_model_without_a_version_is_named() {
    let world = World::untrained(&Pair { window_s: None }.toml());
    let none = world.run(&["profile"]);
    assert!(none.code == 1 && none.err.contains("tenant \"digits\": model \"tiny\" has no complete version in the store"), "{none:?}");
}
