//! Small problems for the tests of this crate.

pub mod mixed;

use migrator_mig::{Catalog, Placement, ProfileId, Site};

use crate::problem::{
    GpuModel, GpuState, InstanceId, InstanceState, Problem, RetrainingState, Scenario, Task, TenantState, TransitionCosts,
};

/// Memory slices by profile of the 7-slice catalog.
const SIZES: [u8; 5] = [1, 2, 4, 4, 8];

pub fn site(profile: u8, start: u8) -> Site {
    Site { placement: Placement { start, size: SIZES[usize::from(profile)] }, profile: ProfileId(profile) }
}

pub fn instance(id: u64, profile: u8, start: u8, task: Option<Task>) -> InstanceState {
    InstanceState { id: InstanceId(id), site: site(profile, start), task, ready_in_s: 0.0, pinned: false }
}

/// A tenant of constant demand; one compute slice gives 10 requests/s, more give a little less than in proportion.
pub fn tenant(name: &str, demand_rps: f64) -> TenantState {
    TenantState {
        name: name.to_owned(),
        weight: 1.0,
        demand: Scenario::certain(vec![demand_rps; 60]),
        capacity_rps: vec![vec![10.0, 19.0, 27.0, 35.0, 58.0]],
        memory_mib: 0,
        backlog: 0.0,
        accuracy: 0.7,
        load_s: 2.0,
        retraining: None,
        floor_rps: 0.0,
    }
}

pub fn due(seconds_on_1g: f64, accuracy_after: f64) -> Option<RetrainingState> {
    let seconds_left = vec![[1.0, 1.9, 2.7, 3.5, 5.8].iter().map(|speed| seconds_on_1g / speed).collect()];
    Some(RetrainingState { seconds_left, accuracy_after, restore_s: 3.0, memory_mib: 0 })
}

/// One empty 7-slice GPU, 200 s of window left, the device's costs as measured on an A100 (`reference/nvml-mig.md`: 0.1 to 0.4 s).
pub fn problem(tenants: Vec<TenantState>) -> Problem {
    Problem {
        models: vec![GpuModel {
            catalog: Catalog::seven_slices("A100-SXM4-80GB", 80 * 1024),
            create_s: vec![0.3; 5],
            destroy_s: vec![0.2; 5],
        }],
        gpus: vec![GpuState { model: 0, instances: Vec::new() }],
        tenants,
        window_left_s: 200.0,
        beyond_window_s: 0.0,
        costs: TransitionCosts { drain_s: 0.2, handover_s: 0.3, preload: true },
    }
}
