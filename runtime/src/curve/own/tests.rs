use std::collections::BTreeMap;

use migrator_mig::Catalog;
use migrator_models::{Architecture, Source};

use super::*;

fn spec() -> ModelSpec {
    let architecture = Architecture::Mlp { features: 4, hidden: vec![8] };
    let source = Source::Architecture { architecture };
    ModelSpec { name: "vision".into(), classes: 3, max_batch: 8, precision: Default::default(), source }
}

fn place() -> Place {
    Place { gpu: "cpu".into(), host: Some("a processor, 2.00 cores".into()) }
}

fn gpu() -> Gpu {
    Gpu { index: 0, uuid: "cpu-0".into(), catalog: Catalog::seven_slices("cpu", 7000), cores_per_slice: 2.0 / 7.0 }
}

fn measured() -> Own {
    let mut own = Own::new(&place());
    let inference = InferenceEntry {
        model: "vision".into(),
        spec: Some(digest(&spec())),
        memory_mib: Some(90),
        batch_ms: BTreeMap::from([("2g".into(), vec![(1, 4.0), (8, 16.0)]), ("7g".into(), vec![(1, 1.0), (8, 4.0)])]),
    };
    let training = TrainingEntry {
        model: "vision".into(),
        batch: 10,
        spec: Some(digest(&spec())),
        memory_mib: Some(200),
        core_s: Some(0.5),
        iteration_s: BTreeMap::from([("2g".into(), 1.0), ("7g".into(), 0.25)]),
    };
    own.put(inference, Some(training));
    own
}

#[test]
fn what_is_written_is_read_again_and_scenarios_can_read_it_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curves.toml");
    assert_eq!(Own::read(&path, &place()).unwrap(), None);
    measured().write(&path).unwrap();
    assert_eq!(Own::read(&path, &place()).unwrap(), Some(measured()));
    let mut library = Library::default();
    library.add(&path).unwrap();
    assert_eq!(library.inference("vision", "cpu").unwrap().on(7).unwrap(), [(1, 1.0), (8, 4.0)]);
    assert_eq!(library.training("vision", "cpu", None).unwrap().sample_s(7), 0.025);
}

#[test]
fn profiles_without_figures_do_not_fit() {
    let known = measured().of(&spec(), 10).unwrap();
    let on = known.on_profiles(&gpu());
    assert_eq!(on.len(), gpu().catalog.profiles.len());
    assert!(on[0].1.curve.points.is_empty());
    let (share, whole) = on.last().unwrap();
    assert_eq!((share.round(), whole.executors, whole.curve.core_ms(8)), (2.0, 2, 4.0));
    assert_eq!((known.memory_mib(), known.train_memory_mib(), known.sample_core_s()), (Some(90), Some(200), Some(0.05)));
    let speeds = known.train_speeds(&gpu()).unwrap();
    assert_eq!((speeds[0], speeds.last()), (0.0, Some(&2.0)));
    assert!(measured().of(&spec(), 11).unwrap().train_speeds(&gpu()).is_none());
}

#[test]
fn another_model_of_the_same_name_is_not_known() {
    let other = ModelSpec { classes: 4, ..spec() };
    assert!(measured().of(&other, 10).is_none());
    assert!(!measured().refine(&other, 2, 8, 20.0, 1.0));
}

#[test]
fn a_file_of_another_host_is_refused_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("curves.toml");
    measured().write(&path).unwrap();
    for (here, words) in [
        (Place { host: Some("a processor, 4.00 cores".into()), ..place() }, "measured on a processor, 2.00 cores"),
        (Place { gpu: "A100-SXM4-80GB".into(), host: None }, "measured on cpu, and this is A100-SXM4-80GB"),
    ] {
        let text = Own::read(&path, &here).unwrap_err().to_string();
        assert!(text.contains(words) && text.contains("curves.toml:"), "{text}");
    }
    std::fs::write(&path, "source = 1\ngpus = []").unwrap();
    assert!(Own::read(&path, &place()).is_err());
}

#[test]
fn what_is_observed_moves_the_figure_by_its_weight() {
    let mut own = measured();
    assert!(own.refine(&spec(), 2, 8, 20.0, 0.25));
    assert!(!own.refine(&spec(), 2, 4, 20.0, 0.25), "not measured");
    assert!(!own.refine(&spec(), 3, 8, 20.0, 0.25), "does not fit");
    assert!(!own.refine(&spec(), 2, 8, f64::NAN, 0.25));
    assert_eq!(own.of(&spec(), 10).unwrap().on_profiles(&gpu())[1].1.curve.core_ms(8), 17.0);
}

#[test]
fn figures_have_four_digits() {
    assert_eq!([rounded(0.123_456), rounded(98_765.4)], [0.1235, 98_770.0]);
}
