//! Instances as lanes of a tenant: opened, drained, lost, and given a new version.

use actix::prelude::*;
use migrator_machine::tenant::{Accuracy, BatchTime, LaneSpec};
use migrator_solver::InstanceId;
use migrator_wire::client::WorkerHandle;
use migrator_wire::message::{ModelKey, ToWorker};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

use super::TenantActor;

/// A worker that serves this tenant.
pub(super) struct Lane {
    pub handle: WorkerHandle,
    pub key: ModelKey,
    pub version: u32,
    /// The canary, where it is loaded beside that.
    pub canary: Option<u32>,
    /// Cores of the instance.
    pub share: f64,
}

/// A version on its way to every lane.
pub(super) struct Swap {
    pub version: u32,
    prior: Accuracy,
    /// Lanes that have not answered yet.
    waiting: Vec<InstanceId>,
    failed: Option<String>,
    reply: oneshot::Sender<Result<(), String>>,
}

/// Instances of the same profile differ by less in their cores.
const SAME_SHARE: f64 = 1e-3;

/// How long batches took of late on each of the tenant's lanes.
#[derive(Debug, Message)]
#[rtype(result = "Vec<LaneTimes>")]
pub struct Times;

/// One lane's.
#[derive(Clone, Debug, PartialEq)]
pub struct LaneTimes {
    /// The instance.
    pub instance: InstanceId,
    /// Cores it has.
    pub share: f64,
    /// By size of the batch.
    pub times: Vec<BatchTime>,
}

impl Handler<Times> for TenantActor {
    type Result = MessageResult<Times>;

    fn handle(&mut self, _: Times, _: &mut Self::Context) -> Self::Result {
        let times = self.machine.batch_times();
        let of = |(instance, times)| Some(LaneTimes { instance, share: self.lanes.get(&instance)?.share, times });
        MessageResult(times.filter_map(of).collect())
    }
}

/// An instance is open for this tenant's requests.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LaneUp {
    /// The instance.
    pub instance: InstanceId,
    /// Cores it has.
    pub share: f64,
    /// Its worker.
    pub handle: WorkerHandle,
    /// The version loaded there.
    pub version: u32,
}

impl Handler<LaneUp> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: LaneUp, ctx: &mut Self::Context) {
        let LaneUp { instance, share, handle, version } = message;
        if self.machine.canary().is_some_and(|canary| canary.version == version) {
            return self.lane_with_canary(instance, share, handle, version, ctx);
        }
        self.open(instance, Lane { handle, key: ModelKey(version), version, canary: None, share }, ctx);
    }
}

/// Gives an instance no new requests; resolves when nothing is in flight there.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct DrainLane {
    /// The instance.
    pub instance: InstanceId,
}

impl Handler<DrainLane> for TenantActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: DrainLane, ctx: &mut Self::Context) -> Self::Result {
        let (done, drained) = oneshot::channel();
        self.drains.entry(message.instance).or_default().push(done);
        self.machine.drain(self.clock.now(), message.instance);
        self.pump(ctx);
        Box::pin(async move {
            let _ = drained.await;
        })
    }
}

/// An instance's worker is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct LaneLost {
    /// The instance.
    pub instance: InstanceId,
}

impl Handler<LaneLost> for TenantActor {
    type Result = ();

    fn handle(&mut self, message: LaneLost, ctx: &mut Self::Context) {
        self.lanes.remove(&message.instance);
        self.machine.lane_lost(self.clock.now(), message.instance);
        self.upgraded(message.instance, Err("its worker is gone".to_owned()));
        self.pump(ctx);
    }
}

/// Loads a version on every lane and lets it serve; resolves when all lanes answer with it, or says why they do not.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), String>")]
pub struct SwapVersion {
    /// The version.
    pub version: u32,
    /// Its accuracy at validation.
    pub accuracy: f64,
    /// Held-out samples.
    pub held_out: u64,
}

impl Handler<SwapVersion> for TenantActor {
    type Result = ResponseFuture<Result<(), String>>;

    fn handle(&mut self, message: SwapVersion, ctx: &mut Self::Context) -> Self::Result {
        let (reply, answer) = oneshot::channel();
        let prior = Accuracy { value: message.accuracy, samples: message.held_out as f64 };
        // Where it is the canary, it is loaded.
        let (ready, waiting): (Vec<InstanceId>, Vec<InstanceId>) =
            self.lanes.keys().partition(|instance| self.lanes[instance].canary == Some(message.version));
        ready.into_iter().for_each(|instance| self.switch(instance, message.version));
        self.swap = Some(Swap { version: message.version, prior, waiting: waiting.clone(), failed: None, reply });
        for instance in waiting {
            self.upgrade(instance, message.version, ctx);
        }
        self.finish_swap();
        self.pump(ctx);
        Box::pin(async move { answer.await.unwrap_or_else(|_| Err("superseded by a newer version".to_owned())) })
    }
}

impl TenantActor {
    /// Gives a lane requests; with a canary, and with the version in service, where it lacks one.
    pub(super) fn open(&mut self, instance: InstanceId, lane: Lane, ctx: &mut Context<Self>) {
        let (version, loaded, share) = (lane.version, lane.canary, lane.share);
        self.lanes.insert(instance, lane);
        let canary = self.machine.canary().map(|canary| canary.version);
        if let Some(canary) = canary.filter(|canary| loaded != Some(*canary) && version != *canary) {
            self.load_canary(instance, canary, ctx);
        }
        if self.version == 0 {
            self.in_service(version, None);
        }
        let measured = self.on_profile.iter().find(|(of, _)| (of - share).abs() < SAME_SHARE);
        let spec = measured.map_or_else(|| LaneSpec::cores(share), |(_, on)| LaneSpec::measured(on));
        self.machine.lane_up(self.clock.now(), instance, spec);
        // Loaded before the newest version was published: it follows the others.
        let newest = self.swap.as_ref().map_or(self.version, |swap| swap.version);
        if loaded == Some(newest) {
            self.switch(instance, newest);
        } else if version < newest {
            if let Some(swap) = &mut self.swap {
                swap.waiting.push(instance);
            }
            self.upgrade(instance, newest, ctx);
        }
        self.pump(ctx);
    }

    pub(super) fn drained(&mut self, lane: InstanceId) {
        self.lanes.remove(&lane);
        for done in self.drains.remove(&lane).unwrap_or_default() {
            let _ = done.send(());
        }
        self.forget_in_swap(lane);
    }

    fn in_service(&mut self, version: u32, prior: Option<Accuracy>) {
        self.version = version;
        self.flags.version.store(version, Ordering::Release);
        self.meter.version(version);
        self.machine.swapped(self.clock.now(), version, prior);
    }

    fn upgrade(&mut self, instance: InstanceId, version: u32, ctx: &mut Context<Self>) {
        let Some(lane) = self.lanes.get(&instance) else { return };
        let (launcher, handle, tenant) = (Arc::clone(&self.launcher), lane.handle.clone(), self.id);
        let load = async move { launcher.load_beside(&handle, tenant, version).await };
        ctx.spawn(load.into_actor(self).map(move |result, actor, ctx| {
            let result = result.map(|()| version).map_err(|error| error.chain());
            actor.upgraded(instance, result);
            actor.pump(ctx);
        }));
    }

    fn upgraded(&mut self, instance: InstanceId, result: Result<u32, String>) {
        match result {
            Ok(version) => self.switch(instance, version),
            Err(reason) => {
                if let Some(swap) = self.swap.as_mut().filter(|swap| swap.waiting.contains(&instance)) {
                    // A lane that is gone cannot answer with the old version either; the others decide.
                    if self.lanes.contains_key(&instance) {
                        swap.failed = Some(reason);
                    }
                }
            }
        }
        self.forget_in_swap(instance);
    }

    /// From now on the lane's batches go to the new version; the old one is forgotten once its batches are done.
    fn switch(&mut self, instance: InstanceId, version: u32) {
        let Some(lane) = self.lanes.get_mut(&instance).filter(|lane| lane.version < version) else { return };
        let old = std::mem::replace(&mut lane.key, ModelKey(version));
        lane.version = version;
        let rejected = lane.canary.take().filter(|canary| *canary != version).map(ModelKey);
        unload(lane.handle.clone(), std::iter::once(old).chain(rejected));
    }

    fn forget_in_swap(&mut self, instance: InstanceId) {
        if let Some(swap) = &mut self.swap {
            swap.waiting.retain(|waiting| *waiting != instance);
        }
        self.finish_swap();
    }

    fn finish_swap(&mut self) {
        if self.swap.as_ref().is_none_or(|swap| !swap.waiting.is_empty()) {
            return;
        }
        let Some(swap) = self.swap.take() else { return };
        if swap.failed.is_none() {
            self.in_service(swap.version, Some(swap.prior));
        }
        let _ = swap.reply.send(swap.failed.map_or(Ok(()), Err));
    }
}

/// Has a worker forget versions, each once its batches are done.
pub(super) fn unload(handle: WorkerHandle, keys: impl IntoIterator<Item = ModelKey>) {
    let keys: Vec<ModelKey> = keys.into_iter().collect();
    actix::spawn(async move {
        for key in keys {
            if let Err(error) = handle.call(ToWorker::Unload { key }, Vec::new()).await {
                tracing::debug!(%error, "a version was not unloaded");
            }
        }
    });
}
