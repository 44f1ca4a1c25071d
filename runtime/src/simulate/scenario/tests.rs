use std::path::{Path, PathBuf};

use migrator_solver::PolicyName;

use super::{Overrides, Scenario};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/scenario").join(name)
}

fn load(name: &str) -> Scenario {
    Scenario::load(&shipped(name), &Overrides::default()).unwrap_or_else(|errors| panic!("{errors}"))
}

#[test]
fn the_steady_scenario_loads_and_asks_for_a_good_part_of_its_gpu() {
    let scenario = load("steady.toml");
    let demand = scenario.demand();
    assert!((0.3..0.8).contains(&(demand.inference + demand.retraining)), "{demand:?}");
    let setup = scenario.setup(PolicyName::Migrator, 1);
    let facts = scenario.facts(&setup);
    assert_eq!(facts.tenants.len(), setup.tenants.len());
    assert_eq!(setup.tenants[0].arrivals, scenario.setup(PolicyName::Ekya, 1).tenants[0].arrivals);
    assert_ne!(setup.tenants[0].arrivals, scenario.setup(PolicyName::Migrator, 2).tenants[0].arrivals);
}
