//! The curve file of a server's own device: what `migrator profile` measured there, and the server goes on refining.
//!
//! It is an ordinary curve file, which scenarios may name too. A profile that is not in it is one that the model does not fit into.

use std::io;
use std::path::Path;

use migrator_device::{Device, Gpu};
use migrator_models::curve::{CurvePoint, executors};
use migrator_models::{Curve, ModelSpec, OnProfile, file};
use sha2::{Digest, Sha256};

use super::file::{CurveFile, InferenceEntry, TrainingEntry};
use super::{Inference, Library, Training, read};
use crate::config::ConfigErrors;

/// What a file says first.
const HEADING: &str = "# Measured by `migrator profile` and refined by the server that uses it: milliseconds of a batch with every executor of an\n\
                       # instance busy, divided by their number, and seconds of a training iteration, by profile. See docs/profiles.md.\n\n";

/// What exactly was measured: a short hash of all that a model's specification says.
pub fn digest(spec: &ModelSpec) -> String {
    let json = serde_json::to_vec(spec).unwrap_or_default();
    Sha256::digest(json).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// To four digits: more would be noise.
pub fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

/// Where something is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// GPU model, as its catalog is called; `cpu` on the host's cores.
    pub gpu: String,
    /// Model and number of the cores, where those compute.
    pub host: Option<String>,
}

impl Place {
    /// Of a device; `None` where its GPUs are of several models, whose figures one table by profile cannot hold.
    pub fn of(device: &dyn Device) -> Option<Place> {
        let gpus = device.gpus();
        let first = gpus.first()?;
        let alike = |gpu: &Gpu| gpu.catalog == first.catalog && gpu.cores_per_slice == first.cores_per_slice;
        if !gpus.iter().all(alike) {
            return None;
        }
        let cores = first.cores_per_slice * f64::from(first.catalog.compute_slices);
        let host = device.computes_on_host().then(|| format!("{}, {cores:.2} cores", cpu_model()));
        Some(Place { gpu: first.catalog.name.clone(), host })
    }
}

/// As the kernel calls it; "unknown processor" where it says nothing.
fn cpu_model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim().to_owned());
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| "unknown processor".to_owned())
}

/// The file of one device.
#[derive(Clone, Debug, PartialEq)]
pub struct Own {
    file: CurveFile,
}

/// What a file knows of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    inference: Inference,
    memory_mib: Option<u64>,
    training: Option<KnownTraining>,
}

#[derive(Clone, Debug, PartialEq)]
struct KnownTraining {
    figures: Training,
    /// Core seconds of an iteration.
    core_s: Option<f64>,
    memory_mib: Option<u64>,
}

impl Own {
    /// Nothing is known yet.
    pub fn new(place: &Place) -> Own {
        let file = CurveFile {
            source: "migrator profile".to_owned(),
            host: place.host.clone(),
            gpus: vec![place.gpu.clone()],
            inference: Vec::new(),
            training: Vec::new(),
            derived: Vec::new(),
            instances: Vec::new(),
        };
        Own { file }
    }

    /// What a file says; `None` when there is none.
    ///
    /// # Errors
    /// Every defect of the file, each with its line, key, value and what is allowed; that it was measured elsewhere.
    pub fn read(path: &Path, place: &Place) -> Result<Option<Own>, ConfigErrors> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ConfigErrors::unreadable(path, &error)),
        };
        let name = path.display().to_string();
        let (source, file) = read::parse(&name, &text)?;
        read::add(&mut Library::default(), &source, &file)?;
        let elsewhere = |key: &str, found: String, here: &str| {
            ConfigErrors(vec![source.at(key, format!("measured on {found}, and this is {here}: run `migrator profile` here"))])
        };
        if !file.gpus.contains(&place.gpu) {
            return Err(elsewhere("gpus", file.gpus.join(", "), &place.gpu));
        }
        match (&file.host, &place.host) {
            (Some(found), Some(here)) if found != here => Err(elsewhere("host", found.clone(), here)),
            _ => Ok(Some(Own { file })),
        }
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// What the file system says; the file is as it was.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let body = toml::to_string(&self.file).map_err(io::Error::other)?;
        file::replace(path, format!("{HEADING}{body}").as_bytes())
    }

    /// Takes in a model's figures, instead of those it has of that name.
    pub fn put(&mut self, inference: InferenceEntry, training: Option<TrainingEntry>) {
        self.file.inference.retain(|entry| entry.model != inference.model);
        self.file.training.retain(|entry| entry.model != inference.model);
        self.file.inference.push(inference);
        self.file.training.extend(training);
    }

    /// What is known of exactly this model, and of training it with batches of `batch` rows.
    pub fn of(&self, spec: &ModelSpec, batch: u32) -> Option<Known> {
        let digest = digest(spec);
        let ours = |name: &str, of: Option<&String>| name == spec.name && of == Some(&digest);
        let inference = self.file.inference.iter().find(|entry| ours(&entry.model, entry.spec.as_ref()))?;
        let trained = |entry: &&TrainingEntry| ours(&entry.model, entry.spec.as_ref()) && entry.batch == batch;
        let mut library = Library::default();
        // Without defects: it was read before, or written by this program.
        read::figures(&mut library, &self.file);
        let gpu = self.file.gpus.first()?;
        let training = self.file.training.iter().find(trained).and_then(|entry| {
            let figures = library.training(&entry.model, gpu, Some(batch))?.clone();
            Some(KnownTraining { figures, core_s: entry.core_s, memory_mib: entry.memory_mib })
        });
        Some(Known { inference: library.inference(&inference.model, gpu)?.clone(), memory_mib: inference.memory_mib, training })
    }

    /// Moves what is known of batches of `rows` rows on a profile by `weight` (0 to 1) of the way to `ms`; gives whether it was known.
    pub fn refine(&mut self, spec: &ModelSpec, slices: u8, rows: u32, ms: f64, weight: f64) -> bool {
        let digest = digest(spec);
        let entry = self.file.inference.iter_mut().find(|entry| entry.model == spec.name && entry.spec.as_ref() == Some(&digest));
        let points = entry.and_then(|entry| entry.batch_ms.get_mut(&profile(slices)));
        let point = points.and_then(|points| points.iter_mut().find(|(batch, _)| *batch == rows));
        let Some((_, known)) = point.filter(|_| ms.is_finite() && ms > 0.0) else { return false };
        *known = rounded(*known + weight.clamp(0.0, 1.0) * (ms - *known));
        true
    }
}

/// A profile by its compute slices, as curve files call it.
pub fn profile(slices: u8) -> String {
    format!("{slices}g")
}

impl Known {
    /// Its speed on each profile of a GPU, in the order of the catalog, with the cores (or slices) of the profile; an empty curve where it does not fit.
    pub fn on_profiles(&self, gpu: &Gpu) -> Vec<(f64, OnProfile)> {
        let on = |slices: u8| {
            let points = self.inference.on(slices).unwrap_or_default();
            let share = f64::from(slices) * gpu.cores_per_slice;
            let points = points.iter().map(|&(batch, core_ms)| CurvePoint { batch, core_ms }).collect();
            (share, OnProfile { curve: Curve { points }, executors: executors(share) })
        };
        gpu.catalog.profiles.iter().map(|profile| on(profile.compute_slices)).collect()
    }

    /// How fast it is trained on each profile, in cores; 0 where it does not fit. `None` when training was not measured.
    pub fn train_speeds(&self, gpu: &Gpu) -> Option<Vec<f64>> {
        let KnownTraining { figures, core_s, .. } = self.training.as_ref()?;
        let core_s = (*core_s)?;
        let speed = |slices: u8| core_s / f64::from(figures.batch) / figures.sample_s(slices);
        Some(gpu.catalog.profiles.iter().map(|profile| speed(profile.compute_slices)).collect())
    }

    /// Seconds of a core to train on one sample.
    pub fn sample_core_s(&self) -> Option<f64> {
        self.training.as_ref().and_then(|training| Some(training.core_s? / f64::from(training.figures.batch)))
    }

    /// Memory that serving it takes, MiB.
    pub fn memory_mib(&self) -> Option<u64> {
        self.memory_mib
    }

    /// Memory that training it takes, MiB.
    pub fn train_memory_mib(&self) -> Option<u64> {
        self.training.as_ref().and_then(|training| training.memory_mib)
    }
}

#[cfg(test)]
mod tests;
