//! A canary: a new version beside the one in service on every lane, for a share of the requests.

use std::sync::Arc;

use actix::prelude::*;
use migrator_solver::InstanceId;
use migrator_wire::client::WorkerHandle;
use migrator_wire::message::ModelKey;

use super::TenantActor;
use super::lane::{Lane, LaneUp};
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
        Box::pin(
            all.into_actor(self).map(move |loaded, actor, _| {
                loaded.into_iter().try_for_each(|(instance, result)| actor.has_canary(instance, version, result))
            }),
        )
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

    /// A lane that is gone meanwhile needs no canary.
    fn has_canary(&mut self, instance: InstanceId, version: u32, result: Result<(), LaunchError>) -> Result<(), String> {
        let Some(lane) = self.lanes.get_mut(&instance) else { return Ok(()) };
        result.map_err(|error| error.chain())?;
        lane.canary = Some(version);
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

    /// A lane that loaded the newest version, which is the canary: the version in service is loaded beside it before it opens.
    pub(super) fn lane_with_canary(
        &mut self,
        instance: InstanceId,
        share: f64,
        handle: WorkerHandle,
        newest: u32,
        ctx: &mut Context<Self>,
    ) {
        let version = self.version;
        let load = self.load_beside(handle.clone(), version);
        ctx.spawn(load.into_actor(self).map(move |result, actor, ctx| {
            let canary = actor.machine.canary().filter(|canary| canary.version == newest);
            if result.is_err() || canary.is_none() {
                // The canary is over, or the old version cannot be had: the newest one serves.
                actor.machine.canary_ended();
                return actor.handle(LaneUp { instance, share, handle, version: newest }, ctx);
            }
            actor.handle(LaneUp { instance, share, handle, version }, ctx);
            if let Some(lane) = actor.lanes.get_mut(&instance) {
                lane.canary = Some(newest);
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
