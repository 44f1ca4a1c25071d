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
    /// The smallest that this share has been: what a smaller one did not hold out was trained on, whatever the share is now.
    pub least_held_out_share: f64,
}

impl ExportSpec {
    /// This one, after another one.
    pub(super) fn after(self, before: ExportSpec) -> ExportSpec {
        ExportSpec { least_held_out_share: self.least_held_out_share.min(before.least_held_out_share), ..self }
    }
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
    let wanted = fresh.len() as f64 * how.replay_share / (1.0 - how.least_held_out_share / 2.0);
    let replayed = store.replay(tenant, fresh_ms.start, wanted as usize, seed)?;
    let mut samples = held_out(&fresh, how.held_out_share);
    samples.extend(never_trained_on(&replayed, how.least_held_out_share));
    data::write(path, spec, &samples).map_err(|error| one_line(&error))?;
    Ok(samples.iter().filter(|sample| sample.part == Part::Train).count() as u64)
}

/// Marks the share of the samples whose numbers are lowest.
fn held_out(samples: &[Sample], share: f64) -> Vec<data::Sample<'_>> {
    let numbers = numbers(samples);
    let mut order: Vec<usize> = (0..samples.len()).collect();
    order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]).then(a.cmp(&b)));
    order.truncate((samples.len() as f64 * share) as usize);
    let mut found: Vec<data::Sample<'_>> = samples.iter().map(|sample| as_data(sample, Part::Train)).collect();
    order.into_iter().for_each(|at| found[at].part = Part::HeldOut);
    found
}

/// Marks the samples of older windows whose numbers are so low that they were held out then, whatever else was in their window.
fn never_trained_on(samples: &[Sample], share: f64) -> impl Iterator<Item = data::Sample<'_>> {
    let numbers = numbers(samples);
    samples.iter().zip(numbers).map(move |(sample, number)| as_data(sample, if number < share / 2.0 { Part::Older } else { Part::Train }))
}

fn as_data(sample: &Sample, part: Part) -> data::Sample<'_> {
    data::Sample { features: &sample.features, label: sample.label, part }
}

/// Numbers in 0..1 that follow from the features, the same in every window; copies of one sample get different ones, for where there are
/// few different samples each part needs some of each.
fn numbers(samples: &[Sample]) -> Vec<f64> {
    let mut copies = BTreeMap::new();
    let mut number = |sample: &Sample| {
        let hash = hash(&sample.features);
        let copy: &mut u64 = copies.entry(hash).or_default();
        *copy += 1;
        unit(hash ^ (*copy - 1).wrapping_mul(0xd6e8_feb8_6659_fd93))
    };
    samples.iter().map(&mut number).collect()
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

    fn marked(samples: &[Sample]) -> Vec<bool> {
        held_out(samples, 0.2).iter().map(|sample| sample.part == Part::HeldOut).collect()
    }

    #[test]
    fn exactly_a_share_is_held_out_and_what_is_clearly_so_is_so_in_every_window() {
        let samples: Vec<Sample> = (0..5000).map(sample).collect();
        let all = marked(&samples);
        assert_eq!(all.iter().filter(|held_out| **held_out).count(), 1000);
        assert!(all.windows(60).all(|run| run.contains(&false) && run.contains(&true)), "spread over time");
        let older: Vec<bool> = never_trained_on(&samples, 0.2).map(|sample| sample.part == Part::Older).collect();
        for (at, window) in samples.chunks(250).enumerate() {
            let marked = marked(window);
            let trained = (0..window.len()).filter(|&i| older[at * 250 + i] && !marked[i]).count();
            assert_eq!(trained, 0, "window {at}");
        }
    }

    #[test]
    fn what_a_smaller_share_let_be_trained_on_never_counts_as_older() {
        let how = |share| ExportSpec { max_samples: 1000, replay_share: 0.5, held_out_share: share, least_held_out_share: share };
        let samples: Vec<Sample> = (0..1000).map(sample).collect();
        let trained: Vec<bool> = held_out(&samples, 0.1).iter().map(|sample| sample.part == Part::Train).collect();
        for now in [how(0.4).after(how(0.1)), how(0.4).after(how(0.1).after(how(0.3))), how(0.2).after(how(0.4).after(how(0.1)))] {
            let older = never_trained_on(&samples, now.least_held_out_share).map(|sample| sample.part == Part::Older);
            let older: Vec<bool> = older.collect();
            assert!(older.contains(&true) && !older.iter().zip(&trained).any(|(older, trained)| *older && *trained), "{now:?}");
        }
    }

    #[test]
    fn copies_fall_on_either_side() {
        let same: Vec<Sample> = (0..1000).map(|_| sample(7)).collect();
        assert_eq!(marked(&same).iter().filter(|held_out| **held_out).count(), 200);
        let older = never_trained_on(&same, 0.2).filter(|sample| sample.part == Part::Older).count();
        assert!((50..150).contains(&older), "{older}");
    }
}
