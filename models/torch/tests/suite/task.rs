//! Easy tasks: the class can be told from the features.

use std::path::{Path, PathBuf};

use migrator_models::{Architecture, Datatype, ModelSpec, Part, Sample, Source, TensorSpec, TrainSpec, data};
use migrator_torch::{Control, Progress, TorchError, TrainJob, TrainOutcome, train};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub fn spec(classes: u32, architecture: Architecture) -> ModelSpec {
    ModelSpec { name: "m".into(), classes, max_batch: 8, precision: Default::default(), source: Source::Architecture { architecture } }
}

pub fn mlp() -> ModelSpec {
    spec(10, Architecture::Mlp { features: 64, hidden: vec![32] })
}

pub fn text() -> ModelSpec {
    spec(3, Architecture::TextClassifier { vocabulary: 50, max_tokens: 12, embedding: 16 })
}

pub fn script(shape: &[u32]) -> ModelSpec {
    let input = TensorSpec { name: "x".into(), datatype: Datatype::Fp32, shape: shape.to_vec() };
    ModelSpec {
        name: "m".into(),
        classes: 10,
        max_batch: 8,
        precision: Default::default(),
        source: Source::Torchscript { inputs: vec![input] },
    }
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixture").join(name)
}

/// A folder that holds a fixture as `model.pt`.
pub fn version(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture(name), folder.path().join("model.pt")).unwrap();
    folder
}

pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

pub fn string(text: &str) -> Vec<u8> {
    [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

/// `count` labelled rows: noise, and a bright stretch whose place tells the class; or texts with a word of the class.
pub fn rows(spec: &ModelSpec, count: usize) -> Vec<(Vec<u8>, u32)> {
    let mut random = StdRng::seed_from_u64(5);
    let inputs = spec.inputs();
    let width = inputs[0].elements();
    let row = |index: usize| {
        let label = index as u32 % spec.classes;
        if inputs[0].datatype == Datatype::Bytes {
            let noise = ["the", "a", "of", "it"][random.random_range(0..4)];
            return (string(&format!("{noise} {} {noise}", ["Good", "bad", "fair"][label as usize])), label);
        }
        let stretch = width / spec.classes as usize;
        let bright = label as usize * stretch..(label as usize + 1) * stretch;
        let value = |i| random.random_range(0.0..0.5) + if bright.contains(&i) { 0.7 } else { 0.0 };
        (bytes(&(0..width).map(value).collect::<Vec<f32>>()), label)
    };
    (0..count).map(row).collect()
}

/// A retraining in a folder of its own.
pub struct Job {
    pub folder: tempfile::TempDir,
    pub spec: ModelSpec,
    pub base: Option<PathBuf>,
    pub train: TrainSpec,
}

impl Job {
    pub fn new(spec: ModelSpec, rows: &[(Vec<u8>, u32)], train: TrainSpec) -> Job {
        Job::with_parts(spec, rows, train, |i| if i / 20 % 4 == 3 { Part::HeldOut } else { Part::Train })
    }

    pub fn with_parts(spec: ModelSpec, rows: &[(Vec<u8>, u32)], train: TrainSpec, part: impl Fn(usize) -> Part) -> Job {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("out")).unwrap();
        let samples = rows.iter().enumerate();
        let samples: Vec<_> = samples.map(|(i, (features, label))| Sample { features, label: *label, part: part(i) }).collect();
        data::write(&folder.path().join("data.safetensors"), &spec, &samples).unwrap();
        Job { folder, spec, base: None, train }
    }

    pub fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    pub fn checkpoint(&self) -> PathBuf {
        self.folder.path().join("checkpoint")
    }

    pub fn run(&self, control: &mut dyn FnMut(&Progress) -> Control) -> Result<TrainOutcome, TorchError> {
        let (dataset, checkpoint, out) = (self.folder.path().join("data.safetensors"), self.checkpoint(), self.out());
        let (spec, base, train_spec) = (&self.spec, self.base.as_deref(), &self.train);
        train(&TrainJob { spec, base, dataset: &dataset, train: train_spec, checkpoint: &checkpoint, out: &out }, control)
    }

    pub fn finish(&self) -> (f64, f64) {
        match self.run(&mut |_| Control::Continue).unwrap() {
            TrainOutcome::Trained(trained) => (trained.before, trained.after),
            paused => panic!("{paused:?}"),
        }
    }
}

pub fn epochs(epochs: u32, learning_rate: f64) -> TrainSpec {
    TrainSpec { epochs, learning_rate, batch: 16, seed: 7, patience: 0, ..TrainSpec::default() }
}
