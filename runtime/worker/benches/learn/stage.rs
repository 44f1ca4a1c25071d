//! One tenant on one stream under one policy.

use std::path::{Path, PathBuf};

use migrator_machine::retraining::{
    Gains, MicroprofileConfig, RetrainingConfig, RetrainingMachine, RetrainingState, RetrainingWish, usual,
};
use migrator_machine::time::Time;
use migrator_models::{Microprofile, Part, Sample, TrainSpec, data};
use migrator_solver::InstanceId;
use migrator_torch::{Control, MicroprofileJob, Model, TrainJob, TrainOutcome, microprofile, train};

use crate::stream::Stream;

/// Length of a window, seconds.
pub const WINDOW_S: f64 = 200.0;
/// Cores that the tenant shares with its retraining.
pub const CORES: f64 = 2.0;
/// Share of a window's samples that only measures.
const HELD_OUT: f64 = 0.2;
/// Older samples, as a share of the new ones.
const REPLAY: f64 = 0.5;
const HERE: InstanceId = InstanceId(1);

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Policy {
    Never,
    Always,
    Chosen,
}

/// What was foretold of a retraining and what came.
#[derive(Clone, Copy, Debug)]
pub struct Foretold {
    pub after: f64,
    pub came: f64,
    pub core_s: f64,
    pub took: f64,
}

#[derive(Debug, Default)]
pub struct Report {
    /// By window, of its samples, answered before anything learnt from them.
    pub accuracy: Vec<f64>,
    /// Core seconds of retrainings.
    pub core_s: f64,
    /// Core seconds of microprofiles.
    pub profile_s: f64,
    /// Windows in which one was retrained.
    pub retrained: Vec<bool>,
    pub foretold: Vec<Foretold>,
}

impl Report {
    pub fn mean(&self) -> f64 {
        self.accuracy.iter().sum::<f64>() / self.accuracy.len().max(1) as f64
    }
}

pub struct Stage<'s> {
    stream: &'s Stream,
    policy: Policy,
    machine: RetrainingMachine,
    /// What microprofiles would have foretold, for the policy that does not ask them.
    shadow: Gains,
    folder: tempfile::TempDir,
    version: PathBuf,
    versions: u32,
    report: Report,
}

impl<'s> Stage<'s> {
    pub fn new(stream: &'s Stream, policy: Policy) -> Stage<'s> {
        let folder = tempfile::tempdir().unwrap();
        let configurations = usual(&stream.train);
        let config = RetrainingConfig {
            enabled: policy != Policy::Never,
            epochs: stream.train.epochs,
            min_gain: 0.0,
            configurations: if policy == Policy::Chosen { configurations.clone() } else { Vec::new() },
            window_s: WINDOW_S,
            cores: CORES,
            ..RetrainingConfig::default()
        };
        Stage {
            stream,
            policy,
            machine: RetrainingMachine::new(config),
            shadow: Gains::new(configurations, MicroprofileConfig::default()),
            version: folder.path().to_owned(),
            folder,
            versions: 0,
            report: Report::default(),
        }
    }

    pub fn run(mut self) -> Report {
        self.first();
        for window in 1..self.stream.windows() {
            let old = self.accuracy(window);
            let before_s = self.report.core_s + self.report.profile_s;
            let seen = self.versions;
            self.retrain(window);
            // The window's samples come evenly; the new version answers those after its retraining.
            let spent = (self.report.core_s + self.report.profile_s - before_s) / CORES / WINDOW_S;
            let new = if self.versions > seen { self.accuracy(window) } else { old };
            self.report.retrained.push(self.versions > seen);
            self.report.accuracy.push(new + (old - new) * spent.min(1.0));
        }
        self.report
    }

    /// The first version, of the first window, the same for every policy.
    fn first(&mut self) {
        self.write(0);
        let how = TrainSpec { epochs: self.stream.train.epochs * 2, ..self.stream.train.clone() };
        let out = self.fresh_out();
        let outcome = self.train(None, &how, &out);
        assert!(matches!(outcome, TrainOutcome::Trained(_)));
        self.version = out;
    }

    /// At the start of `window`: on the samples of the one before it.
    fn retrain(&mut self, window: usize) {
        let now = Time((window as f64 * WINDOW_S * 1e6) as u64);
        self.machine.window_started(now, window as u64);
        self.machine.samples(now, self.stream.window as u64);
        let mut out = None;
        while let Some(wish) = self.machine.poll(now) {
            match wish {
                RetrainingWish::Export { window: of } => {
                    let samples = self.write(window - 1);
                    self.machine.exported(now, of, Ok(samples));
                }
                RetrainingWish::Profile { window: of, tries } => {
                    let found = self.profile(&tries);
                    self.report.profile_s += found.core_s;
                    self.machine.profiled(now, of, Ok(found));
                }
                RetrainingWish::Start { .. } => out = Some(self.start(now, window)),
                RetrainingWish::Publish { .. } => {
                    self.versions += 1;
                    self.machine.published(now, Ok(self.versions));
                }
                RetrainingWish::Swap { .. } => {
                    self.version = out.take().unwrap();
                    self.machine.swapped(now, Ok(()));
                }
                RetrainingWish::Discard { reason, .. } => self.say(&format!("{window}: {reason}")),
                _ => {}
            }
            if self.machine.state() == RetrainingState::Waiting {
                self.machine.placed(now, HERE);
            }
        }
        self.machine.take_away(now, HERE);
        while self.machine.poll(now).is_some() {}
    }

    fn start(&mut self, now: Time, window: usize) -> PathBuf {
        let shadow = (self.policy == Policy::Always).then(|| self.foretell(window));
        let how = self.machine.configuration().unwrap_or(&self.stream.train).clone();
        let out = self.fresh_out();
        let base = self.version.clone();
        let TrainOutcome::Trained(trained) = self.train(Some(&base), &how, &out) else {
            panic!("nobody asked it to pause");
        };
        self.report.core_s += trained.core_s;
        if let Some((after, foretold_s)) = shadow.flatten() {
            self.report.foretold.push(Foretold { after, came: trained.after, core_s: foretold_s, took: trained.core_s });
            self.shadow.came(0, trained.after, trained.core_s);
        }
        if let Some(foretold) = self.machine.foretold() {
            let what = format!("{} epochs of {:.2}, {:.1} frozen", how.epochs, how.share, how.frozen);
            self.say(&format!(
                "{window}: {what}: {:.3} -> {:.3}, foretold {:.3} ± {:.3}; core s {:.3}, foretold {:.3}",
                trained.before, trained.after, foretold.after, foretold.sd, trained.core_s, foretold.core_s
            ));
        }
        self.machine.trained(now, trained);
        out
    }

    /// What a microprofile foretells of the first configuration.
    fn foretell(&mut self, window: usize) -> Option<(f64, f64)> {
        let samples = self.write(window - 1);
        let tries: Vec<TrainSpec> = self.shadow.tries(window as u64, samples).into_iter().take(1).collect();
        let found = self.profile(&tries);
        self.shadow.tried(window as u64, &tries, &found, samples);
        self.shadow.prospects()[0].map(|prospect| (prospect.after, prospect.core_s))
    }

    fn profile(&self, tries: &[TrainSpec]) -> Microprofile {
        let (dataset, scratch) = (self.dataset(), self.folder.path().join("scratch"));
        let job = MicroprofileJob { spec: &self.stream.spec, base: Some(&self.version), dataset: &dataset, tries, scratch: &scratch };
        microprofile(&job, &mut |_| Control::Continue).unwrap().unwrap()
    }

    fn train(&self, base: Option<&Path>, how: &TrainSpec, out: &Path) -> TrainOutcome {
        let (dataset, checkpoint) = (self.dataset(), self.folder.path().join("checkpoint"));
        let job = TrainJob { spec: &self.stream.spec, base, dataset: &dataset, train: how, checkpoint: &checkpoint, out };
        train(&job, &mut |_| Control::Continue).unwrap()
    }

    /// What the policy decided, for `LEARN_VERBOSE`.
    fn say(&self, what: &str) {
        if self.policy == Policy::Chosen && std::env::var_os("LEARN_VERBOSE").is_some() {
            eprintln!("{} {what}", self.stream.name);
        }
    }

    fn fresh_out(&self) -> PathBuf {
        let out = self.folder.path().join(format!("out-{}-{}", self.report.accuracy.len(), self.versions));
        std::fs::create_dir_all(&out).unwrap();
        out
    }

    fn dataset(&self) -> PathBuf {
        self.folder.path().join("dataset")
    }

    /// The data set of a window, as the server's export makes it; gives the number to train on.
    fn write(&self, window: usize) -> u64 {
        let fresh = self.stream.of(window);
        let held_out = |i: usize| ((i + 1) as f64 * HELD_OUT).floor() > (i as f64 * HELD_OUT).floor();
        let mut samples: Vec<Sample<'_>> = fresh
            .iter()
            .enumerate()
            .map(|(i, (features, label))| Sample { features, label: *label, part: if held_out(i) { Part::HeldOut } else { Part::Train } })
            .collect();
        samples.extend(self.replay(window).map(|(features, label)| Sample { features, label: *label, part: Part::Train }));
        data::write(&self.dataset(), &self.stream.spec, &samples).unwrap();
        samples.iter().filter(|sample| sample.part == Part::Train).count() as u64
    }

    /// Older samples, evenly over the classes.
    fn replay(&self, window: usize) -> impl Iterator<Item = &(Vec<u8>, u32)> {
        let older = &self.stream.rows[..window * self.stream.window];
        let classes = self.stream.spec.classes as usize;
        let present: Vec<u32> = (0..classes as u32).filter(|class| older.iter().any(|(_, label)| label == class)).collect();
        let each = (self.stream.window as f64 * REPLAY) as usize / present.len().max(1);
        present.into_iter().flat_map(move |class| {
            let of: Vec<&(Vec<u8>, u32)> = older.iter().filter(|(_, label)| *label == class).collect();
            let every = (of.len() / each.max(1)).max(1);
            of.into_iter().skip(window % every).step_by(every).take(each).collect::<Vec<_>>()
        })
    }

    /// Of the version in service, on a window's samples.
    fn accuracy(&self, window: usize) -> f64 {
        let model = Model::load(&self.stream.spec, &self.version).unwrap();
        let rows = self.stream.of(window);
        let right = rows.chunks(64).map(|chunk| {
            let input: Vec<u8> = chunk.iter().flat_map(|(features, _)| features).copied().collect();
            let logits = model.infer(&[&input], chunk.len() as u32).unwrap();
            let logits: Vec<f32> = logits.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
            let classes = self.stream.spec.classes as usize;
            let best = |row: &[f32]| (0..classes).max_by(|&a, &b| row[a].total_cmp(&row[b])).unwrap() as u32;
            logits.chunks_exact(classes).zip(chunk).filter(|(row, (_, label))| best(row) == *label).count()
        });
        right.sum::<usize>() as f64 / rows.len() as f64
    }
}
