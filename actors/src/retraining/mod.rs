//! One tenant's retraining, window after window: the shell around a [`RetrainingMachine`].

mod export;
mod profile;
mod resume;
mod roster;
mod run;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use actix::prelude::*;
use metrics::{Gauge, counter, gauge};
use migrator_machine::retraining::{DiscardReason, RetrainingConfig, RetrainingResult, RetrainingState, RetrainingStatus, RetrainingWish};
use migrator_machine::{RetrainingMachine, Time};
use migrator_models::store::Store;
use migrator_models::{ModelSpec, Older, TrainSpec, Trained};
use migrator_solver::{InstanceId, TenantId};
use migrator_wire::client::WorkerHandle;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::launcher::{Launcher, one_line};
use crate::message::SampleStore;
use crate::tenant::TenantActor;

pub use export::ExportSpec;
pub use roster::{Leave, Retune};
use run::Run;

/// What a [`RetrainingActor`] is made of.
pub struct RetrainingParts {
    /// The tenant.
    pub id: TenantId,
    /// The tenant's name.
    pub name: String,
    /// Its model.
    pub spec: Arc<ModelSpec>,
    /// How it is fine-tuned.
    pub train: TrainSpec,
    /// When it is worth it.
    pub config: RetrainingConfig,
    /// What goes into a data set.
    pub export: ExportSpec,
    /// The server's clock.
    pub clock: Clock,
    /// Labelled samples.
    pub samples: Arc<dyn SampleStore>,
    /// Where versions go.
    pub store: Arc<Store>,
    /// Folder of this tenant's data sets and checkpoints; made when absent.
    pub folder: PathBuf,
    /// Starts the workers of microprofiles.
    pub launcher: Arc<Launcher>,
    /// Serves the new version.
    pub tenant: Addr<TenantActor>,
    /// Versions kept in the store.
    pub keep_versions: usize,
}

/// What earlier runs left of a tenant's retraining.
#[derive(Debug)]
pub struct Earlier {
    interrupted: Option<resume::Found>,
    /// When the newest version was published, Unix milliseconds.
    newest_ms: Option<u64>,
}

impl Earlier {
    /// Looks, and removes what nobody needs any more; blocks for as long as it takes to read the newest version.
    ///
    /// # Errors
    /// One line: the tenant's folder, or the model's in the store, cannot be read.
    pub fn look(store: &Store, spec: &ModelSpec, folder: &Path) -> Result<Earlier, String> {
        let latest = store.latest(&spec.name).map_err(|error| one_line(&error))?;
        if let Some(version) = latest.on_trial.first() {
            tracing::warn!(model = spec.name, version, "it was on trial when the server stopped; the version before it serves");
        }
        let newest = latest.found;
        let interrupted = resume::find(folder, spec, newest.as_ref().map(|manifest| manifest.version as u32))?;
        Ok(Earlier { interrupted, newest_ms: newest.map(|manifest| manifest.created_ms) })
    }
}

/// Retrains one tenant's model.
pub struct RetrainingActor {
    parts: RetrainingParts,
    machine: RetrainingMachine,
    /// Workers placed for this retraining.
    placed: BTreeMap<InstanceId, WorkerHandle>,
    drains: BTreeMap<InstanceId, Vec<oneshot::Sender<()>>>,
    run: Option<Run>,
    /// Version that was published on trial and is not in service yet.
    on_trial: Option<u32>,
    starts: u64,
    /// Unix milliseconds at which the window before the current one began.
    previous_start_ms: u64,
    current_start_ms: u64,
    /// Unix milliseconds at which the window of the newest data set began.
    window_ms: u64,
    /// Folder of a retraining that an earlier run left, and its window.
    resumed: Option<(u64, PathBuf)>,
    counted_at: Option<Time>,
    /// What the worker reported last, for the manifest.
    trained: Option<Trained>,
    /// Results told.
    told: u64,
    progress: Gauge,
    timer: Option<SpawnHandle>,
}

impl RetrainingActor {
    /// Idle until the first window, or waiting for an instance with what a stop of the server interrupted.
    pub fn new(parts: RetrainingParts, earlier: Earlier) -> RetrainingActor {
        let now_ms = parts.clock.unix_ms();
        let mut machine = RetrainingMachine::new(parts.config.clone());
        let found = earlier.interrupted.filter(|found| machine.take_up(parts.clock.now(), &found.what));
        if let Some(found) = &found {
            tracing::info!(tenant = %parts.name, window = found.what.window, "a retraining that a stop interrupted goes on");
        }
        // What came since the last retraining is fresh, unless that is long ago.
        let since_ms = found.as_ref().map(|found| found.window_ms).or(earlier.newest_ms).unwrap_or(now_ms);
        let long_ago_ms = now_ms.saturating_sub((2000.0 * parts.config.window_s) as u64);
        RetrainingActor {
            machine,
            resumed: found.map(|found| (found.what.window, found.folder)),
            progress: gauge!("migrator_retraining_progress", "tenant" => parts.name.clone()),
            placed: BTreeMap::new(),
            drains: BTreeMap::new(),
            run: None,
            on_trial: None,
            starts: 0,
            previous_start_ms: now_ms,
            current_start_ms: since_ms.clamp(long_ago_ms, now_ms),
            window_ms: since_ms,
            counted_at: None,
            trained: None,
            told: 0,
            timer: None,
            parts,
        }
    }

    fn now(&self) -> Time {
        self.parts.clock.now()
    }

    fn window_folder(&self, window: u64) -> PathBuf {
        match &self.resumed {
            Some((resumed, folder)) if *resumed == window => folder.clone(),
            // Windows are numbered from 0 at each start.
            _ => self.parts.folder.join(format!("{}-{window}", self.parts.clock.started_ms())),
        }
    }

    fn pump(&mut self, ctx: &mut Context<Self>) {
        while let Some(wish) = self.machine.poll(self.now()) {
            match wish {
                RetrainingWish::Export { window } => self.export(window, ctx),
                RetrainingWish::Profile { window, tries } => self.profile(window, tries, ctx),
                RetrainingWish::Start { instance, window, resume } => self.start(instance, window, resume, ctx),
                RetrainingWish::Pause { instance } => self.pause(instance, ctx),
                RetrainingWish::Drained { instance } => self.drained(instance),
                RetrainingWish::Stalled { instance } => self.kill(instance),
                RetrainingWish::Rollback { version } => self.roll_back(version, ctx),
                RetrainingWish::Publish { window } => self.publish(window, ctx),
                RetrainingWish::Canary { version, share } => self.canary(version, share, ctx),
                RetrainingWish::Discard { window, reason } => {
                    tracing::info!(tenant = %self.parts.name, window, %reason, "retraining discarded");
                    if matches!(reason, DiscardReason::NotWorth { .. }) {
                        let name = self.parts.name.clone();
                        counter!("migrator_retrainings_total", "tenant" => name, "result" => "not_worth").increment(1);
                    }
                    self.clean(window);
                }
                RetrainingWish::Swap { version, accuracy, held_out } => self.swap(version, accuracy, held_out, ctx),
            }
        }
        self.tell_results();
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = self.machine.timeout() {
            self.timer = Some(ctx.run_later(self.parts.clock.until(at), |actor, ctx| {
                actor.timer = None;
                actor.machine.handle_timeout(actor.now());
                actor.pump(ctx);
            }));
        }
    }

    fn drained(&mut self, instance: InstanceId) {
        self.placed.remove(&instance);
        for done in self.drains.remove(&instance).unwrap_or_default() {
            let _ = done.send(());
        }
    }

    fn kill(&mut self, instance: InstanceId) {
        if let Some(handle) = self.placed.remove(&instance) {
            tracing::warn!(tenant = %self.parts.name, instance = instance.0, "retraining hangs; killing its worker");
            actix::spawn(async move {
                handle.kill().await;
            });
        }
    }

    /// Removes a window's data set, checkpoint and unpublished weights, in the background: nobody waits for it.
    fn clean(&mut self, window: u64) {
        let folder = self.window_folder(window);
        self.resumed.take_if(|(resumed, _)| *resumed == window);
        let staged = self.run.take_if(|run| run.window == window).map(|run| run.out);
        tokio::task::spawn_blocking(move || {
            // Not there is as good as removed; anything else is cleaned with the state folder's next start.
            let _ = std::fs::remove_dir_all(folder);
            if let Some(staged) = staged {
                let _ = std::fs::remove_dir_all(staged);
            }
        });
    }

    /// Logs and counts the windows that came to a result since the last look.
    fn tell_results(&mut self) {
        let name = self.parts.name.clone();
        let new = (self.machine.results() - self.told) as usize;
        self.told = self.machine.results();
        let known = self.machine.history().count();
        for result in self.machine.history().skip(known.saturating_sub(new)) {
            let kind = if result.published.is_some() { "published" } else { "kept" };
            counter!("migrator_retrainings_total", "tenant" => name.clone(), "result" => kind).increment(1);
            gauge!("migrator_retraining_accuracy_before", "tenant" => name.clone()).set(result.before);
            gauge!("migrator_retraining_accuracy_after", "tenant" => name.clone()).set(result.after);
            if let Some(foretold) = result.foretold {
                gauge!("migrator_retraining_accuracy_foretold", "tenant" => name.clone()).set(foretold.after);
                gauge!("migrator_retraining_core_seconds_foretold", "tenant" => name.clone()).set(foretold.core_s);
            }
            if let Some(Older { before, after, .. }) = result.older {
                gauge!("migrator_retraining_older_accuracy_before", "tenant" => name.clone()).set(before);
                gauge!("migrator_retraining_older_accuracy_after", "tenant" => name.clone()).set(after);
            }
            gauge!("migrator_retraining_core_seconds", "tenant" => name.clone()).set(result.core_s);
            tracing::info!(tenant = %name, window = result.window, before = result.before, after = result.after,
                published = result.published, core_s = result.core_s, "retraining done");
        }
    }
}

impl Actor for RetrainingActor {
    type Context = Context<Self>;
}

/// A retraining window begins.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct WindowStarted {
    /// Its number.
    pub window: u64,
}

impl Handler<WindowStarted> for RetrainingActor {
    type Result = ();

    fn handle(&mut self, message: WindowStarted, ctx: &mut Self::Context) {
        self.previous_start_ms = self.current_start_ms;
        self.current_start_ms = self.parts.clock.unix_ms();
        self.machine.window_started(self.now(), message.window);
        self.count(ctx);
        self.pump(ctx);
    }
}

/// The retraining was admitted on an instance.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Placed {
    /// The instance.
    pub instance: InstanceId,
    /// Its worker.
    pub handle: WorkerHandle,
}

impl Handler<Placed> for RetrainingActor {
    type Result = ();

    fn handle(&mut self, message: Placed, ctx: &mut Self::Context) {
        self.placed.insert(message.instance, message.handle);
        self.machine.placed(self.now(), message.instance);
        self.pump(ctx);
    }
}

/// Takes the instance away; resolves when nothing of the retraining runs there any more.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct TakeAway {
    /// The instance.
    pub instance: InstanceId,
}

impl Handler<TakeAway> for RetrainingActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: TakeAway, ctx: &mut Self::Context) -> Self::Result {
        let (done, drained) = oneshot::channel();
        self.drains.entry(message.instance).or_default().push(done);
        self.machine.take_away(self.now(), message.instance);
        self.pump(ctx);
        Box::pin(async move {
            let _ = drained.await;
        })
    }
}

/// The instance's worker is gone.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct RetrainingLost {
    /// The instance.
    pub instance: InstanceId,
}

impl Handler<RetrainingLost> for RetrainingActor {
    type Result = ();

    fn handle(&mut self, message: RetrainingLost, ctx: &mut Self::Context) {
        self.placed.remove(&message.instance);
        self.machine.instance_lost(self.now(), message.instance);
        self.pump(ctx);
    }
}

/// What the coordinator wants to know, once a second.
#[derive(Debug, Message)]
#[rtype(result = "RetrainingSeen")]
pub struct AskRetraining;

/// The state of a retraining.
#[derive(Clone, Debug, actix::MessageResponse)]
pub struct RetrainingSeen {
    /// For the planner.
    pub status: RetrainingStatus,
    /// Windows that came to a result, newest last.
    pub history: Vec<RetrainingResult>,
}

impl Handler<AskRetraining> for RetrainingActor {
    type Result = RetrainingSeen;

    fn handle(&mut self, _: AskRetraining, ctx: &mut Self::Context) -> RetrainingSeen {
        for violation in self.machine.check() {
            crate::meter::violation(&violation);
        }
        self.count(ctx);
        let config = self.machine.config();
        if config.rollback || config.canary_share > 0.0 || self.machine.state() == RetrainingState::Canary {
            self.look(ctx);
        }
        RetrainingSeen { status: self.machine.status(), history: self.machine.history().cloned().collect() }
    }
}
