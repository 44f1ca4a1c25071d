//! What goes wrong: calls that fail, and workers that die and are started again on their instance.

use std::time::Duration;

use migrator_solver::{InstanceId, Task, TaskKind, TenantId};

use crate::event::Event;
use crate::host::BoundState;
use crate::setup::FaultKind;
use crate::world::World;

/// Pause before the second and each further restart in a row; doubled each time.
const BACKOFF: Duration = Duration::from_millis(250);
/// Longest pause between restarts, and how long a worker must live for the count to start anew.
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

impl World<'_> {
    pub(crate) fn fault(&mut self, index: usize) {
        let kind = self.setup.faults[index].kind;
        match kind {
            FaultKind::WorkerDies { tenant } if tenant < self.tenants.len() => {
                let task = Task::inference(TenantId(tenant as u16));
                let serving = self.host.serving(task);
                if let Some(&instance) = serving.get(self.faults_dice.one_of(serving.len())) {
                    self.lost(instance, task);
                }
            }
            _ => self.host.fail(kind),
        }
    }

    /// A worker that hangs is killed, which its instance sees as any other death.
    pub(crate) fn kill(&mut self, instance: InstanceId, task: Task) {
        if self.host.bound.get(&instance).is_some_and(|bound| bound.task == task && bound.state != BoundState::Lost) {
            self.queue.push(self.now, Event::Killed { instance, task });
        }
    }

    pub(crate) fn lost(&mut self, instance: InstanceId, task: Task) {
        let Some(bound) = self.host.bound.get_mut(&instance).filter(|bound| bound.task == task) else { return };
        let draining = bound.state == BoundState::Draining;
        bound.state = BoundState::Lost;
        self.show(instance);
        match task.kind {
            TaskKind::Inference => self.lane_lost(task.tenant.index(), instance),
            TaskKind::Retraining => self.training_lost(task.tenant.index(), instance),
        }
        self.migration.instance_lost(self.now, instance);
        // What is on its way out needs no new worker.
        if !draining {
            self.restart_later(instance, task);
        }
        self.pump_migration();
    }

    fn restart_later(&mut self, instance: InstanceId, task: Task) {
        let tries = self.host.restarts.entry(instance).or_insert(0);
        *tries += 1;
        let pause = if *tries == 1 { Duration::ZERO } else { (BACKOFF * (1 << (*tries - 2).min(10))).min(LONGEST_BACKOFF) };
        self.queue.push(self.now + pause, Event::Restart { instance, task });
    }

    pub(crate) fn restart(&mut self, instance: InstanceId, task: Task) {
        let (load, version) = self.load(task);
        let bind = self.steps_dice.about(self.setup.times.bind_s, self.setup.times.jitter);
        self.queue.push(self.now + load + bind, Event::Restarted { instance, task, version });
    }

    pub(crate) fn restarted(&mut self, instance: InstanceId, task: Task, version: u32) {
        let wanted = self.host.bound.get(&instance).is_some_and(|bound| bound.task == task && bound.state == BoundState::Lost);
        if !wanted {
            // A transition took the instance meanwhile.
            return;
        }
        self.host.bind(instance, task, version);
        if self.open(instance, task).is_ok()
            && let Some(bound) = self.host.bound.get(&instance)
        {
            self.queue.push(self.now + LONGEST_BACKOFF, Event::Settled { instance, worker: bound.worker });
        }
    }

    /// A worker that has lived a while starts its count of restarts anew.
    pub(crate) fn settled(&mut self, instance: InstanceId, worker: u64) {
        if self.host.bound.get(&instance).is_some_and(|bound| bound.worker == worker) {
            self.host.restarts.remove(&instance);
        }
    }
}
