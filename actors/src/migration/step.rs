//! One step each: what the machine wishes, done.

use std::future::Future;
use std::sync::{Arc, PoisonError};

use actix::prelude::*;
use migrator_device::{Device, DeviceError, Instance};
use migrator_machine::migration::{StepError, StepOk};
use migrator_solver::{InstanceId, SiteKey, Step, Target, Task, TaskKind};
use migrator_wire::client::WorkerHandle;
use tokio::sync::oneshot;

use super::{Bound, BoundState, MigrationActor, TenantActors};
use crate::launcher::{LaunchError, RELEASE, Started};
use crate::retraining::{Placed, TakeAway};
use crate::tenant::{DrainLane, LaneUp};

type StepResult = Result<StepOk, StepError>;

fn failed(error: impl std::fmt::Display) -> StepError {
    StepError::Failed(error.to_string())
}

impl MigrationActor {
    pub(super) fn carry_out(&mut self, id: usize, step: Step, instance: Option<InstanceId>, attempt: u32, ctx: &mut Context<Self>) {
        tracing::debug!(id, ?step, ?instance, attempt, "step");
        match (step, instance) {
            (Step::Preload { target, task }, _) => self.preload(id, target, task, ctx),
            (Step::Create { key }, _) => self.create(id, key, ctx),
            (Step::Drain { task, .. }, Some(instance)) => self.drain(id, instance, task, ctx),
            (Step::Release { .. }, Some(instance)) => self.release(id, instance, ctx),
            (Step::Destroy { .. }, Some(instance)) => self.destroy(id, instance, ctx),
            (Step::Bind { target, task }, Some(instance)) => self.bind(id, target, instance, task, ctx),
            (Step::Admit { task, .. }, Some(instance)) => self.admit(id, instance, task, ctx),
            (_, None) => self.done(id, Err(failed("its instance does not exist")), ctx),
        }
    }

    fn done(&mut self, id: usize, result: StepResult, ctx: &mut Context<Self>) {
        self.machine.done(self.now(), id, result);
        self.pump(ctx);
    }

    /// Awaits `work`, lets `after` take its result in, reports what that says.
    fn then<T: 'static>(
        &mut self,
        id: usize,
        work: impl Future<Output = T> + 'static,
        after: impl FnOnce(&mut Self, T, &mut Context<Self>) -> StepResult + 'static,
        ctx: &mut Context<Self>,
    ) {
        ctx.spawn(work.into_actor(self).map(move |result, actor, ctx| {
            let result = after(actor, result, ctx);
            if let Err(error) = &result {
                tracing::warn!(id, %error, "step failed");
            }
            actor.machine.done(actor.now(), id, result);
            actor.pump(ctx);
        }));
    }

    fn preload(&mut self, id: usize, target: Target, task: Task, ctx: &mut Context<Self>) {
        let launcher = Arc::clone(&self.launcher);
        let stage = async move { launcher.stage(task).await };
        let after = move |actor: &mut Self, result: Result<Started, LaunchError>, _: &mut Context<Self>| {
            let started = result.map_err(|error| failed(error.chain()))?;
            actor.staged.insert((target, task), started);
            Ok(StepOk::default())
        };
        self.then(id, stage, after, ctx);
    }

    fn create(&mut self, id: usize, key: SiteKey, ctx: &mut Context<Self>) {
        let Some(gpu) = self.gpus.get(key.gpu).map(|gpu| gpu.index) else {
            return self.done(id, Err(failed(format!("there is no GPU {}", key.gpu))), ctx);
        };
        let device = Arc::clone(&self.launcher.device);
        let cutting = Arc::clone(&self.cutting);
        let create = tokio::task::spawn_blocking(move || {
            let _cutting = cutting.read().unwrap_or_else(PoisonError::into_inner);
            device.create(gpu, key.site)
        });
        let after = |actor: &mut Self, result: Result<Result<Instance, DeviceError>, _>, _: &mut Context<Self>| {
            let made: Instance = result.map_err(|error: tokio::task::JoinError| failed(error))?.map_err(device_error)?;
            let instance = InstanceId(made.id);
            actor.instances.insert(instance, made);
            Ok(StepOk { instance: Some(instance) })
        };
        self.then(id, create, after, ctx);
    }

    fn destroy(&mut self, id: usize, instance: InstanceId, ctx: &mut Context<Self>) {
        let device = Arc::clone(&self.launcher.device);
        let cutting = Arc::clone(&self.cutting);
        let destroy = tokio::task::spawn_blocking(move || {
            let _cutting = cutting.read().unwrap_or_else(PoisonError::into_inner);
            device.destroy(instance.0)
        });
        let after = move |actor: &mut Self, result: Result<Result<(), DeviceError>, tokio::task::JoinError>, _: &mut Context<Self>| {
            result.map_err(failed)?.map_err(device_error)?;
            actor.instances.remove(&instance);
            actor.restarts.remove(&instance);
            Ok(StepOk::default())
        };
        self.then(id, destroy, after, ctx);
    }

    fn drain(&mut self, id: usize, instance: InstanceId, task: Task, ctx: &mut Context<Self>) {
        if let Some(bound) = self.bound.get_mut(&instance) {
            bound.state = BoundState::Draining;
        }
        // One that has left holds nothing any more.
        let Some(actors) = self.tenant(task).cloned() else { return self.done(id, Ok(StepOk::default()), ctx) };
        match task.kind {
            TaskKind::Inference => {
                let drain = actors.tenant.send(DrainLane { instance });
                self.then(id, drain, |_, result, _| result.map(|()| StepOk::default()).map_err(failed), ctx);
            }
            TaskKind::Retraining => self.drain_retraining(id, instance, &actors, ctx),
        }
    }

    /// Where the device can take a running process off its instance, the last step and the checkpoint are done outside: on a small
    /// instance they take seconds, in which its heir would wait.
    fn drain_retraining(&mut self, id: usize, instance: InstanceId, actors: &TenantActors, ctx: &mut Context<Self>) {
        let device = Arc::clone(&self.launcher.device);
        let pid = self.bound.get(&instance).map(|bound| bound.handle.pid());
        let taken = actors.retraining.send(TakeAway { instance });
        let drain = async move {
            match pid {
                Some(pid) if off_instance(device, pid).await => {}
                _ => return taken.await.map(|()| None),
            }
            let (done, written) = oneshot::channel();
            actix::spawn(async move {
                // Whatever became of it, nobody need wait any longer.
                let _ = taken.await;
                let _ = done.send(());
            });
            Ok(Some(written))
        };
        let after = move |actor: &mut Self, result: Result<Option<oneshot::Receiver<()>>, MailboxError>, _: &mut Context<Self>| {
            if let Some(written) = result.map_err(failed)? {
                actor.parting.insert(instance, written);
            }
            Ok(StepOk::default())
        };
        self.then(id, drain, after, ctx);
    }

    fn release(&mut self, id: usize, instance: InstanceId, ctx: &mut Context<Self>) {
        // Forgotten first, so that its exit is no loss.
        let bound = self.bound.remove(&instance);
        let (parting, handle) = (self.parting.remove(&instance), bound.map(|bound| bound.handle));
        self.leaving.retain(WorkerHandle::is_alive);
        self.leaving.extend(handle.clone());
        let device = Arc::clone(&self.launcher.device);
        let release = async move {
            let Some(handle) = handle else { return };
            // A process takes long to end on a small instance: where the device lets it, it ends outside, and its heir need not wait.
            let off = parting.is_some() || off_instance(device, handle.pid()).await;
            let end = async move {
                if let Some(written) = parting {
                    let _ = written.await;
                }
                handle.shutdown(RELEASE).await;
            };
            if off {
                actix::spawn(end);
            } else {
                end.await;
            }
        };
        self.then(id, release, |_, (), _| Ok(StepOk::default()), ctx);
    }

    fn bind(&mut self, id: usize, target: Target, instance: InstanceId, task: Task, ctx: &mut Context<Self>) {
        let launcher = Arc::clone(&self.launcher);
        let staged = self.staged.remove(&(target, task)).filter(|started| started.handle.is_alive());
        let share = self.share(instance);
        let bind = async move {
            match staged {
                Some(mut started) => launcher.place(&mut started, instance.0, share).await.map(|()| started),
                None => launcher.start_on(task, instance.0, share).await,
            }
        };
        let after = move |actor: &mut Self, result: Result<Started, LaunchError>, ctx: &mut Context<Self>| {
            let started = result.map_err(|error| failed(error.chain()))?;
            if !actor.instances.contains_key(&instance) {
                // Dropping the handle ends the process.
                return Err(failed(format!("instance {} went away while its worker was bound", instance.0)));
            }
            actor.take_in(instance, task, started, ctx);
            Ok(StepOk::default())
        };
        self.then(id, bind, after, ctx);
    }

    /// Share of an instance; of one that is gone meanwhile, which the device will say, any.
    pub(super) fn share(&self, instance: InstanceId) -> f64 {
        self.instances.get(&instance).map_or(1.0, |made| made.share)
    }

    /// A worker is on its instance: remembered, and watched from now on.
    pub(super) fn take_in(&mut self, instance: InstanceId, task: Task, started: Started, ctx: &mut Context<Self>) {
        let Started { handle, exit, version, .. } = started;
        self.watch(instance, task, handle.pid(), exit, ctx);
        self.bound.insert(instance, Bound { task, handle, version, state: BoundState::Loading });
    }

    fn admit(&mut self, id: usize, instance: InstanceId, task: Task, ctx: &mut Context<Self>) {
        let admitted = match self.open(instance, task) {
            Ok(admitted) => admitted,
            Err(error) => return self.done(id, Err(error), ctx),
        };
        // A retraining that was to leave and stays after all is off its instance.
        let handle = self.bound.get(&instance).map(|bound| bound.handle.clone());
        let back = self.parting.remove(&instance).zip(handle);
        let (launcher, share) = (Arc::clone(&self.launcher), self.share(instance));
        let admit = async move {
            if let Some((written, handle)) = back {
                let _ = written.await;
                launcher.put_back(&handle, instance.0, share).await.map_err(|error| failed(error.chain()))?;
            }
            admitted.await.map(|()| StepOk::default()).map_err(failed)
        };
        self.then(id, admit, |_, result, _| result, ctx);
    }

    /// Opens a bound worker for its task's work.
    pub(super) fn open(
        &mut self,
        instance: InstanceId,
        task: Task,
    ) -> Result<impl Future<Output = Result<(), MailboxError>> + use<>, StepError> {
        let share = self.instances.get(&instance).ok_or_else(|| failed("its instance does not exist"))?.share;
        let actors = self.tenant(task).cloned().ok_or_else(|| failed("its tenant has left"))?;
        let bound = self.bound.get_mut(&instance).filter(|bound| bound.task == task).ok_or_else(|| failed("its worker is gone"))?;
        bound.state = BoundState::Serving;
        let (handle, version) = (bound.handle.clone(), bound.version);
        Ok(async move {
            match task.kind {
                TaskKind::Inference => actors.tenant.send(LaneUp { instance, share, handle, version: version.unwrap_or(0) }).await,
                TaskKind::Retraining => actors.retraining.send(Placed { instance, handle }).await,
            }
        })
    }
}

/// Takes a running process off its instance, where the device can.
async fn off_instance(device: Arc<dyn Device>, pid: u32) -> bool {
    matches!(tokio::task::spawn_blocking(move || device.stage(pid)).await, Ok(Ok(())))
}

fn device_error(error: DeviceError) -> StepError {
    match error {
        DeviceError::InUse { .. } => StepError::InUse,
        other => failed(crate::launcher::one_line(&other)),
    }
}
