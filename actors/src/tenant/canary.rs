//! A canary: a new version beside the one in service on every lane, for a share of the requests.

use std::sync::Arc;

use actix::prelude::*;
use migrator_solver::InstanceId;
use migrator_wire::client::WorkerHandle;
use migrator_wire::message::ModelKey;

use super::TenantActor;
use super::lane::{Lane, unload};
use crate::launcher::LaunchError;

/// Loads a version beside the one in service and lets it answer a share of the requests; resolves when every lane has it, or says why
/// one has not.
#[derive(Debug, Message)]
#[rtype(result = "Result<(), String>")]
pub struct BeginCanary {
    /// The version.
    pub version: u32,
    /// Share of the requests, 0..1.
    pub share: f64,
}

impl Handler<BeginCanary> for TenantActor {
    type Result = ResponseActFuture<Self, Result<(), String>>;

    fn handle(&mut self, message: BeginCanary, _: &mut Self::Context) -> Self::Result {
        let BeginCanary { version, share } = message;
        self.machine.canary_began(version, share);
        let lanes = self.lanes.iter().map(|(instance, lane)| (*instance, lane.handle.clone()));
        let loads: Vec<_> = lanes.map(|(instance, handle)| (instance, self.load_beside(handle, version))).collect();
        let all = async move {
            let mut loaded = Vec::new();
            for (instance, load) in loads {
                loaded.push((instance, load.await));
            }
            loaded
        };
        Box::pin(all.into_actor(self).map(move |loaded, actor, _| {
            // Every lane is told of, also those after one that failed: what is loaded is to be unloaded again.
            let each = loaded.into_iter().map(|(instance, result)| actor.has_canary(instance, version, result));
            each.fold(Ok(()), Result::and)
        }))
    }
}

/// The canary answers nothing more; another version follows.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct StopCanary;

impl Handler<StopCanary> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: StopCanary, _: &mut Self::Context) {
        self.machine.canary_stopped();
    }
}

impl TenantActor {
    fn load_beside(&self, handle: WorkerHandle, version: u32) -> impl Future<Output = Result<(), LaunchError>> + use<> {
        let (launcher, tenant) = (Arc::clone(&self.launcher), self.id);
        async move { launcher.load_beside(&handle, tenant, version).await }
    }

    /// A lane that is gone meanwhile needs no canary, and none does whose trial is over.
    fn has_canary(&mut self, instance: InstanceId, version: u32, result: Result<(), LaunchError>) -> Result<(), String> {
        let on_trial = self.machine.canary().is_some_and(|canary| canary.version == version);
        let wanted = self.version == version || self.swap.as_ref().is_some_and(|swap| swap.version == version);
        let Some(lane) = self.lanes.get_mut(&instance) else { return Ok(()) };
        result.map_err(|error| error.chain())?;
        if on_trial {
            let other = lane.canary.replace(version).filter(|other| *other != version);
            unload(lane.handle.clone(), other.map(ModelKey));
        } else if !wanted && lane.version != version {
            unload(lane.handle.clone(), [ModelKey(version)]);
        }
        Ok(())
    }

    /// A lane that came up during a canary gets it too.
    pub(super) fn load_canary(&mut self, instance: InstanceId, version: u32, ctx: &mut Context<Self>) {
        let Some(handle) = self.lanes.get(&instance).map(|lane| lane.handle.clone()) else { return };
        let load = self.load_beside(handle, version);
        ctx.spawn(load.into_actor(self).map(move |result, actor, _| {
            if let Err(reason) = actor.has_canary(instance, version, result) {
                tracing::warn!(tenant = %actor.name, instance = instance.0, reason, "this instance has no canary");
            }
        }));
    }

    /// A lane that loaded the canary: the version in service is loaded beside it before it opens. Where that cannot be had, the canary is
    /// rejected, and serves there alone until the version after it is loaded.
    pub(super) fn lane_with_canary(
        &mut self,
        instance: InstanceId,
        share: f64,
        handle: WorkerHandle,
        canary: u32,
        ctx: &mut Context<Self>,
    ) {
        let version = self.version;
        let load = self.load_beside(handle.clone(), version);
        ctx.spawn(load.into_actor(self).map(move |result, actor, ctx| {
            let key = ModelKey(canary);
            match result {
                Ok(()) => actor.open(instance, Lane { handle, key: ModelKey(version), version, canary: Some(canary), share }, ctx),
                // Its worker is gone, which is told elsewhere.
                Err(_) if !handle.is_alive() => {}
                Err(error) => {
                    let reason = error.chain();
                    tracing::warn!(tenant = %actor.name, instance = instance.0, version, reason, "the canary has nothing beside it here");
                    actor.machine.canary_failed(canary);
                    actor.open(instance, Lane { handle, key, version: canary, canary: None, share }, ctx);
                }
            }
        }));
    }

    /// Model and version that answer a batch of so many rows on a lane.
    pub(super) fn answers(&mut self, lane: InstanceId, evaluation: bool, rows: u32) -> Option<(WorkerHandle, ModelKey, u32)> {
        let Lane { handle, key, version, canary, .. } = self.lanes.get(&lane)?;
        match canary {
            Some(canary) if self.machine.to_canary(evaluation, rows) => Some((handle.clone(), ModelKey(*canary), *canary)),
            _ => Some((handle.clone(), *key, *version)),
        }
    }
}
