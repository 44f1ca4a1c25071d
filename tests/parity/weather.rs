//! What models have to know, and how it changes: a version is right while the weather is what it was trained in, and wrong after.

use std::time::Duration;

use tokio::time::Instant;

/// The weather over time.
#[derive(Clone, Debug)]
pub struct Weather {
    start: Instant,
    /// When it changes, from the start, ascending.
    changes: Vec<Duration>,
}

impl Weather {
    pub fn new(start: Instant, changes_s: &[f64]) -> Weather {
        Weather { start, changes: changes_s.iter().map(|&s| Duration::from_secs_f64(s)).collect() }
    }

    /// Whether the coordinator looks at everything right now, which nothing else may coincide with: who is first would be chance.
    pub fn on_the_beat(&self) -> bool {
        Instant::now().saturating_duration_since(self.start).subsec_micros() == 0
    }

    /// Changes so far.
    pub fn now(&self) -> u64 {
        let gone = Instant::now().saturating_duration_since(self.start);
        self.changes.iter().filter(|change| **change <= gone).count() as u64
    }
}
