//! Carries transitions out, and keeps a worker alive on every instance: the shell around a [`MigrationMachine`].

mod ground;
mod roster;
mod step;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use actix::prelude::*;
use migrator_device::{Device, Gpu, Instance};
use migrator_machine::migration::MigrationConfig;
use migrator_machine::{MigrationMachine, MigrationReport, MigrationWish, Time};
use migrator_solver::{InstanceId, InstanceState, Plan, Problem, Target, Task, TaskKind, TenantId, Transition};
use migrator_wire::client::WorkerHandle;
use tokio::sync::oneshot;

use crate::clock::Clock;
use crate::launcher::{Launcher, Started};
use crate::retraining::RetrainingActor;
use crate::tenant::TenantActor;
use ground::Ground;

pub use roster::{Join, Leave};

/// The actors of one tenant.
#[derive(Clone, Debug)]
pub struct TenantActors {
    /// Serves it.
    pub tenant: Addr<TenantActor>,
    /// Retrains it.
    pub retraining: Addr<RetrainingActor>,
}

/// What is bound to an instance.
#[derive(Debug)]
struct Bound {
    task: Task,
    handle: WorkerHandle,
    version: Option<u32>,
    state: BoundState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BoundState {
    /// Not admitted yet.
    Loading,
    /// Admitted.
    Serving,
    /// Gets no new work.
    Draining,
    /// Its worker died; another one is being started.
    Lost,
}

impl BoundState {
    fn text(self, kind: TaskKind) -> &'static str {
        match (self, kind) {
            (BoundState::Loading, _) => "loading",
            (BoundState::Serving, TaskKind::Inference) => "serving",
            (BoundState::Serving, TaskKind::Retraining) => "training",
            (BoundState::Draining, _) => "draining",
            (BoundState::Lost, _) => "lost",
        }
    }
}

/// Re-cuts the device and moves tasks.
pub struct MigrationActor {
    machine: MigrationMachine,
    clock: Clock,
    launcher: Arc<Launcher>,
    /// By tenant; `None` where one has left.
    tenants: Vec<Option<TenantActors>>,
    /// Tenants whose workers are being sent away, and who waits for that.
    departing: BTreeMap<TenantId, Vec<oneshot::Sender<()>>>,
    /// In the order of [`Problem::gpus`].
    gpus: Vec<Gpu>,
    instances: BTreeMap<InstanceId, Instance>,
    bound: BTreeMap<InstanceId, Bound>,
    staged: BTreeMap<(Target, Task), Started>,
    /// Retrainings drained off their instances, until released: tells when the checkpoint is written.
    parting: BTreeMap<InstanceId, oneshot::Receiver<()>>,
    /// Released workers that have not ended yet.
    leaving: Vec<WorkerHandle>,
    /// Restarts in a row of an instance's worker.
    restarts: BTreeMap<InstanceId, u32>,
    reply: Option<oneshot::Sender<MigrationReport>>,
    timer: Option<SpawnHandle>,
    /// Held for reading by every creation and destruction.
    cutting: Arc<RwLock<()>>,
    closing: bool,
    ground: Ground,
}

impl MigrationActor {
    /// On an empty device.
    pub fn new(config: MigrationConfig, clock: Clock, launcher: Arc<Launcher>, tenants: Vec<Option<TenantActors>>) -> MigrationActor {
        MigrationActor {
            machine: MigrationMachine::new(config),
            clock,
            gpus: launcher.device.gpus(),
            launcher,
            tenants,
            departing: BTreeMap::new(),
            instances: BTreeMap::new(),
            bound: BTreeMap::new(),
            staged: BTreeMap::new(),
            parting: BTreeMap::new(),
            leaving: Vec::new(),
            restarts: BTreeMap::new(),
            reply: None,
            timer: None,
            cutting: Arc::default(),
            closing: false,
            ground: Ground::default(),
        }
    }

    fn now(&self) -> Time {
        self.clock.now()
    }

    fn pump(&mut self, ctx: &mut Context<Self>) {
        while !self.closing
            && let Some(wish) = self.machine.poll(self.now())
        {
            match wish {
                MigrationWish::Do { id, step, instance, attempt } => self.carry_out(id, step, instance, attempt, ctx),
                MigrationWish::Unstage { target, task } => self.unstage(target, task),
                MigrationWish::Finished(report) => self.finished(report, ctx),
            }
        }
        for violation in self.machine.check() {
            crate::meter::violation(&violation);
        }
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = self.machine.timeout() {
            self.timer = Some(ctx.run_later(self.clock.until(at), |actor, ctx| {
                actor.timer = None;
                actor.machine.handle_timeout(actor.now());
                actor.pump(ctx);
            }));
        }
    }

    fn finished(&mut self, report: MigrationReport, ctx: &mut Context<Self>) {
        crate::meter::migrated(&report);
        for failure in &report.failed {
            tracing::warn!(generation = report.generation.0, step = ?failure.step, reason = failure.reason, "a step failed for good");
        }
        // Workers that were preloaded for steps since given up.
        for (_, started) in std::mem::take(&mut self.staged) {
            actix::spawn(async move {
                started.handle.kill().await;
            });
        }
        if let Some(reply) = self.reply.take() {
            let _ = reply.send(report);
        }
        self.look_if_stale(ctx);
        self.send_away(ctx);
    }

    fn unstage(&mut self, target: Target, task: Task) {
        if let Some(started) = self.staged.remove(&(target, task)) {
            actix::spawn(async move {
                started.handle.kill().await;
            });
        }
    }

    /// Who a task is of; `None` when it has left.
    fn tenant(&self, task: Task) -> Option<&TenantActors> {
        self.tenants.get(task.tenant.index())?.as_ref()
    }
}

impl Actor for MigrationActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.watch_device(ctx);
    }
}

/// Carries a transition out; resolves with how it went, or why it was not begun.
#[derive(Debug, Message)]
#[rtype(result = "Result<MigrationReport, String>")]
pub struct Migrate {
    /// The instances it starts from.
    pub problem: Box<Problem>,
    /// Where it leads.
    pub plan: Plan,
    /// Its steps.
    pub transition: Transition,
}

impl Handler<Migrate> for MigrationActor {
    type Result = ResponseFuture<Result<MigrationReport, String>>;

    fn handle(&mut self, message: Migrate, ctx: &mut Self::Context) -> Self::Result {
        let Migrate { problem, plan, transition } = message;
        if self.closing {
            return Box::pin(async { Err("the server is going down".to_owned()) });
        }
        if let Err(refused) = self.machine.begin(self.now(), &problem, &plan, transition) {
            return Box::pin(async move { Err(refused.to_string()) });
        }
        let (reply, report) = oneshot::channel();
        self.reply = Some(reply);
        self.pump(ctx);
        Box::pin(async move { report.await.map_err(|_| "the migration actor stopped".to_owned()) })
    }
}

/// What is on the device.
#[derive(Debug, Message)]
#[rtype(result = "Inventory")]
pub struct AskInventory;

/// An instance as the inventory tells it.
#[derive(Clone, Debug)]
pub struct InventoryItem {
    /// Index of its GPU.
    pub gpu: u32,
    /// For the planner.
    pub state: InstanceState,
    /// Version loaded.
    pub version: Option<u32>,
    /// `serving`, `draining`, `loading`, `training`, `idle`, `lost`, `foreign`.
    pub text: &'static str,
    /// Its worker.
    pub pid: Option<u32>,
}

/// All instances, by GPU and start.
#[derive(Clone, Debug, actix::MessageResponse)]
pub struct Inventory {
    /// The instances.
    pub items: Vec<InventoryItem>,
    /// Steps over and in all, of the transition under way.
    pub progress: (usize, usize),
}

impl Handler<AskInventory> for MigrationActor {
    type Result = Inventory;

    fn handle(&mut self, _: AskInventory, _: &mut Self::Context) -> Inventory {
        let item = |(id, instance): (&InstanceId, &Instance)| {
            let bound = self.bound.get(id);
            InventoryItem {
                gpu: instance.gpu,
                state: InstanceState {
                    id: *id,
                    site: instance.site,
                    task: bound.map(|bound| bound.task),
                    ready_in_s: if bound.is_some_and(|bound| matches!(bound.state, BoundState::Lost | BoundState::Loading)) {
                        1.0
                    } else {
                        0.0
                    },
                    pinned: instance.foreign,
                },
                version: bound.and_then(|bound| bound.version),
                text: match bound {
                    Some(bound) => bound.state.text(bound.task.kind),
                    None if instance.foreign => "foreign",
                    None => "idle",
                },
                pid: bound.filter(|bound| bound.state != BoundState::Lost).map(|bound| bound.handle.pid()),
            }
        };
        let mut items: Vec<InventoryItem> = self.instances.iter().map(item).collect();
        items.extend(self.lost_gpus());
        items.sort_by_key(|item| (item.gpu, item.state.site));
        Inventory { items, progress: self.machine.progress() }
    }
}

/// Ends every worker and removes every instance.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct Shutdown;

impl Handler<Shutdown> for MigrationActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Shutdown, _: &mut Self::Context) -> Self::Result {
        self.closing = true;
        let staged = std::mem::take(&mut self.staged).into_values().map(|started| started.handle);
        let bound = std::mem::take(&mut self.bound).into_values().map(|bound| bound.handle);
        let handles: Vec<WorkerHandle> = bound.chain(staged).chain(std::mem::take(&mut self.leaving)).collect();
        self.instances.clear();
        let (launcher, cutting) = (Arc::clone(&self.launcher), Arc::clone(&self.cutting));
        Box::pin(async move {
            let ending: Vec<_> =
                handles.into_iter().map(|handle| actix::spawn(async move { handle.shutdown(crate::launcher::RELEASE).await })).collect();
            for end in ending {
                let _ = end.await;
            }
            launcher.close().await;
            let device = Arc::clone(&launcher.device);
            let cleared = move || {
                let _others_done = cutting.write().unwrap_or_else(PoisonError::into_inner);
                clear(device.as_ref());
            };
            let _ = tokio::task::spawn_blocking(cleared).await;
        })
    }
}

/// Destroys every instance of ours; the device is asked which there are, because a step may just have created one.
fn clear(device: &dyn Device) {
    let instances = match device.instances() {
        Ok(instances) => instances,
        Err(error) => return tracing::warn!(%error, "which instances are left is unknown; the next start sees to them"),
    };
    for instance in instances.iter().filter(|instance| !instance.foreign) {
        if let Err(error) = device.destroy(instance.id) {
            tracing::warn!(instance = instance.id, %error, "instance could not be destroyed");
        }
    }
}
