//! The models of this worker.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use migrator_models::ModelSpec;
use migrator_torch::Model;
use migrator_wire::message::Moved;
use migrator_wire::{FailCode, FromWorker, ModelKey};

use crate::answer::{Answers, Failure};
use crate::{memory, sys};

/// A model and who waits for its end. Field order matters: the model is gone before its unloading is answered.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) model: Model,
    /// What it was loaded from, and the batch sizes it was warmed at.
    folder: PathBuf,
    warm: Vec<u32>,
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

    /// Whether a model is being loaded.
    pub(crate) fn is_loading(&self) -> bool {
        self.slots().values().any(|slot| slot.loading.is_some())
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

    /// Moves every model to the device that this process computes on by now, by ascending key.
    pub(crate) fn move_all(&self) -> Result<Vec<Moved>, Failure> {
        let loaded = |(&key, slot): (&ModelKey, &Slot)| slot.model.clone().map(|model| (key, model));
        let mut models: Vec<(ModelKey, Arc<Loaded>)> = self.slots().iter().filter_map(loaded).collect();
        models.sort_by_key(|(key, _)| *key);
        models.into_iter().map(|(key, model)| self.move_one(key, &model)).collect()
    }

    fn move_one(&self, key: ModelKey, from: &Arc<Loaded>) -> Result<Moved, Failure> {
        let start = Instant::now();
        let model = from.model.moved(&from.folder)?;
        let copy_ms = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        let timings = model.warm(&from.warm)?;
        let warm_ms = start.elapsed().as_secs_f64() * 1e3;
        let to = self.loaded(model, from.folder.clone(), from.warm.clone());
        // One that was unloaded meanwhile stays so.
        if let Some(slot) = self.slots().get_mut(&key)
            && slot.model.as_ref().is_some_and(|model| Arc::ptr_eq(model, from))
        {
            slot.model = Some(to);
        }
        Ok(Moved { key, copy_ms, warm_ms, timings })
    }

    fn loaded(&self, model: Model, folder: PathBuf, warm: Vec<u32>) -> Arc<Loaded> {
        let farewell = Farewell { answers: Arc::clone(&self.answers), unload: OnceLock::new() };
        Arc::new(Loaded { model, folder, warm, farewell })
    }

    fn build(&self, load: &Load) -> Result<(Arc<Loaded>, FromWorker), Failure> {
        let start = Instant::now();
        let model = Model::load(&load.spec, &load.folder)?;
        // The file's bytes and what TorchScript's optimisation left: as much again as the model, and never wanted again.
        sys::trim();
        let load_ms = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        let timings = model.warm(&load.warm)?;
        let warm_ms = start.elapsed().as_secs_f64() * 1e3;
        let answer = FromWorker::Loaded { load_ms, warm_ms, timings, memory_mib: memory::in_use_mib() };
        Ok((self.loaded(model, load.folder.clone(), load.warm.clone()), answer))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<ModelKey, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn unknown(key: ModelKey) -> Failure {
    Failure::new(FailCode::UnknownModel, format!("no model has key {}", key.0))
}
