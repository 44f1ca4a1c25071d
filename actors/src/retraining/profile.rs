//! A microprofile: tried by a staged worker, beside the instances, so that the planner knows what a retraining is worth before it gives
//! one an instance.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use metrics::counter;
use migrator_models::{Microprofile, ModelSpec, Source, TrainSpec};
use migrator_solver::Task;
use migrator_wire::message::{FromWorker, MicroprofileJob};
use tokio::time::timeout;

use super::RetrainingActor;
use super::export::DATASET;
use crate::launcher::{Launcher, RELEASE, one_line};

impl RetrainingActor {
    /// Tries configurations in the background, then tells the machine.
    pub(super) fn profile(&mut self, window: u64, tries: Vec<TrainSpec>, ctx: &mut Context<Self>) {
        let (launcher, task) = (Arc::clone(&self.parts.launcher), Task::retraining(self.parts.id));
        let (spec, folder) = (Arc::clone(&self.parts.spec), self.window_folder(window));
        let patience = self.parts.config.profile;
        let work = async move { run(&launcher, task, &spec, folder, tries, patience).await };
        ctx.spawn(work.into_actor(self).map(move |result, actor, ctx| {
            let name = actor.parts.name.clone();
            match &result {
                Ok(found) => {
                    let courses: Vec<_> = found.courses.iter().map(|course| &course.accuracy).collect();
                    tracing::info!(tenant = %name, window, before = found.before, ?courses, core_s = found.core_s, "microprofile");
                    let milliseconds = (found.core_s * 1000.0).max(0.0) as u64;
                    counter!("migrator_microprofile_core_milliseconds_total", "tenant" => name).increment(milliseconds);
                }
                Err(reason) => tracing::warn!(tenant = %name, window, reason, "no microprofile"),
            }
            actor.machine.profiled(actor.now(), window, result);
            actor.pump(ctx);
        }));
    }
}

async fn run(
    launcher: &Arc<Launcher>,
    task: Task,
    spec: &ModelSpec,
    folder: PathBuf,
    tries: Vec<TrainSpec>,
    patience: Duration,
) -> Result<Microprofile, String> {
    let base = match launcher.newest(task.tenant).await {
        Ok((_, base)) => Some(base),
        Err(crate::launcher::LaunchError::NoVersion(_)) => None,
        Err(error) => return Err(error.chain()),
    };
    // Later than this nobody waits for the result any more.
    let Ok(_turn) = timeout(patience, launcher.microprofiles.acquire()).await else {
        return Err("no turn came in time: other tenants' microprofiles took too long".to_owned());
    };
    let worker = launcher.stage(task).await.map_err(|error| error.chain())?;
    let job = MicroprofileJob { spec: spec.clone(), base, dataset: folder.join(DATASET), tries, scratch: folder.join("microprofile") };
    let found = match worker.handle.microprofile(job) {
        Ok((_, mut news)) => loop {
            match news.recv().await {
                Some(FromWorker::Progress { .. }) => {}
                Some(answer) => break found(answer),
                None => break Err("its worker died".to_owned()),
            }
        },
        Err(error) => Err(one_line(&error)),
    };
    match (&found, &spec.source) {
        // The next may be another tenant's: no process goes on that failed, or that ran what a tenant brought along.
        (Ok(_), Source::Architecture { .. }) => launcher.give_back(worker.handle, worker.exit).await,
        _ => {
            worker.handle.shutdown(RELEASE).await;
        }
    }
    found
}

fn found(answer: FromWorker) -> Result<Microprofile, String> {
    match answer {
        FromWorker::Microprofiled(found) => Ok(found),
        FromWorker::Failed { message, .. } => Err(message),
        other => Err(format!("the worker answered out of turn: {other:?}")),
    }
}
