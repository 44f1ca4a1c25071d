//! A retraining on a worker: started, listened to, paused.

use std::path::PathBuf;
use std::sync::Arc;

use actix::prelude::*;
use migrator_solver::InstanceId;
use migrator_wire::client::CallError;
use migrator_wire::message::{FailCode, FromWorker, ToWorker, TrainJob};
use tokio::sync::mpsc;

use super::RetrainingActor;
use super::export::DATASET;
use super::resume::{Kept, keep};
use crate::launcher::one_line;

/// The retraining that runs, or ran last.
pub(super) struct Run {
    pub window: u64,
    pub instance: InstanceId,
    /// Frame id of the `Train`, to pause it by.
    pub id: u64,
    /// Staging folder of the store with the new weights.
    pub out: PathBuf,
    /// Version it starts from.
    pub parent: Option<u32>,
    /// Distinguishes this start from later ones.
    pub serial: u64,
}

impl RetrainingActor {
    pub(super) fn start(&mut self, instance: InstanceId, window: u64, resume: bool, ctx: &mut Context<Self>) {
        let begun = self.run.as_ref().filter(|run| resume && run.window == window).map(|run| (run.out.clone(), run.parent));
        let (store, spec) = (Arc::clone(&self.parts.store), Arc::clone(&self.parts.spec));
        let (kept, folder) = (self.machine.interruptible(), self.window_folder(window));
        let (began_ms, window_ms) = (self.parts.clock.unix_ms(), self.window_ms);
        let prepare = tokio::task::spawn_blocking(move || -> Result<_, String> {
            // A retraining that goes on after a pause starts from the same version, whatever was published since.
            let (parent, out) = match begun {
                Some((out, parent)) => (parent, out),
                None => {
                    let newest = store.latest(&spec.name).map_err(|error| one_line(&error))?.found;
                    (newest.map(|manifest| manifest.version as u32), store.staging(&spec.name).map_err(|error| one_line(&error))?)
                }
            };
            if let Some(kept) = kept {
                keep(&folder, &Kept { spec: (*spec).clone(), parent, began_ms, window_ms: Some(window_ms), what: kept })?;
            }
            let base = parent.map(|version| store.folder(&spec.name, u64::from(version))).transpose().map_err(|error| one_line(&error))?;
            Ok((parent, base, out))
        });
        ctx.spawn(prepare.into_actor(self).map(move |prepared, actor, ctx| {
            match prepared.unwrap_or_else(|error| Err(error.to_string())) {
                Ok((parent, base, out)) => actor.launch(instance, window, parent, base, out, ctx),
                Err(reason) => actor.machine.failed(actor.now(), &reason),
            }
            actor.pump(ctx);
        }));
    }

    fn launch(
        &mut self,
        instance: InstanceId,
        window: u64,
        parent: Option<u32>,
        base: Option<PathBuf>,
        out: PathBuf,
        ctx: &mut Context<Self>,
    ) {
        let Some(handle) = self.placed.get(&instance) else {
            self.machine.instance_lost(self.now(), instance);
            return;
        };
        let folder = self.window_folder(window);
        let job = TrainJob {
            spec: (*self.parts.spec).clone(),
            base,
            dataset: folder.join(DATASET),
            train: self.machine.configuration().unwrap_or(&self.parts.train).clone(),
            checkpoint: folder.join("checkpoint.safetensors"),
            out: out.clone(),
        };
        match handle.train(job) {
            Ok((id, news)) => {
                self.starts += 1;
                let serial = self.starts;
                self.run = Some(Run { window, instance, id, out, parent, serial });
                self.listen(serial, news, ctx);
            }
            Err(CallError::WorkerLost) => self.machine.instance_lost(self.now(), instance),
            Err(error) => self.machine.failed(self.now(), &error.to_string()),
        }
    }

    fn listen(&mut self, serial: u64, mut news: mpsc::Receiver<FromWorker>, ctx: &mut Context<Self>) {
        let next = async move { (news.recv().await, news) };
        ctx.spawn(next.into_actor(self).map(move |(message, news), actor, ctx| {
            let Some(instance) = actor.run.as_ref().filter(|run| run.serial == serial).map(|run| run.instance) else { return };
            let goes_on = message.as_ref().is_some_and(|message| matches!(message, FromWorker::Progress { .. }));
            match message {
                Some(message) => actor.hear(message),
                None => actor.machine.instance_lost(actor.now(), instance),
            }
            if goes_on {
                actor.listen(serial, news, ctx);
            }
            actor.pump(ctx);
        }));
    }

    fn hear(&mut self, message: FromWorker) {
        let now = self.now();
        match message {
            FromWorker::Progress { step, steps, core_s, .. } => {
                self.progress.set(step as f64 / steps.max(1) as f64);
                self.machine.progress(now, step, steps, core_s);
            }
            FromWorker::Paused { step, steps } => self.machine.paused(now, step, steps),
            FromWorker::Trained(trained) => {
                self.progress.set(1.0);
                tracing::debug!(tenant = %self.parts.name, epochs = trained.epochs, changed = trained.changed, "trained");
                self.trained = Some(trained);
                self.machine.trained(now, trained);
            }
            FromWorker::Failed { code, message } => {
                tracing::warn!(tenant = %self.parts.name, ?code, message, "retraining failed");
                metrics::counter!("migrator_retrainings_total", "tenant" => self.parts.name.clone(), "result" => "failed").increment(1);
                self.machine.failed(now, &message);
            }
            other => self.machine.failed(now, &format!("the worker answered out of turn: {other:?}")),
        }
    }

    pub(super) fn pause(&mut self, instance: InstanceId, ctx: &mut Context<Self>) {
        let Some((handle, run)) = self.placed.get(&instance).cloned().zip(self.run.as_ref().filter(|run| run.instance == instance)) else {
            self.machine.instance_lost(self.now(), instance);
            return;
        };
        let train = run.id;
        let ask = async move { handle.call(ToWorker::Pause { train }, Vec::new()).await };
        // The `Train` itself answers `Paused` or, when it was through already, `Trained`.
        ctx.spawn(ask.into_actor(self).map(move |result, actor, ctx| match result {
            Ok(_) | Err(CallError::Failed { code: FailCode::UnknownModel | FailCode::BadInput, .. }) => {}
            Err(error) => {
                tracing::warn!(tenant = %actor.parts.name, %error, "retraining could not be paused");
                actor.machine.instance_lost(actor.now(), instance);
                actor.pump(ctx);
            }
        }));
    }
}
