//! The view: what the outside may see.

use std::sync::Arc;

use migrator_machine::MigrationReport;
use migrator_mig::{Partition, Site};
use migrator_solver::{Plan, Task, TaskKind};

use super::CoordinatorActor;
use crate::meter;
use crate::view::{GpuView, InstanceView, ReconfigurationView, TenantView, View, WindowView};

/// Reconfigurations remembered in the view.
const HISTORY: usize = 32;

impl CoordinatorActor {
    pub(super) fn publish(&self) {
        let tenants = self.tenant_views();
        self.instance_metrics();
        let view = View {
            uptime_s: self.now().as_secs(),
            ready: tenants.iter().all(|tenant| tenant.ready),
            tenants,
            partition: self.gpu_views(),
            plan: self.machine.plan().map(|(plan, report)| (plan.clone(), report.clone())),
            solved: self.solved.clone(),
            changed: self.changed.clone(),
            window: self.machine.window(self.now()),
            reconfigurations: self.reconfigurations,
            history: self.history.clone(),
        };
        self.parts.view.send_replace(Arc::new(view));
    }

    fn tenant_views(&self) -> Vec<TenantView> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let capacity = self.machine.capacity_rps();
        let config = self.machine.config();
        let view = |(index, seen): (usize, &Option<(super::Collected, super::RetrainingSeen)>)| {
            let (collected, retraining) = seen.as_ref()?;
            let (totals, telemetry) = (&collected.totals, &collected.telemetry);
            let slo_attainment = meter::attainment(totals);
            let accuracy = collected.accuracy.map(|accuracy| accuracy.value);
            Some(TenantView {
                name: config.tenants[index].name.clone(),
                model: self.parts.models[index].clone(),
                version: collected.version,
                slo_ms: config.tenants[index].slo_ms,
                ready: telemetry.lanes_up > 0,
                requests: totals.arrived,
                ok: totals.ok,
                late: totals.late,
                shed: totals.shed,
                error: totals.error,
                slo_attainment,
                accuracy,
                goodput: totals.ok as f64 * accuracy.unwrap_or(1.0),
                queue_depth: telemetry.queue_depth,
                arrival_rps: telemetry.arrivals as f64 / telemetry.seconds.max(0.1),
                capacity_rps: capacity.get(index).copied().unwrap_or(0.0),
                retraining: retraining.status.text.clone(),
                windows: retraining
                    .history
                    .iter()
                    .map(|result| WindowView {
                        window: result.window,
                        accuracy_before: result.before,
                        accuracy_after: result.after,
                        published: result.published,
                        core_s: result.core_s,
                    })
                    .collect(),
            })
        };
        seen.tenants.iter().enumerate().filter_map(view).collect()
    }

    fn gpu_views(&self) -> Vec<GpuView> {
        let Some(seen) = &self.seen else { return Vec::new() };
        let names = &self.machine.config().tenants;
        let serving = |task: Option<Task>| {
            let tenant = task.and_then(|task| seen.tenants.get(task.tenant.index())?.as_ref());
            tenant.map_or(0, |(tenant, _)| tenant.version)
        };
        self.parts
            .gpus
            .iter()
            .map(|gpu| {
                let items: Vec<_> = seen.inventory.items.iter().filter(|item| item.gpu == gpu.index).collect();
                let instances = items
                    .iter()
                    .map(|item| InstanceView {
                        id: item.state.id.0,
                        profile: gpu.catalog.profile(item.state.site.profile).name.clone(),
                        start: item.state.site.placement.start,
                        size: item.state.site.placement.size,
                        tenant: item.state.task.map(|task| names[task.tenant.index()].name.clone()),
                        task: item.state.task.map(|task| task_name(task.kind).to_owned()),
                        // Every lane has the version in service, whichever its worker was started with.
                        version: item.version.map(|loaded| loaded.max(serving(item.state.task))),
                        state: item.text.to_owned(),
                        pid: item.pid,
                    })
                    .collect();
                let sites = items.iter().map(|item| item.state.site).collect();
                GpuView { uuid: gpu.uuid.clone(), catalog: gpu.catalog.name.clone(), text: describe(gpu, sites), instances }
            })
            .collect()
    }

    /// The partition in force as text, all GPUs.
    pub(super) fn partition_text(&self) -> String {
        self.gpu_views().iter().map(|gpu| gpu.text.clone()).collect::<Vec<_>>().join(" | ")
    }

    /// A plan's partition as text, all GPUs.
    pub(super) fn text_of(&self, plan: &Plan) -> String {
        let texts = self.parts.gpus.iter().zip(&plan.gpus);
        texts.map(|(gpu, plan)| describe(gpu, plan.allocations.iter().map(|a| a.site).collect())).collect::<Vec<_>>().join(" | ")
    }

    pub(super) fn remember(&mut self, report: &MigrationReport, from: String, to: String) {
        self.reconfigurations += 1;
        if self.history.len() == HISTORY {
            self.history.remove(0);
        }
        self.history.push(ReconfigurationView {
            generation: report.generation.0,
            at_s: report.began_s,
            took_s: report.took_s,
            lost_s: report.lost_s,
            idle_slice_s: report.idle_slice_s,
            from,
            to,
            steps: report.by_kind().into_iter().map(|(kind, seconds)| (kind.name().to_owned(), seconds)).collect(),
        });
    }

    fn instance_metrics(&self) {
        let Some(seen) = &self.seen else { return };
        let served = self.machine.config().tenants.iter().enumerate().filter(|(index, _)| self.machine.serves(*index));
        for (index, tenant) in served {
            for kind in [TaskKind::Inference, TaskKind::Retraining] {
                let of_task = seen
                    .inventory
                    .items
                    .iter()
                    .filter(|item| item.state.task.is_some_and(|task| task.tenant.index() == index && task.kind == kind));
                let (mut count, mut slices) = (0.0, 0.0);
                for item in of_task {
                    count += 1.0;
                    slices += self
                        .parts
                        .gpus
                        .get(item.gpu as usize)
                        .map_or(0.0, |gpu| f64::from(gpu.catalog.profile(item.state.site.profile).compute_slices));
                }
                meter::instances(&tenant.name, task_name(kind), count, slices);
            }
        }
    }
}

fn task_name(kind: TaskKind) -> &'static str {
    match kind {
        TaskKind::Inference => "inference",
        TaskKind::Retraining => "retraining",
    }
}

fn describe(gpu: &migrator_device::Gpu, sites: Vec<Site>) -> String {
    match Partition::new(&gpu.catalog, sites) {
        Ok(partition) => partition.describe(&gpu.catalog),
        // Between destroy and create the inventory may lag behind; an operator is better told than misled.
        Err(error) => format!("inconsistent: {error}"),
    }
}
