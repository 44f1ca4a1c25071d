//! Microprofiling (Bhardwaj et al., Ekya, NSDI 2022, section 4.3): a few epochs on a small share of the samples, to foretell what a whole
//! retraining would come to and take.

use std::path::Path;

use migrator_models::{Course, Microprofile, ModelSpec, Part, TrainSpec};

use crate::run::{Run, share};
use crate::samples::{self, Samples};
use crate::train::{Control, LEAST_SAMPLES, Progress, TrainJob};
use crate::{TorchError, thread, train};

/// What to try.
#[derive(Clone, Copy, Debug)]
pub struct MicroprofileJob<'a> {
    /// The model.
    pub spec: &'a ModelSpec,
    /// Version folder to start from; `None` = random weights from the seed.
    pub base: Option<&'a Path>,
    /// Data set file, see `migrator_models::data`.
    pub dataset: &'a Path,
    /// How each try trains: few epochs on a small share.
    pub tries: &'a [TrainSpec],
    /// A path that may be written and removed.
    pub scratch: &'a Path,
}

/// Tries on the calling thread and the device that this process computes on; nothing is published. `control` is called as by [`train()`];
/// `None` when it wanted a pause: a microprofile is too short to be worth a checkpoint.
///
/// # Errors
/// As [`train()`], but for a try that diverges.
pub fn microprofile(job: &MicroprofileJob<'_>, control: &mut dyn FnMut(&Progress) -> Control) -> Result<Option<Microprofile>, TorchError> {
    thread::alone();
    let started = thread::spent_s();
    let MicroprofileJob { spec, base, dataset, tries, scratch } = *job;
    let (data, _) = samples::read(dataset, spec)?;
    let text = train::tokenizer(spec, base, &data)?;
    let (all, mut wanted) = (samples::indices(&data, Part::Train), samples::indices(&data, Part::HeldOut));
    tries.iter().for_each(|how| wanted.extend(samples::draw(&all, how.share, LEAST_SAMPLES, how.seed)));
    wanted.sort_unstable();
    wanted.dedup();
    let samples = Samples::new(&data, spec, text.as_ref(), &wanted)?;
    drop(data);
    let mut found = Microprofile { before: 0.0, held_out: samples.held_out.len() as u64, courses: Vec::new(), measure_s: 0.0, core_s: 0.0 };
    let mut before = None;
    for how in tries {
        let job = TrainJob { spec, base, dataset, train: how, checkpoint: scratch, out: scratch };
        let mut run = Run::new(&job, &samples, String::new(), started)?;
        run.briefly(before.clone());
        let diverged = match run.go_on(control) {
            Ok(Control::Pause) => return Ok(None),
            Ok(Control::Continue) => false,
            Err(TorchError::Diverged(_)) => true,
            Err(error) => return Err(error),
        };
        let (position, pace, samples) = run.seen();
        before = before.or_else(|| position.before.clone());
        let accuracy = if diverged { Vec::new() } else { position.course.clone() };
        found.courses.push(Course { accuracy, samples: samples as u64, sample_s: pace.sample_s() });
        (found.measure_s, found.core_s) = (pace.measure_s().max(found.measure_s), run.core_s());
    }
    found.before = before.as_deref().map_or(0.0, share);
    Ok(Some(found))
}
