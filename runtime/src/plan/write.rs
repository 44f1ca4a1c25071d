//! From a problem to a file that means the same.

use std::collections::BTreeMap;
use std::fmt::Write;

use migrator_mig::Catalog;
use migrator_solver::{GpuModel, InstanceState, Problem, Scenario, SolveOptions, TenantState};
use serde::Serialize;

use super::file::{
    Cell, Costs, Course, Demand, Gpus, InstanceEntry, ModelEntry, ProblemFile, RetrainingEntry, ScenarioEntry, Table, TenantEntry,
};
use super::read::known;

impl ProblemFile {
    /// The file of a problem; reading it gives a problem with the same plans.
    pub fn of(problem: &Problem, options: &SolveOptions) -> ProblemFile {
        let costs = &problem.costs;
        ProblemFile {
            window_left_s: problem.window_left_s,
            beyond_window_s: problem.beyond_window_s,
            policy: Some(options.policy),
            horizon_s: Some(options.horizon_s),
            time_limit_ms: Some(options.time_limit_ms),
            min_gain: Some(options.min_gain),
            gpus: gpus(problem),
            costs: Costs { drain_s: costs.drain_s, handover_s: costs.handover_s, preload: costs.preload },
            models: problem.models.iter().map(model).collect(),
            instances: instances(problem),
            tenants: problem.tenants.iter().map(|state| tenant(problem, state)).collect(),
        }
    }

    /// As TOML, every tenant, instance and model a table of its own.
    pub fn to_toml(&self) -> String {
        let mut out = String::new();
        let text = &mut out;
        line(text, "window_left_s", &self.window_left_s);
        line(text, "beyond_window_s", &self.beyond_window_s);
        optional(text, "policy", self.policy.as_ref());
        optional(text, "horizon_s", self.horizon_s.as_ref());
        optional(text, "time_limit_ms", self.time_limit_ms.as_ref());
        optional(text, "min_gain", self.min_gain.as_ref());
        line(text, "gpus", &self.gpus);
        text.push_str("\n[costs]\n");
        table(text, &self.costs, &["drain_s", "handover_s", "preload"]);
        for model in &self.models {
            text.push_str("\n[[models]]\n");
            table(text, model, &["name", "memory_mib", "compute_slices", "memory_slices", "create_s", "destroy_s", "profiles"]);
        }
        for instance in &self.instances {
            text.push_str("\n[[instances]]\n");
            table(text, instance, &["id", "gpu", "profile", "start", "task", "tenant", "ready_in_s", "pinned"]);
        }
        for tenant in &self.tenants {
            text.push_str("\n[[tenants]]\n");
            table(text, tenant, &TENANT_KEYS);
        }
        out
    }
}

const TENANT_KEYS: [&str; 10] =
    ["name", "weight", "demand_rps", "capacity_rps", "memory_mib", "backlog", "accuracy", "load_s", "floor_rps", "retraining"];

/// The keys of a table in this order; those that serde left out are left out.
fn table(out: &mut String, value: &impl Serialize, order: &[&str]) {
    let Ok(toml::Value::Table(table)) = toml::Value::try_from(value) else { return };
    debug_assert!(table.keys().all(|key| order.contains(&key.as_str())), "{table:?}");
    for key in order {
        optional(out, key, table.get(*key));
    }
}

fn optional(out: &mut String, key: &str, value: Option<&impl Serialize>) {
    if let Some(value) = value {
        line(out, key, value);
    }
}

fn line(out: &mut String, key: &str, value: &impl Serialize) {
    if let Ok(value) = toml::Value::try_from(value) {
        let _ = writeln!(out, "{key} = {}", whole(value));
    }
}

/// Whole numbers without their `.0`.
fn whole(value: toml::Value) -> toml::Value {
    match value {
        toml::Value::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => toml::Value::Integer(number as i64),
        toml::Value::Array(items) => toml::Value::Array(items.into_iter().map(whole).collect()),
        toml::Value::Table(table) => toml::Value::Table(table.into_iter().map(|(key, value)| (key, whole(value))).collect()),
        other => other,
    }
}

fn gpus(problem: &Problem) -> Gpus {
    if problem.gpus.iter().all(|gpu| gpu.model == 0) {
        return Gpus::Count(u32::try_from(problem.gpus.len()).unwrap_or(u32::MAX));
    }
    Gpus::Models((0..problem.gpus.len()).map(|gpu| problem.catalog(gpu).name.clone()).collect())
}

fn model(model: &GpuModel) -> ModelEntry {
    let catalog = &model.catalog;
    let slice_mib = catalog.profiles.first().map_or(0, |profile| profile.memory_mib);
    let (create_s, destroy_s) = (seconds(catalog, &model.create_s), seconds(catalog, &model.destroy_s));
    let entry = ModelEntry { create_s, destroy_s, ..ModelEntry::named(&catalog.name) };
    if known(&catalog.name).as_ref() == Some(catalog) {
        entry
    } else if Catalog::seven_slices(&catalog.name, 8 * slice_mib) == *catalog {
        ModelEntry { memory_mib: Some(8 * slice_mib), ..entry }
    } else {
        let (compute_slices, memory_slices) = (Some(catalog.compute_slices), Some(catalog.memory_slices));
        ModelEntry { compute_slices, memory_slices, profiles: catalog.profiles.clone(), ..entry }
    }
}

fn seconds(catalog: &Catalog, by_profile: &[f64]) -> Cell {
    match by_profile.first() {
        Some(first) if by_profile.iter().all(|value| value == first) => Cell::Number(*first),
        _ => Cell::Table(named(catalog, by_profile, |_| true)),
    }
}

fn named(catalog: &Catalog, by_profile: &[f64], wanted: impl Fn(f64) -> bool) -> BTreeMap<String, f64> {
    let values = catalog.profile_ids().zip(by_profile).filter(|(_, value)| wanted(**value));
    values.map(|(id, value)| (catalog.short_name(id), *value)).collect()
}

fn by_model(problem: &Problem, values: &[Vec<f64>], wanted: impl Fn(f64) -> bool + Copy) -> Table {
    let tables = problem.models.iter().zip(values).map(|(model, values)| (&model.catalog, named(&model.catalog, values, wanted)));
    if problem.models.len() == 1 {
        return tables.flat_map(|(_, table)| table).map(|(profile, value)| (profile, Cell::Number(value))).collect();
    }
    tables.map(|(catalog, table)| (catalog.name.clone(), Cell::Table(table))).collect()
}

fn instances(problem: &Problem) -> Vec<InstanceEntry> {
    let entry = |gpu: usize, state: &InstanceState| {
        let name = |task: migrator_solver::Task| problem.tenants.get(task.tenant.index()).map(|tenant| tenant.name.clone());
        InstanceEntry {
            gpu,
            profile: problem.catalog(gpu).short_name(state.site.profile),
            start: state.site.placement.start,
            task: state.task.map(|task| task.kind),
            tenant: state.task.and_then(name),
            ready_in_s: state.ready_in_s,
            pinned: state.pinned,
            id: Some(state.id.0),
        }
    };
    let gpus = problem.gpus.iter().enumerate();
    gpus.flat_map(|(gpu, state)| state.instances.iter().map(move |instance| entry(gpu, instance))).collect()
}

fn tenant(problem: &Problem, state: &TenantState) -> TenantEntry {
    TenantEntry {
        name: state.name.clone(),
        weight: state.weight,
        demand_rps: demand(&state.demand),
        capacity_rps: by_model(problem, &state.capacity_rps, |rps| rps > 0.0),
        memory_mib: state.memory_mib,
        backlog: state.backlog,
        accuracy: state.accuracy,
        load_s: state.load_s,
        floor_rps: state.floor_rps,
        retraining: state.retraining.as_ref().map(|due| RetrainingEntry {
            seconds_left: by_model(problem, &due.seconds_left, |seconds| (0.0..f64::INFINITY).contains(&seconds)),
            accuracy_after: due.accuracy_after,
            restore_s: Some(due.restore_s),
            memory_mib: due.memory_mib,
        }),
    }
}

fn demand(scenarios: &[Scenario]) -> Demand {
    match scenarios {
        [] => Demand::Course(Course::Constant(0.0)),
        [only] => Demand::Course(course(&only.rps)),
        several => Demand::Scenarios(
            several.iter().map(|scenario| ScenarioEntry { probability: scenario.probability, rps: course(&scenario.rps) }).collect(),
        ),
    }
}

/// The shortest way to say it; the last value holds on, so its repetitions go.
fn course(rps: &[f64]) -> Course {
    let Some(last) = rps.last() else { return Course::Constant(0.0) };
    let length = rps.iter().rposition(|value| value != last).map_or(1, |before| before + 2);
    let rps = &rps[..length];
    let steps: Vec<usize> = (0..length).filter(|&second| second == 0 || rps[second] != rps[second - 1]).collect();
    match steps.len() {
        1 => Course::Constant(*last),
        // A step takes as much room as three values.
        changes if 3 * changes < length => Course::Steps(steps.into_iter().map(|second| (second.to_string(), rps[second])).collect()),
        _ => Course::Seconds(rps.to_vec()),
    }
}
