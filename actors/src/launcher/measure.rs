//! What a model takes on this device, measured before the first plan.

use std::sync::Arc;
use std::time::Duration;

use migrator_device::{Device, DeviceError, Instance};
use migrator_mig::Site;
use migrator_solver::Task;
use tokio::time::{Instant, sleep};

use super::{LaunchError, Launcher, RELEASE, Started};

/// How long an instance may stay in use after its process has ended (`reference/nvml-mig.md` section 4.1: tenths of a second).
const LET_GO: Duration = Duration::from_secs(10);

/// Pause between two tries of letting it go.
const AGAIN: Duration = Duration::from_millis(100);

/// What a model takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Version measured.
    pub version: u32,
    /// (batch, milliseconds of one core, or of an instance of one compute slice).
    pub core_ms: Vec<(u32, f64)>,
    /// Memory in use with the model loaded and warm, MiB.
    pub memory_mib: u64,
    /// Seconds from the start of the process to the end of the warm-up.
    pub load_s: f64,
}

impl Measured {
    /// A batch that takes 1 ms on an instance of 2 slices takes 2 ms of one slice.
    fn of(started: &Started, share: f64) -> Measured {
        let core_ms = started.timings.iter().map(|&(batch, ms)| (batch, ms * share)).collect();
        let version = started.version.unwrap_or(0);
        Measured { version, core_ms, memory_mib: started.memory_mib, load_s: started.seconds }
    }
}

impl Launcher {
    /// Measures a tenant's model. Where instances compute on the host's cores, by a staged worker, which is kept for the first plan;
    /// elsewhere on the smallest instance it fits into, which is gone again afterwards.
    ///
    /// # Errors
    /// [`LaunchError`] with what went wrong, [`LaunchError::NoRoom`] when nothing is free to measure on.
    pub async fn measure(self: &Arc<Self>, task: Task) -> Result<Measured, LaunchError> {
        if self.device.computes_on_host() {
            let started = self.stage(task).await?;
            let measured = Measured::of(&started, 1.0);
            self.keep(task.tenant, started);
            return Ok(measured);
        }
        let mut last = LaunchError::NoRoom;
        for (gpu, site) in self.free_sites().await? {
            let measured = self.with_instance(gpu, site, async |instance| {
                let started = self.start_on(task, instance.id, instance.share).await?;
                started.handle.shutdown(RELEASE).await;
                Ok::<_, LaunchError>(Measured::of(&started, instance.share))
            });
            match measured.await {
                // The next larger one may have room for it.
                Err(error) if error.is_out_of_memory() => last = error,
                other => return other,
            }
        }
        Err(last)
    }

    /// Creates an instance, lets `work` use it, and destroys it again, which waits until no process is on it any more.
    ///
    /// # Errors
    /// What `work` says, or that the instance could not be made or destroyed.
    pub async fn with_instance<T, E: From<LaunchError>>(
        &self,
        gpu: u32,
        site: Site,
        work: impl AsyncFnOnce(&Instance) -> Result<T, E>,
    ) -> Result<T, E> {
        let instance = self.blocking(move |device| device.create(gpu, site)).await?;
        let done = work(&instance).await;
        let gone = self.let_go(instance.id).await;
        let done = done?;
        gone?;
        Ok(done)
    }

    /// A free site of each size of profile, by ascending compute, then memory.
    ///
    /// # Errors
    /// What the device says.
    pub async fn free_sites(&self) -> Result<Vec<(u32, Site)>, LaunchError> {
        self.blocking(free_sites).await
    }

    async fn let_go(&self, id: u64) -> Result<(), LaunchError> {
        let began = Instant::now();
        loop {
            match self.blocking(move |device| device.destroy(id)).await {
                Err(LaunchError::Device(DeviceError::InUse { .. })) if began.elapsed() < LET_GO => sleep(AGAIN).await,
                other => return other,
            }
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&dyn Device) -> Result<T, DeviceError> + Send + 'static,
    ) -> Result<T, LaunchError> {
        let device = Arc::clone(&self.device);
        Ok(self.runtime.spawn_blocking(move || call(&*device)).await??)
    }
}

fn free_sites(device: &dyn Device) -> Result<Vec<(u32, Site)>, DeviceError> {
    let there = device.instances()?;
    let mut sites = Vec::new();
    for gpu in device.gpus() {
        let taken: Vec<Site> = there.iter().filter(|instance| instance.gpu == gpu.index).map(|instance| instance.site).collect();
        for site in gpu.catalog.sites_around(&taken) {
            let profile = gpu.catalog.profile(site.profile);
            sites.push(((profile.compute_slices, profile.memory_slices), (gpu.index, site)));
        }
    }
    sites.sort();
    sites.dedup_by_key(|(size, _)| *size);
    Ok(sites.into_iter().map(|(_, site)| site).collect())
}
