use migrator_models::{Architecture, ModelSpec};
use migrator_torch::{Control, Model, TrainOutcome};

use crate::task::{Job, epochs, floats, mlp, rows, script, spec, text, version};

/// Trains from scratch, then again from the result: accuracy before the second is that after the first.
fn learns(spec: ModelSpec, count: usize, first: migrator_models::TrainSpec) {
    let data = rows(&spec, count);
    let job = Job::new(spec.clone(), &data, first.clone());
    let (before, after) = job.finish();
    assert!(before == 0.0 && after > 0.6, "{spec:?}: {before} {after}");
    let mut again = Job::new(spec, &data, migrator_models::TrainSpec { epochs: 1, learning_rate: 1e-5, ..first });
    again.base = Some(job.out());
    assert_eq!(again.finish().0, after);
    assert!(!job.checkpoint().exists() && !job.folder.path().join("checkpoint.scratch").exists());
}

#[test]
fn an_mlp_learns() {
    learns(mlp(), 400, epochs(8, 3e-3));
}

#[test]
fn a_cnn_learns() {
    learns(spec(4, Architecture::Cnn { input: [1, 16, 16], width: 4 }), 160, epochs(5, 3e-3));
}

#[test]
fn a_resnet_learns() {
    learns(spec(2, Architecture::Resnet18 { input: [3, 32, 32] }), 80, epochs(3, 5e-3));
}

#[test]
fn a_mobilenet_learns() {
    learns(spec(2, Architecture::MobilenetV2 { input: [3, 32, 32] }), 160, epochs(9, 3e-2));
}

#[test]
fn a_text_classifier_learns_and_keeps_its_tokenizer() {
    learns(text(), 240, epochs(4, 0.02));
}

#[test]
fn torchscript_learns_from_a_base() {
    for (name, shape) in [("digits_mlp.pt", &[64][..]), ("conv_bn.pt", &[1, 8, 8])] {
        let (spec, folder) = (script(shape), version(name));
        let mut job = Job::new(spec.clone(), &rows(&spec, 400), epochs(8, 3e-3));
        job.base = Some(folder.path().to_owned());
        let (before, after) = job.finish();
        assert!(after > 0.8 && before < 0.4, "{name}: {before} {after}");
        let model = Model::load(&spec, &job.out()).unwrap();
        assert_eq!(floats(&model.infer(&[&rows(&spec, 1)[0].0], 1).unwrap()).len(), 10);
    }
}

/// Weights after a retraining that is paused at each of `pauses` (steps), and the losses of its steps in order.
fn trained(job: &Job, pauses: &[u64]) -> (Vec<u8>, Vec<(u64, f32)>, TrainOutcome) {
    let (mut losses, mut pauses) = (Vec::new(), pauses.iter());
    loop {
        let stop = pauses.next().copied();
        let outcome = job
            .run(&mut |progress| {
                losses.push((progress.step, progress.loss));
                if Some(progress.step) == stop { Control::Pause } else { Control::Continue }
            })
            .unwrap();
        match outcome {
            TrainOutcome::Paused { step, .. } => assert_eq!(Some(step), stop),
            trained => {
                let file =
                    if matches!(job.spec.source, migrator_models::Source::Torchscript { .. }) { "model.pt" } else { "weights.safetensors" };
                losses.retain(|(_, loss)| *loss != 0.0);
                losses.dedup();
                return (std::fs::read(job.out().join(file)).unwrap(), losses, trained);
            }
        }
    }
}

fn accuracies(outcome: TrainOutcome) -> (f64, f64) {
    match outcome {
        TrainOutcome::Trained(trained) => (trained.before, trained.after),
        TrainOutcome::Paused { .. } => panic!("{outcome:?}"),
    }
}

#[test]
fn a_paused_retraining_ends_as_an_uninterrupted_one() {
    for spec in [mlp(), spec(4, Architecture::Cnn { input: [1, 8, 8], width: 2 })] {
        let data = rows(&spec, 160);
        // 8 steps per epoch: pauses inside of an epoch, at its end, and at the very end.
        let (straight, paused) = (Job::new(spec.clone(), &data, epochs(3, 1e-3)), Job::new(spec, &data, epochs(3, 1e-3)));
        let (weights, losses, outcome) = trained(&straight, &[]);
        let (weights_again, losses_again, outcome_again) = trained(&paused, &[3, 8, 11, 24]);
        assert_eq!((losses.len(), &losses), (24, &losses_again));
        assert!(weights == weights_again);
        assert_eq!(accuracies(outcome), accuracies(outcome_again));
    }
}

#[test]
fn a_paused_torchscript_retraining_sees_the_same_losses() {
    let (spec, folder) = (script(&[1, 8, 8]), version("conv_bn.pt"));
    let job = || {
        let mut job = Job::new(spec.clone(), &rows(&spec, 160), epochs(2, 1e-3));
        job.base = Some(folder.path().to_owned());
        job
    };
    let ((_, losses, outcome), (_, losses_again, outcome_again)) = (trained(&job(), &[]), trained(&job(), &[5, 9]));
    // Dropout draws from a generator that the tests beside this one draw from, too.
    assert!(losses.iter().zip(&losses_again).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 0.3), "{losses:?} {losses_again:?}");
    assert_eq!(accuracies(outcome).0, accuracies(outcome_again).0);
}

#[test]
fn another_jobs_or_a_corrupt_checkpoint_is_not_resumed() {
    let data = rows(&mlp(), 80);
    let mut job = Job::new(mlp(), &data, epochs(2, 1e-3));
    let pause = |job: &Job| job.run(&mut |progress| if progress.step == 3 { Control::Pause } else { Control::Continue }).unwrap();
    let first_step = |job: &Job| {
        let mut first = 0;
        job.run(&mut |progress| {
            first = if first == 0 { progress.step } else { first };
            Control::Continue
        })
        .unwrap();
        first
    };
    assert_eq!(pause(&job), TrainOutcome::Paused { step: 3, steps: 8 });
    assert_eq!(first_step(&job), 4);
    pause(&job);
    job.train.seed += 1;
    assert_eq!(first_step(&job), 1);
    pause(&job);
    let content = std::fs::read(job.checkpoint()).unwrap();
    std::fs::write(job.checkpoint(), &content[..content.len() - 9]).unwrap();
    assert_eq!(first_step(&job), 1);
}

#[test]
fn cpu_seconds_add_up_over_pauses() {
    let job = Job::new(mlp(), &rows(&mlp(), 160), epochs(3, 1e-3));
    let mut spent = 0.0;
    job.run(&mut |progress| {
        spent = progress.core_s;
        if progress.step == 20 { Control::Pause } else { Control::Continue }
    })
    .unwrap();
    let outcome = job.run(&mut |progress| {
        assert!(progress.core_s > spent);
        Control::Continue
    });
    assert!(matches!(outcome, Ok(TrainOutcome::Trained(trained)) if trained.core_s > spent && spent > 0.0));
}
