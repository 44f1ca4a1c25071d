use std::sync::Arc;

use migrator_torch::Model;

use crate::task::{Job, bytes, epochs, fixture, floats, mlp, rows, script, string, text, version};

/// The rows that `tests/fixture/export.py` computed the logits of.
fn known_rows() -> Vec<u8> {
    let value = |row: usize, i: usize| ((row * 7 + i) % 17) as f32 / 16.0;
    bytes(&(0..3).flat_map(|row| (0..64).map(move |i| value(row, i))).collect::<Vec<_>>())
}

#[test]
fn torchscript_answers_as_pytorch_did() {
    for name in ["digits_mlp.pt", "frozen_mlp.pt"] {
        let folder = version(name);
        let model = Model::load(&script(&[64]), folder.path()).unwrap();
        let found = floats(&model.infer(&[&known_rows()], 3).unwrap());
        let wanted = floats(&std::fs::read(fixture("digits_mlp.logits")).unwrap());
        assert!(found.len() == 30 && found.iter().zip(&wanted).all(|(a, b)| (a - b).abs() < 1e-5), "{found:?}");
    }
}

#[test]
fn a_row_is_answered_alike_in_any_batch_and_at_any_alignment() {
    let folder = version("conv_bn.pt");
    let model = Model::load(&script(&[1, 8, 8]), folder.path()).unwrap();
    let all = floats(&model.infer(&[&known_rows()], 3).unwrap());
    let shifted = [&[0u8][..], &known_rows()[256..512]].concat();
    let one = floats(&model.infer(&[&shifted[1..]], 1).unwrap());
    assert!(one.iter().zip(&all[10..20]).all(|(a, b)| (a - b).abs() < 1e-5));
}

#[test]
fn several_threads_share_a_model() {
    let folder = version("digits_mlp.pt");
    let model = Arc::new(Model::load(&script(&[64]), folder.path()).unwrap());
    let wanted = model.infer(&[&known_rows()], 3).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..200).for_each(|_| assert_eq!(model.infer(&[&known_rows()], 3).unwrap(), wanted)));
        }
    });
}

#[test]
fn a_text_is_answered_even_when_empty_unknown_or_long() {
    let job = Job::new(text(), &rows(&text(), 240), epochs(4, 0.02));
    assert!(job.finish().1 > 0.9);
    let model = Model::load(&job.spec, &job.out()).unwrap();
    let batch = [string("A GOOD thing"), string(""), string("zzz ü"), string(&"bad ".repeat(100))].concat();
    let logits = floats(&model.infer(&[&batch], 4).unwrap());
    assert!(logits.len() == 12 && logits.iter().all(|v| v.is_finite()));
    assert!(logits[0] > logits[1] && logits[10] > logits[9], "{logits:?}");
}

#[test]
fn warming_times_each_batch() {
    let job = Job::new(mlp(), &rows(&mlp(), 80), epochs(1, 1e-3));
    job.finish();
    let model = Model::load(&job.spec, &job.out()).unwrap();
    let times = model.warm(&[1, 8, 64]).unwrap();
    assert_eq!(times.iter().map(|t| t.0).collect::<Vec<_>>(), [1, 8, 64]);
    assert!(times.iter().all(|t| t.1 > 0.0 && t.1 < 1000.0), "{times:?}");
}
