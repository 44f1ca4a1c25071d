//! Getting a worker onto an instance, wherever the device wants it to get there by itself.

use std::sync::Arc;

use migrator_device::Binding;
use migrator_models::curve::executors;
use migrator_solver::Task;
use migrator_wire::client::WorkerHandle;
use migrator_wire::message::{FromWorker, ModelKey, Moved, ToWorker};
use tokio::time::Instant;

use super::{LaunchError, Launcher, Started};

/// What a worker found on the instance it attached itself to.
#[derive(Clone, Debug)]
struct Attached {
    models: Vec<Moved>,
    memory_mib: u64,
}

impl Launcher {
    /// Starts a worker directly on an instance of `share` and loads the model there: what a switch costs without preloading.
    ///
    /// # Errors
    /// [`LaunchError`]; the process is dead then.
    pub async fn start_on(self: &Arc<Self>, task: Task, instance: u64, share: f64) -> Result<Started, LaunchError> {
        let began = Instant::now();
        let (handle, exit) = self.spawn(task.tenant).await?;
        let ready = async {
            self.bind(&handle, instance, share).await?;
            let started = self.fill(task, handle.clone(), exit, began).await?;
            limit(&handle, share).await.map(|()| started)
        };
        alive_or_killed(&handle, ready.await).await
    }

    /// Puts a staged worker onto an instance of `share`, ready to work. Where a process attaches itself, its model is timed
    /// anew there, and `started` tells of that from then on.
    ///
    /// # Errors
    /// [`LaunchError`]; the process is dead then.
    pub async fn place(&self, started: &mut Started, instance: u64, share: f64) -> Result<(), LaunchError> {
        let (handle, began) = (started.handle.clone(), Instant::now());
        let ready = async {
            if let Some(Attached { models, memory_mib }) = self.bind(&handle, instance, share).await? {
                let model = models.into_iter().find(|model| started.version.map(ModelKey) == Some(model.key));
                started.timings = model.map(|model| model.timings).unwrap_or_default();
                started.memory_mib = memory_mib;
                started.seconds += began.elapsed().as_secs_f64();
            }
            limit(&handle, share).await
        };
        alive_or_killed(&handle, ready.await).await
    }

    /// Puts a process back onto the instance that the device took it off from.
    ///
    /// # Errors
    /// What the device says.
    pub async fn put_back(&self, handle: &WorkerHandle, instance: u64, share: f64) -> Result<(), LaunchError> {
        self.bind(handle, instance, share).await.map(|_| ())
    }

    /// The one place where a process comes to be on an instance: the device puts it there, or it attaches itself.
    async fn bind(&self, handle: &WorkerHandle, instance: u64, share: f64) -> Result<Option<Attached>, LaunchError> {
        let (device, pid) = (Arc::clone(&self.device), handle.pid());
        let visible = match self.runtime.spawn_blocking(move || device.bind(instance, pid)).await?? {
            Binding::Moved => return Ok(None),
            Binding::Attach { visible } => visible,
        };
        match handle.call(ToWorker::Attach { visible: visible.clone(), share }, Vec::new()).await {
            Ok((FromWorker::Attached { device, libraries_ms, context_ms, models, memory_mib }, _)) => {
                let (copy_ms, warm_ms) = (sum(&models, |model| model.copy_ms), sum(&models, |model| model.warm_ms));
                tracing::info!(instance, pid, device, libraries_ms, context_ms, copy_ms, warm_ms, memory_mib, "worker attached itself");
                Ok(Some(Attached { models, memory_mib }))
            }
            Ok(_) => Err(LaunchError::OutOfTurn("attach")),
            Err(source) => Err(LaunchError::Attach { visible, source }),
        }
    }
}

fn sum(models: &[Moved], of: impl Fn(&Moved) -> f64) -> f64 {
    models.iter().map(of).sum()
}

async fn limit(handle: &WorkerHandle, share: f64) -> Result<(), LaunchError> {
    let limit = ToWorker::Limit { executors: executors(share) };
    handle.call(limit, Vec::new()).await.map(|_| ()).map_err(LaunchError::Limit)
}

/// A worker that did not get ready holds its instance until it is gone.
async fn alive_or_killed<T>(handle: &WorkerHandle, ready: Result<T, LaunchError>) -> Result<T, LaunchError> {
    if ready.is_err() {
        handle.kill().await;
    }
    ready
}
