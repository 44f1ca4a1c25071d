//! A version on its way into service: published, tried as a canary, swapped in, taken back.

use std::sync::Arc;

use actix::prelude::*;
use metrics::counter;
use migrator_models::Trained;
use migrator_models::store::Manifest;

use super::RetrainingActor;
use crate::launcher::one_line;
use crate::tenant::{AskLive, BeginCanary, StopCanary, SwapVersion};

impl RetrainingActor {
    pub(super) fn publish(&mut self, window: u64, ctx: &mut Context<Self>) {
        let Some(run) = &self.run else {
            self.machine.published(self.now(), Err("nothing was trained".to_owned()));
            return;
        };
        let (store, spec, out, keep) =
            (Arc::clone(&self.parts.store), Arc::clone(&self.parts.spec), run.out.clone(), self.parts.keep_versions);
        let Trained { before, after, held_out: samples, .. } = self.trained.unwrap_or_default();
        let manifest = Manifest {
            parent: run.parent.map(u64::from),
            accuracy_before: Some(before),
            accuracy_after: Some(after),
            samples,
            ..Manifest::new((*spec).clone())
        };
        let on_trial = self.machine.canary_follows();
        let publish = tokio::task::spawn_blocking(move || {
            let published = match on_trial {
                true => store.publish_on_trial(&spec.name, &out, manifest),
                false => store.publish(&spec.name, &out, manifest),
            };
            let version = published.map_err(|error| one_line(&error))?;
            if let Err(error) = store.prune(&spec.name, keep, &[]) {
                tracing::warn!(model = %spec.name, error = %one_line(&error), "old versions stay");
            }
            Ok(version as u32)
        });
        ctx.spawn(publish.into_actor(self).map(move |result, actor, ctx| {
            let result = result.unwrap_or_else(|error| Err(error.to_string()));
            actor.on_trial = result.as_ref().ok().copied().filter(|_| on_trial);
            actor.machine.published(actor.now(), result);
            actor.clean(window);
            actor.pump(ctx);
        }));
    }

    pub(super) fn roll_back(&mut self, to: u32, ctx: &mut Context<Self>) {
        tracing::warn!(tenant = %self.parts.name, version = to, "the new version does worse in service than this one; going back");
        let stop = self.parts.tenant.send(StopCanary);
        actix::spawn(async move {
            // A tenant that is gone is told of elsewhere.
            let _ = stop.await;
        });
        counter!("migrator_rollbacks_total", "tenant" => self.parts.name.clone()).increment(1);
        let (store, name) = (Arc::clone(&self.parts.store), self.parts.spec.name.clone());
        let publish = tokio::task::spawn_blocking(move || store.republish(&name, u64::from(to)).map_err(|error| one_line(&error)));
        ctx.spawn(publish.into_actor(self).map(move |result, actor, ctx| {
            let result = result.unwrap_or_else(|error| Err(error.to_string()));
            actor.machine.published(actor.now(), result.map(|version| version as u32));
            actor.pump(ctx);
        }));
    }

    pub(super) fn canary(&mut self, version: u32, share: f64, ctx: &mut Context<Self>) {
        tracing::info!(tenant = %self.parts.name, version, share, "the new version is tried on a share of the requests");
        let begin = self.parts.tenant.send(BeginCanary { version, share });
        ctx.spawn(begin.into_actor(self).map(|result, actor, ctx| {
            let result = result.unwrap_or_else(|error| Err(error.to_string()));
            actor.machine.canaried(actor.now(), result);
            actor.pump(ctx);
        }));
    }

    /// Tells the machine how the version in service does.
    pub(super) fn look(&mut self, ctx: &mut Context<Self>) {
        let ask = self.parts.tenant.send(AskLive);
        ctx.spawn(ask.into_actor(self).map(|result, actor, ctx| {
            // A tenant that is gone is told of elsewhere.
            if let Ok(seen) = result {
                actor.machine.live(actor.now(), seen.0, seen.1);
                actor.pump(ctx);
            }
        }));
    }

    pub(super) fn swap(&mut self, version: u32, accuracy: f64, held_out: u64, ctx: &mut Context<Self>) {
        let trial = self.on_trial.take_if(|on_trial| *on_trial == version);
        let found_good = trial.map(|version| self.found_good(version));
        let tenant = self.parts.tenant.clone();
        let swap = async move {
            if let Some(found_good) = found_good {
                found_good.await;
            }
            tenant.send(SwapVersion { version, accuracy, held_out }).await
        };
        ctx.spawn(swap.into_actor(self).map(|result, actor, ctx| {
            let result = result.unwrap_or_else(|error| Err(error.to_string()));
            actor.machine.swapped(actor.now(), result);
            actor.pump(ctx);
        }));
    }

    /// The trial of a version is over: whoever loads the newest gets it from now on.
    fn found_good(&self, version: u32) -> impl Future<Output = ()> + use<> {
        let (store, model) = (Arc::clone(&self.parts.store), self.parts.spec.name.clone());
        async move {
            let name = model.clone();
            let marked =
                tokio::task::spawn_blocking(move || store.found_good(&name, u64::from(version)).map_err(|error| one_line(&error))).await;
            if let Err(reason) = marked.unwrap_or_else(|error| Err(error.to_string())) {
                // It serves all the same; the next start begins with the version before it.
                tracing::warn!(model, version, reason, "a version stays marked as on trial");
            }
        }
    }
}
