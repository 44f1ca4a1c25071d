//! What each retraining configuration would come to and cost: microprofiles, and what earlier retrainings made of what was foretold.

use migrator_models::{Microprofile, TrainSpec};
use serde::{Deserialize, Serialize};

use super::curve::foretell;

/// Weight of the last retraining in what is remembered: few samples are held out, so a single one says little.
const ALPHA: f64 = 0.3;
/// Standard deviation of a foretold accuracy before any was compared with what came.
const PRIOR_SD: f64 = 0.06;
/// Share of what was learnt that a window without a retraining takes away.
const FADES: f64 = 0.1;
/// Windows after which a configuration that was not worth trying is tried again: what helps may change.
const AGAIN: u64 = 8;

/// How configurations are tried.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MicroprofileConfig {
    /// Share of the samples that a try trains on; 0 = no microprofiles: what earlier retrainings came to must do.
    pub share: f64,
    /// Fewest samples, whatever their share.
    pub least: u64,
    /// Epochs of a try.
    pub epochs: u32,
}

impl Default for MicroprofileConfig {
    fn default() -> MicroprofileConfig {
        // Ekya: 5 to 10 % of the samples, 5 epochs. The base's accuracy is a further point of the curve here.
        MicroprofileConfig { share: 0.1, least: 64, epochs: 4 }
    }
}

/// What a retraining with one configuration would come to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prospect {
    /// Accuracy after.
    pub after: f64,
    /// Standard deviation of it.
    pub sd: f64,
    /// CPU seconds.
    pub core_s: f64,
}

/// A mean that forgets, and how far single values are off it.
#[derive(Clone, Copy, Debug)]
struct Memory {
    mean: f64,
    variance: f64,
    values: u32,
}

impl Memory {
    fn new(mean: f64, sd: f64) -> Memory {
        Memory { mean, variance: sd * sd, values: 0 }
    }

    /// Grows less sure, up to as unsure as at first.
    fn fade(&mut self) {
        self.variance += FADES * (PRIOR_SD * PRIOR_SD - self.variance).max(0.0);
    }

    fn learn(&mut self, value: f64) {
        if value.is_finite() {
            self.values += 1;
            let alpha = ALPHA.max(1.0 / f64::from(self.values + 1));
            let off = value - self.mean;
            self.variance += alpha * (off * off - self.variance);
            self.mean += alpha * off;
        }
    }
}

/// What is known of one configuration.
#[derive(Debug)]
struct Known {
    /// Accuracy reached less accuracy that its microprofile foretold.
    off: Memory,
    /// Accuracy reached; none before the first.
    reach: Option<Memory>,
    /// CPU seconds taken ÷ foretold.
    slower: f64,
    /// Window in which it was tried last.
    tried: Option<u64>,
}

/// All configurations of a tenant.
#[derive(Debug)]
pub struct Gains {
    configurations: Vec<TrainSpec>,
    how: MicroprofileConfig,
    known: Vec<Known>,
    /// What the microprofile of the current window foretold, by configuration: accuracy with sd, and CPU seconds.
    foretold: Vec<Option<(f64, f64, f64)>>,
    prospects: Vec<Option<Prospect>>,
    /// The last retraining's configuration.
    last: Option<usize>,
}

impl Gains {
    /// Nothing tried yet.
    pub fn new(configurations: Vec<TrainSpec>, how: MicroprofileConfig) -> Gains {
        let fresh = || Known { off: Memory::new(0.0, PRIOR_SD), reach: None, slower: 1.0, tried: None };
        let known = configurations.iter().map(|_| fresh()).collect();
        let (foretold, prospects) = (vec![None; configurations.len()], vec![None; configurations.len()]);
        Gains { configurations, how, known, foretold, prospects, last: None }
    }

    /// The configurations.
    pub fn configurations(&self) -> &[TrainSpec] {
        &self.configurations
    }

    /// Configurations to try in `window` with so many samples to train on, one for each kind: how long and on how much of the data is
    /// read off one curve. A kind that did not win is tried again after some windows.
    pub fn tries(&self, window: u64, samples: u64) -> Vec<TrainSpec> {
        if self.how.share <= 0.0 {
            return Vec::new();
        }
        let share = self.how.share.max(self.how.least as f64 / samples.max(1) as f64).min(1.0);
        let kinds = self.kinds().into_iter().filter(|&first| self.wants(first, window));
        kinds.map(|first| TrainSpec { share, epochs: self.how.epochs, patience: 0, ..self.configurations[first].clone() }).collect()
    }

    /// First configuration of each kind.
    fn kinds(&self) -> Vec<usize> {
        let first = |index: &usize| !self.configurations[..*index].iter().any(|other| alike(other, &self.configurations[*index]));
        (0..self.configurations.len()).filter(first).collect()
    }

    fn wants(&self, first: usize, window: u64) -> bool {
        let won = self.last.is_none_or(|last| alike(&self.configurations[last], &self.configurations[first]));
        won || self.known[first].tried.is_none_or(|tried| window >= tried + AGAIN)
    }

    /// Takes in what the tries of `window` came to.
    pub fn tried(&mut self, window: u64, tries: &[TrainSpec], found: &Microprofile, samples: u64) {
        for index in 0..self.configurations.len() {
            let configuration = &self.configurations[index];
            let course = tries.iter().position(|try_| alike(try_, configuration)).and_then(|at| found.courses.get(at));
            self.foretold[index] = None;
            let Some(course) = course else { continue };
            let points: Vec<(f64, f64)> = std::iter::once(found.before)
                .chain(course.accuracy.iter().copied())
                .enumerate()
                .map(|(epoch, accuracy)| (epoch as f64 * course.samples as f64, accuracy))
                .collect();
            let target = f64::from(configuration.epochs) * configuration.share * samples as f64;
            let core_s = target * course.sample_s + (f64::from(configuration.epochs) + 1.0) * found.measure_s;
            let known = &mut self.known[index];
            known.tried = Some(window);
            self.foretold[index] = foretell(&points, found.held_out, target).map(|foretold| (foretold.mean, foretold.sd, core_s));
        }
        self.prospects = (0..self.configurations.len()).map(|index| self.prospect(index)).collect();
    }

    /// By configuration; `None` where nothing is known.
    pub fn prospects(&self) -> &[Option<Prospect>] {
        &self.prospects
    }

    /// The microprofile, less what it was off before, and what this configuration reached before, each weighing as much as it was right.
    fn prospect(&self, index: usize) -> Option<Prospect> {
        let known = &self.known[index];
        let (mean, sd, core_s) = self.foretold[index]?;
        let off = self.off(index);
        let microprofile = (mean + off.mean, sd * sd + off.variance);
        let reach = known.reach.map(|reach| (reach.mean, reach.variance.max(1e-6)));
        let both = [Some(microprofile), reach];
        let weight: f64 = both.iter().flatten().map(|(_, variance)| 1.0 / variance).sum();
        let after = both.iter().flatten().map(|(mean, variance)| mean / variance).sum::<f64>() / weight;
        Some(Prospect { after: after.clamp(0.0, 1.0), sd: (1.0 / weight).sqrt(), core_s: core_s * known.slower })
    }

    /// Whether a retraining has shown what microprofiles are good for here.
    pub fn tested(&self) -> bool {
        self.last.is_some()
    }

    /// What its microprofiles were off; one that was never chosen goes by another of its kind.
    fn off(&self, index: usize) -> Memory {
        let chosen = |other: &usize| self.known[*other].off.values > 0 && alike(&self.configurations[*other], &self.configurations[index]);
        let others = (0..self.known.len()).filter(chosen);
        let nearest = others.min_by_key(|&other| (other != index, other)).unwrap_or(index);
        self.known[nearest].off
    }

    /// The window was not worth a retraining: what was learnt from earlier ones counts for less, or it would never be put to the test
    /// again.
    pub fn skipped(&mut self) {
        for known in &mut self.known {
            known.off.fade();
            known.off.mean *= 1.0 - FADES;
            if let Some(reach) = &mut known.reach {
                reach.fade();
            }
        }
    }

    /// A retraining with this configuration came to `after` in `core_s`.
    pub fn came(&mut self, index: usize, after: f64, core_s: f64) {
        let Some(known) = self.known.get_mut(index) else { return };
        self.last = Some(index);
        if let Some((mean, _, foretold_s)) = self.foretold[index] {
            known.off.learn(after - mean);
            if core_s > 0.0 && core_s.is_finite() && foretold_s > 0.0 {
                let alpha = if known.reach.is_some() { ALPHA } else { 1.0 };
                known.slower += alpha * (core_s / foretold_s - known.slower);
            }
        }
        known.reach.get_or_insert(Memory::new(after, PRIOR_SD)).learn(after);
    }
}

/// Whether two configurations differ only in how long and on how much they train.
fn alike(a: &TrainSpec, b: &TrainSpec) -> bool {
    (a.frozen, a.batch, a.learning_rate, a.seed) == (b.frozen, b.batch, b.learning_rate, b.seed)
}

/// Configurations to choose from where a tenant names none: as told, half as long, half as long on half of the samples, and the head
/// alone.
pub fn usual(train: &TrainSpec) -> Vec<TrainSpec> {
    let short = TrainSpec { epochs: train.epochs.div_ceil(2), ..train.clone() };
    let mut all =
        vec![train.clone(), short.clone(), TrainSpec { share: train.share / 2.0, ..short }, TrainSpec { frozen: 1.0, ..train.clone() }];
    all.dedup();
    all
}

#[cfg(test)]
mod tests {
    use migrator_models::Course;

    use super::*;

    fn gains() -> Gains {
        Gains::new(usual(&TrainSpec::default()), MicroprofileConfig::default())
    }

    fn found(accuracy: &[f64]) -> Microprofile {
        let course = Course { accuracy: accuracy.to_vec(), samples: 100, sample_s: 0.01 };
        Microprofile { before: 0.5, held_out: 400, courses: vec![course.clone(), course], measure_s: 0.5, core_s: 1.0 }
    }

    #[test]
    fn one_try_serves_all_configurations_of_a_kind() {
        let tries = gains().tries(0, 1000);
        assert_eq!(tries.iter().map(|try_| (try_.frozen, try_.epochs, try_.share)).collect::<Vec<_>>(), [(0.0, 4, 0.1), (1.0, 4, 0.1)]);
        assert_eq!(gains().tries(0, 80)[0].share, 0.8);
        let off = Gains::new(usual(&TrainSpec::default()), MicroprofileConfig { share: 0.0, ..MicroprofileConfig::default() });
        assert_eq!(off.tries(0, 1000), []);
    }

    #[test]
    fn a_kind_that_did_not_win_is_tried_again_later() {
        let mut gains = gains();
        let tries = gains.tries(0, 1000);
        gains.tried(0, &tries, &found(&[0.6, 0.65, 0.68]), 1000);
        gains.came(0, 0.8, 55.0);
        assert_eq!(gains.tries(1, 1000).len(), 1);
        assert_eq!(gains.tries(AGAIN, 1000).len(), 2);
    }

    #[test]
    fn longer_and_more_costs_more_and_comes_to_more() {
        let mut gains = gains();
        let tries = gains.tries(0, 1000);
        gains.tried(0, &tries, &found(&[0.6, 0.65, 0.68, 0.7]), 1000);
        let all: Vec<Prospect> = gains.prospects().iter().flatten().copied().collect();
        assert!((all[0].core_s - 53.0).abs() < 1e-9 && (all[1].core_s - 32.0).abs() < 1e-9 && (all[2].core_s - 17.0).abs() < 1e-9);
        assert!(all[0].after > all[1].after && all[1].after > all[2].after, "{all:?}");
    }

    #[test]
    fn history_corrects_what_microprofiles_foretell() {
        let mut gains = gains();
        let prospect = |gains: &mut Gains, window| {
            let tries = gains.tries(window, 1000);
            gains.tried(window, &tries, &found(&[0.6, 0.65, 0.68, 0.7]), 1000);
            gains.prospects()[0].unwrap()
        };
        let first = prospect(&mut gains, 0);
        for window in 1..8 {
            gains.came(0, 0.6, 26.5);
            prospect(&mut gains, window);
        }
        let last = gains.prospects()[0].unwrap();
        assert!(first.after > 0.75 && (last.after - 0.6).abs() < 0.05 && last.sd < first.sd, "{first:?} {last:?}");
        assert!((last.core_s - 26.5).abs() < 1.0);
    }

    #[test]
    fn windows_without_a_retraining_make_the_history_count_less() {
        let mut gains = gains();
        let tries = gains.tries(0, 1000);
        let prospect = |gains: &mut Gains| {
            gains.tried(0, &tries, &found(&[0.6, 0.65, 0.68, 0.7]), 1000);
            gains.prospects()[0].unwrap()
        };
        prospect(&mut gains);
        for _ in 0..6 {
            gains.came(0, 0.5, 50.0);
            prospect(&mut gains);
        }
        let sure = prospect(&mut gains);
        (0..20).for_each(|_| gains.skipped());
        let faded = prospect(&mut gains);
        assert!(faded.after > sure.after && faded.sd > sure.sd, "{sure:?} {faded:?}");
    }

    #[test]
    fn what_one_kind_learns_says_nothing_of_another() {
        let mut gains = gains();
        let tries = gains.tries(0, 1000);
        let prospects = |gains: &mut Gains| {
            gains.tried(0, &tries, &found(&[0.6, 0.65, 0.68, 0.7]), 1000);
            gains.prospects().iter().map(|prospect| prospect.unwrap().after).collect::<Vec<_>>()
        };
        let before = prospects(&mut gains);
        gains.came(3, 0.3, 50.0);
        let after = prospects(&mut gains);
        assert!(after[3] < before[3] && after[0] == before[0]);
        gains.came(0, 0.3, 50.0);
        assert!(prospects(&mut gains)[1] < after[1]);
    }

    #[test]
    fn a_try_that_diverged_foretells_nothing() {
        let mut gains = gains();
        let tries = gains.tries(0, 1000);
        gains.tried(0, &tries, &found(&[]), 1000);
        assert!(gains.prospects().iter().all(Option::is_none));
        gains.came(9, 0.5, 1.0);
    }
}
