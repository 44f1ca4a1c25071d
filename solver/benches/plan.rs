//! What a solve takes (`reference/ilp.md` section 6): a table of whole solves, from the problem to the audited plan.
//!
//! `cargo bench -p migrator-solver [-- INSTANCES]`: problems of `migrator-instances`, one thread, wall time.
#![allow(clippy::disallowed_methods, clippy::unwrap_used)]

use std::time::Instant;

use migrator_instances::snapshot::future;
use migrator_instances::{Known, Spec, Window, problem, snapshot, window};
use migrator_solver::problem::Scenario;
use migrator_solver::{
    Generation, InstanceId, InstanceState, Outcome, Planner, PolicyName, Problem, SolveOptions, Task, TaskKind, TenantId,
};

/// GPUs × tenants.
const SIZES: [(usize, usize); 5] = [(1, 4), (1, 8), (2, 8), (4, 12), (8, 16)];

fn main() {
    let instances = std::env::args().filter_map(|arg| arg.parse::<u64>().ok()).next().unwrap_or(200);
    println!("whole solves, ms; {instances} instances each, horizon 200 s, one thread");
    println!("{:<6} {:<22} {:>7} {:>8} {:>8} {:>8}  proven  mean gap", "size", "what", "solves", "p50", "p99", "max");
    for (gpus, tenants) in SIZES {
        cold(gpus, tenants, instances);
    }
    for (gpus, tenants) in SIZES {
        warm(gpus, tenants, (instances / 50).max(1));
    }
    for (gpus, tenants) in SIZES {
        monolith(gpus, tenants, (instances / 20).max(1));
    }
}

#[derive(Default)]
struct Row {
    ms: Vec<f64>,
    proven: usize,
    gap: f64,
}

impl Row {
    fn add(&mut self, ms: f64, outcome: &Outcome) {
        self.ms.push(ms);
        self.proven += usize::from(outcome.report.proven);
        self.gap += outcome.report.model_gap;
    }

    fn print(&mut self, size: &str, what: &str) {
        self.ms.sort_by(f64::total_cmp);
        let n = self.ms.len();
        let at = |share: f64| self.ms[((n as f64 * share) as usize).min(n - 1)];
        let (proven, gap) = (self.proven, 100.0 * self.gap / n as f64);
        println!("{size:<6} {what:<22} {n:>7} {:>8.2} {:>8.2} {:>8.2}  {proven}/{n}  {gap:.2} %", at(0.5), at(0.99), self.ms[n - 1]);
    }
}

fn timed(planner: &mut Planner, problem: &Problem, options: &SolveOptions) -> (f64, Outcome) {
    let began = Instant::now();
    let outcome = planner.solve(problem, None, options, &mut || began.elapsed().as_secs_f64()).unwrap();
    (1000.0 * began.elapsed().as_secs_f64(), outcome)
}

fn cold(gpus: usize, tenants: usize, instances: u64) {
    let options = SolveOptions { mip_gap: 0.01, time_limit_ms: 1000, ..SolveOptions::new(Generation(1)) };
    let mut row = Row::default();
    for seed in 0..instances {
        let problem = snapshot(&window(&Spec::new(gpus, tenants), seed), 0, seed);
        let (ms, outcome) = timed(&mut Planner::default(), &problem, &options);
        row.add(ms, &outcome);
    }
    row.print(&format!("{gpus}x{tenants}"), "cold to 1 %");
}

fn monolith(gpus: usize, tenants: usize, instances: u64) {
    let options = SolveOptions { policy: PolicyName::Monolith, mip_gap: 0.01, time_limit_ms: 10_000, ..SolveOptions::new(Generation(1)) };
    let mut row = Row::default();
    for seed in 0..instances {
        let problem = snapshot(&window(&Spec::new(gpus, tenants), seed), 0, seed);
        let (ms, outcome) = timed(&mut Planner::default(), &problem, &options);
        row.add(ms, &outcome);
    }
    row.print(&format!("{gpus}x{tenants}"), "monolith, 10 s limit");
}

/// One solve per second through whole windows, the plans carried out.
fn warm(gpus: usize, tenants: usize, windows: u64) {
    let mut row = Row::default();
    for seed in 0..windows {
        let window = window(&Spec::feasible(gpus, tenants), seed);
        let (mut planner, mut known) = (Planner::default(), Known::start(&window));
        for second in 0..window.seconds {
            known.second = second;
            known.demand = window.tenants.iter().map(|tenant| Scenario::certain(future(&window, tenant, second))).collect();
            let now = problem(&window, &known);
            let options = SolveOptions { mip_gap: 0.003, time_limit_ms: 1000, ..SolveOptions::new(Generation(1 + second as u64)) };
            let (ms, outcome) = timed(&mut planner, &now, &options);
            if second > 0 {
                row.add(ms, &outcome);
            }
            pass(&window, &now, &outcome, &mut known);
        }
    }
    row.print(&format!("{gpus}x{tenants}"), "warm loop to 0.3 %");
}

/// A second passes: the plan is carried out, what starts warms up, retrainings advance.
fn pass(window: &Window, now: &Problem, outcome: &Outcome, known: &mut Known) {
    let mut next = now.gpus.iter().flat_map(|gpu| &gpu.instances).map(|old| old.id.0).max().unwrap_or(0);
    for (gpu, target) in outcome.plan.gpus.iter().enumerate() {
        let start = |new: &migrator_solver::Allocation| {
            let old = now.gpus[gpu].instances.iter().find(|old| Some(old.id) == new.instance && old.task == new.task);
            next += 1;
            let warm_up_s = |task: Task| match task.kind {
                TaskKind::Inference => now.tenants[task.tenant.index()].load_s + 0.4,
                TaskKind::Retraining => now.tenants[task.tenant.index()].retraining.as_ref().map_or(0.0, |due| due.restore_s) + 0.4,
            };
            let ready_in_s = old.map_or_else(|| new.task.map_or(0.0, warm_up_s), |old| old.ready_in_s);
            let id = new.instance.unwrap_or(InstanceId(next));
            InstanceState { id, site: new.site, task: new.task, ready_in_s: (ready_in_s - 1.0).max(0.0), pinned: false }
        };
        known.instances[gpu] = target.allocations.iter().map(start).collect();
    }
    for gpu in 0..known.instances.len() {
        for index in 0..known.instances[gpu].len() {
            let instance = known.instances[gpu][index].clone();
            let Some(Task { tenant, kind: TaskKind::Retraining }) = instance.task else { continue };
            advance(window, known, gpu, &instance, tenant);
        }
    }
}

fn advance(window: &Window, known: &mut Known, gpu: usize, instance: &InstanceState, tenant: TenantId) {
    let index = tenant.index();
    let (Some(work), Some(left)) = (window.tenants[index].retraining, known.work_left[index]) else { return };
    if instance.ready_in_s <= 0.0 {
        let all_s = work.seconds(&window.models[window.gpus[gpu]])[instance.site.profile.index()];
        known.work_left[index] = Some(left - 1.0 / all_s).filter(|left| *left > 0.0);
        if known.work_left[index].is_none() {
            known.accuracy[index] = work.accuracy_after;
        }
    }
}
