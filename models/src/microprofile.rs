//! What a microprofile finds: a few epochs on a small share of the samples (Bhardwaj et al., Ekya, NSDI 2022, section 4.3).

use serde::{Deserialize, Serialize};

/// What the tries came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Microprofile {
    /// Accuracy of the base on the held-out samples, 0..1; 0 when there is no base.
    pub before: f64,
    /// Held-out samples.
    pub held_out: u64,
    /// One per try, in their order.
    pub courses: Vec<Course>,
    /// CPU seconds to measure the accuracy once; on a GPU seconds times the compute slices of the instance.
    pub measure_s: f64,
    /// CPU seconds that all of it took, likewise.
    pub core_s: f64,
}

/// What one try came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Course {
    /// Held-out accuracy after each epoch; none when the weights became NaN or infinite.
    pub accuracy: Vec<f64>,
    /// Samples in an epoch.
    pub samples: u64,
    /// CPU seconds to train on one sample once; on a GPU seconds times the compute slices of the instance.
    pub sample_s: f64,
}
