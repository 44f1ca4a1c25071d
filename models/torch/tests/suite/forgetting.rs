use migrator_models::{Part, Trained};
use migrator_torch::{Control, TrainOutcome};

use crate::task::{Job, epochs, mlp, rows};

fn held_out(at: usize) -> Part {
    if at % 5 == 4 { Part::HeldOut } else { Part::Train }
}

/// A model of the first two classes alone, and a job that retrains it on all others, with older samples to look back at.
fn job() -> (Job, Job) {
    let all = rows(&mlp(), 600);
    let (old, new): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, label)| *label < 2);
    let first = Job::with_parts(mlp(), &old, epochs(8, 3e-3), held_out);
    first.finish();
    let (fresh, all) = (new.len(), [new, old].concat());
    let mut second = Job::with_parts(mlp(), &all, epochs(8, 3e-3), |at| if at < fresh { held_out(at) } else { Part::Older });
    second.base = Some(first.out());
    (first, second)
}

fn trained(outcome: TrainOutcome) -> Trained {
    let TrainOutcome::Trained(trained) = outcome else { panic!("{outcome:?}") };
    trained
}

#[test]
fn what_a_version_forgets_and_on_how_many_samples_it_differs_is_told() {
    let (_first, second) = job();
    let found = trained(second.run(&mut |_| Control::Continue).unwrap());
    let older = found.older.expect("there are older samples");
    assert!(older.samples > 50 && older.before > 0.9 && older.after < older.before, "{older:?}");
    assert!(found.before < 0.1 && found.after > 0.8, "{found:?}");
    // The base tells hardly any of the new ones right, so what was gained is what changed.
    let gained = ((found.after - found.before) * found.held_out as f64).round() as u64;
    assert!((gained..=found.held_out).contains(&found.changed.unwrap()), "{found:?}");
}

#[test]
fn a_pause_while_it_looks_back_changes_nothing() {
    let (_first, second) = job();
    let straight = trained(second.run(&mut |_| Control::Continue).unwrap());
    let mut seen = 0;
    let paused = second.run(&mut |progress| {
        seen += usize::from(progress.step == progress.steps);
        // The held-out samples of the last epoch are one batch, what follows are older ones.
        if seen == 3 { Control::Pause } else { Control::Continue }
    });
    assert!(matches!(paused, Ok(TrainOutcome::Paused { step, steps }) if step == steps), "{paused:?}");
    let resumed = trained(second.run(&mut |_| Control::Continue).unwrap());
    assert_eq!((resumed.older, resumed.after, resumed.changed), (straight.older, straight.after, straight.changed));
}
