//! Whether a version just published does worse in service than the one before it did: what is held out is not all that comes.

/// Fewest labelled samples on which a version is judged.
const LEAST: u64 = 50;
/// Labelled samples after which a version is trusted: what goes wrong later is drift, which an older version would not stand either.
const MOST: u64 = 500;
/// Standard errors by which the new version must be worse.
const SURE: f64 = 3.0;

/// Labelled samples answered in service by a version, before anything learnt from them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Live {
    /// The version.
    pub version: u32,
    /// Answered rightly since it came into service.
    pub right: u64,
    /// Answered.
    pub of: u64,
}

impl Live {
    pub(super) fn share(&self) -> f64 {
        self.right as f64 / self.of.max(1) as f64
    }

    fn variance(&self) -> f64 {
        // Laplace's rule: none wrong of few is not perfect.
        let likely = (self.right as f64 + 1.0) / (self.of as f64 + 2.0);
        likely * (1.0 - likely) / self.of.max(1) as f64
    }
}

/// A canary and the version in service, side by side: what each made of labelled samples since the canary began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Trial {
    /// The new version.
    pub canary: Live,
    /// The one in service.
    pub service: Live,
    /// Batches that the new version failed to answer.
    pub failed: u64,
}

/// What a trial says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing yet.
    Open,
    /// The canary may go into service.
    Better,
    /// The canary is to be taken back.
    Worse,
}

/// Standard errors by which a canary must be worse: it was better on the held-out samples, and going back costs little.
const CANARY_SURE: f64 = 2.0;

impl Trial {
    /// After `enough` samples of the canary it is good enough, unless it is clearly worse.
    pub(super) fn verdict(&self, enough: u64) -> Verdict {
        let Trial { canary, service, failed } = self;
        let worse = service.share() - canary.share() > CANARY_SURE * (canary.variance() + service.variance()).sqrt();
        match canary.of.min(service.of) >= LEAST.min(enough) {
            _ if *failed > 0 => Verdict::Worse,
            true if worse => Verdict::Worse,
            _ if canary.of >= enough => Verdict::Better,
            _ => Verdict::Open,
        }
    }
}

impl std::fmt::Display for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Trial { canary, service, failed } = self;
        let (new, old) = (canary.version, service.version);
        write!(f, "version {new} {} of {} right, version {old} {} of {}", canary.right, canary.of, service.right, service.of)?;
        if *failed > 0 { write!(f, ", {failed} batches failed") } else { Ok(()) }
    }
}

/// Watches the version in service.
#[derive(Debug, Default)]
pub(super) struct Watch {
    live: Live,
    /// What is on probation, and the version before it as it was when it left.
    probation: Option<(u32, Live)>,
}

impl Watch {
    /// The version `new` goes into service in place of the one seen last.
    pub fn published(&mut self, new: u32) {
        self.probation = (self.live.of >= LEAST && self.live.version != new).then_some((new, self.live));
    }

    /// Nothing is on probation any more.
    pub fn settled(&mut self) {
        self.probation = None;
    }

    /// The version in service, as far as anything was seen of it.
    pub fn version(&self) -> Option<u32> {
        (self.live.version != 0).then_some(self.live.version)
    }

    /// Takes in what is seen now; the version to go back to when the new one is worse, if anybody `asks`.
    pub fn seen(&mut self, live: Live, asks: bool) -> Option<Live> {
        self.live = live;
        let (version, old) = self.probation.filter(|_| asks)?;
        if live.version != version || live.of < LEAST {
            return None;
        }
        let worse = old.share() - live.share() > SURE * (old.variance() + live.variance()).sqrt();
        if worse || live.of > MOST {
            self.probation = None;
        }
        worse.then_some(old)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn live(version: u32, right: u64, of: u64) -> Live {
        Live { version, right, of }
    }

    fn on_probation() -> Watch {
        let mut watch = Watch::default();
        assert_eq!(watch.seen(live(1, 180, 200), true), None);
        watch.published(2);
        watch
    }

    #[test]
    fn a_version_that_is_clearly_worse_is_told_of_once() {
        let mut watch = on_probation();
        assert_eq!(watch.seen(live(2, 10, 40), true), None);
        assert_eq!(watch.seen(live(2, 30, 60), true), Some(live(1, 180, 200)));
        assert_eq!(watch.seen(live(2, 30, 60), true), None);
    }

    #[test]
    fn one_within_the_noise_or_trusted_stays() {
        let mut watch = on_probation();
        assert_eq!(watch.seen(live(2, 50, 60), true), None);
        assert_eq!(watch.seen(live(2, 450, 501), true), None);
        assert_eq!(watch.seen(live(2, 450, 900), true), None);
    }

    #[test]
    fn without_enough_of_the_old_one_nothing_is_judged() {
        let mut watch = Watch::default();
        watch.seen(live(1, 20, 20), true);
        watch.published(2);
        assert_eq!(watch.seen(live(2, 0, 300), true), None);
    }
}
