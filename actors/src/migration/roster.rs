//! Tenants that come, and the workers of those that go.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use actix::prelude::*;
use migrator_solver::{InstanceId, Task, TaskKind, TenantId};
use tokio::sync::oneshot;

use super::{Bound, BoundState, MigrationActor, TenantActors};
use crate::launcher::RELEASE;
use crate::retraining::TakeAway;
use crate::tenant::DrainLane;

/// Carries out what is planned for one tenant more.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub struct Join {
    /// Its number: the next, or that of one that has left.
    pub tenant: TenantId,
    /// Its actors.
    pub actors: TenantActors,
}

impl Handler<Join> for MigrationActor {
    type Result = ();

    fn handle(&mut self, message: Join, _: &mut Self::Context) {
        let index = message.tenant.index();
        self.tenants.resize((index + 1).max(self.tenants.len()), None);
        self.tenants[index] = Some(message.actors);
    }
}

/// Drains and ends every worker of a tenant that nothing is planned for any more; its instances stay, without a task. Resolves when none
/// is left: not before the transition that is under way is over.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Leave {
    /// Its number.
    pub tenant: TenantId,
}

impl Handler<Leave> for MigrationActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, message: Leave, ctx: &mut Self::Context) -> Self::Result {
        let (done, left) = oneshot::channel();
        self.departing.entry(message.tenant).or_default().push(done);
        self.send_away(ctx);
        Box::pin(async move {
            // An actor that stops has no workers either.
            let _ = left.await;
        })
    }
}

impl MigrationActor {
    /// Sends away the workers of those that leave, unless a transition is just moving them.
    pub(super) fn send_away(&mut self, ctx: &mut Context<Self>) {
        if self.closing || self.machine.running().is_some() {
            return;
        }
        let bound = self.bound.iter().map(|(instance, bound)| (*instance, bound.task));
        let departing: Vec<(InstanceId, Task)> = bound.filter(|(_, task)| self.departing.contains_key(&task.tenant)).collect();
        for (instance, task) in departing {
            self.send_off(instance, task, ctx);
        }
        self.tell_gone();
    }

    fn send_off(&mut self, instance: InstanceId, task: Task, ctx: &mut Context<Self>) {
        let Some(bound) = self.bound.get_mut(&instance).filter(|bound| bound.state != BoundState::Draining) else { return };
        // A worker that dies now is not started again.
        bound.state = BoundState::Draining;
        let pid = bound.handle.pid();
        let actors = self.tenant(task).cloned();
        let drain = async move {
            let Some(actors) = actors else { return };
            // An actor that is gone holds nothing.
            let _ = match task.kind {
                TaskKind::Inference => actors.tenant.send(DrainLane { instance }).await,
                TaskKind::Retraining => actors.retraining.send(TakeAway { instance }).await,
            };
        };
        ctx.spawn(drain.into_actor(self).map(move |(), actor, ctx| {
            // A transition may have come in between and handed the instance on.
            if let Some(bound) = still_bound(&mut actor.bound, instance, task, pid) {
                tracing::info!(instance = instance.0, "released: its tenant has left");
                actor.leaving.retain(migrator_wire::client::WorkerHandle::is_alive);
                actor.leaving.push(bound.handle.clone());
                actix::spawn(async move { bound.handle.shutdown(RELEASE).await });
            }
            actor.send_away(ctx);
        }));
    }

    /// Tells those whose tenants have no worker left.
    fn tell_gone(&mut self) {
        let here = |tenant: TenantId| self.bound.values().any(|bound| bound.task.tenant == tenant);
        let gone: Vec<TenantId> = self.departing.keys().copied().filter(|tenant| !here(*tenant)).collect();
        for tenant in gone {
            if let Some(actors) = self.tenants.get_mut(tenant.index()) {
                *actors = None;
            }
            for done in self.departing.remove(&tenant).unwrap_or_default() {
                let _ = done.send(());
            }
        }
    }
}

/// Takes what is bound to an instance, if that is still this worker with this task.
fn still_bound(bound: &mut BTreeMap<InstanceId, Bound>, instance: InstanceId, task: Task, pid: u32) -> Option<Bound> {
    match bound.entry(instance) {
        Entry::Occupied(found) if found.get().task == task && found.get().handle.pid() == pid => Some(found.remove()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use migrator_wire::client::{SpawnOptions, Worker, WorkerHandle};
    use migrator_wire::frame::stream::{FrameReader, Rope};
    use migrator_wire::message::{FromWorker, PROTOCOL, ToWorker};

    use super::*;

    async fn worker(pid: u32) -> WorkerHandle {
        let (ours, theirs) = tokio::io::duplex(1 << 12);
        tokio::spawn(async move {
            let (read, mut write) = tokio::io::split(theirs);
            let (id, ..): (u64, ToWorker, bytes::Bytes) = FrameReader::new(read).read().await.ok()??;
            let mut rope = Rope::default();
            rope.push(id, &FromWorker::Hello { protocol: PROTOCOL, pid, torch: "none".into() }, Vec::new()).ok()?;
            rope.write_to(&mut write).await.ok()
        });
        let (read, write) = tokio::io::split(ours);
        Worker::attach(read, write, SpawnOptions::new("", "test")).await.unwrap().0
    }

    #[tokio::test]
    async fn the_next_owners_worker_is_left_where_it_is() {
        const HERE: InstanceId = InstanceId(1);
        let (leaving, other) = (Task::inference(TenantId(0)), Task::inference(TenantId(1)));
        for (task, pid, taken) in [(leaving, 7, true), (leaving, 8, false), (other, 7, false), (other, 8, false)] {
            let there = Bound { task, handle: worker(pid).await, version: None, state: BoundState::Serving };
            let mut bound = BTreeMap::from([(HERE, there)]);
            assert_eq!(still_bound(&mut bound, HERE, leaving, 7).is_some(), taken, "{task:?} {pid}");
            assert_eq!(bound.contains_key(&HERE), !taken, "{task:?} {pid}");
        }
    }
}
