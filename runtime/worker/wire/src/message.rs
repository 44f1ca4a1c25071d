//! What server and worker say to each other.

use std::path::PathBuf;

use migrator_models::{Microprofile, ModelSpec, TrainSpec, Trained};
use serde::{Deserialize, Serialize};

/// Version of this protocol; both sides must have the same.
pub const PROTOCOL: u16 = 5;

/// File descriptor of the worker's end of the socket pair.
pub const WORKER_FD: i32 = 3;

/// A model loaded in a worker; chosen by the server, unique within the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ModelKey(pub u32);

/// Server to worker. The frame's id is echoed by every answer to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum ToWorker {
    /// First frame. Answer: [`FromWorker::Hello`].
    Hello {
        /// The server's [`PROTOCOL`].
        protocol: u16,
    },
    /// Load CUDA's libraries, and touch no GPU yet: the slow part of [`ToWorker::Attach`] that needs no instance.
    /// Answer: [`FromWorker::Done`], or [`FailCode::NoDevice`] where there are none.
    Prepare,
    /// Compute on this instance from now on, once and for good: CUDA is initialised with nothing else in sight, and the models that
    /// are loaded move there and are warmed. What is loaded later goes there directly. Answer: [`FromWorker::Attached`]; after a
    /// failure the worker lives on, but can only compute on the host.
    Attach {
        /// UUID of the MIG instance (`MIG-…`), or of the GPU where there is no MIG (`GPU-…`).
        visible: String,
        /// Its compute slices, in which the cost of a retraining is counted.
        share: f64,
    },
    /// Run on this many executors from now on (after staging, and after every bind). Answer: [`FromWorker::Done`].
    Limit {
        /// Batches computed at the same time, one thread each.
        executors: u32,
    },
    /// Load a model and warm it at each batch size. Answer: [`FromWorker::Loaded`].
    Load {
        /// Its key from now on; loading onto a used key replaces it atomically.
        key: ModelKey,
        /// What it is.
        #[serde(with = "as_json")]
        spec: ModelSpec,
        /// Version folder of the store.
        folder: PathBuf,
        /// Batch sizes to warm and to time.
        warm: Vec<u32>,
    },
    /// Forget a model once its batches in flight are done. Answer: [`FromWorker::Done`].
    Unload {
        /// Which.
        key: ModelKey,
    },
    /// Compute one batch; payload: the inputs in the model's order, each `rows` rows. Answer: [`FromWorker::Inferred`].
    Infer {
        /// Which model.
        key: ModelKey,
        /// Rows in the batch.
        rows: u32,
        /// Bytes of each input in the payload.
        inputs: Vec<u64>,
    },
    /// Fine-tune (or train from scratch when `base` is none). Answers: [`FromWorker::Progress`]…, then
    /// [`FromWorker::Trained`] or [`FromWorker::Paused`].
    Train(TrainJob),
    /// Try configurations briefly (Ekya's microprofiling). Answers: [`FromWorker::Progress`]…, then [`FromWorker::Microprofiled`], or
    /// [`FromWorker::Paused`] with step 0 when it was asked to pause: nothing of it is kept.
    Microprofile(MicroprofileJob),
    /// Write a checkpoint and stop; the `Train` of that id answers [`FromWorker::Paused`]. Answer: [`FromWorker::Done`].
    Pause {
        /// Frame id of the `Train`.
        train: u64,
    },
    /// Finish what is in flight and exit with code 0.
    Shutdown,
}

/// A retraining.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TrainJob {
    /// The model.
    #[serde(with = "as_json")]
    pub spec: ModelSpec,
    /// Version folder to start from; `None` = random weights from the seed.
    pub base: Option<PathBuf>,
    /// Data set file (`migrator_models::data`): training and held-out samples.
    pub dataset: PathBuf,
    /// How.
    pub train: TrainSpec,
    /// Checkpoint file: resumed from when it exists, written on pause and every few seconds.
    pub checkpoint: PathBuf,
    /// Folder to write the new weights (and tokenizer) into; it exists and is empty.
    pub out: PathBuf,
}

/// A microprofile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MicroprofileJob {
    /// The model.
    #[serde(with = "as_json")]
    pub spec: ModelSpec,
    /// Version folder to start from; `None` = random weights from the seed.
    pub base: Option<PathBuf>,
    /// Data set file (`migrator_models::data`).
    pub dataset: PathBuf,
    /// How each try trains: few epochs on a small share.
    pub tries: Vec<TrainSpec>,
    /// A path that may be written and removed.
    pub scratch: PathBuf,
}

/// Worker to server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum FromWorker {
    /// Answer to `Hello`.
    Hello {
        /// The worker's [`PROTOCOL`].
        protocol: u16,
        /// Its process id.
        pid: u32,
        /// Version of libtorch.
        torch: String,
    },
    /// The worker computes on its instance.
    Attached {
        /// The device's name as the driver tells it, e.g. `NVIDIA H200 MIG 1g.18gb`.
        device: String,
        /// Milliseconds to load CUDA's libraries; next to nothing after a [`ToWorker::Prepare`].
        libraries_ms: f64,
        /// Milliseconds to initialise CUDA and create its context.
        context_ms: f64,
        /// The models that moved there, by key.
        models: Vec<Moved>,
        /// Memory of the instance in use afterwards, MiB.
        memory_mib: u64,
    },
    /// A model is loaded and warm.
    Loaded {
        /// Milliseconds to read and build it.
        load_ms: f64,
        /// Milliseconds to warm it at all batch sizes.
        warm_ms: f64,
        /// (batch, milliseconds) after warm-up: CPU time of one executor, or wall time on an attached instance.
        timings: Vec<(u32, f64)>,
        /// Resident memory of the process afterwards, or memory of the attached instance in use, MiB.
        memory_mib: u64,
    },
    /// A batch is computed; payload: the output, `FP32`, `rows × classes`.
    Inferred {
        /// Rows in the batch.
        rows: u32,
        /// Wall time of the computation, microseconds.
        compute_us: u32,
        /// When it ended, by [`monotonic_us`](crate::monotonic_us); 0 = unknown.
        ended_us: u64,
    },
    /// A retraining goes on.
    Progress {
        /// Optimizer steps done.
        step: u64,
        /// Steps of the whole retraining.
        steps: u64,
        /// Mean training loss since the last progress.
        loss: f32,
        /// CPU seconds spent so far, over all pauses; on an attached instance seconds times its compute slices.
        core_s: f64,
    },
    /// A retraining is over; the folder `out` holds the new weights.
    Trained(Trained),
    /// A microprofile is over.
    Microprofiled(Microprofile),
    /// A retraining is checkpointed and stopped.
    Paused {
        /// Steps done.
        step: u64,
        /// Steps of the whole retraining.
        steps: u64,
    },
    /// Done, nothing to tell.
    Done,
    /// The request of this frame id failed; the worker lives on.
    Failed {
        /// What kind of failure.
        code: FailCode,
        /// One line, no C++ frames.
        message: String,
    },
}

/// A model that moved to an instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Its key.
    pub key: ModelKey,
    /// Milliseconds to copy it there.
    pub copy_ms: f64,
    /// Milliseconds to warm it at all batch sizes.
    pub warm_ms: f64,
    /// (batch, milliseconds of wall time) after warm-up.
    pub timings: Vec<(u32, f64)>,
}

/// Kinds of failure of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailCode {
    /// No model of that key.
    UnknownModel,
    /// The payload does not fit the model.
    BadInput,
    /// The model file is missing, corrupt, too old or not of this architecture.
    BadModel,
    /// The data set file is missing or corrupt, or holds too little.
    BadData,
    /// Training gave NaN or infinite weights.
    Diverged,
    /// Memory ran out.
    OutOfMemory,
    /// There is no CUDA, not the instance asked for, or it failed.
    NoDevice,
    /// libtorch failed otherwise.
    Torch,
    /// The worker's own fault.
    Internal,
}

/// A model's spec travels as JSON inside the head: its enums are tagged by a field, for the user's configuration files, and `postcard`,
/// which does not describe itself, cannot read those.
mod as_json {
    use migrator_models::ModelSpec;
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(spec: &ModelSpec, serializer: S) -> Result<S::Ok, S::Error> {
        serde_json::to_string(spec).map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ModelSpec, D::Error> {
        serde_json::from_str(<&str>::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
