//! The streams, read from where they lie: none of them is a part of this project.

use std::path::Path;

use migrator_models::{Architecture, ModelSpec, Source, TrainSpec};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

pub struct Stream {
    pub name: String,
    pub spec: ModelSpec,
    pub train: TrainSpec,
    /// Samples in a window.
    pub window: usize,
    /// Features, raw, and label, in the order of time.
    pub rows: Vec<(Vec<u8>, u32)>,
}

impl Stream {
    pub fn windows(&self) -> usize {
        self.rows.len() / self.window
    }

    pub fn of(&self, window: usize) -> &[(Vec<u8>, u32)] {
        &self.rows[window * self.window..(window + 1) * self.window]
    }
}

/// All streams whose files are there.
pub fn all(folder: &Path) -> Vec<Stream> {
    let sets = folder.join("datasets");
    [electricity(&sets), keystroke(&sets), occupancy(&sets), digits(&sets), news(&sets), pictures(&sets)].into_iter().flatten().collect()
}

fn stream(name: &str, architecture: Architecture, classes: u32, train: TrainSpec, window: usize, rows: Vec<(Vec<u8>, u32)>) -> Stream {
    let spec = ModelSpec {
        name: name.into(),
        classes,
        max_batch: 64,
        precision: Default::default(),
        source: Source::Architecture { architecture },
    };
    Stream { name: name.into(), spec, train, window, rows }
}

fn table(path: &Path, separators: &[char], skip: usize) -> Option<Vec<Vec<String>>> {
    let text = std::fs::read_to_string(path).ok()?;
    let row = |line: &str| line.split(|c| separators.contains(&c)).filter(|cell| !cell.is_empty()).map(str::to_owned).collect();
    Some(text.lines().skip(skip).filter(|line| !line.trim().is_empty()).map(row).collect())
}

fn numbers(cells: &[String]) -> Vec<f32> {
    cells.iter().map(|cell| cell.trim_matches('"').parse().unwrap()).collect()
}

fn raw(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Scaled by mean and deviation of the first window, as whoever feeds a model would.
fn scaled(rows: Vec<(Vec<f32>, u32)>, window: usize) -> Vec<(Vec<u8>, u32)> {
    let width = rows[0].0.len();
    let column = |index: usize| {
        let values: Vec<f32> = rows[..window].iter().map(|(values, _)| values[index]).collect();
        let mean = values.iter().sum::<f32>() / window as f32;
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f32>() / window as f32;
        (mean, variance.sqrt().max(1e-3))
    };
    let columns: Vec<(f32, f32)> = (0..width).map(column).collect();
    let scale = |values: &[f32]| {
        values.iter().zip(&columns).map(|(value, (mean, sd))| ((value - mean) / sd).clamp(-10.0, 10.0)).collect::<Vec<_>>()
    };
    rows.iter().map(|(values, label)| (raw(&scale(values)), *label)).collect()
}

fn train(epochs: u32, learning_rate: f64) -> TrainSpec {
    TrainSpec { epochs, learning_rate, ..TrainSpec::default() }
}

fn electricity(sets: &Path) -> Option<Stream> {
    let data = table(&sets.join("drift_elec2/elec2_data.dat"), &[' '], 0)?;
    let labels = table(&sets.join("drift_elec2/elec2_label.dat"), &[' '], 0)?;
    let rows = data.iter().zip(&labels).map(|(row, label)| (numbers(row), label[0].parse().unwrap())).collect();
    let window = 1500;
    Some(stream("electricity", Architecture::Mlp { features: 8, hidden: vec![64, 64] }, 2, train(8, 3e-3), window, scaled(rows, window)))
}

fn keystroke(sets: &Path) -> Option<Stream> {
    let data = table(&sets.join("drift_keystroke/keystroke.data"), &[' '], 0)?;
    let labels = table(&sets.join("drift_keystroke/keystroke.labels"), &[' '], 0)?;
    let rows = data.iter().zip(&labels).map(|(row, label)| (numbers(row), label[0].parse().unwrap())).collect();
    let window = 200;
    Some(stream("keystroke", Architecture::Mlp { features: 10, hidden: vec![32] }, 4, train(20, 1e-2), window, scaled(rows, window)))
}

fn occupancy(sets: &Path) -> Option<Stream> {
    let mut rows = Vec::new();
    for file in ["datatest.txt", "datatraining.txt", "datatest2.txt"] {
        for cells in table(&sets.join("uci_occupancy").join(file), &[','], 1)? {
            let values = numbers(&cells[2..]);
            let (label, features) = values.split_last()?;
            rows.push((features.to_vec(), *label as u32));
        }
    }
    let window = 700;
    Some(stream("occupancy", Architecture::Mlp { features: 5, hidden: vec![32] }, 2, train(10, 3e-3), window, scaled(rows, window)))
}

/// Classes appear: two more with each of the first windows.
fn arriving(rows: Vec<(Vec<u8>, u32)>, classes: u32, first: u32, more: u32, window: usize) -> Vec<(Vec<u8>, u32)> {
    let mut pools: Vec<Vec<(Vec<u8>, u32)>> =
        (0..classes).map(|class| rows.iter().filter(|row| row.1 == class).cloned().collect()).collect();
    let (mut out, mut known) = (Vec::new(), first);
    loop {
        for turn in 0..window {
            let open: Vec<usize> = (0..known.min(classes) as usize).filter(|&class| !pools[class].is_empty()).collect();
            if open.is_empty() {
                return out;
            }
            out.push(pools[open[turn % open.len()]].pop().unwrap());
        }
        // In turn, every fifth sample, which is held out, would be of the same few classes.
        let start = out.len() - window;
        out[start..].shuffle(&mut StdRng::seed_from_u64(start as u64));
        known += more;
    }
}

fn digits(sets: &Path) -> Option<Stream> {
    let mut rows = Vec::new();
    for file in ["optdigits.tra", "optdigits.tes"] {
        for cells in table(&sets.join("uci_optdigits").join(file), &[','], 1)? {
            let values = numbers(&cells);
            let (label, features) = values.split_last()?;
            rows.push((raw(&features.iter().map(|value| value / 16.0).collect::<Vec<_>>()), *label as u32));
        }
    }
    let rows = arriving(rows, 10, 4, 2, 280);
    Some(stream("optdigits, classes arrive", Architecture::Mlp { features: 64, hidden: vec![64] }, 10, train(10, 3e-3), 280, rows))
}

/// `mini_20newsgroups/mini_newsgroups/<class>/<message>`, unpacked.
fn news(sets: &Path) -> Option<Stream> {
    let mut rows = Vec::new();
    for (class, folder) in folders(&unpacked(sets, "mini_newsgroups")?)?.into_iter().enumerate() {
        for file in folders(&folder)? {
            let text = String::from_utf8_lossy(&std::fs::read(file).ok()?).into_owned();
            let body: String = text.chars().take(4000).collect();
            rows.push(([&(body.len() as u32).to_le_bytes(), body.as_bytes()].concat(), class as u32));
        }
    }
    let rows = arriving(rows, 20, 8, 4, 100);
    let architecture = Architecture::TextClassifier { vocabulary: 8000, max_tokens: 400, embedding: 64 };
    Some(stream("20 newsgroups, classes arrive", architecture, 20, train(12, 1e-2), 100, rows))
}

/// CIFAR-10: `train/<class>/<picture>.jpg`, unpacked and as CIFAR-10 binary beside it.
fn pictures(sets: &Path) -> Option<Stream> {
    let binary = std::env::var_os("LEARN_CIFAR").map_or_else(|| sets.join("cifar10_jpg/cifar10_dev_test.bin"), Into::into);
    let bytes = std::fs::read(binary).ok()?;
    let row = |record: &[u8]| (raw(&record[1..].iter().map(|&p| f32::from(p) / 255.0).collect::<Vec<_>>()), u32::from(record[0]));
    let rows: Vec<(Vec<u8>, u32)> = bytes.chunks_exact(3073).map(row).collect();
    let window = (rows.len() / 10).max(1);
    let rows = arriving(rows, 10, 4, 2, window);
    Some(stream("CIFAR-10, classes arrive", Architecture::Cnn { input: [3, 32, 32], width: 16 }, 10, train(10, 2e-3), window, rows))
}

/// Where an archive of the data was unpacked: `LEARN_UNPACKED`.
fn unpacked(_sets: &Path, name: &str) -> Option<std::path::PathBuf> {
    let folder = std::path::PathBuf::from(std::env::var_os("LEARN_UNPACKED")?).join(name);
    folder.is_dir().then_some(folder)
}

fn folders(folder: &Path) -> Option<Vec<std::path::PathBuf>> {
    let mut found: Vec<_> = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    found.sort();
    Some(found)
}
