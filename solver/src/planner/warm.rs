//! What is carried from one solve to the next.

use crate::shape::{KindId, Shape};
use crate::view::View;

/// What one solve leaves for the next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Warm {
    pub window_left_s: f64,
    pub ends: Vec<usize>,
    /// Prices per second by block and row.
    pub density: Vec<Vec<f32>>,
    /// By tenant.
    pub plans: Vec<Carried>,
}

/// A tenant's part of an earlier plan.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Carried {
    /// By block and kind.
    pub counts: Vec<Vec<u32>>,
    /// Kind and start block.
    pub retraining: Option<(KindId, usize)>,
}

impl Warm {
    /// The block of the earlier grid in which `second` of the new one lies.
    pub fn block(&self, shift_s: f64, second: f64) -> usize {
        let at = second + shift_s;
        self.ends.iter().position(|&end| at < end as f64).unwrap_or(self.ends.len() - 1)
    }

    /// Whether it is of the same tenants, kinds and rows, and of a time not long past.
    pub fn suits(&self, view: &View, shape: &Shape) -> bool {
        let shift_s = self.window_left_s - view.problem.window_left_s;
        let same = |carried: &Carried| carried.counts[0].len() == shape.kinds().len();
        self.plans.len() == view.problem.tenants.len()
            && self.plans.iter().all(same)
            && self.density[0].len() == shape.rows().len()
            && (0.0..self.ends[self.ends.len() - 1] as f64).contains(&shift_s)
    }
}
