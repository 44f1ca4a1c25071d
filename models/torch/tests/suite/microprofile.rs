use migrator_models::{TrainSpec, Trained};
use migrator_torch::{Control, MicroprofileJob, TrainOutcome, microprofile};

use crate::task::{Job, epochs, mlp, rows};

#[test]
fn a_microprofile_tells_courses_and_times_and_leaves_nothing_behind() {
    let mut job = Job::new(mlp(), &rows(&mlp(), 400), epochs(2, 3e-3));
    let (_, after) = job.finish();
    job.base = Some(job.out());
    let files = || std::fs::read_dir(job.folder.path()).unwrap().count();
    let there = files();
    let (whole, head) = (TrainSpec { share: 0.2, ..epochs(3, 3e-3) }, TrainSpec { share: 0.2, frozen: 1.0, ..epochs(2, 3e-3) });
    let wild = TrainSpec { learning_rate: 1e30, ..whole.clone() };
    let tries = [whole, head, wild];
    let (dataset, scratch) = (job.folder.path().join("data.safetensors"), job.folder.path().join("scratch"));
    let asked = MicroprofileJob { spec: &job.spec, base: job.base.as_deref(), dataset: &dataset, tries: &tries, scratch: &scratch };
    let found = microprofile(&asked, &mut |_| Control::Continue).unwrap().unwrap();
    assert_eq!((found.before, found.held_out, files()), (after, 100, there));
    assert_eq!(found.courses.iter().map(|course| course.accuracy.len()).collect::<Vec<_>>(), [3, 2, 0]);
    assert!(found.courses.iter().all(|course| course.samples == 60));
    assert!(found.courses[0].sample_s > 0.0 && found.measure_s > 0.0 && found.core_s > found.courses[0].sample_s * 60.0);
    assert_eq!(microprofile(&asked, &mut |_| Control::Pause).unwrap(), None);
}

#[test]
fn a_frozen_layer_keeps_its_weights() {
    let mut job = Job::new(mlp(), &rows(&mlp(), 200), epochs(1, 3e-3));
    job.finish();
    let first = std::fs::read(job.out().join("weights.safetensors")).unwrap();
    let base = tempfile::tempdir().unwrap();
    std::fs::write(base.path().join("weights.safetensors"), &first).unwrap();
    (job.base, job.train.frozen) = (Some(base.path().to_owned()), 1.0);
    job.finish();
    let second = std::fs::read(job.out().join("weights.safetensors")).unwrap();
    let tensor = |bytes: &[u8], name: &str| safetensors::SafeTensors::deserialize(bytes).unwrap().tensor(name).unwrap().data().to_vec();
    assert!(tensor(&first, "layers.0.weight") == tensor(&second, "layers.0.weight"));
    assert!(tensor(&first, "layers.1.weight") != tensor(&second, "layers.1.weight"));
}

#[test]
fn training_stops_when_it_no_longer_helps() {
    let mut job = Job::new(mlp(), &rows(&mlp(), 400), TrainSpec { patience: 2, ..epochs(60, 3e-3) });
    let outcome = job.run(&mut |_| Control::Continue).unwrap();
    let TrainOutcome::Trained(Trained { epochs, after, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(epochs < 60 && after > 0.9, "{epochs} {after}");
    job.train.patience = 0;
    job.train.epochs = epochs + 3;
    assert!(matches!(job.run(&mut |_| Control::Continue), Ok(TrainOutcome::Trained(all)) if all.epochs == epochs + 3));
}
