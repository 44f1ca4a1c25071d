//! What `migrator profile` measured of the models on this device: read at the start, and refined by what the running server sees.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use migrator_actors::launcher::Launcher;
use migrator_actors::migration::TenantActors;
use migrator_actors::tenant::{LaneTimes, Times};
use migrator_device::{Device, Gpu};
use migrator_models::ModelSpec;
use migrator_models::curve::executors;
use migrator_solver::{InstanceId, TenantId};
use tokio::time::timeout;

use crate::config::{Config, TenantConfig};
use crate::curve::own::{Known, Own, Place};

/// Pause between two refinements.
pub(super) const EVERY: Duration = Duration::from_secs(30);

/// How long a tenant may take to tell its times.
const PATIENCE: Duration = Duration::from_secs(1);

/// So many batches of a size count as much as all that is known of it.
const TRUSTED: f64 = 64.0;

/// The curve file of this server.
pub(super) struct Profiled {
    path: PathBuf,
    /// `None` when there is no file, or none of this device.
    own: Mutex<Option<Own>>,
    /// Batches that were taken in, of the lanes that are up, by size.
    seen: Mutex<BTreeMap<(TenantId, InstanceId, u32), u64>>,
}

impl Profiled {
    /// Reads the file, where there is one; a file with a defect is told of and not used.
    pub fn read(config: &Config, device: &dyn Device) -> Profiled {
        let path = config.server.curves_file();
        let own = Place::of(device).and_then(|place| match Own::read(&path, &place) {
            Ok(own) => own,
            Err(errors) => {
                tracing::warn!("the measured curves are not used:\n{errors}");
                None
            }
        });
        Profiled { path, own: Mutex::new(own), seen: Mutex::default() }
    }

    /// What is known of a tenant's model.
    pub fn of(&self, tenant: &TenantConfig) -> Option<Known> {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.of(&tenant.model, tenant.train.batch.max(1))
    }

    /// Whether there is a file.
    fn known(&self) -> bool {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Asks these tenants what their batches took on GPUs like this one, and writes what came of it.
    pub async fn refine(self: &Arc<Self>, gpu: &Gpu, launcher: &Launcher, tenants: Vec<(TenantId, TenantActors)>) {
        if !self.known() {
            return;
        }
        let mut changed = false;
        for (id, actors) in tenants {
            // One that has stopped has nothing to tell, and signals are waited for behind this.
            let Ok(Ok(lanes)) = timeout(PATIENCE, actors.tenant.send(Times)).await else { continue };
            changed |= self.take(id, &launcher.model(id).spec, gpu, &lanes);
        }
        if changed {
            let profiled = Arc::clone(self);
            let _ = tokio::task::spawn_blocking(move || profiled.write()).await;
        }
    }

    /// Takes in what a tenant's lanes took of late; gives whether that changed anything.
    fn take(&self, tenant: TenantId, spec: &ModelSpec, gpu: &Gpu, lanes: &[LaneTimes]) -> bool {
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = own.as_mut() else { return false };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.retain(|(of, instance, _), _| *of != tenant || lanes.iter().any(|lane| lane.instance == *instance));
        let mut changed = false;
        for lane in lanes {
            let slices = (lane.share / gpu.cores_per_slice).round() as u8;
            for time in &lane.times {
                let before = seen.insert((tenant, lane.instance, time.rows), time.batches).unwrap_or(0);
                let new = time.batches.saturating_sub(before) as f64;
                let (ms, weight) = (time.ms / f64::from(executors(lane.share)), new / (new + TRUSTED));
                changed |= new > 0.0 && own.refine(spec, slices, time.rows, ms, weight);
            }
        }
        changed
    }

    /// Writes the file as it is now; blocks.
    fn write(&self) {
        let own = self.own.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(own) = own
            && let Err(error) = own.write(&self.path)
        {
            tracing::warn!(%error, "{} cannot be written", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use migrator_machine::tenant::BatchTime;
    use migrator_mig::Catalog;
    use migrator_models::{Architecture, Source};

    use super::*;
    use crate::curve::file::InferenceEntry;
    use crate::curve::own::digest;

    fn spec() -> ModelSpec {
        let source = Source::Architecture { architecture: Architecture::Mlp { features: 4, hidden: vec![8] } };
        ModelSpec { name: "vision".into(), classes: 3, max_batch: 8, precision: Default::default(), source }
    }

    fn profiled(path: PathBuf) -> (Profiled, Gpu) {
        let catalog = Catalog::seven_slices("cpu", 7000);
        let gpu = Gpu { index: 0, uuid: "cpu-0".into(), catalog, cores_per_slice: 4.0 / 7.0 };
        let mut own = Own::new(&Place { gpu: "cpu".into(), host: None });
        let batch_ms = BTreeMap::from([("7g".into(), vec![(1, 1.0), (8, 4.0)])]);
        own.put(InferenceEntry { model: "vision".into(), spec: Some(digest(&spec())), memory_mib: None, batch_ms }, None);
        (Profiled { path, own: Mutex::new(Some(own)), seen: Mutex::default() }, gpu)
    }

    fn lane(batches: u64) -> LaneTimes {
        LaneTimes { instance: InstanceId(3), share: 4.0, times: vec![BatchTime { rows: 8, ms: 32.0, batches }] }
    }

    #[test]
    fn new_batches_move_the_figure_and_old_ones_do_not_count_again() {
        let folder = tempfile::tempdir().unwrap();
        let (profiled, gpu) = profiled(folder.path().join("curves.toml"));
        let ms = || {
            let own = profiled.own.lock().unwrap().clone().unwrap();
            own.of(&spec(), 32).unwrap().on_profiles(&gpu).last().unwrap().1.curve.core_ms(8)
        };
        // Four executors that take 32 ms each are an instance that takes 8.
        assert!(profiled.take(TenantId(0), &spec(), &gpu, &[lane(64)]));
        assert_eq!(ms(), 6.0);
        assert!(!profiled.take(TenantId(0), &spec(), &gpu, &[lane(64)]));
        assert_eq!(ms(), 6.0);
        // The lane that comes with the same number starts again.
        assert!(!profiled.take(TenantId(0), &spec(), &gpu, &[]));
        assert!(profiled.take(TenantId(0), &spec(), &gpu, &[lane(64)]));
        assert_eq!(ms(), 7.0);
        profiled.write();
        let read = Own::read(&profiled.path, &Place { gpu: "cpu".into(), host: None }).unwrap();
        assert_eq!(read, profiled.own.lock().unwrap().clone());
    }
}
