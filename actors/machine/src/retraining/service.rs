//! How a version gets into service: published, tried on a share of the requests if the tenant wants that, swapped in; and taken back.

use migrator_models::Trained;

use super::RetrainingMachine;
use super::job::Job;
use super::types::{RetrainingState, RetrainingWish};
use super::watch::{Live, Trial, Verdict};
use crate::Time;

impl RetrainingMachine {
    /// The new version is in the store under this number; or why not.
    pub fn published(&mut self, now: Time, result: Result<u32, String>) {
        let (RetrainingState::Publishing, Some(trained)) = (self.state, self.job.trained) else { return };
        let version = match result {
            Ok(version) => version,
            Err(message) => return self.give_up(message),
        };
        if self.job.back_to.is_some() {
            self.watch.settled();
            if !self.job.rejected {
                self.record(&trained, Some(version));
            }
        } else if self.canary_follows() {
            self.job.version = version;
            self.outbox.push_back(RetrainingWish::Canary { version, share: self.config.canary_share.min(1.0) });
            return self.enter(RetrainingState::Canary, Some(now + self.config.canary));
        } else {
            self.watch.published(version);
            self.record(&trained, Some(version));
        }
        self.swap_in(now, version, &trained);
    }

    /// Whether the version that is being published is a canary before it goes into service.
    pub fn canary_follows(&self) -> bool {
        self.config.canary_share > 0.0 && self.watch.version().is_some() && self.job.back_to.is_none()
    }

    fn swap_in(&mut self, now: Time, version: u32, trained: &Trained) {
        let (accuracy, held_out) = (trained.after, trained.held_out);
        self.outbox.push_back(RetrainingWish::Swap { version, accuracy, held_out });
        self.enter(RetrainingState::Swapping, Some(now + self.config.swap));
    }

    /// The canary is loaded beside the version in service on every lane; or why not: then it is taken back.
    pub fn canaried(&mut self, now: Time, result: Result<(), String>) {
        if let (RetrainingState::Canary, Err(message)) = (self.state, result) {
            self.reject(now, None, format!("canary rejected: {message}"));
        }
    }

    /// Nothing spoke against the canary: it goes into service.
    pub(super) fn promote(&mut self, now: Time) {
        let Some(trained) = self.job.trained else { return };
        let version = self.job.version;
        self.watch.published(version);
        self.record(&trained, Some(version));
        self.swap_in(now, version, &trained);
    }

    /// The canary is taken back: a copy of the version in service becomes the newest, so that whoever loads the newest does not get the
    /// canary.
    fn reject(&mut self, now: Time, trial: Option<Trial>, note: String) {
        let (Some(trained), Some(version)) = (self.job.trained, self.watch.version()) else { return };
        self.record(&trained, None);
        self.note = note;
        let service = trial.map(|trial| trial.service);
        let (accuracy, held_out) = service.map_or((trained.before, trained.held_out), |live| (live.share(), live.of));
        let trained = Trained { before: trained.before, after: accuracy, held_out, ..Trained::default() };
        self.job = Job { window: self.job.window, back_to: Some(version), rejected: true, trained: Some(trained), ..Job::default() };
        self.outbox.push_back(RetrainingWish::Rollback { version });
        self.enter(RetrainingState::Publishing, Some(now + self.config.publish));
    }

    /// Every lane answers with the new version; or why not (the old one then serves on).
    pub fn swapped(&mut self, _now: Time, result: Result<(), String>) {
        if self.state != RetrainingState::Swapping {
            return;
        }
        match result {
            Ok(()) => {
                self.validated = self.job.trained.map(|trained| trained.after);
                match self.job.back_to {
                    Some(_) if self.job.rejected => {}
                    Some(version) => self.note = format!("back to version {version}"),
                    None => self.note = format!("window {} in service", self.job.window),
                }
            }
            Err(message) => self.note = format!("swap failed: {message}"),
        }
        self.finish();
    }

    /// What the version in service made of labelled samples so far, and what a canary did. A version that does clearly worse than the one
    /// before it did is taken back: a copy of that one is published.
    pub fn live(&mut self, now: Time, live: Live, trial: Option<Trial>) {
        if let (RetrainingState::Canary, Some(trial)) = (self.state, trial.filter(|trial| trial.canary.version == self.job.version)) {
            self.job.trial = Some(trial);
            return match trial.verdict(self.config.canary_samples) {
                Verdict::Open => {}
                Verdict::Better => self.promote(now),
                Verdict::Worse => self.reject(now, Some(trial), format!("canary rejected: {trial}")),
            };
        }
        let idle = matches!(self.state, RetrainingState::Idle | RetrainingState::Collecting);
        let Some(old) = self.watch.seen(live, self.config.rollback && idle) else { return };
        if self.state == RetrainingState::Collecting {
            self.pending = Some(self.job.window);
        }
        let held_out = live.of.min(old.of);
        let trained = Trained { before: live.share(), after: old.share(), held_out, ..Trained::default() };
        self.job = Job { window: self.job.window, back_to: Some(old.version), trained: Some(trained), ..Job::default() };
        self.outbox.push_back(RetrainingWish::Rollback { version: old.version });
        self.enter(RetrainingState::Publishing, Some(now + self.config.publish));
    }
}

#[cfg(test)]
mod tests {
    use migrator_solver::InstanceId;

    use super::super::{RetrainingConfig, Tuning};
    use super::*;

    const BETTER: Trained = Trained { before: 0.6, after: 0.9, held_out: 200, changed: None, older: None, core_s: 8.0, epochs: 5 };
    const HERE: InstanceId = InstanceId(1);

    fn s(seconds: u64) -> Time {
        Time(seconds * 1_000_000)
    }

    fn polled(machine: &mut RetrainingMachine) -> Vec<RetrainingWish> {
        assert_eq!(machine.check(), []);
        std::iter::from_fn(|| machine.poll(s(0))).collect()
    }

    fn live(version: u32, right: u64, of: u64) -> Live {
        Live { version, right, of }
    }

    /// Version 6 in service, version 7 just published.
    fn published(config: RetrainingConfig) -> RetrainingMachine {
        let mut machine = RetrainingMachine::new(config);
        machine.live(s(0), live(6, 90, 100), None);
        machine.window_started(s(0), 0);
        machine.samples(s(0), 100);
        machine.exported(s(1), 0, Ok(160));
        machine.placed(s(2), HERE);
        machine.trained(s(9), BETTER);
        polled(&mut machine);
        machine.published(s(10), Ok(7));
        machine
    }

    fn with_canary() -> RetrainingMachine {
        let mut machine = published(RetrainingConfig { canary_share: 0.1, ..RetrainingConfig::default() });
        assert_eq!(polled(&mut machine), [RetrainingWish::Canary { version: 7, share: 0.1 }]);
        machine.canaried(s(11), Ok(()));
        machine
    }

    const SWAP: RetrainingWish = RetrainingWish::Swap { version: 7, accuracy: 0.9, held_out: 200 };

    #[test]
    fn a_version_that_fails_in_service_is_taken_back() {
        let mut machine = published(RetrainingConfig::default());
        machine.swapped(s(11), Ok(()));
        machine.window_started(s(12), 1);
        machine.samples(s(12), 100);
        polled(&mut machine);
        machine.live(s(20), live(7, 20, 60), None);
        assert_eq!((polled(&mut machine), machine.state()), (vec![], RetrainingState::Exporting));
        machine.handle_timeout(machine.timeout().unwrap());
        polled(&mut machine);
        machine.live(s(90), live(7, 20, 60), None);
        assert_eq!(polled(&mut machine), [RetrainingWish::Rollback { version: 6 }]);
        machine.published(s(91), Ok(8));
        assert_eq!(polled(&mut machine), [RetrainingWish::Swap { version: 8, accuracy: 0.9, held_out: 60 }]);
        machine.swapped(s(92), Ok(()));
        assert_eq!(machine.text(), "idle (back to version 6)");
        machine.live(s(93), live(8, 0, 100), None);
        assert_eq!(polled(&mut machine), []);
    }

    #[test]
    fn a_canary_that_does_well_or_is_never_told_of_goes_into_service() {
        let mut machine = with_canary();
        let trial = |of| Some(Trial { canary: live(7, of * 8 / 10, of), service: live(6, of * 8 / 10, of), failed: 0 });
        machine.live(s(12), live(6, 90, 100), trial(100));
        assert_eq!((polled(&mut machine), machine.text()), (vec![], "canary: version 7 80 of 100 right, version 6 80 of 100".into()));
        machine.live(s(12), live(6, 90, 100), trial(200));
        assert_eq!(polled(&mut machine), [SWAP]);
        assert_eq!(machine.history().last().unwrap().published, Some(7));

        let mut silent = with_canary();
        silent.handle_timeout(silent.timeout().unwrap());
        assert_eq!(polled(&mut silent), [SWAP]);
    }

    #[test]
    fn a_canary_that_does_worse_or_fails_is_taken_back() {
        let worse = Trial { canary: live(7, 20, 60), service: live(6, 55, 60), failed: 0 };
        let failing = Trial { canary: live(7, 0, 0), service: live(6, 0, 0), failed: 1 };
        for (trial, held_out) in [(worse, 60), (failing, 0)] {
            let mut machine = with_canary();
            machine.live(s(12), live(6, 90, 100), Some(trial));
            assert_eq!(polled(&mut machine), [RetrainingWish::Rollback { version: 6 }]);
            machine.published(s(13), Ok(8));
            let swaps = polled(&mut machine);
            assert!(matches!(swaps[..], [RetrainingWish::Swap { version: 8, held_out: found, .. }] if found == held_out), "{swaps:?}");
            machine.swapped(s(14), Ok(()));
            assert_eq!(machine.text(), format!("idle (canary rejected: {trial})"));
            assert_eq!(machine.history().last().unwrap().published, None);
        }
    }

    #[test]
    fn a_canary_that_cannot_be_loaded_is_taken_back() {
        let mut machine = published(RetrainingConfig { canary_share: 0.1, ..RetrainingConfig::default() });
        polled(&mut machine);
        machine.canaried(s(11), Err("out of memory".into()));
        assert_eq!(polled(&mut machine), [RetrainingWish::Rollback { version: 6 }]);
    }

    #[test]
    fn what_is_tuned_holds_for_the_next_version() {
        let RetrainingConfig { enabled, min_samples, rollback, .. } = RetrainingConfig::default();
        let how = Tuning {
            enabled,
            min_samples,
            min_gain: 0.01,
            max_forgetting: Some(0.05),
            canary_share: 0.3,
            canary_samples: 60,
            canary: std::time::Duration::from_secs(7),
            rollback,
        };
        let mut machine = published(RetrainingConfig::default());
        assert_eq!(polled(&mut machine), [SWAP]);
        machine.swapped(s(11), Ok(()));
        machine.retune(how);
        assert_eq!(machine.status().expected_gain, 0.01);
        machine.live(s(12), live(7, 90, 100), None);
        let again = |machine: &mut RetrainingMachine, at: u64, trained| {
            machine.window_started(s(at), at);
            machine.samples(s(at), 100);
            machine.exported(s(at + 1), at, Ok(160));
            machine.placed(s(at + 2), HERE);
            machine.trained(s(at + 3), trained);
            polled(machine)
        };
        let forgets = Trained { older: Some(migrator_models::Older { before: 0.9, after: 0.8, samples: 100 }), ..BETTER };
        assert!(matches!(again(&mut machine, 200, forgets).last(), Some(RetrainingWish::Discard { .. })));
        assert_eq!(again(&mut machine, 400, BETTER).last(), Some(&RetrainingWish::Publish { window: 400 }));
        machine.published(s(404), Ok(8));
        assert_eq!(polled(&mut machine), [RetrainingWish::Canary { version: 8, share: 0.3 }]);
        assert_eq!(machine.timeout(), Some(s(411)));
        let trial = Trial { canary: live(8, 50, 60), service: live(7, 50, 60), failed: 0 };
        machine.live(s(405), live(7, 90, 100), Some(trial));
        assert!(matches!(polled(&mut machine)[..], [RetrainingWish::Swap { version: 8, .. }]));
    }

    #[test]
    fn the_very_first_version_is_no_canary() {
        let mut machine = RetrainingMachine::new(RetrainingConfig { canary_share: 0.1, ..RetrainingConfig::default() });
        machine.window_started(s(0), 0);
        machine.samples(s(0), 100);
        machine.exported(s(1), 0, Ok(160));
        machine.placed(s(2), HERE);
        machine.trained(s(9), BETTER);
        polled(&mut machine);
        machine.published(s(10), Ok(7));
        assert_eq!(polled(&mut machine), [SWAP]);
    }
}
