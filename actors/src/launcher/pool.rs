//! Workers that are kept ready: those that measured, spares, and one that was given back.

use std::sync::{Arc, MutexGuard, PoisonError};

use migrator_solver::{Task, TaskKind, TenantId};
use migrator_wire::client::{WorkerExit, WorkerHandle};

use super::{LaunchError, Launcher, RELEASE, Started};

impl Launcher {
    /// Keeps a worker for the first plan that wants this tenant's inference.
    pub fn keep(&self, tenant: TenantId, started: Started) {
        self.stash.lock().unwrap_or_else(PoisonError::into_inner).insert(tenant, started);
    }

    /// Starts blank workers up to the limit, in the background.
    pub fn refill(self: &Arc<Self>) {
        let launcher = Arc::clone(self);
        self.runtime.spawn(async move {
            while launcher.spares().len() < launcher.spare_limit {
                match launcher.spawn_staged(TenantId(0)).await {
                    Ok(spare) => launcher.spares().push(spare),
                    Err(error) => {
                        tracing::warn!(error = %error.chain(), "no spare worker");
                        return;
                    }
                }
            }
        });
    }

    /// Takes a worker from the staging area back that has no model loaded: whoever needs a blank one next gets it. To start a process
    /// costs more than most microprofiles.
    pub async fn give_back(&self, handle: WorkerHandle, exit: WorkerExit) {
        let before = self.returned().replace((handle, exit));
        if let Some((surplus, _)) = before {
            surplus.shutdown(RELEASE).await;
        }
    }

    /// Ends the workers that nobody took.
    pub async fn close(&self) {
        let mut spares = std::mem::take(&mut *self.spares());
        spares.extend(self.returned().take());
        let stash = std::mem::take(&mut *self.stash.lock().unwrap_or_else(PoisonError::into_inner));
        for handle in spares.into_iter().map(|(handle, _)| handle).chain(stash.into_values().map(|started| started.handle)) {
            handle.kill().await;
        }
    }

    fn spares(&self) -> MutexGuard<'_, Vec<(WorkerHandle, WorkerExit)>> {
        self.spares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn returned(&self) -> MutexGuard<'_, Option<(WorkerHandle, WorkerExit)>> {
        self.returned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) async fn take_stashed(&self, task: Task) -> Result<Option<Started>, LaunchError> {
        if task.kind != TaskKind::Inference {
            return Ok(None);
        }
        let stashed = self.stash.lock().unwrap_or_else(PoisonError::into_inner).remove(&task.tenant);
        let newest = self.newest(task.tenant).await?;
        Ok(stashed.filter(|started| started.version == Some(newest.0) && started.handle.is_alive()))
    }

    /// One that was given back, else a spare, else a new process; in the staging area.
    pub(super) async fn blank(self: &Arc<Self>, tenant: TenantId) -> Result<(WorkerHandle, WorkerExit), LaunchError> {
        let returned = self.returned().take();
        if let Some(returned) = returned.filter(|(handle, _)| handle.is_alive()) {
            return Ok(returned);
        }
        let spare = {
            let mut spares = self.spares();
            spares.retain(|(handle, _)| handle.is_alive());
            spares.pop()
        };
        match spare {
            Some(spare) => {
                self.refill();
                Ok(spare)
            }
            None => self.spawn_staged(tenant).await,
        }
    }
}
