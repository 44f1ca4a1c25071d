//! From labelled samples to a data set file.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use migrator_machine::retraining::RetrainingState;
use migrator_models::data::Part;
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

/// Writes the window's samples and older ones, some of each held out; gives the number to train on.
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
    // As many more as are held out of them.
    let wanted = fresh.len() as f64 * how.replay_share / (1.0 - how.held_out_share);
    let replayed = store.replay(tenant, fresh_ms.start, wanted as usize, seed)?;
    let mut samples = parts(&fresh, how.held_out_share, Part::HeldOut);
    if samples.iter().all(|sample| sample.part == Part::Train) || samples.iter().all(|sample| sample.part != Part::Train) {
        // So few, or so much alike, that all fell on one side.
        let every = (1.0 / how.held_out_share).round().max(2.0) as usize;
        let part = |at: usize| if at % every == every - 1 { Part::HeldOut } else { Part::Train };
        samples.iter_mut().enumerate().for_each(|(at, sample)| sample.part = part(at));
    }
    samples.extend(parts(&replayed, how.held_out_share, Part::Older));
    data::write(path, spec, &samples).map_err(|error| one_line(&error))?;
    Ok(samples.iter().filter(|sample| sample.part == Part::Train).count() as u64)
}

/// A share of the samples, told by their features: what is held out once is never trained on in a later window. Copies of one sample fall
/// on either side, for where there are few different ones a side needs some of each.
fn parts(samples: &[Sample], share: f64, held_out: Part) -> Vec<data::Sample<'_>> {
    let mut copies = BTreeMap::new();
    let mut part = |sample: &Sample| {
        let hash = hash(&sample.features);
        let copy: &mut u64 = copies.entry(hash).or_default();
        *copy += 1;
        if unit(hash ^ (*copy - 1).wrapping_mul(0xd6e8_feb8_6659_fd93)) < share { held_out } else { Part::Train }
    };
    samples.iter().map(|sample| data::Sample { features: &sample.features, label: sample.label, part: part(sample) }).collect()
}

/// 64-bit FNV-1a: the same today and by every build.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A number in 0..1 that all bits have a say in: the finaliser of MurmurHash3.
fn unit(mut hash: u64) -> f64 {
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    (hash >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(id: u32) -> Sample {
        Sample { features: id.to_le_bytes().to_vec().into(), label: 0, origin: Default::default() }
    }

    #[test]
    fn a_share_is_held_out_and_always_the_same() {
        let samples: Vec<Sample> = (0..5000).map(sample).collect();
        let held_out = |samples: &[Sample]| -> Vec<bool> {
            parts(samples, 0.2, Part::HeldOut).iter().map(|sample| sample.part == Part::HeldOut).collect()
        };
        let all = held_out(&samples);
        let share = all.iter().filter(|held_out| **held_out).count() as f64 / 5000.0;
        assert!((share - 0.2).abs() < 0.02, "{share}");
        assert_eq!(held_out(&samples[100..200]), all[100..200], "whatever else is there");
        // Neighbours fall on either side: no run of ids is held out as a whole.
        let same: Vec<Sample> = (0..1000).map(|_| sample(7)).collect();
        let copies = held_out(&same).iter().filter(|held_out| **held_out).count();
        assert!((150..250).contains(&copies), "{copies} of 1000 copies");
        assert!(all.windows(30).all(|run| run.contains(&false)));
    }
}
