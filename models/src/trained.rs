//! What a retraining comes to.

use serde::{Deserialize, Serialize};

/// What a worker reports at the end of a retraining.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Trained {
    /// Accuracy of the base on the held-out samples, 0..1; 0 when there is no base.
    pub before: f64,
    /// Accuracy of the new weights on the same samples.
    pub after: f64,
    /// Held-out samples.
    pub held_out: u64,
    /// How many of them one of the two tells right and the other wrong; none where there is no base, or nobody counted.
    pub changed: Option<u64>,
    /// The same on samples of older windows that no version ever trained on; none where there are none.
    pub older: Option<Older>,
    /// CPU seconds, over all pauses; on a GPU seconds times the compute slices of the instance.
    pub core_s: f64,
    /// Epochs trained; fewer than asked for when they stopped making it better.
    pub epochs: u32,
}

/// What a new version makes of samples of older windows: whether it forgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Older {
    /// Accuracy of the base, 0..1; 0 when there is none.
    pub before: f64,
    /// Accuracy of the new weights.
    pub after: f64,
    /// Samples.
    pub samples: u64,
}
