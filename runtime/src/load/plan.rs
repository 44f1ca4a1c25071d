//! What is to be sent: tenants, arrivals, samples, bounds.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use migrator_models::reader::LabelledSet;
use migrator_models::synthetic::Kind;

/// A number that follows from the seconds since the load began: a rate in requests/s, or a drift in windows.
pub type OverTime = Arc<dyn Fn(f64) -> f64 + Send + Sync>;

/// Open-loop load on one server.
#[derive(Clone, Debug)]
pub struct LoadPlan {
    /// The server, `http://host:port`.
    pub url: String,
    /// Who is sent what.
    pub tenants: Vec<TenantLoad>,
    /// How long requests are sent; answers are awaited for at most `timeout` more.
    pub duration: Duration,
    /// Decides arrivals and samples.
    pub seed: u64,
    /// Most connections per tenant; requests beyond wait, and the wait counts as latency.
    pub connections: usize,
    /// A request without an answer this long after its intended time is lost.
    pub timeout: Duration,
    /// Raised from outside to stop early.
    pub stop: Stop,
}

impl LoadPlan {
    /// A plan with the usual bounds: 512 connections per tenant (fewer would close the loop when answers are slow), 10 s timeout, seed 1.
    pub fn new(url: impl Into<String>, tenants: Vec<TenantLoad>, duration: Duration) -> Self {
        LoadPlan { url: url.into(), tenants, duration, seed: 1, connections: 512, timeout: Duration::from_secs(10), stop: Stop::default() }
    }
}

/// A flag shared with whoever may end the load early.
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Ends the load: nothing more is sent, answers in flight are awaited.
    pub fn raise(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// The flag itself, for those who know no loads.
    pub fn flag(&self) -> &AtomicBool {
        &self.0
    }

    /// Whether it was raised.
    pub fn raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The load on one tenant.
#[derive(Clone, Debug)]
pub struct TenantLoad {
    /// The tenant's name.
    pub tenant: String,
    /// How many requests when.
    pub arrivals: Arrivals,
    /// What is in them.
    pub samples: Samples,
    /// Share of the requests whose label is sent to the server afterwards, 0 to 1.
    pub label_share: f64,
    /// SLO, milliseconds; `None` asks the server.
    pub slo_ms: Option<f64>,
}

/// How many requests when.
#[derive(Clone)]
pub enum Arrivals {
    /// Requests in each second, multiplied by `scale` (what is left of a request is sent with that probability), spread evenly at
    /// random inside the second. Begins again when the load lasts longer.
    Counts {
        /// Requests in each second.
        counts: Vec<u32>,
        /// Factor on them.
        scale: f64,
    },
    /// A Poisson process whose rate in requests/s is looked up once a second.
    Rate(OverTime),
}

impl fmt::Debug for Arrivals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Arrivals::Counts { counts, scale } => write!(f, "Counts({} s × {scale})", counts.len()),
            Arrivals::Rate(_) => f.write_str("Rate"),
        }
    }
}

/// What is in the requests.
#[derive(Clone)]
pub enum Samples {
    /// Rows of a set, drawn at random.
    Set(Arc<LabelledSet>),
    /// Generated while they are sent.
    Drifting {
        /// What is generated.
        kind: Kind,
        /// The concept; must be the one that the model was trained on.
        seed: u64,
        /// Keeps the samples apart from those of other streams with the same concept.
        stream: u64,
        /// Drift in windows.
        drift: OverTime,
    },
}

impl fmt::Debug for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Samples::Set(set) => write!(f, "Set({} rows)", set.rows.len()),
            Samples::Drifting { kind, seed, .. } => write!(f, "Drifting({}, seed {seed})", kind.name()),
        }
    }
}
