use std::path::{Path, PathBuf};

use migrator_solver::PolicyName;

use super::{Overrides, Scenario};

/// Every file of a folder under `configs/scenario`.
fn files(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/scenario").join(folder);
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

fn load(path: &Path) -> Scenario {
    Scenario::load(path, &Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

const GOOD: &str = r#"
gpus = { catalog = "a100" }
seconds = 60
[[tenants]]
name = "vision"
curve = "resnet50"
slo_ms = 100
load = 0.5
arrivals = { kind = "poisson", rps = 1 }
"#;

fn parse(text: &str, overrides: &Overrides) -> Result<Scenario, String> {
    Scenario::parse(Path::new("x.toml"), text, overrides).map_err(|errors| errors.to_string())
}

/// What is wrong with the good file once this line is put in the place of that one.
fn wrong(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from));
    parse(&GOOD.replace(from, to), &Overrides::default()).unwrap_err()
}

#[test]
fn every_shipped_scenario_loads_and_asks_for_a_good_part_of_its_gpus() {
    for path in files("") {
        let scenario = load(&path);
        let demand = scenario.demand();
        println!("{} {:.2} + {:.2}", scenario.name(), demand.inference, demand.retraining);
        let most = if scenario.name() == "overload" { 2.0 } else { 0.95 };
        assert!((0.3..most).contains(&(demand.inference + demand.retraining)), "{} {demand:?}", scenario.name());
        let setup = scenario.setup(PolicyName::Migrator, scenario.seeds()[0]);
        let facts = scenario.facts(&setup);
        assert_eq!(facts.tenants.len(), setup.tenants.len());
        assert!(facts.tenants.iter().all(|tenant| tenant.future_rps.len() as u64 == setup.seconds));
    }
}

#[test]
fn every_scenario_on_real_traces_loads() {
    if super::data_folder().is_none_or(|folder| !folder.exists()) {
        eprintln!("skipped: no real data at ../shared/data or MIGRATOR_DATA");
        return;
    }
    for path in files("data") {
        let scenario = load(&path);
        println!("{} {:?}", scenario.name(), scenario.demand());
        let setup = scenario.setup(PolicyName::Migrator, 1);
        assert!(setup.tenants.iter().all(|tenant| tenant.arrivals.iter().any(|&count| count > 0)), "{}", scenario.name());
    }
}

#[test]
fn load_is_a_share_of_what_the_gpu_answers() {
    let scenario = parse(GOOD, &Overrides::default()).unwrap();
    assert!((scenario.demand().inference - 0.5).abs() < 1e-9);
    let twice = Overrides { scale: Some(2.0), ..Overrides::default() };
    assert!((parse(GOOD, &twice).unwrap().demand().inference - 1.0).abs() < 1e-9);
    // A second GPU does not bring its own demand along.
    let gpus = Overrides { gpu: Some(("a100".to_owned(), 2)), ..Overrides::default() };
    assert!((parse(GOOD, &gpus).unwrap().demand().inference - 0.25).abs() < 1e-9);
    let mean = |scenario: &Scenario| {
        let counts = scenario.setup(PolicyName::Migrator, 1).tenants[0].arrivals.clone();
        counts.iter().sum::<u32>() as f64 / counts.len() as f64
    };
    // Within half of 100 ms: 64 rows in 48.2 ms on 3g, 32 rows in 40.6 ms on 2g; 3g + 2g + 2g is the best cut.
    let capacity = 64.0 / 0.04818 + 2.0 * 32.0 / 0.04056;
    assert!((mean(&scenario) / (capacity / 2.0) - 1.0).abs() < 0.02, "{} {capacity}", mean(&scenario));
}

#[test]
fn arrivals_follow_from_seed_and_tenant_whatever_the_policy() {
    let scenario = load(&files("").into_iter().find(|path| path.ends_with("bursty.toml")).unwrap());
    let arrivals =
        |policy, seed| -> Vec<Vec<u32>> { scenario.setup(policy, seed).tenants.into_iter().map(|tenant| tenant.arrivals).collect() };
    let ours = arrivals(PolicyName::Migrator, 1);
    assert_eq!(ours, arrivals(PolicyName::Ekya, 1));
    assert_ne!(ours, arrivals(PolicyName::Migrator, 2));
    assert_ne!(ours[0], ours[1]);
}

#[test]
fn shares_are_as_fast_as_instances_of_as_many_sms_and_interfere() {
    let scenario = parse(GOOD, &Overrides::default()).unwrap();
    let (mig, mps) = (scenario.setup(PolicyName::Migrator, 1), scenario.setup(PolicyName::Ekya, 1));
    assert_eq!((mig.interference.inference, mps.times.create_s[0]), (0.0, 0.0));
    assert!(mps.interference.inference > 0.0 && mps.interference.retraining > mps.interference.inference);
    let ms = |setup: &migrator_sim::Setup, profile: usize| setup.tenants[0].speed[profile].core_ms(32);
    // 13 of 20 are 70 SMs, between the 56 of 4g and the 98 of 7g; the whole GPU is at most 108/98 of 7g.
    assert!(ms(&mps, 12) < ms(&mig, 3) && ms(&mps, 12) > ms(&mig, 4));
    assert!(ms(&mps, 19) <= ms(&mig, 4) && ms(&mps, 19) >= ms(&mig, 4) * 98.0 / 108.0);
    let sample_s = |setup: &migrator_sim::Setup, profile: usize| setup.tenants[0].learning.sample_s[profile];
    assert!(sample_s(&mps, 0) > sample_s(&mig, 0) && sample_s(&mps, 19) <= sample_s(&mig, 4));
}

#[test]
fn curves_end_at_the_largest_batch() {
    let text = GOOD.replace("slo_ms = 100", "slo_ms = 100\nmax_batch = 48");
    let setup = parse(&text, &Overrides::default()).unwrap().setup(PolicyName::Migrator, 1);
    let batches = |profile: usize| setup.tenants[0].speed[profile].points.iter().map(|point| point.batch).collect::<Vec<_>>();
    assert_eq!(batches(0), [1, 2, 4, 8, 16, 32]);
    assert_eq!(batches(4), [1, 2, 4, 8, 16, 32, 48]);
}

#[test]
fn a_bad_file_gets_a_line_for_every_defect() {
    let unknown = wrong("catalog = \"a100\"", "catalog = \"v100\"");
    assert!(unknown.starts_with("x.toml:2: gpus.catalog = \"v100\": must be one of a30 (A30-24GB), "), "{unknown}");
    let bare = wrong("catalog = \"a100\"", "catalog = \"h200\"");
    assert!(bare.starts_with("x.toml:2: gpus.catalog = \"h200\": no curve has figures for H200-SXM5-141GB: A100-SXM4-40GB, "), "{bare}");
    let curve = wrong("curve = \"resnet50\"", "curve = \"resnet\"");
    assert!(curve.contains("x.toml:6: tenants[0].curve = \"resnet\": must be a model with figures for A100-SXM4-80GB: bert, "), "{curve}");
    let slo = wrong("slo_ms = 100", "slo_ms = 2");
    assert_eq!(slo, "x.toml:7: tenants[0].slo_ms = 2: is too short for resnet50 on every profile, even for single requests");
    let big = wrong("slo_ms = 100", "slo_ms = 100\nmemory_mib = 90000");
    let most = "the largest has 80896 MiB";
    assert_eq!(big, format!("x.toml:8: tenants[0].memory_mib = 90000: is too big for every profile that resnet50 was measured on: {most}"));
    let training = wrong("slo_ms = 100", "slo_ms = 100\nretraining = { curve = \"alexnet\" }");
    assert!(training.contains("tenants[0].retraining.curve") && training.contains("say enabled = false"), "{training}");
    let batch = wrong("slo_ms = 100", "slo_ms = 100\nretraining = { batch = 7 }");
    assert!(batch.contains("measured on A100-SXM4-80GB with batches [8, 16, 32, 64, 128, 256] only"), "{batch}");
    let two = wrong("load = 0.5", "laod = 0.5\nweight = -1");
    assert_eq!(two.lines().count(), 2, "{two}");
    assert!(two.contains("unknown key; did you mean load?"), "{two}");
}

#[test]
fn bad_arrivals_get_a_line() {
    let arrivals = |to: &str| wrong("{ kind = \"poisson\", rps = 1 }", to);
    assert!(arrivals("{ kind = \"poison\", rps = 1 }").contains("must be \"poisson\" or \"mmpp\""));
    assert!(arrivals("{ kind = \"mmpp\", states = [{ rps = 1, stay_s = 9 }] }").contains("must be two states or more"));
    assert!(arrivals("{ kind = \"ramp\", from_rps = 1, to_rps = 2, from_s = 9, to_s = 1 }").contains("to_s = 1: must be at least from_s"));
    assert!(arrivals("{ kind = \"sum\", parts = [{ kind = \"step\", rps = 1, steps = [[9, 1], [3, 1]] }] }").contains("seconds rising"));
    assert!(arrivals("{ kind = \"poisson\", rps = 0 }").contains("tenants[0].load = 0.5: cannot be reached: nothing arrives"));
    let gone = arrivals("{ kind = \"trace\", file = \"nowhere.csv\" }");
    assert!(gone.starts_with("x.toml:9: tenants[0].arrivals.file = \"nowhere.csv\": nowhere.csv: cannot be read"), "{gone}");
    assert_eq!(gone.lines().count(), 1);
    let absent = arrivals("{ kind = \"trace\", file = \"data:nowhere.csv\" }");
    assert!(absent.contains("is not there: data: stands for the folder that MIGRATOR_DATA names"), "{absent}");
}

#[test]
fn a_trace_replaces_generated_arrivals_at_the_same_load() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("trace.csv");
    std::fs::write(&file, "second,count\n0,1\n1,3\n").unwrap();
    let with = |name: &str, file: &Path| Overrides { traces: vec![(name.to_owned(), file.to_owned())], ..Overrides::default() };
    let scenario = parse(GOOD, &with("vision", &file)).unwrap();
    assert!((scenario.demand().inference - 0.5).abs() < 1e-9);
    let counts = scenario.setup(PolicyName::Migrator, 1).tenants[0].arrivals.clone();
    let (even, odd): (u32, u32) = (counts.iter().step_by(2).sum(), counts.iter().skip(1).step_by(2).sum());
    assert!((f64::from(odd) / f64::from(even) - 3.0).abs() < 0.01, "{odd} {even}");
    assert_eq!(parse(GOOD, &with("text", &file)).unwrap_err(), "--trace: text: must be one of the tenants: vision");
    std::fs::write(&file, "second,count\n0,1\n2,3\n").unwrap();
    let gap = parse(GOOD, &with("vision", &file)).unwrap_err();
    assert!(gap.starts_with("--trace: vision=") && gap.contains("trace.csv:3: second 2 stands where second 1 is due"), "{gap}");
}

#[test]
fn another_gpu_needs_figures_or_a_likeness() {
    let gpu = |name: &str| Overrides { gpu: Some((name.to_owned(), 1)), ..Overrides::default() };
    assert!(parse(GOOD, &gpu("h100")).unwrap_err().starts_with("--gpu: h100: no curve has figures for H100-SXM5-80GB"));
    assert!(parse(GOOD, &gpu("a100-40gb")).is_ok());
    let like = GOOD.replace("catalog = \"a100\"", "catalog = \"h100\", like = \"a100\", speed = 2.0");
    let setup = parse(&like, &Overrides::default()).unwrap().setup(PolicyName::Migrator, 1);
    let own = parse(GOOD, &Overrides::default()).unwrap().setup(PolicyName::Migrator, 1);
    assert!((setup.tenants[0].speed[0].core_ms(8) * 2.0 - own.tenants[0].speed[0].core_ms(8)).abs() < 1e-9);
    assert!((setup.times.create_s[4] - 0.42).abs() < 1e-9 && (own.times.create_s[4] - 0.24).abs() < 1e-9);
}
