//! The token bucket by which the duty governor decides who is paused; pure.

/// Tokens that an instance may save up, ms of its share: what it did not use while idle it may use at once later.
///
/// As short as the cgroup quota's period, so that both enforcers let the same bursts through.
const SAVED_MS: f64 = 10.0;

/// What to do with the processes of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Leave them as they are.
    Keep,
    /// Stop them.
    Pause,
    /// Let them run again.
    Resume,
}

/// CPU time that a set of processes may use now, ns; negative when they used more than their share.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Bucket {
    tokens_ns: f64,
    paused: bool,
}

impl Bucket {
    /// Accounts for `elapsed_ns` of time at `share` cores, in which `used_ns` of CPU time were used.
    pub(crate) fn tick(&mut self, share: f64, elapsed_ns: f64, used_ns: f64) -> Verdict {
        self.tokens_ns = (self.tokens_ns + share * elapsed_ns).min(share * SAVED_MS * 1e6) - used_ns;
        let pause = self.tokens_ns <= 0.0;
        let verdict = match (self.paused, pause) {
            (false, true) => Verdict::Pause,
            (true, false) => Verdict::Resume,
            _ => Verdict::Keep,
        };
        self.paused = pause;
        verdict
    }

    /// Whether the processes are stopped.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn overuse_is_paid_back_before_the_processes_run_again() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.tick(0.25, 4e6, 0.0), Verdict::Keep);
        assert_eq!(bucket.tick(0.25, 4e6, 4e6), Verdict::Pause, "1 + 1 - 4 ms");
        assert_eq!(bucket.tick(0.25, 4e6, 0.0), Verdict::Keep);
        assert!(bucket.is_paused());
        assert_eq!(bucket.tick(0.25, 5e6, 0.0), Verdict::Resume);
    }

    #[test]
    fn an_idle_instance_saves_no_more_than_10_ms() {
        let mut bucket = Bucket::default();
        bucket.tick(0.5, 1e12, 0.0);
        assert_eq!(bucket.tick(0.5, 0.0, 4.9e6), Verdict::Keep);
        assert_eq!(bucket.tick(0.5, 0.0, 0.1e6), Verdict::Pause);
    }

    proptest! {
        #[test]
        fn a_greedy_process_gets_its_share(share in 0.05_f64..1.0, ticks in prop::collection::vec(1.0_f64..8.0, 2000)) {
            let mut bucket = Bucket::default();
            let (mut used, mut wall) = (0.0, 0.0);
            for ms in ticks {
                let ran = if bucket.is_paused() { 0.0 } else { ms };
                bucket.tick(share, ms * 1e6, ran * 1e6);
                used += ran;
                wall += ms;
            }
            // A pause of up to 8 ms at a full bucket loses what would not fit into it.
            prop_assert!((used / wall / share - 1.0).abs() < 0.1, "{} of {share}", used / wall);
        }
    }
}
