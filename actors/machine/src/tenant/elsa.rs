//! ELSA (DAC'22): the smallest lane that is in time, so that the large ones are free for what only they can do.
//!
//! Per request, with T_wait until a lane begins it and T_est for its batch there: slack = SLO - alpha · (T_wait + beta · T_est). From the
//! smallest lane to the largest, the first with slack > 0; when there is none, the lane that ends first (`reference/migrator-and-baselines.md`
//! section 4.4). Inferred: the paper's queries carry their batch and wait at their partition; here single requests wait together and batches are
//! formed when a lane takes one, so a busy lane keeps back as many rows as it can answer in its next batch, and "SLO" is what is left of it.

use std::ops::Range;

use super::TenantMachine;
use super::lane::Lane;
use crate::Time;

/// The two weights of ELSA's slack.
#[derive(Clone, Copy, Debug)]
pub(super) struct Elsa {
    pub alpha: f64,
    pub beta: f64,
}

impl Elsa {
    /// Whether a batch of `rows` on this lane leaves slack before `deadline`.
    fn has_slack(self, now: Time, lane: &Lane, rows: u32, deadline: Time) -> bool {
        let wait_s = lane.starts(now).since(now).as_secs_f64();
        let left_s = deadline.since(now).as_secs_f64();
        left_s - self.alpha * (wait_s + self.beta * lane.span(rows).as_secs_f64()) > 0.0
    }
}

impl TenantMachine {
    /// The next batch and its lane; `None` when all that waits is left to lanes that are busy.
    pub(super) fn elsa(&self, now: Time, elsa: Elsa) -> Option<(Range<usize>, usize)> {
        let deadline = self.queue.head()?.deadline;
        let mut order: Vec<usize> = (0..self.lanes.len()).filter(|&position| self.lanes[position].up()).collect();
        order.sort_by(|&a, &b| self.lanes[a].best.1.total_cmp(&self.lanes[b].best.1));
        let mut rows = self.queue.rows();
        for &position in &order {
            let lane = &self.lanes[position];
            let limit = rows.min(u64::from(self.config.max_batch.max(1))) as u32;
            if lane.takes() {
                let batch = self.batch_for(now, lane, limit).map(|(_, range)| range);
                if let Some(range) = batch.filter(|range| elsa.has_slack(now, lane, self.queue.rows_of(range), deadline)) {
                    return Some((range, position));
                }
                continue;
            }
            let most = (1..=limit.min(lane.best.0)).rev().find(|&rows| elsa.has_slack(now, lane, rows, deadline));
            rows -= u64::from(most.unwrap_or(0));
            if rows == 0 {
                return None;
            }
        }
        let limit = rows.min(u64::from(self.config.max_batch.max(1))) as u32;
        let taking = order.into_iter().filter(|&position| self.lanes[position].takes());
        let batches = taking.filter_map(|position| Some((self.batch_for(now, &self.lanes[position], limit)?, position)));
        batches.min_by_key(|((end, _), _)| *end).map(|((_, range), position)| (range, position))
    }
}
