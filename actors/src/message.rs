//! What the front asks of a tenant, and what it is told.

use std::time::Duration;

use actix::Message;
use bytes::Bytes;
use tokio::time::Instant;

/// One inference request, already checked against the model: right inputs, right lengths.
#[derive(Debug, Message)]
#[rtype(result = "Result<Inferred, InferError>")]
pub struct Infer {
    /// Raw little-endian tensors in the model's input order, `rows` rows each.
    pub inputs: Vec<Bytes>,
    /// Rows, at least 1 and at most the model's `max_batch`.
    pub rows: u32,
    /// When the request reached the server: the SLO counts from here.
    pub arrived: Instant,
    /// The client's own bound, when it is tighter than the SLO: past it the answer is worth nothing and is shed.
    pub timeout: Option<Duration>,
    /// 0 and 1 = most urgent; each step above leaves it half of the queue and of the time to wait.
    pub priority: u32,
}

/// The answer to [`Infer`].
#[derive(Clone, Debug)]
pub struct Inferred {
    /// Version of the model that answered.
    pub version: u32,
    /// `FP32`, `rows × classes`, little-endian.
    pub output: Bytes,
    /// From its arrival until its batch was sent to a worker.
    pub waited: Duration,
    /// What the worker computed on its batch.
    pub computed: Duration,
}

/// Why a request got no answer. Everything but `Failed` says that trying again later makes sense.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum InferError {
    /// It could not have been answered in time.
    #[error("shed: {reason}; retry in {} ms", retry_after.as_millis())]
    Shed {
        /// `queue full`, `deadline cannot be met`, `no instance serves this tenant` or `draining`.
        reason: &'static str,
        /// When trying again makes sense.
        retry_after: Duration,
    },
    /// The worker that had it died, and the retry's died too, or there was no time left for one.
    #[error("the worker process died with this request in flight, and no retry could answer it in time; retry in 1 s")]
    WorkerLost,
    /// The worker answered with an error.
    #[error("{0}")]
    Failed(String),
}

/// Labelled samples of a tenant: each is inputs (one row each, raw little-endian) and a class.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, SampleError>")]
pub struct AddSamples {
    /// The samples.
    pub samples: Vec<Sample>,
}

/// One labelled sample.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The inputs in the model's order, concatenated: one row each, raw little-endian.
    pub features: Bytes,
    /// The class, below the model's `classes`.
    pub label: u32,
    /// Who says so.
    pub origin: Origin,
}

/// Where a sample's label comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// A client gave features and label.
    #[default]
    Client,
    /// A client gave the label of an earlier request.
    Label,
    /// The golden model.
    Golden,
    /// A file, by an operator.
    Import,
}

impl Origin {
    /// All of them.
    pub const ALL: [Origin; 4] = [Origin::Client, Origin::Label, Origin::Golden, Origin::Import];

    /// In metrics and reports.
    pub fn name(self) -> &'static str {
        match self {
            Origin::Client => "client",
            Origin::Label => "label",
            Origin::Golden => "golden",
            Origin::Import => "import",
        }
    }
}

/// Labels of requests that were answered.
#[derive(Debug, Message)]
#[rtype(result = "Result<usize, SampleError>")]
pub struct AddLabels {
    /// The labels.
    pub labels: Vec<Labelled>,
    /// Who gave them.
    pub origin: Origin,
}

/// A row of a request that was answered, and its label.
#[derive(Clone, Debug, PartialEq)]
pub struct Labelled {
    /// What was asked, as in [`Sample`]; none = the label only tells how good the answer was.
    pub features: Option<Bytes>,
    /// The class that is right.
    pub label: u32,
    /// The class that was answered.
    pub answered: u32,
    /// Version that answered.
    pub version: u32,
}

/// Why samples were not taken.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SampleError {
    /// The store refused them.
    #[error("samples could not be stored: {0}")]
    Store(String),
    /// The tenant is shutting down or overloaded.
    #[error("busy; retry in 1 s")]
    Busy,
}

/// How much is kept of one tenant's samples; the oldest go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Most samples.
    pub samples: u64,
    /// Most bytes: features, and what a sample takes beside them. Features that several samples share count for each.
    pub bytes: Option<u64>,
    /// Longest time that a sample is kept.
    pub age: Option<Duration>,
}

impl Bounds {
    /// By number alone.
    pub fn samples(samples: u64) -> Bounds {
        Bounds { samples, bytes: None, age: None }
    }
}

/// Where labelled samples are kept; `runtime` implements it on SQLite. Calls block.
pub trait SampleStore: Send + Sync {
    /// Keeps samples of a tenant, arrived at `at_ms` (Unix milliseconds); the oldest beyond the bound go.
    ///
    /// # Errors
    /// What the store says, in one line.
    fn add(&self, tenant: &str, at_ms: u64, samples: &[Sample]) -> Result<(), String>;
    /// Samples labelled in `[from_ms, to_ms)`, oldest first, at most `limit` of the newest.
    ///
    /// # Errors
    /// What the store says, in one line.
    fn between(&self, tenant: &str, from_ms: u64, to_ms: u64, limit: usize) -> Result<Vec<Sample>, String>;
    /// At most `limit` samples from before `before_ms`, drawn evenly over the classes; deterministic for the same seed.
    ///
    /// # Errors
    /// What the store says, in one line.
    fn replay(&self, tenant: &str, before_ms: u64, limit: usize, seed: u64) -> Result<Vec<Sample>, String>;
    /// Keeps a tenant's samples within these bounds from now on.
    fn set_bounds(&self, tenant: &str, bounds: Bounds);
    /// Samples kept for a tenant.
    ///
    /// # Errors
    /// What the store says, in one line.
    fn count(&self, tenant: &str) -> Result<u64, String>;
}
