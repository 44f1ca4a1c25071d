//! The models of this worker.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use migrator_models::ModelSpec;
use migrator_torch::Model;
use migrator_wire::{FailCode, FromWorker, ModelKey};

use crate::answer::{Answers, Failure};

/// A model and who waits for its end. Field order matters: the model is gone before its unloading is answered.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) model: Model,
    farewell: Farewell,
}

/// Answers an `Unload` when the last batch on the model is done.
#[derive(Debug)]
struct Farewell {
    answers: Arc<Answers>,
    unload: OnceLock<u64>,
}

impl Drop for Farewell {
    fn drop(&mut self) {
        if let Some(&id) = self.unload.get() {
            self.answers.send(id, &FromWorker::Done, &[]);
        }
    }
}

/// Which model has which key.
#[derive(Debug)]
pub(crate) struct Registry {
    answers: Arc<Answers>,
    slots: Mutex<HashMap<ModelKey, Slot>>,
}

#[derive(Debug, Default)]
struct Slot {
    model: Option<Arc<Loaded>>,
    /// The load that is to fill this slot; one that was overtaken may not.
    loading: Option<u64>,
}

/// A model to load.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) id: u64,
    pub(crate) key: ModelKey,
    pub(crate) spec: ModelSpec,
    pub(crate) folder: PathBuf,
    pub(crate) warm: Vec<u32>,
}

impl Registry {
    pub(crate) fn new(answers: Arc<Answers>) -> Registry {
        Registry { answers, slots: Mutex::default() }
    }

    /// The model of a key.
    pub(crate) fn find(&self, key: ModelKey) -> Result<Arc<Loaded>, Failure> {
        self.slots().get(&key).and_then(|slot| slot.model.clone()).ok_or_else(|| unknown(key))
    }

    /// Announces a load, in the order of the server's requests; a later one of the same key overtakes it.
    pub(crate) fn announce(&self, load: &Load) {
        self.slots().entry(load.key).or_default().loading = Some(load.id);
    }

    /// Loads and warms an announced model, then puts it in place of the old one at once. Takes as long as it takes.
    pub(crate) fn load(&self, load: &Load) -> Result<FromWorker, Failure> {
        let result = self.build(load);
        let mut slots = self.slots();
        let slot = slots.entry(load.key).or_default();
        let due = slot.loading == Some(load.id);
        let replaced = match (due, result) {
            (true, Ok((model, answer))) => Ok((slot.model.replace(model), answer)),
            (false, Ok(_)) => Err(Failure::internal("replaced or unloaded while it was loading")),
            (_, Err(failure)) => Err(failure),
        };
        if due {
            slot.loading = None;
        }
        if slot.model.is_none() && slot.loading.is_none() {
            slots.remove(&load.key);
        }
        drop(slots);
        // The old model is freed here, outside the lock, unless batches still run on it.
        replaced.map(|(_old, answer)| answer)
    }

    /// Forgets a model; answers `id` when its last batch is done.
    pub(crate) fn unload(&self, id: u64, key: ModelKey) -> Result<(), Failure> {
        let slot = self.slots().remove(&key).ok_or_else(|| unknown(key))?;
        match slot.model {
            // It is set once, for the model is in no slot any more.
            Some(model) => drop(model.farewell.unload.set(id)),
            None => self.answers.send(id, &FromWorker::Done, &[]),
        }
        Ok(())
    }

    fn build(&self, load: &Load) -> Result<(Arc<Loaded>, FromWorker), Failure> {
        let start = Instant::now();
        let model = Model::load(&load.spec, &load.folder)?;
        let load_ms = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        let timings = model.warm(&load.warm)?;
        let warm_ms = start.elapsed().as_secs_f64() * 1e3;
        let answer = FromWorker::Loaded { load_ms, warm_ms, timings, memory_mib: resident_mib() };
        let farewell = Farewell { answers: Arc::clone(&self.answers), unload: OnceLock::new() };
        Ok((Arc::new(Loaded { model, farewell }), answer))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<ModelKey, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(key: ModelKey) -> Failure {
    Failure::new(FailCode::UnknownModel, format!("no model has key {}", key.0))
}

/// Resident memory of this process, MiB; 0 where /proc does not tell.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib = |line: &str| line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok();
    status.lines().find_map(kib).unwrap_or(0) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_knows_its_resident_memory() {
        assert!(resident_mib() > 0);
    }
}
