//! A new version that answers a share of the requests beside the one in service.

use super::TenantMachine;

/// Labelled samples answered: rightly, and all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Answered rightly.
    pub right: u64,
    /// Answered.
    pub of: u64,
}

impl Tally {
    pub(super) fn add(&mut self, right: u32, of: u32) {
        self.right += u64::from(right.min(of));
        self.of += u64::from(of);
    }
}

/// What a canary and the version in service made of labelled samples since the canary began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Canary {
    /// The canary's version.
    pub version: u32,
    /// Share of the requests that it answers.
    pub share: f64,
    /// The canary.
    pub new: Tally,
    /// The version in service.
    pub old: Tally,
    /// Batches that the canary failed to answer.
    pub failed: u64,
    /// Requests' share of it that is due.
    credit: f64,
    /// Whether the next evaluation is its.
    turn: bool,
}

impl TenantMachine {
    /// A canary answers this share of the requests from now on, and every other evaluation.
    pub fn canary_began(&mut self, version: u32, share: f64) {
        let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
        let (new, old) = (Tally::default(), Tally::default());
        self.canary = Some(Canary { version, share, new, old, failed: 0, credit: 0.0, turn: true });
    }

    /// The canary answers nothing more, until another version is in service.
    pub fn canary_stopped(&mut self) {
        if let Some(canary) = &mut self.canary {
            canary.share = 0.0;
        }
    }

    /// How the canary does.
    pub fn canary(&self) -> Option<Canary> {
        self.canary
    }

    /// Whether a batch of so many rows, of requests or an evaluation, goes to the canary. Counts it as gone there when it does.
    pub fn to_canary(&mut self, evaluation: bool, rows: u32) -> bool {
        let Some(canary) = &mut self.canary else { return false };
        if canary.share <= 0.0 {
            return false;
        }
        if evaluation {
            canary.turn = !canary.turn;
            return !canary.turn;
        }
        canary.credit += canary.share * f64::from(rows);
        let goes = canary.credit >= f64::from(rows) / 2.0;
        if goes {
            canary.credit -= f64::from(rows);
        }
        goes
    }

    /// The canary failed to answer a batch.
    pub fn canary_failed(&mut self, version: u32) {
        if let Some(canary) = self.canary.as_mut().filter(|canary| canary.version == version) {
            canary.failed += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::TenantConfig;
    use super::*;
    use crate::Time;

    #[test]
    fn the_canary_gets_its_share_of_the_rows_and_every_other_evaluation() {
        let mut machine = TenantMachine::new(TenantConfig::default());
        assert!(!machine.to_canary(false, 8) && !machine.to_canary(true, 8));
        machine.canary_began(2, 0.1);
        let rows: u32 = (0..1000).map(|i| 1 + i % 7).filter(|&rows| machine.to_canary(false, rows)).sum();
        let all: u32 = (0..1000).map(|i| 1 + i % 7).sum();
        assert!((f64::from(rows) / f64::from(all) - 0.1).abs() < 0.01, "{rows} of {all}");
        assert_eq!((0..10).filter(|_| machine.to_canary(true, 4)).count(), 5);
    }

    #[test]
    fn both_are_told_apart_and_a_swap_ends_it() {
        let mut machine = TenantMachine::new(TenantConfig::default());
        machine.swapped(Time(0), 1, None);
        machine.labelled(Time(0), 1, 5, 10);
        machine.canary_began(2, 0.5);
        machine.labelled(Time(0), 1, 3, 4);
        machine.labelled(Time(0), 2, 4, 4);
        machine.labelled(Time(0), 7, 4, 4);
        machine.canary_failed(2);
        let canary = machine.canary().unwrap();
        assert_eq!((canary.old, canary.new, canary.failed), (Tally { right: 3, of: 4 }, Tally { right: 4, of: 4 }, 1));
        machine.swapped(Time(1), 2, None);
        assert_eq!(machine.canary(), None);
    }
}
