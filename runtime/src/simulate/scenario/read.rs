//! From a file to a scenario: names become figures, catalogs and counts.

use std::path::{Path, PathBuf};

use migrator_models::reader::{TraceOptions, TraceRow, read_trace};
use migrator_sim::setup::{Drift, Fault, FaultKind, Learning};

use super::arrivals::{Arrivals, Recorded, generator};
use super::file::{ArrivalsEntry, FaultEntry, FaultName, Gpus, RetrainingEntry, ScenarioFile, TenantEntry, TraceEntry};
use super::keys::ROOT;
use super::{GpuPart, Overrides, Scenario, TenantPart, gpu};
use crate::config::source::Source;
use crate::config::{ConfigError, ConfigErrors, key};
use crate::curve::{Inference, Library, Training};

pub(super) fn read(path: &Path, text: &str, overrides: &Overrides) -> Result<Scenario, ConfigErrors> {
    let name = path.display().to_string();
    let source = Source::parse(&name, text)?;
    let mut errors = ConfigErrors::default();
    key::check(&source, ROOT, &mut errors);
    errors.raise()?;
    let file: ScenarioFile = toml::from_str(text).map_err(|e| source.refused(&e))?;
    let mut library = Library::shipped()?;
    for curves in &file.curves {
        library.add(&beside(path, curves))?;
    }
    let mut reading = Reading { path, library, found: Vec::new(), flags: Vec::new() };
    let scenario = reading.scenario(file, overrides);
    errors.0.extend(reading.found.into_iter().map(|(key, message)| source.at(&key, message)));
    errors.0.extend(reading.flags);
    errors.raise()?;
    // Whatever is missing was said above.
    scenario.ok_or_else(|| ConfigErrors(vec![flag(&name, "cannot be read as a scenario".to_owned())]))
}

struct Reading<'p> {
    path: &'p Path,
    library: Library,
    /// Defects so far, by key.
    found: Vec<(String, String)>,
    /// Defects of the command line.
    flags: Vec<ConfigError>,
}

impl Reading<'_> {
    fn scenario(&mut self, file: ScenarioFile, overrides: &Overrides) -> Option<Scenario> {
        let own = self.gpu("gpus", &file.gpus);
        let asked = overrides.gpu.as_ref().map(|(name, count)| self.other_gpu(&file.gpus, name, *count));
        for (tenant, _) in overrides.traces.iter().filter(|(name, _)| file.tenants.iter().all(|tenant| tenant.name != *name)) {
            let names: Vec<&str> = file.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
            self.flags.push(flag("--trace", format!("{tenant}: must be one of the tenants: {}", names.join(", "))));
        }
        let faults = file.faults.iter().enumerate();
        let faults = faults.filter_map(|(index, entry)| self.fault(&format!("faults[{index}]"), entry, &file)).collect();
        let (own, like) = own?;
        let (gpu, gpu_like) = asked.unwrap_or_else(|| Some((own.clone(), like.clone())))?;
        let mut tenants = Vec::new();
        for (index, entry) in file.tenants.iter().enumerate() {
            if let Some(other) = file.tenants[..index].iter().position(|other| other.name == entry.name) {
                self.found.push((format!("tenants[{index}].name"), format!("must be unique; tenants[{other}] has this name too")));
            }
            tenants.extend(self.tenant(index, entry, &file, overrides, (&own, &like), (&gpu, &gpu_like)));
        }
        let stem = self.path.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        (tenants.len() == file.tenants.len()).then(|| Scenario {
            name: file.name.or(stem).unwrap_or_default(),
            seeds: if overrides.seeds.is_empty() { file.seeds } else { overrides.seeds.clone() },
            seconds: file.seconds,
            window_s: file.window_s,
            gpu,
            planner: file.planner,
            steps: file.steps,
            interference: file.interference,
            faults,
            tenants,
        })
    }

    /// The GPUs and the GPU model whose figures hold for them.
    fn gpu(&mut self, path: &str, gpus: &Gpus) -> Option<(GpuPart, String)> {
        let Some(catalog) = gpu::catalog(&gpus.catalog) else {
            self.found.push((format!("{path}.catalog"), format!("must be one of {}", gpu::names())));
            return None;
        };
        let like = match &gpus.like {
            None => catalog.name.clone(),
            Some(like) => gpu::catalog(like).map_or_else(|| like.clone(), |catalog| catalog.name),
        };
        if self.library.inference_models(&like).is_empty() {
            let (key, hint) = match gpus.like {
                None => ("catalog", "; say like = a GPU model that has, and speed = how much faster this one is, or add curves"),
                Some(_) => ("like", ""),
            };
            self.found
                .push((format!("{path}.{key}"), format!("no curve has figures for {like}: {} have{hint}", self.library.gpus().join(", "))));
            return None;
        }
        let instances = self.library.instances(&catalog.name).or_else(|| self.library.instances(&like));
        Some((GpuPart { instances: instances.cloned().unwrap_or_default(), catalog, count: gpus.count, speed: gpus.speed }, like))
    }

    /// The GPUs of `--gpu`; the file's `like` and `speed` hold for its own model only.
    fn other_gpu(&mut self, own: &Gpus, name: &str, count: u32) -> Option<(GpuPart, String)> {
        let same = gpu::catalog(name).is_some() && gpu::catalog(name) == gpu::catalog(&own.catalog);
        let asked =
            Gpus { catalog: name.to_owned(), count, like: own.like.clone().filter(|_| same), speed: if same { own.speed } else { 1.0 } };
        let before = self.found.len();
        let part = self.gpu("gpus", &asked);
        let wrong: Vec<(String, String)> = self.found.drain(before..).collect();
        self.flags.extend(wrong.into_iter().map(|(_, message)| flag("--gpu", format!("{name}: {message}"))));
        part
    }

    fn tenant(
        &mut self,
        index: usize,
        entry: &TenantEntry,
        file: &ScenarioFile,
        overrides: &Overrides,
        (own, own_like): (&GpuPart, &str),
        (gpu, like): (&GpuPart, &str),
    ) -> Option<TenantPart> {
        let path = format!("tenants[{index}]");
        let mut known = true;
        let mut figures = |reading: &mut Self, on: &str| {
            let figures = reading.library.inference(&entry.curve, on).cloned();
            if figures.is_none() && known {
                known = false;
                let models = reading.library.inference_models(on).join(", ");
                reading.found.push((format!("{path}.curve"), format!("must be a model with figures for {on}: {models}")));
            }
            figures
        };
        let measured = figures(self, own_like);
        let inference = figures(self, like);
        let training = self.training(&path, entry, like);
        let arrivals = match overrides.traces.iter().find(|(name, _)| *name == entry.name) {
            Some((_, file)) => self.flag_trace(&entry.name, file),
            None => self.arrivals(&format!("{path}.arrivals"), &entry.arrivals),
        };
        let learning = self.learning(&format!("{path}.retraining"), &entry.retraining);
        let (measured, inference, training, arrivals) = (measured?, inference?, training?, arrivals?);
        self.fits(&path, entry, gpu, &inference, training.as_ref());
        let factor = entry.scale * overrides.scale.unwrap_or(1.0) * self.load(&path, entry, own, &measured, &arrivals, file.seconds)?;
        Some(TenantPart { entry: entry.clone(), inference, training, learning, arrivals, factor })
    }

    /// The factor that `load` stands for.
    fn load(
        &mut self,
        path: &str,
        entry: &TenantEntry,
        own: &GpuPart,
        figures: &Inference,
        arrivals: &Arrivals,
        seconds: u64,
    ) -> Option<f64> {
        let capacity = own.capacity_rps(figures, entry.slo_ms, entry.max_batch);
        if capacity <= 0.0 {
            let message = format!("is too short for {} on every profile, even for single requests", entry.curve);
            self.found.push((format!("{path}.slo_ms"), message));
            return None;
        }
        let Some(load) = entry.load else { return Some(1.0) };
        let mean = arrivals.mean_rps(seconds);
        if mean <= 0.0 && load > 0.0 {
            self.found.push((format!("{path}.load"), "cannot be reached: nothing arrives".to_owned()));
            return None;
        }
        Some(if load > 0.0 { load * capacity / mean } else { 0.0 })
    }

    /// Whether serving and retraining find a profile with enough memory.
    fn fits(&mut self, path: &str, entry: &TenantEntry, gpu: &GpuPart, inference: &Inference, training: Option<&Training>) {
        let profiles = &gpu.catalog.profiles;
        let room = |measured: &dyn Fn(u8) -> bool| profiles.iter().filter(|p| measured(p.compute_slices)).map(|p| p.memory_mib).max();
        let served = room(&|slices| inference.on(slices).is_some());
        if served.is_none_or(|most| most < entry.memory_mib) {
            let message =
                format!("is too big for every profile that {} was measured on: the largest has {} MiB", entry.curve, served.unwrap_or(0));
            self.found.push((format!("{path}.memory_mib"), message));
        }
        let Some(training) = training else { return };
        let trained = room(&|slices| training.sample_s(slices).is_finite());
        if trained.is_none_or(|most| most < entry.retraining.memory_mib) {
            let message =
                format!("is too big for every profile that its training was measured on: the largest has {} MiB", trained.unwrap_or(0));
            self.found.push((format!("{path}.retraining.memory_mib"), message));
        }
    }

    /// `Some(None)` where nothing is retrained, `None` where the figures are missing.
    fn training(&mut self, path: &str, entry: &TenantEntry, on: &str) -> Option<Option<Training>> {
        let how = &entry.retraining;
        if !how.enabled {
            return Some(None);
        }
        let model = how.curve.as_ref().unwrap_or(&entry.curve);
        if let Some(training) = self.library.training(model, on, how.batch) {
            return Some(Some(training.clone()));
        }
        let batches = self.library.training_batches(model, on);
        let (key, message) = match batches.is_empty() {
            false => ("batch", format!("training of {model} was measured on {on} with batches {batches:?} only")),
            true => {
                let models = self.library.training_models(on).join(", ");
                ("curve", format!("{model} has no training figures for {on}; these have: {models}; or say enabled = false"))
            }
        };
        self.found.push((format!("{path}.retraining.{key}"), message));
        None
    }

    fn learning(&mut self, path: &str, entry: &RetrainingEntry) -> Learning {
        let mut wrong = |key: &str, message: &str| self.found.push((format!("{path}.{key}"), message.to_owned()));
        if entry.learning.len() != 2 || entry.learning[1] < 1.0 {
            wrong("learning", "must be [b0, b1] of 1 - 1 / (b0 · epochs + b1), b1 at least 1");
        }
        if !(entry.floor <= entry.first && entry.first <= entry.top) {
            wrong("first", &format!("must lie between floor and top, which are {} and {}", entry.floor, entry.top));
        }
        let drift = match (&entry.drift, &entry.drift_steps) {
            (Some(_), Some(_)) => {
                wrong("drift_steps", "stands beside drift: give one of them");
                Drift::Steady { rate: 0.0 }
            }
            (None, Some(steps)) => {
                if !steps.is_sorted_by(|(before, _), (after, _)| before < after) {
                    wrong("drift_steps", "must be a list of [second, nats], seconds rising");
                }
                Drift::Steps(steps.clone())
            }
            (rate, None) => Drift::Steady { rate: rate.unwrap_or(USUAL_DRIFT) },
        };
        Learning {
            enabled: entry.enabled,
            first: entry.first,
            top: entry.top,
            floor: entry.floor,
            drift,
            curve: (entry.learning.first().copied().unwrap_or(1.0), entry.learning.get(1).copied().unwrap_or(1.0)),
            epochs: entry.epochs,
            samples: entry.samples,
            sample_s: Vec::new(),
            memory_mib: entry.memory_mib,
            label_share: entry.label_share,
            estimate_error: entry.estimate_error,
            min_gain: entry.min_gain,
        }
    }

    fn arrivals(&mut self, path: &str, entry: &ArrivalsEntry) -> Option<Arrivals> {
        let ArrivalsEntry::Trace(trace) = entry else {
            let before = self.found.len();
            let generator = generator(path, entry, &mut self.found);
            return (self.found.len() == before).then_some(Arrivals::Generated(generator));
        };
        match self.trace(trace) {
            Ok(arrivals) => Some(arrivals),
            Err((key, message)) => {
                self.found.push((format!("{path}.{key}"), message));
                None
            }
        }
    }

    /// The trace of `--trace`, a path as the shell sees it.
    fn flag_trace(&mut self, tenant: &str, file: &Path) -> Option<Arrivals> {
        let file = if file.starts_with("data:") { file.to_owned() } else { std::path::absolute(file).unwrap_or_else(|_| file.to_owned()) };
        let entry = TraceEntry { file: file.display().to_string(), compress: 1.0, ..TraceEntry::default() };
        match self.trace(&entry) {
            Ok(arrivals) => Some(arrivals),
            Err((_, message)) => {
                self.flags.push(flag("--trace", format!("{tenant}={}: {message}", file.display())));
                None
            }
        }
    }

    /// The trace of an entry, or what is wrong with it and the key that says so.
    fn trace(&self, entry: &TraceEntry) -> Result<Arrivals, (&'static str, String)> {
        let path = self.file(&entry.file).map_err(|message| ("file", message))?;
        let row = match (entry.row, &entry.function) {
            (Some(_), Some(_)) => return Err(("function", "stands beside row: give one of them".to_owned())),
            (Some(row), None) => Some(TraceRow::Index(row)),
            (None, function) => function.clone().map(TraceRow::Function),
        };
        let options = TraceOptions { gaps_are_zero: entry.gaps.is_some(), row };
        let trace = read_trace(&path, &options).map_err(|error| ("file", error.to_string()))?;
        let (compress, offset_s, smooth_s) = (entry.compress, entry.offset_s, entry.smooth_s);
        Ok(Arrivals::Recorded(Recorded { trace, compress, offset_s, smooth_s }))
    }

    /// A file as it is named: `data:…` in the folder of real data, anything else beside the scenario.
    fn file(&self, name: &str) -> Result<PathBuf, String> {
        let Some(inside) = name.strip_prefix("data:") else { return Ok(beside(self.path, Path::new(name))) };
        let path = data_folder().map(|folder| folder.join(inside));
        path.filter(|path| path.exists())
            .ok_or_else(|| "is not there: data: stands for the folder that MIGRATOR_DATA names, or ../shared/data without it".to_owned())
    }

    fn fault(&mut self, path: &str, entry: &FaultEntry, file: &ScenarioFile) -> Option<Fault> {
        let mut wrong = |key: &str, message: String| self.found.push((format!("{path}.{key}"), message));
        let gpu = entry.gpu.unwrap_or(0);
        if gpu >= file.gpus.count as usize {
            wrong("gpu", format!("must be below {}, the number of GPUs", file.gpus.count));
        }
        let times = entry.times;
        let kind = match entry.kind {
            FaultName::CreateFails => FaultKind::CreateFails { gpu, times },
            FaultName::DestroyInUse => FaultKind::DestroyInUse { gpu, times },
            FaultName::SolveFails => FaultKind::SolveFails { times },
            FaultName::WorkerDies => {
                let Some(tenant) = file.tenants.iter().position(|tenant| Some(&tenant.name) == entry.tenant.as_ref()) else {
                    wrong("tenant", "must be the name of the tenant whose worker dies".to_owned());
                    return None;
                };
                FaultKind::WorkerDies { tenant }
            }
        };
        Some(Fault { at_s: entry.at_s, kind })
    }
}

/// What a tenant loses per second unless it says otherwise; see [`RetrainingEntry`].
const USUAL_DRIFT: f64 = 0.0008;

/// Where real traces are: `MIGRATOR_DATA`, or `shared/data` beside one of the folders that the program runs in.
pub(crate) fn data_folder() -> Option<PathBuf> {
    if let Some(folder) = std::env::var_os("MIGRATOR_DATA") {
        return Some(PathBuf::from(folder));
    }
    let here = std::env::current_dir().ok()?;
    here.ancestors().skip(1).map(|above| above.join("shared/data")).find(|folder| folder.exists())
}

/// A path as written in the file at `path`.
fn beside(path: &Path, written: &Path) -> PathBuf {
    path.parent().map_or_else(|| written.to_owned(), |folder| folder.join(written))
}

fn flag(name: &str, message: String) -> ConfigError {
    ConfigError { file: name.to_owned(), line: 0, key: String::new(), value: String::new(), message }
}
