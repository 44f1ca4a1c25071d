//! What is on the device without our doing: left by an earlier run, made by somebody else, or lost.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use migrator_device::{DeviceError, DeviceEvent, Gpu, Instance, Usage};
use migrator_mig::{Catalog, Placement, ProfileId, Site};
use migrator_solver::{InstanceId, InstanceState, Task, TaskKind};

use super::{InventoryItem, MigrationActor};
use crate::launcher::one_line;
use crate::retraining::RetrainingLost;
use crate::tenant::LaneLost;

/// Between two looks at what instances are doing.
const USAGE_EVERY: Duration = Duration::from_secs(5);

/// What an actor remembers of the device's own doings.
#[derive(Debug, Default)]
pub(super) struct Ground {
    /// GPUs that do not answer.
    lost: BTreeSet<u32>,
    /// Something changed while a transition was under way: look when it is over.
    stale: bool,
    /// Where instances were when their doings were last told.
    told: BTreeSet<(u32, Placement)>,
}

impl MigrationActor {
    /// On a device where these instances exist already. Ours may be planned with, others' are planned around.
    #[must_use]
    pub fn adopting(mut self, found: Vec<Instance>) -> MigrationActor {
        for instance in &found {
            let whose = if instance.foreign { "somebody else's" } else { "left by an earlier run" };
            tracing::info!(instance = instance.id, gpu = instance.gpu, start = instance.site.placement.start, "{whose}: there already");
        }
        self.instances = found.into_iter().map(|instance| (InstanceId(instance.id), instance)).collect();
        self
    }

    pub(super) fn watch_device(&mut self, ctx: &mut Context<Self>) {
        let Some(events) = self.launcher.device.events() else { return };
        let (address, runtime) = (ctx.address(), self.launcher.runtime.clone());
        let forward = move || {
            for event in events {
                if runtime.block_on(address.send(DeviceNews(event))).is_err() {
                    return;
                }
            }
        };
        if let Err(error) = std::thread::Builder::new().name("device-events".to_owned()).spawn(forward) {
            tracing::error!(%error, "nobody listens to the device's events");
        }
        ctx.run_interval(USAGE_EVERY, |actor, ctx| actor.ask_usage(ctx));
    }

    /// Compares what is remembered with what is there, unless a transition is just changing it.
    pub(super) fn look_at_device(&mut self, ctx: &mut Context<Self>) {
        self.ground.stale = self.machine.running().is_some();
        if self.ground.stale || self.closing {
            return;
        }
        let device = Arc::clone(&self.launcher.device);
        let look = tokio::task::spawn_blocking(move || device.instances());
        ctx.spawn(look.into_actor(self).map(|found, actor, ctx| actor.compare(found, ctx)));
    }

    /// After a transition: what happened to the device meanwhile.
    pub(super) fn look_if_stale(&mut self, ctx: &mut Context<Self>) {
        if self.ground.stale {
            self.look_at_device(ctx);
        }
    }

    fn compare(&mut self, found: Result<Result<Vec<Instance>, DeviceError>, tokio::task::JoinError>, ctx: &mut Context<Self>) {
        if self.machine.running().is_some() {
            self.ground.stale = true;
            return;
        }
        let found = match found {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => return tracing::warn!(error = %one_line(&error), "the device could not be looked at"),
            Err(error) => return tracing::error!(%error, "looking at the device did not finish"),
        };
        let there: BTreeSet<InstanceId> = found.iter().map(|instance| InstanceId(instance.id)).collect();
        let gone: Vec<InstanceId> = self.instances.keys().copied().filter(|id| !there.contains(id)).collect();
        for id in gone {
            self.vanished(id, ctx);
        }
        for instance in found {
            let id = InstanceId(instance.id);
            self.instances.entry(id).or_insert_with(|| {
                tracing::warn!(instance = id.0, gpu = instance.gpu, foreign = instance.foreign, "an instance appeared");
                instance
            });
        }
    }

    /// An instance is gone without our doing, and with it whoever was on it.
    fn vanished(&mut self, id: InstanceId, ctx: &mut Context<Self>) {
        tracing::warn!(instance = id.0, "an instance is gone");
        self.instances.remove(&id);
        self.restarts.remove(&id);
        self.parting.remove(&id);
        let Some(bound) = self.bound.remove(&id) else { return };
        self.machine.instance_lost(self.now(), id);
        self.tell_lost(id, bound.task, ctx);
        actix::spawn(async move { bound.handle.kill().await });
    }

    /// A tenant learns that the worker on an instance is gone.
    pub(super) fn tell_lost(&self, instance: InstanceId, task: Task, ctx: &mut Context<Self>) {
        let Some(actors) = self.tenant(task).cloned() else { return };
        let tell = async move {
            match task.kind {
                TaskKind::Inference => actors.tenant.send(LaneLost { instance }).await,
                TaskKind::Retraining => actors.retraining.send(RetrainingLost { instance }).await,
            }
        };
        ctx.spawn(tell.into_actor(self).map(|result, _, _| {
            if let Err(error) = result {
                tracing::warn!(%error, "nobody heard of a lost worker");
            }
        }));
    }

    fn gpu_lost(&mut self, gpu: u32, ctx: &mut Context<Self>) {
        self.ground.lost.insert(gpu);
        let on_it = self.instances.iter().filter(|(_, instance)| instance.gpu == gpu);
        let gone: Vec<InstanceId> = on_it.map(|(id, _)| *id).collect();
        for id in gone {
            self.vanished(id, ctx);
        }
    }

    /// A GPU that does not answer has no room: for the planner it is one instance that stays as it is.
    pub(super) fn lost_gpus(&self) -> Vec<InventoryItem> {
        let lost = self.gpus.iter().filter(|gpu| self.ground.lost.contains(&gpu.index));
        let item = |gpu: &Gpu| InventoryItem {
            gpu: gpu.index,
            state: InstanceState {
                id: InstanceId(u64::MAX - u64::from(gpu.index)),
                site: whole(&gpu.catalog),
                task: None,
                ready_in_s: 0.0,
                pinned: true,
            },
            version: None,
            text: "lost",
            pid: None,
        };
        lost.map(item).collect()
    }

    fn ask_usage(&mut self, ctx: &mut Context<Self>) {
        let device = Arc::clone(&self.launcher.device);
        let ask = tokio::task::spawn_blocking(move || device.usage());
        ctx.spawn(ask.into_actor(self).map(|usage, actor, _| match usage {
            Ok(Ok(usage)) => actor.publish_usage(&usage),
            Ok(Err(error)) => tracing::debug!(error = %one_line(&error), "the device does not tell what instances are doing"),
            Err(error) => tracing::error!(%error, "asking what instances are doing did not finish"),
        }));
    }

    fn publish_usage(&mut self, usage: &[Usage]) {
        let mut told = BTreeSet::new();
        for of in usage {
            let Some(instance) = self.instances.get(&InstanceId(of.instance)) else { continue };
            crate::meter::usage(instance.gpu, instance.site.placement, of);
            told.insert((instance.gpu, instance.site.placement));
        }
        for &(gpu, placement) in self.ground.told.difference(&told) {
            crate::meter::usage(gpu, placement, &Usage { instance: 0, memory_mib: 0, processes: Vec::new(), busy: Some(0.0) });
        }
        self.ground.told = told;
    }
}

/// The site that takes the whole GPU.
fn whole(catalog: &Catalog) -> Site {
    let largest = catalog.profile_ids().max_by_key(|&id| catalog.profile(id).memory_slices).unwrap_or(ProfileId(0));
    Site { placement: Placement { start: 0, size: catalog.memory_slices }, profile: largest }
}

/// Something happened to the device.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub(super) struct DeviceNews(DeviceEvent);

impl Handler<DeviceNews> for MigrationActor {
    type Result = ();

    fn handle(&mut self, DeviceNews(event): DeviceNews, ctx: &mut Self::Context) {
        crate::meter::device_event(&event);
        match event {
            // A worker that dies of it is started again like any other.
            DeviceEvent::Xid { gpu, instance, code } => tracing::error!(gpu, instance, code, "the driver reports an Xid error"),
            DeviceEvent::Changed { gpu } => {
                tracing::info!(gpu, "somebody else changed the partition");
                self.look_at_device(ctx);
            }
            DeviceEvent::Lost { gpu } => {
                tracing::error!(gpu, "the GPU is lost");
                self.gpu_lost(gpu, ctx);
            }
            DeviceEvent::Back { gpu } => {
                tracing::info!(gpu, "the GPU is back");
                self.ground.lost.remove(&gpu);
                self.look_at_device(ctx);
            }
        }
    }
}
