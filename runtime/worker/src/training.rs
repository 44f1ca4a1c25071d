//! The retraining of this worker: one at a time, on a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use migrator_torch::{Control, Progress, TrainOutcome, microprofile, train};
use migrator_wire::message::MicroprofileJob;
use migrator_wire::{FromWorker, TrainJob};

use crate::answer::{Answers, Failure, caught};
use crate::executor::STACK_BYTES;

/// Time between two progress messages: often enough for a progress bar.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

/// What the thread is asked to do.
#[derive(Debug)]
pub(crate) enum Work {
    Train(TrainJob),
    Microprofile(MicroprofileJob),
}

/// The slot of the one retraining or microprofile.
#[derive(Debug)]
pub(crate) struct Training {
    answers: Arc<Answers>,
    current: Arc<Mutex<Option<Current>>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Current {
    id: u64,
    pause: Arc<AtomicBool>,
}

impl Training {
    pub(crate) fn new(answers: Arc<Answers>) -> Training {
        Training { answers, current: Arc::default(), thread: None }
    }

    /// Starts a retraining; its answers go to `id`.
    pub(crate) fn start(&mut self, id: u64, work: Work) -> Result<(), Failure> {
        let pause = Arc::new(AtomicBool::new(false));
        let mut current = lock(&self.current);
        if current.is_some() {
            return Err(Failure::internal("a retraining is under way; a worker does one at a time"));
        }
        let (answers, slot) = (Arc::clone(&self.answers), Arc::clone(&self.current));
        let asked = Arc::clone(&pause);
        let work = move || {
            let result = caught(|| run(id, &work, &asked, &answers));
            // Before the answer: who starts the next one after it must not find this one still there.
            lock(&slot).take();
            answers.send_result(id, result);
        };
        let thread = std::thread::Builder::new().name("training".into()).stack_size(STACK_BYTES).spawn(work);
        self.thread = Some(thread.map_err(|error| Failure::internal(format!("cannot start a thread: {error}")))?);
        *current = Some(Current { id, pause });
        Ok(())
    }

    /// Whether a retraining is under way.
    pub(crate) fn is_busy(&self) -> bool {
        lock(&self.current).is_some()
    }

    /// Asks retraining `id` to pause after its step; one that is over needs no asking.
    pub(crate) fn pause(&self, id: u64) {
        if let Some(current) = lock(&self.current).as_ref()
            && current.id == id
        {
            current.pause.store(true, Ordering::Relaxed);
        }
    }

    /// Pauses whatever runs; its thread ends after the checkpoint is written and the answer sent.
    pub(crate) fn finish(self) -> Option<JoinHandle<()>> {
        if let Some(current) = lock(&self.current).as_ref() {
            current.pause.store(true, Ordering::Relaxed);
        }
        self.thread
    }
}

fn lock(current: &Mutex<Option<Current>>) -> MutexGuard<'_, Option<Current>> {
    current.lock().unwrap_or_else(PoisonError::into_inner)
}

fn run(id: u64, work: &Work, pause: &AtomicBool, answers: &Answers) -> Result<FromWorker, Failure> {
    let mut meter = Meter::new(Instant::now());
    let mut control = |progress: &Progress| {
        if let Some(message) = meter.step(Instant::now(), progress) {
            answers.send(id, &message, &[]);
        }
        if pause.load(Ordering::Relaxed) { Control::Pause } else { Control::Continue }
    };
    match work {
        Work::Train(job) => train_on(job, &mut control),
        Work::Microprofile(job) => profile_on(job, &mut control),
    }
}

fn train_on(job: &TrainJob, control: &mut dyn FnMut(&Progress) -> Control) -> Result<FromWorker, Failure> {
    let TrainJob { spec, base, dataset, train: how, checkpoint, out } = job;
    let job = migrator_torch::TrainJob { spec, base: base.as_deref(), dataset, train: how, checkpoint, out };
    Ok(match train(&job, control)? {
        TrainOutcome::Trained(trained) => FromWorker::Trained(trained),
        TrainOutcome::Paused { step, steps } => FromWorker::Paused { step, steps },
    })
}

fn profile_on(job: &MicroprofileJob, control: &mut dyn FnMut(&Progress) -> Control) -> Result<FromWorker, Failure> {
    let MicroprofileJob { spec, base, dataset, tries, scratch } = job;
    let job = migrator_torch::MicroprofileJob { spec, base: base.as_deref(), dataset, tries, scratch };
    let Some(found) = microprofile(&job, control)? else { return Ok(FromWorker::Paused { step: 0, steps: 0 }) };
    Ok(FromWorker::Microprofiled(found))
}

/// Turns steps into progress messages at a bounded rate: the first step, the last, and some between.
struct Meter {
    due: Instant,
    /// The last step seen: while accuracy is measured, the same one comes again and again.
    seen: Option<u64>,
    loss_sum: f64,
    losses: u32,
}

impl Meter {
    fn new(now: Instant) -> Meter {
        Meter { due: now, seen: None, loss_sum: 0.0, losses: 0 }
    }

    fn step(&mut self, now: Instant, progress: &Progress) -> Option<FromWorker> {
        let new = self.seen.replace(progress.step) != Some(progress.step);
        if new {
            self.loss_sum += f64::from(progress.loss);
            self.losses += 1;
        }
        let last = new && progress.step >= progress.steps;
        if now < self.due && !last {
            return None;
        }
        let loss = if self.losses > 0 { (self.loss_sum / f64::from(self.losses)) as f32 } else { progress.loss };
        *self = Meter { seen: self.seen, ..Meter::new(now + PROGRESS_EVERY) };
        Some(FromWorker::Progress { step: progress.step, steps: progress.steps, loss, core_s: progress.core_s })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_tells_the_mean_loss_at_a_bounded_rate_and_always_the_last_step() {
        let start = Instant::now();
        let mut meter = Meter::new(start);
        let mut step = |at_ms, step, loss| {
            let told = meter.step(start + Duration::from_millis(at_ms), &Progress { step, steps: 5, loss, core_s: 0.0 });
            told.map(|message| match message {
                FromWorker::Progress { step, loss, .. } => (step, loss),
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(step(0, 1, 9.0), Some((1, 9.0)));
        assert_eq!(step(50, 2, 4.0), None);
        assert_eq!(step(201, 3, 2.0), Some((3, 3.0)));
        assert_eq!(step(202, 4, 1.0), None);
        assert_eq!(step(203, 5, 3.0), Some((5, 2.0)));
        // The measurement of accuracy after it: told again only when due.
        assert_eq!(step(204, 5, 3.0), None);
        assert_eq!(step(404, 5, 3.0), Some((5, 3.0)));
    }
}
