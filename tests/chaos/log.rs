//! What the device logs, to be held against what the fake refused.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex};

use fake_nvml::FakeHost;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

/// What is logged, down to what was tried again, by thread-local subscription.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn new() -> Log {
        Log::default()
    }

    /// Listens on this thread until the guard is dropped.
    pub fn listen(&self) -> tracing::subscriber::DefaultGuard {
        tracing::subscriber::set_default(tracing_subscriber::registry().with(self.clone()))
    }

    /// Lines so far.
    pub fn lines(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Asserts that every kind of call that ever failed is named in the log.
    pub fn tells(&self, fake: &FakeHost) {
        let mut failed: BTreeMap<String, usize> = BTreeMap::new();
        for call in fake.calls().unwrap().into_iter().filter(|call| call.code != 0) {
            *failed.entry(call.call).or_default() += 1;
        }
        let lines = self.0.lock().unwrap();
        for (call, times) in failed {
            let told = lines.iter().filter(|line| line.contains(&call)).count();
            assert!(told > 0 || times < 5, "{call} failed {times} times, and the log never says so");
        }
    }
}

impl<S: Subscriber> Layer<S> for Log {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if *event.metadata().level() > Level::DEBUG {
            return;
        }
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, "{}={value:?} ", field.name());
    }
}
