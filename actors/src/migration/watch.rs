//! Workers that die: told to whom it concerns, and started again on the same instance.

use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use migrator_solver::{InstanceId, Task};
use migrator_wire::client::WorkerExit;

use super::{BoundState, MigrationActor};
use crate::launcher::{LaunchError, Started};

/// Pause before the second and each further restart in a row; doubled each time.
const BACKOFF: Duration = Duration::from_millis(250);

/// Longest pause between restarts.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

impl MigrationActor {
    pub(super) fn watch(&mut self, instance: InstanceId, task: Task, pid: u32, exit: WorkerExit, ctx: &mut Context<Self>) {
        ctx.spawn(exit.into_actor(self).map(move |exit, actor, ctx| {
            let lost = actor.bound.get(&instance).is_some_and(|bound| bound.handle.pid() == pid);
            if lost && !actor.closing {
                tracing::warn!(instance = instance.0, pid, %exit, "worker is gone");
                actor.lost(instance, task, ctx);
            }
        }));
    }

    fn lost(&mut self, instance: InstanceId, task: Task, ctx: &mut Context<Self>) {
        let draining = self.bound.get(&instance).is_some_and(|bound| bound.state == BoundState::Draining);
        if let Some(bound) = self.bound.get_mut(&instance) {
            bound.state = BoundState::Lost;
        }
        crate::meter::restarted(&self.launcher.model(task.tenant).tenant);
        self.tell_lost(instance, task, ctx);
        self.machine.instance_lost(self.now(), instance);
        // What is on its way out needs no new worker.
        if !draining {
            self.restart(instance, task, ctx);
        }
        self.pump(ctx);
    }

    fn restart(&mut self, instance: InstanceId, task: Task, ctx: &mut Context<Self>) {
        let tries = self.restarts.entry(instance).or_insert(0);
        *tries += 1;
        let pause = if *tries == 1 { Duration::ZERO } else { (BACKOFF * (1 << (*tries - 2).min(10))).min(LONGEST_BACKOFF) };
        let launcher = Arc::clone(&self.launcher);
        let share = self.share(instance);
        let start = async move {
            tokio::time::sleep(pause).await;
            let mut started = launcher.stage(task).await?;
            launcher.place(&mut started, instance.0, share).await.map(|()| started)
        };
        ctx.spawn(start.into_actor(self).map(move |result, actor, ctx| actor.restarted(instance, task, result, ctx)));
    }

    fn restarted(&mut self, instance: InstanceId, task: Task, result: Result<Started, LaunchError>, ctx: &mut Context<Self>) {
        let still_wanted =
            !self.closing && self.bound.get(&instance).is_some_and(|bound| bound.task == task && bound.state == BoundState::Lost);
        if !still_wanted {
            // A transition took the instance meanwhile; dropping the handle ends the process.
            return;
        }
        match result {
            Ok(started) => {
                tracing::info!(instance = instance.0, pid = started.handle.pid(), "worker is back");
                self.take_in(instance, task, started, ctx);
                if let Ok(admitted) = self.open(instance, task) {
                    ctx.spawn(admitted.into_actor(self).map(move |_, actor, ctx| actor.settle(instance, ctx)));
                }
            }
            Err(error) => {
                tracing::error!(instance = instance.0, error = %error.chain(), "worker could not be started again");
                self.restart(instance, task, ctx);
            }
        }
    }

    /// A worker that has lived a while starts its count of restarts anew.
    fn settle(&mut self, instance: InstanceId, ctx: &mut Context<Self>) {
        let pid = self.bound.get(&instance).map(|bound| bound.handle.pid());
        ctx.run_later(LONGEST_BACKOFF, move |actor, _| {
            if actor.bound.get(&instance).map(|bound| bound.handle.pid()) == pid {
                actor.restarts.remove(&instance);
            }
        });
    }
}
