//! A retraining in memory: it reads the real data set, learns the weather of its middle sample, and takes the time of its passes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use migrator_models::Trained;
use migrator_models::data::{Dataset, Part};
use migrator_models::store::WEIGHTS;
use migrator_wire::{FromWorker, TrainJob};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until};

use crate::weather::Weather;
use crate::worker::{Answers, known, whole_ms};

/// Samples in a step, seconds of work between two reports, and what a sample of the validation takes of one of the training: as in the
/// simulator.
const BATCH: f64 = 32.0;
const REPORT: Duration = Duration::from_secs(1);
const VALIDATION: f64 = 2.0 / 3.0;

/// Trains; a pause is heard until the last step.
pub async fn run(id: u64, job: TrainJob, sample_core_s: f64, share: f64, answers: Answers, weather: Weather, pause: Arc<Notify>) {
    let data = Dataset::read(&job.dataset, &job.spec).unwrap();
    let (training, held_out) = (data.part(Part::Train), data.part(Part::HeldOut));
    let passes = f64::from(job.train.epochs) * training.len() as f64;
    let steps = (passes / BATCH).ceil().max(1.0) as u64;
    let begun = std::fs::read_to_string(&job.checkpoint).map_or(0, |text| text.parse().unwrap());
    let step_time = whole_ms(passes * (sample_core_s / share) / steps as f64 * 1000.0);
    let say = |message| {
        if weather.on_the_beat() {
            complain("a worker says something just when the coordinator looks");
        }
        drop(answers.send((id, message, Bytes::new())));
    };
    let core_s = |step: u64| step as f64 / steps as f64 * training.len() as f64 * (sample_core_s * f64::from(job.train.epochs));
    let since = Instant::now();
    let ends = since + step_time * (steps - begun) as u32;
    let done = || (begun + (since.elapsed().as_micros() / step_time.as_micros()) as u64).min(steps);
    loop {
        tokio::select! {
            biased;
            () = sleep_until(ends.min(Instant::now() + REPORT)) => {
                let step = done();
                say(FromWorker::Progress { step, steps, loss: 0.0, core_s: core_s(step) });
                std::fs::write(&job.checkpoint, step.to_string()).unwrap();
                if step >= steps {
                    break;
                }
            }
            () = pause.notified() => {
                let step = done();
                if step < steps {
                    std::fs::write(&job.checkpoint, step.to_string()).unwrap();
                    return say(FromWorker::Paused { step, steps });
                }
            }
        }
    }
    sleep(whole_ms(held_out.len() as f64 * (sample_core_s / share) * VALIDATION * 1000.0)).await;
    let learnt = weather_of(&data, data.len() / 2);
    let right = |known: u64| held_out.iter().filter(|&&row| weather_of(&data, row) == known).count() as f64 / held_out.len() as f64;
    let (before, after) = (job.base.as_deref().map_or(0.0, |base: &Path| right(known(base))), right(learnt));
    let of_one = |share: f64| share == 0.0 || share == 1.0;
    if !of_one(before) || !of_one(after) {
        complain("the held-out samples are of two weathers, which the simulator does not know");
    }
    std::fs::write(job.out.join(WEIGHTS), learnt.to_string()).unwrap();
    say(FromWorker::Trained(Trained {
        before,
        after,
        held_out: held_out.len() as u64,
        core_s: training.len() as f64 * (sample_core_s * f64::from(job.train.epochs)),
        epochs: job.train.epochs,
        ..Trained::default()
    }));
}

/// Into the log that the test demands to be empty: a panic would end this task and no more.
fn complain(what: &str) {
    tracing::error!(target: "migrator::parity", "{what}: change the case");
}

/// The first feature of a sample is the weather in which it was labelled.
fn weather_of(data: &Dataset, row: usize) -> u64 {
    let bytes = data.row(0, row);
    f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as u64
}
