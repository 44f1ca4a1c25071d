//! From labelled samples to a data set file.

use std::collections::{BTreeMap, BTreeSet};
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
        let since_ms = self.previous_start_ms;
        let count = tokio::task::spawn_blocking(move || fresh(&*samples, &name, since_ms, limit).map(|found| found.len() as u64));
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
        let (how, since_ms, folder) = (self.parts.export, self.previous_start_ms, self.window_folder(window));
        // Only the newest window is exported.
        self.window_ms = self.current_start_ms;
        let seed = self.parts.train.seed.wrapping_add(window);
        let export = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
            write(&*samples, &spec, &name, how, since_ms, seed, &folder.join(DATASET))
        });
        ctx.spawn(export.into_actor(self).map(move |result, actor, ctx| {
            let result = result.unwrap_or_else(|error| Err(error.to_string()));
            actor.machine.exported(actor.now(), window, result);
            actor.pump(ctx);
        }));
    }
}

/// Samples since a moment, Unix milliseconds. What another process stamped by a clock that is ahead of the server's counts as of now.
fn fresh(store: &dyn SampleStore, tenant: &str, since_ms: u64, limit: usize) -> Result<Vec<Sample>, String> {
    store.between(tenant, since_ms, u64::MAX, limit)
}

/// Name of the data set in a window's folder.
pub(super) const DATASET: &str = "dataset.safetensors";

/// Writes the window's samples and older ones, some of each held out; gives the number to train on.
fn write(
    store: &dyn SampleStore,
    spec: &ModelSpec,
    tenant: &str,
    how: ExportSpec,
    since_ms: u64,
    seed: u64,
    path: &Path,
) -> Result<u64, String> {
    let fresh = fresh(store, tenant, since_ms, how.max_samples)?;
    // As many more as are held out of them.
    let wanted = fresh.len() as f64 * how.replay_share / (1.0 - how.least_held_out_share / 2.0);
    let replayed = store.replay(tenant, since_ms, wanted as usize, seed)?;
    let samples = parts(&fresh, &replayed, how);
    data::write(path, spec, &samples).map_err(|error| one_line(&error))?;
    Ok(samples.iter().filter(|sample| sample.part == Part::Train).count() as u64)
}

/// Fewest different samples that are held out, if there are so many.
const LEAST_HELD_OUT: f64 = 4.0;

/// Marks a share of the fresh samples as held out, and of the replayed ones those that no version was trained on.
fn parts<'s>(fresh: &'s [Sample], replayed: &'s [Sample], how: ExportSpec) -> Vec<data::Sample<'s>> {
    let different: BTreeSet<u64> = fresh.iter().map(|sample| hash(&sample.features)).collect();
    let few = (different.len() as f64 * how.held_out_share) < LEAST_HELD_OUT;
    if few { by_copies(fresh, replayed, how) } else { by_features(fresh, replayed, how) }
}

/// Where samples differ, features are held out or trained on, whoever has them: what was trained on tells nothing of what was learnt.
/// Numbers follow from the features, the same in every window: those below half of the share are held out in every one, so that they are
/// there to tell what is forgotten; above, the lowest up to the share are.
fn by_features<'s>(fresh: &'s [Sample], replayed: &'s [Sample], how: ExportSpec) -> Vec<data::Sample<'s>> {
    let share = how.held_out_share;
    let mut groups: BTreeMap<u64, usize> = BTreeMap::new();
    fresh.iter().for_each(|sample| *groups.entry(hash(&sample.features)).or_default() += 1);
    let mut order: Vec<(f64, u64, usize)> = groups.into_iter().map(|(hash, copies)| (unit(hash), hash, copies)).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let most = (fresh.len() as f64 * share) as usize;
    let (mut held_out, mut all) = (BTreeSet::new(), 0);
    for (number, hash, copies) in order {
        if number < share / 2.0 || all + copies <= most {
            held_out.insert(hash);
            all += copies;
        }
    }
    let new = fresh.iter().map(|sample| {
        let part = if held_out.contains(&hash(&sample.features)) { Part::HeldOut } else { Part::Train };
        as_data(sample, part)
    });
    let old = replayed.iter().filter_map(|sample| {
        let hash = hash(&sample.features);
        match unit(hash) < how.least_held_out_share / 2.0 {
            true => Some(as_data(sample, Part::Older)),
            // Held out now, and perhaps trained on before: it is neither.
            false if held_out.contains(&hash) => None,
            false => Some(as_data(sample, Part::Train)),
        }
    });
    new.chain(old).collect()
}

/// Where few samples differ, each part needs some copies of each.
fn by_copies<'s>(fresh: &'s [Sample], replayed: &'s [Sample], how: ExportSpec) -> Vec<data::Sample<'s>> {
    let mut copies = BTreeMap::new();
    let mut number = |sample: &Sample| {
        let hash = hash(&sample.features);
        let copy: &mut u64 = copies.entry(hash).or_default();
        *copy += 1;
        unit(hash ^ (*copy - 1).wrapping_mul(0xd6e8_feb8_6659_fd93))
    };
    let numbers: Vec<f64> = fresh.iter().map(&mut number).collect();
    let mut order: Vec<usize> = (0..fresh.len()).collect();
    order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]).then(a.cmp(&b)));
    order.truncate((fresh.len() as f64 * how.held_out_share) as usize);
    let mut found: Vec<data::Sample<'s>> = fresh.iter().map(|sample| as_data(sample, Part::Train)).collect();
    order.into_iter().for_each(|at| found[at].part = Part::HeldOut);
    let least = how.least_held_out_share;
    found.extend(replayed.iter().map(|sample| as_data(sample, if number(sample) < least / 2.0 { Part::Older } else { Part::Train })));
    found
}

fn as_data(sample: &Sample, part: Part) -> data::Sample<'_> {
    data::Sample { features: &sample.features, label: sample.label, part }
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
    use crate::message::Bounds;

    fn sample(id: u32) -> Sample {
        Sample { features: id.to_le_bytes().to_vec().into(), label: 0, origin: Default::default() }
    }

    fn how(share: f64) -> ExportSpec {
        ExportSpec { max_samples: 1000, replay_share: 0.5, held_out_share: share, least_held_out_share: share }
    }

    fn count(parts: &[data::Sample<'_>], part: Part) -> usize {
        parts.iter().filter(|sample| sample.part == part).count()
    }

    /// Features that are in both parts.
    fn shared<'s>(parts: &[data::Sample<'s>], one: Part, other: Part) -> usize {
        let of =
            |part| parts.iter().filter(move |sample| sample.part == part).map(|sample| sample.features).collect::<BTreeSet<&'s [u8]>>();
        of(one).intersection(&of(other)).count()
    }

    #[test]
    fn exactly_a_share_is_held_out_and_what_is_clearly_so_is_so_in_every_window() {
        let samples: Vec<Sample> = (0..5000).map(sample).collect();
        let all = parts(&samples, &[], how(0.2));
        assert_eq!(count(&all, Part::HeldOut), 1000);
        let sides = |run: &[data::Sample<'_>]| count(run, Part::HeldOut) > 0 && count(run, Part::Train) > 0;
        assert!(all.windows(60).all(sides), "spread over time");
        let later: Vec<Sample> = (5000..5250).map(sample).collect();
        let replayed = parts(&later, &samples, how(0.2));
        let older: BTreeSet<&[u8]> = replayed.iter().filter(|sample| sample.part == Part::Older).map(|sample| sample.features).collect();
        assert!((400..600).contains(&older.len()), "{}", older.len());
        for window in samples.chunks(25) {
            let marked = parts(window, &[], how(0.2));
            assert!(marked.iter().all(|sample| sample.part == Part::HeldOut || !older.contains(sample.features)));
        }
    }

    #[test]
    fn what_a_smaller_share_let_be_trained_on_never_counts_as_older() {
        let samples: Vec<Sample> = (0..1000).map(sample).collect();
        let first = parts(&samples, &[], how(0.1));
        let trained: BTreeSet<&[u8]> = first.iter().filter(|sample| sample.part == Part::Train).map(|sample| sample.features).collect();
        let later: Vec<Sample> = (1000..1100).map(sample).collect();
        for now in [how(0.4).after(how(0.1)), how(0.4).after(how(0.1).after(how(0.3))), how(0.2).after(how(0.4).after(how(0.1)))] {
            let second = parts(&later, &samples, now);
            let mut older = second.iter().filter(|sample| sample.part == Part::Older).peekable();
            assert!(older.peek().is_some() && older.all(|sample| !trained.contains(sample.features)), "{now:?}");
        }
    }

    #[test]
    fn what_is_held_out_is_not_trained_on_as_a_copy() {
        let fresh: Vec<Sample> = (0..3000u32).map(|n| sample(n * n % 331)).collect();
        let replayed: Vec<Sample> = (0..331).map(sample).collect();
        let parts = parts(&fresh, &replayed, how(0.2));
        assert_eq!((shared(&parts, Part::HeldOut, Part::Train), shared(&parts, Part::Older, Part::Train)), (0, 0));
        let held_out = count(&parts[..3000], Part::HeldOut);
        assert!((550..=650).contains(&held_out), "{held_out} of 3000");
        assert!(count(&parts[3000..], Part::Older) > 10 && count(&parts[3000..], Part::Train) > 200);
    }

    #[test]
    fn copies_of_few_samples_fall_on_either_side() {
        let same: Vec<Sample> = (0..1000).map(|_| sample(7)).collect();
        let parts = parts(&same, &same, how(0.2));
        assert_eq!(count(&parts[..1000], Part::HeldOut), 200);
        let older = count(&parts[1000..], Part::Older);
        assert!((50..150).contains(&older), "{older}");
    }

    /// Samples of which some are stamped by a clock that is ahead.
    struct Stamped(Vec<(u64, Sample)>);

    impl SampleStore for Stamped {
        fn add(&self, _: &str, _: u64, _: &[Sample]) -> Result<(), String> {
            Ok(())
        }

        fn between(&self, _: &str, from_ms: u64, to_ms: u64, _: usize) -> Result<Vec<Sample>, String> {
            Ok(self.0.iter().filter(|(at_ms, _)| (from_ms..to_ms).contains(at_ms)).map(|(_, sample)| sample.clone()).collect())
        }

        fn replay(&self, _: &str, _: u64, _: usize, _: u64) -> Result<Vec<Sample>, String> {
            Ok(Vec::new())
        }

        fn set_bounds(&self, _: &str, _: Bounds) {}

        fn count(&self, _: &str) -> Result<u64, String> {
            Ok(self.0.len() as u64)
        }
    }

    #[test]
    fn samples_stamped_by_a_clock_that_is_ahead_are_fresh() {
        let now_ms = 1_000_000;
        let store = Stamped([10, now_ms - 5, now_ms + 3_600_000].into_iter().zip((0..3).map(sample)).collect());
        assert_eq!(fresh(&store, "t", now_ms - 10, 9).unwrap(), [sample(1), sample(2)]);
    }
}
