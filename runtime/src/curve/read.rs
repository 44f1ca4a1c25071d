//! From a curve file to figures.

use std::collections::BTreeMap;

use super::file::{CurveFile, InferenceEntry, InstancesEntry};
use super::keys::ROOT;
use super::{Inference, Instances, Library, Training};
use crate::config::source::Source;
use crate::config::{ConfigErrors, key};

/// Adds the figures of a file to the library.
pub(super) fn read(library: &mut Library, file: &str, text: &str) -> Result<(), ConfigErrors> {
    let (source, parsed) = parse(file, text)?;
    add(library, &source, &parsed)
}

/// Adds the figures of a file that was parsed.
pub(super) fn add(library: &mut Library, source: &Source, parsed: &CurveFile) -> Result<(), ConfigErrors> {
    let defects = figures(library, parsed);
    ConfigErrors(defects.into_iter().map(|(key, message)| source.at(&key, message)).collect()).raise()
}

/// Adds what is right in a file, and gives what is not, by key.
pub(super) fn figures(library: &mut Library, parsed: &CurveFile) -> Vec<(String, String)> {
    let mut found = Vec::new();
    Reading { library, found: &mut found }.file(parsed);
    found
}

/// A file whose keys and values are allowed, each for itself.
pub(super) fn parse<'a>(file: &'a str, text: &'a str) -> Result<(Source<'a>, CurveFile), ConfigErrors> {
    let source = Source::parse(file, text)?;
    let mut errors = ConfigErrors::default();
    key::check(&source, ROOT, &mut errors);
    errors.raise()?;
    let parsed = toml::from_str(text).map_err(|e| source.refused(&e))?;
    Ok((source, parsed))
}

struct Reading<'l> {
    library: &'l mut Library,
    /// Defects so far, by key.
    found: &'l mut Vec<(String, String)>,
}

impl Reading<'_> {
    fn file(&mut self, file: &CurveFile) {
        for (index, entry) in file.inference.iter().enumerate() {
            let figures = self.inference(&format!("inference[{index}].batch_ms"), entry);
            for gpu in &file.gpus {
                self.library.inference.insert((entry.model.clone(), gpu.clone()), figures.clone());
            }
        }
        for (index, entry) in file.training.iter().enumerate() {
            let seconds = self.by_slices(&format!("training[{index}].iteration_s"), &entry.iteration_s);
            for gpu in &file.gpus {
                self.training(&entry.model, gpu, Training::new(entry.batch, seconds.clone()));
            }
        }
        for (index, entry) in file.derived.iter().enumerate() {
            for (place, model) in entry.models.iter().enumerate() {
                self.derived(&format!("derived[{index}].models[{place}]"), model, entry.batch, entry.factor, &file.gpus);
            }
        }
        for (index, entry) in file.instances.iter().enumerate() {
            self.instances(&format!("instances[{index}]"), entry);
        }
    }

    fn inference(&mut self, path: &str, entry: &InferenceEntry) -> Inference {
        let mut measured = BTreeMap::new();
        for (profile, points) in &entry.batch_ms {
            let at = format!("{path}.{profile}");
            if !points.is_sorted_by(|(before, _), (after, _)| before < after) || points.iter().any(|(rows, ms)| *rows == 0 || *ms <= 0.0) {
                self.found.push((at.clone(), "must be a list of [rows, milliseconds], both above 0, rows rising".to_owned()));
            }
            measured.extend(self.slices(&at, profile).map(|slices| (slices, points.clone())));
        }
        Inference::new(measured)
    }

    /// Training as a multiple of the inference of as many rows, which an earlier file measured.
    fn derived(&mut self, path: &str, model: &str, batch: u32, factor: f64, gpus: &[String]) {
        for gpu in gpus {
            let figures = self.library.inference(model, gpu);
            let seconds: BTreeMap<u8, f64> = figures
                .iter()
                .flat_map(|figures| &figures.ms)
                .filter_map(|(slices, points)| {
                    let (_, ms) = points.iter().find(|(rows, _)| *rows == batch)?;
                    Some((*slices, ms * factor / 1000.0))
                })
                .collect();
            if seconds.is_empty() {
                let message =
                    format!("must be a model whose inference of {batch} rows was measured on {gpu}, in this file or an earlier one");
                return self.found.push((path.to_owned(), message));
            }
            self.training(model, gpu, Training::new(batch, seconds));
        }
    }

    fn training(&mut self, model: &str, gpu: &str, training: Training) {
        self.library.training.entry((model.to_owned(), gpu.to_owned())).or_default().insert(training.batch, training);
    }

    fn instances(&mut self, path: &str, entry: &InstancesEntry) {
        let share = self.by_slices(&format!("{path}.sms"), &entry.sms).into_iter().map(|(slices, sms)| (slices, sms / entry.gpu_sms));
        let share: BTreeMap<u8, f64> = share.collect();
        if share.values().any(|share| *share > 1.0) {
            self.found.push((format!("{path}.sms"), format!("must be at most gpu_sms, which is {}", entry.gpu_sms)));
        }
        let instances = Instances {
            create_s: self.by_slices(&format!("{path}.create_s"), &entry.create_s),
            destroy_s: self.by_slices(&format!("{path}.destroy_s"), &entry.destroy_s),
            share,
        };
        for gpu in &entry.gpus {
            self.library.instances.insert(gpu.clone(), instances.clone());
        }
    }

    fn by_slices(&mut self, path: &str, by_profile: &BTreeMap<String, f64>) -> BTreeMap<u8, f64> {
        by_profile.iter().filter_map(|(profile, value)| Some((self.slices(&format!("{path}.{profile}"), profile)?, *value))).collect()
    }

    fn slices(&mut self, path: &str, profile: &str) -> Option<u8> {
        let slices = profile.strip_suffix('g').and_then(|slices| slices.parse().ok()).filter(|slices| *slices > 0);
        if slices.is_none() {
            self.found.push((path.to_owned(), "the key must be a profile by its compute slices: 1g, 2g, 3g, 4g, 7g".to_owned()));
        }
        slices
    }
}
