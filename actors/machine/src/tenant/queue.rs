//! Requests that wait, earliest deadline first.

use std::collections::VecDeque;
use std::ops::Range;

use super::types::RequestId;
use crate::Time;

/// A request that waits or is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub id: RequestId,
    pub rows: u32,
    pub arrived: Time,
    /// An answer after this is late.
    pub due: Time,
    /// After this it is worth nothing.
    pub deadline: Time,
    /// Whether its worker died once already.
    pub retried: bool,
}

/// By deadline, equal deadlines in the order they came. With one SLO for all, a push is at the back.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    rows: u64,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Rows of all that wait.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows of those that would go before a request of this deadline.
    pub fn rows_before(&self, deadline: Time) -> u64 {
        let position = self.waiting.partition_point(|w| w.deadline <= deadline);
        if position == self.waiting.len() {
            return self.rows;
        }
        self.waiting.iter().take(position).map(|w| u64::from(w.rows)).sum()
    }

    pub fn push(&mut self, request: Waiting) {
        self.rows += u64::from(request.rows);
        let position = self.waiting.partition_point(|w| w.deadline <= request.deadline);
        self.waiting.insert(position, request);
    }

    pub fn head(&self) -> Option<&Waiting> {
        self.waiting.front()
    }

    pub fn pop(&mut self) -> Option<Waiting> {
        let head = self.waiting.pop_front()?;
        self.rows -= u64::from(head.rows);
        Some(head)
    }

    /// Requests of the largest batch of at most `limit` rows whose first request is the earliest that `fits` alone, and which as a
    /// whole `ends` before that request's deadline. None with a deadline before `earliest` fits.
    pub fn pick(&self, limit: u32, earliest: Time, fits: impl Fn(&Waiting) -> bool, ends: impl Fn(u32) -> Time) -> Option<Range<usize>> {
        let hopeless = self.waiting.partition_point(|w| w.deadline < earliest);
        let (from, first) = self.waiting.iter().enumerate().skip(hopeless).find(|(_, w)| fits(w))?;
        let mut rows = first.rows;
        let mut to = from + 1;
        while let Some(next) = self.waiting.get(to) {
            if rows + next.rows > limit || ends(rows + next.rows) > first.deadline {
                break;
            }
            rows += next.rows;
            to += 1;
        }
        Some(from..to)
    }

    /// Rows of a range given by [`Queue::pick`].
    pub fn rows_of(&self, range: &Range<usize>) -> u32 {
        self.waiting.range(range.clone()).map(|w| w.rows).sum()
    }

    /// Moves a range into `batch`.
    pub fn take(&mut self, range: Range<usize>, batch: &mut Vec<Waiting>) {
        batch.extend(self.waiting.drain(range));
        self.rows -= batch.iter().map(|w| u64::from(w.rows)).sum::<u64>();
    }

    /// Whether the order is right.
    pub fn sorted(&self) -> bool {
        self.waiting.iter().zip(self.waiting.iter().skip(1)).all(|(a, b)| a.deadline <= b.deadline)
    }

    /// Whether the count of rows is right.
    pub fn counted(&self) -> bool {
        self.rows == self.waiting.iter().map(|w| u64::from(w.rows)).sum::<u64>()
    }

    /// Requests that lost a worker once.
    pub fn retried(&self) -> usize {
        self.waiting.iter().filter(|w| w.retried).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(id: u64, rows: u32, deadline: u64) -> Waiting {
        Waiting { id: RequestId(id), rows, arrived: Time(0), due: Time(deadline), deadline: Time(deadline), retried: false }
    }

    fn queue(requests: &[(u64, u32, u64)]) -> Queue {
        let mut queue = Queue::default();
        for &(id, rows, deadline) in requests {
            queue.push(waiting(id, rows, deadline));
        }
        queue
    }

    #[test]
    fn the_earliest_deadline_is_first_and_equal_ones_stay_in_order() {
        let mut queue = queue(&[(1, 1, 50), (2, 1, 40), (3, 1, 50), (4, 1, 40)]);
        assert!(queue.sorted());
        let order: Vec<u64> = std::iter::from_fn(|| queue.pop()).map(|w| w.id.0).collect();
        assert_eq!(order, [2, 4, 1, 3]);
        assert_eq!(queue.rows(), 0);
    }

    #[test]
    fn a_batch_is_as_large_as_its_first_deadline_allows() {
        let queue = queue(&[(1, 1, 30), (2, 2, 50), (3, 4, 60), (4, 1, 60)]);
        let ends = |rows: u32| Time(u64::from(rows) * 8);
        assert_eq!(queue.pick(16, Time(0), |_| true, ends), Some(0..2));
        assert_eq!(queue.pick(16, Time(55), |_| true, ends), Some(2..4));
        assert_eq!(queue.pick(2, Time(0), |_| true, ends), Some(0..1));
        assert_eq!(queue.pick(16, Time(0), |_| false, ends), None);
    }

    #[test]
    fn rows_are_counted_through_every_change() {
        let mut queue = queue(&[(1, 1, 30), (2, 2, 50), (3, 4, 60)]);
        assert_eq!((queue.rows(), queue.rows_before(Time(50)), queue.rows_before(Time(99))), (7, 3, 7));
        let mut batch = Vec::new();
        queue.take(1..3, &mut batch);
        assert_eq!((queue.rows(), batch.len(), queue.len()), (1, 2, 1));
        assert!(queue.counted());
    }
}
