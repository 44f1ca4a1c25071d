//! From labelled samples to a data set file.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use migrator_machine::retraining::RetrainingState;
use migrator_models::{ModelSpec, data};

use super::RetrainingActor;
use crate::launcher::one_line;
use crate::message::{Sample, SampleStore};

/// What goes into a data set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ExportSpec {
    /// Most samples of the window, the newest.
    pub max_samples: usize,
    /// Samples of older windows, as a share of the new ones.
    pub replay_share: f64,
    /// Share of the new samples that only measures accuracy.
    pub held_out_share: f64,
}

/// How often the store is asked for the number of samples while too few are there.
const COUNT_EVERY: Duration = Duration::from_secs(1);

impl RetrainingActor {
    /// Tells the machine how many samples an export would have now, while that matters.
    pub(super) fn count(&mut self, ctx: &mut Context<Self>) {
        let now = self.now();
        let waits = self.machine.state() == RetrainingState::Collecting;
        if !waits || self.counted_at.is_some_and(|at| now.since(at) < COUNT_EVERY / 2) {
            return;
        }
        self.counted_at = Some(now);
        let (samples, name, limit) = (Arc::clone(&self.parts.samples), self.parts.name.clone(), self.parts.export.max_samples);
        let Range { start, end } = self.fresh_ms();
        let count = tokio::task::spawn_blocking(move || samples.between(&name, start, end, limit).map(|found| found.len() as u64));
        ctx.spawn(count.into_actor(self).map(|result, actor, ctx| match result {
            Ok(Ok(count)) => {
                actor.machine.samples(actor.now(), count);
                actor.pump(ctx);
            }
            Ok(Err(reason)) => tracing::warn!(tenant = %actor.parts.name, reason, "samples could not be counted"),
            Err(error) => tracing::warn!(tenant = %actor.parts.name, %error, "samples could not be counted"),
        }));
    }

    pub(super) fn export(&mut self, window: u64, ctx: &mut Context<Self>) {
        let (samples, spec, name) = (Arc::clone(&self.parts.samples), Arc::clone(&self.parts.spec), self.parts.name.clone());
        let (how, fresh_ms, folder) = (self.parts.export, self.fresh_ms(), self.window_folder(window));
        let seed = self.parts.train.seed.wrapping_add(window);
        let export = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            write(&*samples, &spec, &name, how, fresh_ms, seed, &folder.join(DATASET))
        });
        ctx.spawn(export.into_actor(self).map(|result, actor, ctx| {
            let result = result.unwrap_or_else(|error| Err(error.to_string()));
            actor.machine.exported(actor.now(), result);
            actor.pump(ctx);
        }));
    }

    /// From the start of the window before this one to now, Unix milliseconds.
    fn fresh_ms(&self) -> Range<u64> {
        self.previous_start_ms..self.parts.clock.unix_ms()
    }
}

/// Name of the data set in a window's folder.
pub(super) const DATASET: &str = "dataset.safetensors";

/// Writes the window's samples, some held out, and older ones to train on; gives the number to train on.
fn write(
    store: &dyn SampleStore,
    spec: &ModelSpec,
    tenant: &str,
    how: ExportSpec,
    fresh_ms: Range<u64>,
    seed: u64,
    path: &Path,
) -> Result<u64, String> {
    let fresh = store.between(tenant, fresh_ms.start, fresh_ms.end, how.max_samples)?;
    let replayed = store.replay(tenant, fresh_ms.start, (fresh.len() as f64 * how.replay_share) as usize, seed)?;
    let held_out = every_nth(fresh.len(), how.held_out_share);
    let mut samples: Vec<data::Sample<'_>> = fresh.iter().zip(&held_out).map(|(sample, held_out)| as_data(sample, *held_out)).collect();
    samples.extend(replayed.iter().map(|sample| as_data(sample, false)));
    data::write(path, spec, &samples).map_err(|error| one_line(&error))?;
    Ok(samples.iter().filter(|sample| !sample.held_out).count() as u64)
}

fn as_data(sample: &Sample, held_out: bool) -> data::Sample<'_> {
    data::Sample { features: &sample.features, label: sample.label, held_out }
}

/// Marks `share` of `count`, evenly over time, so that both halves see the same drift.
fn every_nth(count: usize, share: f64) -> Vec<bool> {
    (0..count).map(|i| ((i + 1) as f64 * share).floor() > (i as f64 * share).floor()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_samples_are_spread_evenly() {
        let marked = every_nth(20, 0.2);
        assert_eq!(marked.iter().filter(|m| **m).count(), 4);
        assert_eq!(marked.iter().position(|m| *m), Some(4));
        assert!(every_nth(10, 0.0).iter().all(|m| !m));
    }
}
