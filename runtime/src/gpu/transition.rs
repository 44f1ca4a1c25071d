//! `migrator gpu plan-transition`: the steps from one partition to another, and what they are expected to take.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use migrator_mig::{Board, Catalog};
use migrator_solver::explain::{self, TimedStep};
use migrator_solver::{
    Allocation, Generation, GpuModel, GpuPlan, GpuState, InstanceId, InstanceState, Plan, Problem, RetrainingState, Scenario, Task,
    TenantId, TenantState, TransitionCosts, audit, schedule,
};
use serde_json::json;

use super::partition::{self, Written};
use crate::curve::Library;

/// Seconds assumed to start a worker and to load its model.
const LOAD_S: f64 = 3.0;
/// Seconds that a retraining is taken to last still; the steps do not depend on it.
const RETRAINING_S: f64 = 30.0;

/// A transition from one written partition to another.
pub(super) struct Asked {
    problem: Problem,
    plan: Plan,
}

impl Asked {
    /// # Errors
    /// What is wrong with which partition.
    pub(super) fn new(board: &Board, from: &str, to: &str, preload: bool) -> anyhow::Result<Asked> {
        let catalog = board.catalog();
        if catalog.profiles.is_empty() {
            bail!("{} has no MIG", board.name);
        }
        let before = partition::parse(&catalog, from).map_err(anyhow::Error::msg).context("--from")?;
        let after = partition::parse(&catalog, to).map_err(anyhow::Error::msg).context("--to")?;
        let mut tenants: Vec<String> = Vec::new();
        for (name, _) in before.iter().chain(&after).filter_map(|written| written.task.as_ref()) {
            if !tenants.contains(name) {
                tenants.push(name.clone());
            }
        }
        let retrains = |name: &String| {
            before.iter().chain(&after).filter_map(|written| written.task.as_ref()).any(|(of, retraining)| of == name && *retraining)
        };
        let (create_s, destroy_s) = seconds(&catalog)?;
        let instance = |(index, written): (usize, &Written)| InstanceState {
            id: InstanceId(index as u64 + 1),
            site: written.site,
            task: task(&tenants, written),
            ready_in_s: 0.0,
            pinned: false,
        };
        let instances: Vec<InstanceState> = before.iter().enumerate().map(instance).collect();
        let allocation = |written: &Written| Allocation {
            site: written.site,
            instance: instances.iter().find(|old| old.site == written.site).map(|old| old.id),
            task: task(&tenants, written),
        };
        let plan = Plan { generation: Generation(1), gpus: vec![GpuPlan { allocations: after.iter().map(allocation).collect() }] };
        let problem = Problem {
            tenants: tenants.iter().map(|name| tenant(name, &catalog, retrains(name))).collect(),
            models: vec![GpuModel { catalog, create_s, destroy_s }],
            gpus: vec![GpuState { model: 0, instances }],
            window_left_s: 60.0,
            beyond_window_s: 0.0,
            costs: TransitionCosts { drain_s: 0.2, handover_s: 0.2, preload },
        };
        match audit(&problem, &plan).first() {
            Some(defect) => bail!("--to: {defect}"),
            None => Ok(Asked { problem, plan }),
        }
    }

    fn steps(&self) -> Vec<TimedStep> {
        explain::steps(&self.problem, &self.plan)
    }

    /// As an operator reads it.
    pub(super) fn text(&self) -> String {
        let scheduled = schedule(&self.problem, &self.plan);
        let mut text = String::new();
        for timed in self.steps() {
            let after: Vec<String> = timed.step.after.iter().map(usize::to_string).collect();
            let after = if after.is_empty() { String::new() } else { format!(" (after {})", after.join(", ")) };
            let what = timed.step.step.describe(&self.problem);
            text += &format!("{:>6.2} s to {:>6.2} s  {:>2} {what}{after}\n", timed.begins_s, timed.ends_s, timed.step.id);
        }
        if text.is_empty() {
            return "nothing to do\n".to_owned();
        }
        text + &format!("{:.2} s in all, {:.2} s of service lost\n", scheduled.took_s, scheduled.lost_s)
    }

    /// As a program reads it.
    pub(super) fn json(&self) -> serde_json::Value {
        let scheduled = schedule(&self.problem, &self.plan);
        let step = |timed: &TimedStep| {
            json!({
                "id": timed.step.id,
                "what": timed.step.step.describe(&self.problem),
                "after": timed.step.after,
                "begins_s": timed.begins_s,
                "ends_s": timed.ends_s,
            })
        };
        json!({
            "steps": self.steps().iter().map(step).collect::<Vec<_>>(),
            "took_s": scheduled.took_s,
            "lost_s": scheduled.lost_s,
        })
    }
}

fn task(tenants: &[String], written: &Written) -> Option<Task> {
    let (name, retraining) = written.task.as_ref()?;
    let id = TenantId(tenants.iter().position(|tenant| tenant == name)? as u16);
    Some(if *retraining { Task::retraining(id) } else { Task::inference(id) })
}

/// A tenant of whom nothing is known but its name: what it gets done is proportional to compute slices.
fn tenant(name: &str, catalog: &Catalog, retrains: bool) -> TenantState {
    let due = || RetrainingState {
        seconds_left: vec![vec![RETRAINING_S; catalog.profiles.len()]],
        accuracy_after: 1.0,
        restore_s: LOAD_S,
        memory_mib: 0,
    };
    let rate = catalog.profiles.iter().map(|profile| f64::from(profile.compute_slices));
    TenantState {
        name: name.to_owned(),
        weight: 1.0,
        demand: Scenario::certain(vec![1.0]),
        capacity_rps: vec![rate.collect()],
        memory_mib: 0,
        backlog: 0.0,
        accuracy: 1.0,
        load_s: LOAD_S,
        retraining: retrains.then(due),
        floor_rps: 0.0,
    }
}

/// Seconds to create and to destroy an instance by profile: measured ones, an A100's where there are none.
fn seconds(catalog: &Catalog) -> anyhow::Result<(Vec<f64>, Vec<f64>)> {
    let library = Library::shipped().map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let measured = library.instances(&catalog.name).or_else(|| library.instances("A100-SXM4-80GB"));
    let of = |table: Option<&BTreeMap<u8, f64>>| {
        let of = |slices: u8| table.and_then(|table| table.range(slices..).next().or(table.iter().next_back())).map_or(0.2, |(_, s)| *s);
        catalog.profiles.iter().map(|profile| of(profile.compute_slices)).collect()
    };
    Ok((of(measured.map(|m| &m.create_s)), of(measured.map(|m| &m.destroy_s))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(from: &str, to: &str) -> anyhow::Result<Asked> {
        Asked::new(migrator_mig::board::find("a100").unwrap(), from, to, true)
    }

    #[test]
    fn a_transition_is_told_step_by_step() {
        let text = asked("7g@0=vision", "4g@0=vision 3g@4=text").unwrap().text();
        assert!(text.contains("destroy #1 7g@0") && text.contains("create 4g@0") && text.contains("admit text"), "{text}");
        assert_eq!(asked("4g@0=vision", "4g@0=vision").unwrap().text(), "nothing to do\n");
        let text = asked("4g@0=vision 3g@4=text/retraining", "4g@0=vision 2g@4=text/retraining").unwrap().text();
        assert!(text.contains("create 2g@4"), "{text}");
    }

    #[test]
    fn what_is_wrong_says_where() {
        let refused = |from: &str, to: &str| format!("{:#}", asked(from, to).err().unwrap());
        assert!(refused("9g@0", "").starts_with("--from: "));
        assert!(refused("", "4g@0 7g@0").starts_with("--to: "));
    }
}
