//! From a file to a problem: names become indexes.

use migrator_mig::board::shipped;
use migrator_mig::{Board, Catalog, Partition, Placement, ProfileId, Site};
use migrator_solver::check::check;
use migrator_solver::{
    GpuModel, GpuState, InstanceId, InstanceState, Problem, RetrainingState, Scenario, SolveOptions, Task, TenantId, TenantState,
    TransitionCosts,
};

use super::file::{Cell, Course, DEFAULT_MODEL, Demand, Gpus, InstanceEntry, ModelEntry, ProblemFile, RetrainingEntry, Table, TenantEntry};
use super::keys::{LAST_SECOND, ROOT};
use crate::config::key;
use crate::config::source::Source;
use crate::config::{ConfigError, ConfigErrors};

/// The catalog that a name alone stands for: that of a shipped board with MIG.
pub(crate) fn known(name: &str) -> Option<Catalog> {
    boards().find(|board| board.name == name).map(Board::catalog)
}

/// The shipped boards that can be cut up.
pub(crate) fn boards() -> impl Iterator<Item = &'static Board> {
    shipped().iter().filter(|board| board.instances > 0)
}

/// A problem and how to solve it, from the text of a file that is called `file` in messages.
///
/// # Errors
/// Every defect, each with its line, key, value and what is allowed.
pub fn read(file: &str, text: &str) -> Result<(Problem, SolveOptions), ConfigErrors> {
    let source = Source::parse(file, text)?;
    let mut errors = ConfigErrors::default();
    key::check(&source, ROOT, &mut errors);
    errors.raise()?;
    let parsed: ProblemFile = toml::from_str(text).map_err(|e| source.refused(&e))?;
    let mut reading = Reading { found: Vec::new() };
    let problem = reading.problem(&parsed);
    errors.0.extend(reading.found.into_iter().map(|(key, message)| source.at(&key, message)));
    errors.raise()?;
    let options = parsed.options();
    match check(&problem, None, &options) {
        Ok(()) => Ok((problem, options)),
        Err(error) => Err(ConfigErrors(vec![whole(file, &error)])),
    }
}

/// What the solver's own check refuses names its tenant or GPU itself.
fn whole(file: &str, error: &dyn std::error::Error) -> ConfigError {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    ConfigError { file: file.to_owned(), line: 0, key: String::new(), value: String::new(), message: format!("{error}{cause}") }
}

/// Defects found so far, by key.
struct Reading {
    found: Vec<(String, String)>,
}

impl Reading {
    fn problem(&mut self, file: &ProblemFile) -> Problem {
        let default = [ModelEntry::named(DEFAULT_MODEL)];
        let entries = if file.models.is_empty() { &default[..] } else { &file.models[..] };
        let models: Vec<GpuModel> = entries.iter().enumerate().map(|(index, entry)| self.model(index, entry)).collect();
        for (index, entry) in entries.iter().enumerate() {
            if entries[..index].iter().any(|other| other.name == entry.name) {
                self.found.push((format!("models[{index}].name"), "must be unique".to_owned()));
            }
        }
        let mut gpus = self.gpus(&file.gpus, &models);
        for (index, entry) in file.instances.iter().enumerate() {
            self.instance(index, entry, file, &models, &mut gpus);
        }
        for gpu in &mut gpus {
            gpu.instances.sort_by_key(|instance| instance.site);
        }
        let tenants = file.tenants.iter().enumerate();
        let tenants = tenants.map(|(index, entry)| self.tenant(index, entry, file, &models)).collect();
        let costs = &file.costs;
        let costs = TransitionCosts { drain_s: costs.drain_s, handover_s: costs.handover_s, preload: costs.preload };
        Problem { models, gpus, tenants, window_left_s: file.window_left_s, beyond_window_s: file.beyond_window_s, costs }
    }

    fn model(&mut self, index: usize, entry: &ModelEntry) -> GpuModel {
        let catalog = match (&entry.profiles[..], entry.memory_mib) {
            ([], Some(memory_mib)) => Catalog::seven_slices(&entry.name, memory_mib),
            ([], None) => known(&entry.name).unwrap_or_else(|| {
                let names: Vec<String> = boards().map(|board| format!("{:?}", board.name)).collect();
                let message = format!("must be {}; any other needs memory_mib (seven slices) or profiles", names.join(" or "));
                self.found.push((format!("models[{index}].name"), message));
                Catalog::seven_slices(&entry.name, 8)
            }),
            (profiles, _) => Catalog {
                name: entry.name.clone(),
                compute_slices: entry.compute_slices.unwrap_or(7),
                memory_slices: entry.memory_slices.unwrap_or(8),
                profiles: profiles.to_vec(),
            },
        };
        let mut seconds = |field: &str, cell: &Cell| match cell {
            Cell::Number(seconds) => vec![*seconds; catalog.profiles.len()],
            Cell::Table(table) => {
                let mut values = vec![0.0; catalog.profiles.len()];
                for (name, value) in table {
                    match catalog.by_name(name) {
                        Some(profile) => values[profile.index()] = *value,
                        None => self.found.push((format!("models[{index}].{field}.{name}"), no_profile(std::slice::from_ref(&catalog)))),
                    }
                }
                values
            }
        };
        let (create_s, destroy_s) = (seconds("create_s", &entry.create_s), seconds("destroy_s", &entry.destroy_s));
        GpuModel { catalog, create_s, destroy_s }
    }

    fn gpus(&mut self, gpus: &Gpus, models: &[GpuModel]) -> Vec<GpuState> {
        let empty = |model| GpuState { model, instances: Vec::new() };
        match gpus {
            Gpus::Count(count) => (0..*count).map(|_| empty(0)).collect(),
            Gpus::Models(names) => {
                let index = |(gpu, name): (usize, &String)| {
                    let found = models.iter().position(|model| model.catalog.name == *name);
                    empty(found.unwrap_or_else(|| {
                        let message = format!("must be the name of one of models: {}", listed(models.iter().map(|m| &m.catalog.name)));
                        self.found.push((format!("gpus[{gpu}]"), message));
                        0
                    }))
                };
                names.iter().enumerate().map(index).collect()
            }
        }
    }

    fn instance(&mut self, index: usize, entry: &InstanceEntry, file: &ProblemFile, models: &[GpuModel], gpus: &mut [GpuState]) {
        let count = gpus.len();
        let Some(gpu) = gpus.get_mut(entry.gpu) else {
            let message = format!("must be below {count}, the number of GPUs");
            return self.found.push((format!("instances[{index}].gpu"), message));
        };
        let catalog = &models[gpu.model].catalog;
        let Some(profile) = catalog.by_name(&entry.profile) else {
            return self.found.push((format!("instances[{index}].profile"), no_profile(std::slice::from_ref(catalog))));
        };
        let site = Site { placement: Placement { start: entry.start, size: catalog.profile(profile).memory_slices }, profile };
        if Partition::new(catalog, vec![site]).is_err() {
            let starts: Vec<String> = catalog.profile(profile).starts.iter().map(u8::to_string).collect();
            let message = format!("must be one of {}, where a {} may start", starts.join(", "), entry.profile);
            return self.found.push((format!("instances[{index}].start"), message));
        }
        if let Some(other) = gpu.instances.iter().find(|other| other.site.placement.overlaps(site.placement)) {
            let shape = catalog.short_name(other.site.profile);
            let message = format!("must not overlap the {shape} at {} of the same GPU", other.site.placement.start);
            return self.found.push((format!("instances[{index}].start"), message));
        }
        let task = self.task(index, entry, file);
        let id = InstanceId(entry.id.unwrap_or_else(|| free_id(index, file)));
        gpu.instances.push(InstanceState { id, site, task, ready_in_s: entry.ready_in_s, pinned: entry.pinned });
    }

    fn task(&mut self, index: usize, entry: &InstanceEntry, file: &ProblemFile) -> Option<Task> {
        let (kind, name) = match (entry.task, &entry.tenant) {
            (Some(kind), Some(name)) => (kind, name),
            (None, None) => return None,
            _ => {
                let message = "task and tenant go together: both, or neither for an instance in reserve".to_owned();
                self.found.push((format!("instances[{index}]"), message));
                return None;
            }
        };
        let position = file.tenants.iter().position(|tenant| tenant.name == *name);
        let tenant = position.and_then(|index| u16::try_from(index).ok());
        if tenant.is_none() {
            let names = listed(file.tenants.iter().map(|tenant| &tenant.name));
            self.found.push((format!("instances[{index}].tenant"), format!("must be one of tenants: {names}")));
        }
        tenant.map(|tenant| Task { tenant: TenantId(tenant), kind })
    }

    fn tenant(&mut self, index: usize, entry: &TenantEntry, file: &ProblemFile, models: &[GpuModel]) -> TenantState {
        let path = format!("tenants[{index}]");
        if let Some(other) = file.tenants[..index].iter().position(|other| other.name == entry.name) {
            self.found.push((format!("{path}.name"), format!("must be unique; tenants[{other}] has this name too")));
        }
        TenantState {
            name: entry.name.clone(),
            weight: entry.weight,
            demand: self.demand(&format!("{path}.demand_rps"), &entry.demand_rps),
            capacity_rps: self.table(&format!("{path}.capacity_rps"), &entry.capacity_rps, models, 0.0),
            memory_mib: entry.memory_mib,
            backlog: entry.backlog,
            accuracy: entry.accuracy,
            load_s: entry.load_s,
            retraining: entry.retraining.as_ref().map(|due| self.retraining(&path, due, entry.load_s, models)),
            floor_rps: entry.floor_rps,
        }
    }

    fn retraining(&mut self, path: &str, entry: &RetrainingEntry, load_s: f64, models: &[GpuModel]) -> RetrainingState {
        let path = format!("{path}.retraining.seconds_left");
        RetrainingState {
            seconds_left: self.table(&path, &entry.seconds_left, models, f64::INFINITY),
            accuracy_after: entry.accuracy_after,
            restore_s: entry.restore_s.unwrap_or(load_s),
            memory_mib: entry.memory_mib,
        }
    }

    /// A table by profile goes for every model that has the profile; one by model and profile says it for each.
    fn table(&mut self, path: &str, table: &Table, models: &[GpuModel], absent: f64) -> Vec<Vec<f64>> {
        let mut values: Vec<Vec<f64>> = models.iter().map(|model| vec![absent; model.catalog.profiles.len()]).collect();
        let catalogs: Vec<Catalog> = models.iter().map(|model| model.catalog.clone()).collect();
        let mut set = |only: Option<usize>, name: &str, value: f64| {
            let mut hit = false;
            for (index, catalog) in catalogs.iter().enumerate().filter(|(index, _)| only.is_none_or(|only| only == *index)) {
                if let Some(ProfileId(profile)) = catalog.by_name(name) {
                    values[index][usize::from(profile)] = value;
                    hit = true;
                }
            }
            hit
        };
        for (name, cell) in table {
            match (cell, catalogs.iter().position(|catalog| catalog.name == *name)) {
                (Cell::Number(value), _) => {
                    if !set(None, name, *value) {
                        self.found.push((format!("{path}.{name}"), no_profile(&catalogs)));
                    }
                }
                (Cell::Table(inner), Some(model)) => {
                    for (profile, value) in inner {
                        if !set(Some(model), profile, *value) {
                            self.found.push((format!("{path}.{name}.{profile}"), no_profile(&catalogs[model..=model])));
                        }
                    }
                }
                (Cell::Table(_), None) => {
                    let message = format!("must be one of models: {}", listed(catalogs.iter().map(|catalog| &catalog.name)));
                    self.found.push((format!("{path}.{name}"), message));
                }
            }
        }
        values
    }

    fn demand(&mut self, path: &str, demand: &Demand) -> Vec<Scenario> {
        match demand {
            Demand::Course(course) => Scenario::certain(self.course(path, course)),
            Demand::Scenarios(scenarios) => {
                let sum: f64 = scenarios.iter().map(|scenario| scenario.probability).sum();
                if (sum - 1.0).abs() > 1e-6 {
                    self.found.push((path.to_owned(), format!("the probabilities must sum to 1, not to {sum}")));
                }
                let scenario = |(index, entry): (usize, &super::file::ScenarioEntry)| Scenario {
                    probability: entry.probability,
                    rps: self.course(&format!("{path}[{index}].rps"), &entry.rps),
                };
                scenarios.iter().enumerate().map(scenario).collect()
            }
        }
    }

    fn course(&mut self, path: &str, course: &Course) -> Vec<f64> {
        let steps = match course {
            Course::Constant(rps) => return vec![*rps],
            Course::Seconds(rps) => return rps.clone(),
            Course::Steps(steps) => steps,
        };
        let mut known: Vec<(u32, f64)> = Vec::new();
        for (second, rps) in steps {
            match second.parse() {
                Ok(second) if second <= LAST_SECOND => known.push((second, *rps)),
                _ => self.found.push((format!("{path}.{second}"), format!("the key must be a second from 0 to {LAST_SECOND}"))),
            }
        }
        known.sort_by_key(|(second, _)| *second);
        if known.first().is_none_or(|(second, _)| *second > 0) {
            self.found.push((path.to_owned(), "must say what arrives from second 0 on".to_owned()));
        }
        let mut seconds = Vec::new();
        for (index, (from, rps)) in known.iter().enumerate() {
            let to = known.get(index + 1).map_or(from + 1, |(next, _)| *next);
            seconds.resize(seconds.len() + (to - from) as usize, *rps);
        }
        seconds
    }
}

/// The first number from the entry's own, counted from 1, that no entry names.
fn free_id(index: usize, file: &ProblemFile) -> u64 {
    let taken: Vec<u64> = file.instances.iter().filter_map(|entry| entry.id).collect();
    let before = file.instances[..index].iter().filter(|entry| entry.id.is_none()).count();
    (1..).filter(|id| !taken.contains(id)).nth(before).unwrap_or(u64::MAX)
}

fn no_profile(catalogs: &[Catalog]) -> String {
    let names = |catalog: &Catalog| -> Vec<String> { catalog.profile_ids().map(|id| catalog.short_name(id)).collect() };
    let all: Vec<String> = catalogs.iter().map(|catalog| format!("{} of {}", names(catalog).join(", "), catalog.name)).collect();
    format!("must be a profile: {}", all.join("; "))
}

fn listed<'n>(names: impl Iterator<Item = &'n String>) -> String {
    let mut names: Vec<&str> = names.map(String::as_str).collect();
    let more = names.len().saturating_sub(16);
    names.truncate(16);
    let rest = if more > 0 { format!(" and {more} more") } else { String::new() };
    names.join(", ") + &rest
}
