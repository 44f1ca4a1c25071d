use std::path::Path;

use migrator_torch::{Control, Model, TorchError};

use crate::task::{Job, bytes, epochs, mlp, rows, script, string, text, version};

fn load_error(folder: &Path) -> String {
    match Model::load(&script(&[64]), folder).unwrap_err() {
        TorchError::BadModel(line) => line,
        other => panic!("{other:?}"),
    }
}

/// The error of a `model.pt` that holds these bytes.
fn error_of(content: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("model.pt"), content).unwrap();
    load_error(folder.path())
}

/// A zip archive of empty, stored files.
fn zip(names: &[&str]) -> Vec<u8> {
    let (mut files, mut directory) = (Vec::new(), Vec::new());
    for name in names {
        let offset = (files.len() as u32).to_le_bytes();
        let length = (name.len() as u16).to_le_bytes();
        files.extend([&b"PK\x03\x04\x14\0"[..], &[0; 20], &length, &[0, 0], name.as_bytes()].concat());
        directory.extend([&b"PK\x01\x02\x14\0\x14\0"[..], &[0; 20], &length, &[0; 12], &offset, name.as_bytes()].concat());
    }
    let count = (names.len() as u16).to_le_bytes();
    let (size, start) = ((directory.len() as u32).to_le_bytes(), (files.len() as u32).to_le_bytes());
    [&files, &directory, &b"PK\x05\x06\0\0\0\0"[..], &count, &count, &size, &start, &[0, 0]].concat()
}

#[test]
fn what_is_no_torchscript_gets_one_clear_line() {
    let good = std::fs::read(crate::task::fixture("digits_mlp.pt")).unwrap();
    let mut broken = good.clone();
    // libtorch checks no sums: only a broken structure is noticed here, the rest by the store's SHA-256.
    let pickle = good.windows(9).position(|window| window == b"/data.pkl").unwrap();
    broken[pickle + 9..pickle + 400].fill(0xaa);
    let cases: Vec<(String, &str)> = vec![
        (error_of(b"random bytes"), "not a TorchScript file"),
        (error_of(b""), "not a TorchScript file"),
        (error_of(&good[..good.len() / 2]), "not a TorchScript file"),
        (error_of(&zip(&["old/model.json", "old/code/m.py"])), "before 1.4"),
        (error_of(&zip(&["a.txt"])), "a zip archive without TorchScript"),
        (error_of(&zip(&["m/constants.pkl", "m/data.pkl"])), "libtorch cannot load it"),
        (error_of(&broken), "libtorch cannot load it"),
        (load_error(version("state_dict.pt").path()), "written by torch.save"),
        (load_error(version("legacy.pt").path()), "written by torch.save"),
    ];
    for (line, reason) in cases {
        assert!(line.contains(reason) && line.contains("export it again with torch.jit.save from PyTorch 1.4"), "{line}");
        assert!(!line.contains('\n') && line.len() < 500 && !line.contains("frame #"), "{line}");
    }
    assert!(load_error(Path::new("/nowhere")).contains("/nowhere/model.pt: it cannot be read"));
}

#[test]
fn a_model_that_does_not_fit_its_specification_is_refused_at_loading() {
    let folder = version("digits_mlp.pt");
    let says = |spec| Model::load(&spec, folder.path()).unwrap_err();
    assert!(matches!(says(script(&[63])), TorchError::BadModel(line) if line.contains("mat1 and mat2")));
    let mut spec = script(&[64]);
    spec.classes = 9;
    assert_eq!(says(spec), TorchError::BadModel("model m: its output has shape [1, 10] and should have [1, 9]".into()));
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let job = Job::new(mlp(), &rows(&mlp(), 80), epochs(1, 1e-3));
    job.finish();
    let says = |spec: &_| match Model::load(spec, &job.out()).unwrap_err() {
        TorchError::BadModel(line) => line,
        other => panic!("{other:?}"),
    };
    let mlp = |features, hidden| crate::task::spec(10, migrator_models::Architecture::Mlp { features, hidden });
    assert!(says(&mlp(32, vec![32])).ends_with("tensor layers.0.weight is F32 [32, 64] and should be F32 [32, 32]"));
    assert!(says(&mlp(64, vec![32, 32])).contains("tensor layers.1.bias is F32 [10] and should be F32 [32]"));
    assert!(says(&mlp(64, vec![])).contains("is not part of this architecture"));
    let path = job.out().join("weights.safetensors");
    let mut content = std::fs::read(&path).unwrap();
    let end = content.len();
    content[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, &content).unwrap();
    assert!(says(&job.spec).contains("holds NaN"));
    std::fs::write(&path, &content[..end - 5]).unwrap();
    assert!(says(&job.spec).contains("not a complete safetensors file"));
}

#[test]
fn inputs_of_wrong_length_are_refused() {
    let folder = version("digits_mlp.pt");
    let model = Model::load(&script(&[64]), folder.path()).unwrap();
    let says = |inputs: &[&[u8]], rows| match model.infer(inputs, rows).unwrap_err() {
        TorchError::BadInput(line) => line,
        other => panic!("{other:?}"),
    };
    assert_eq!(says(&[&[0; 255]], 1), "input x has 255 bytes; 1 rows take 256");
    assert_eq!(says(&[&[0; 256]], 2), "input x has 256 bytes; 2 rows take 512");
    assert_eq!(says(&[], 1), "0 inputs given, the model takes 1");
    assert!(says(&[&[]], 0).contains("at least one row"));
}

#[test]
fn malformed_texts_are_refused() {
    let job = Job::new(text(), &rows(&text(), 80), epochs(1, 1e-3));
    job.finish();
    let model = Model::load(&job.spec, &job.out()).unwrap();
    for (input, rows) in
        [(&[1, 0][..], 1), (&[9, 0, 0, 0, b'a'], 1), (&string("a"), 2), (&[1, 0, 0, 0, 0xff], 1), (&string("ab").repeat(2), 1)]
    {
        assert!(matches!(model.infer(&[input], rows), Err(TorchError::BadInput(_))), "{input:?}");
    }
    std::fs::write(job.out().join("tokenizer.json"), "{}").unwrap();
    assert!(matches!(Model::load(&job.spec, &job.out()), Err(TorchError::BadModel(line)) if line.contains("tokenizer.json")));
}

#[test]
fn nan_in_the_data_is_divergence_and_writes_nothing() {
    let mut rows = rows(&mlp(), 80);
    rows[3].0 = bytes(&[f32::NAN; 64]);
    let job = Job::new(mlp(), &rows, epochs(2, 1e-3));
    assert!(matches!(job.run(&mut |_| Control::Continue), Err(TorchError::Diverged(line)) if line.contains("NaN")));
    assert!(std::fs::read_dir(job.out()).unwrap().next().is_none() && !job.checkpoint().exists());
    let job = Job::new(mlp(), &crate::task::rows(&mlp(), 80), epochs(3, 1e38));
    assert!(matches!(job.run(&mut |_| Control::Continue), Err(TorchError::Diverged(_))));
}

#[test]
fn data_that_cannot_be_trained_on_is_refused() {
    let job = Job::new(mlp(), &rows(&mlp(), 20), epochs(1, 1e-3));
    assert!(matches!(job.run(&mut |_| Control::Continue), Err(TorchError::BadData(line)) if line.contains("0 held out")));
    std::fs::write(job.folder.path().join("data.safetensors"), b"junk").unwrap();
    assert!(matches!(job.run(&mut |_| Control::Continue), Err(TorchError::BadData(_))));
}

#[test]
fn torchscript_without_parameters_or_base_cannot_be_trained() {
    let spec = script(&[64]);
    let folder = version("frozen_mlp.pt");
    let mut job = Job::new(spec.clone(), &rows(&spec, 80), epochs(1, 1e-3));
    assert!(matches!(job.run(&mut |_| Control::Continue), Err(TorchError::BadModel(line)) if line.contains("from scratch")));
    job.base = Some(folder.path().to_owned());
    assert!(matches!(job.run(&mut |_| Control::Continue), Err(TorchError::BadModel(line)) if line.contains("no trainable parameters")));
}
