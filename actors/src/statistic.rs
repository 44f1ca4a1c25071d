//! What a tenant has answered since the start, as the Open Inference Protocol's statistics extension tells it.
//!
//! Counts run on across versions, plans and lost workers.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often something happened and how long it took in all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// Times.
    pub count: u64,
    /// Nanoseconds, summed.
    pub ns: u64,
}

impl Total {
    /// `count` more that took `took` each.
    pub fn add(&mut self, count: u64, took: Duration) {
        self.count += count;
        self.ns = self.ns.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).saturating_mul(count));
    }

    /// `count` more that took `took` together.
    pub fn add_sum(&mut self, count: u64, took: Duration) {
        self.count += count;
        self.ns = self.ns.saturating_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }
}

/// Batches of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchTotal {
    /// Their way to the worker and their wait for an executor there.
    pub carried: Total,
    /// Their answers' way back.
    pub returned: Total,
    /// Their computation.
    pub computed: Total,
}

/// A tenant's counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Unix milliseconds of the last batch; 0 = none yet.
    pub last_ms: u64,
    /// Rows answered.
    pub rows: u64,
    /// Batches computed.
    pub batches: u64,
    /// Requests answered, from arrival to answer.
    pub success: Total,
    /// Requests shed, by the reason's words, from arrival to refusal.
    pub shed: BTreeMap<&'static str, Total>,
    /// Requests that failed in a worker, from arrival to answer.
    pub failed: Total,
    /// From arrival to dispatch, of the requests answered.
    pub waited: Total,
    /// The same as [`BatchTotal::carried`], once for each request of a batch.
    pub carried: Total,
    /// The same as [`BatchTotal::returned`], once for each request of a batch.
    pub returned: Total,
    /// The same as [`BatchTotal::computed`], once for each request of a batch.
    pub computed: Total,
    /// By rows.
    pub by_size: BTreeMap<u32, BatchTotal>,
}

impl Counts {
    /// Requests that got no answer.
    pub fn refused(&self) -> Total {
        let mut all = self.failed;
        for shed in self.shed.values() {
            all.count += shed.count;
            all.ns = all.ns.saturating_add(shed.ns);
        }
        all
    }
}

/// A batch that came back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Batch {
    /// Requests in it.
    pub requests: u64,
    /// Rows in it.
    pub rows: u32,
    /// What its requests waited before it was sent, summed.
    pub waited: Duration,
    /// From sending to the begin of the computation.
    pub carried: Duration,
    /// From the end of the computation to the answer's arrival.
    pub returned: Duration,
    /// The computation.
    pub computed: Duration,
    /// Unix milliseconds of its answer.
    pub at_ms: u64,
}

/// Written by the tenant's actor, read by the front; nobody holds it for longer than it takes to add or to copy.
#[derive(Debug, Default)]
pub struct Statistics(Mutex<Counts>);

impl Statistics {
    /// The counts now.
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn with(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn batch(&self, batch: Batch) {
        self.with(|counts| {
            counts.last_ms = batch.at_ms;
            counts.rows += u64::from(batch.rows);
            counts.batches += 1;
            counts.waited.add_sum(batch.requests, batch.waited);
            counts.carried.add(batch.requests, batch.carried);
            counts.returned.add(batch.requests, batch.returned);
            counts.computed.add(batch.requests, batch.computed);
            let size = counts.by_size.entry(batch.rows).or_default();
            size.carried.add(1, batch.carried);
            size.returned.add(1, batch.returned);
            size.computed.add(1, batch.computed);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_counts_for_each_of_its_requests_and_once_for_its_size() {
        let statistics = Statistics::default();
        let ms = Duration::from_millis;
        let batch = Batch { requests: 3, rows: 4, waited: ms(6), carried: ms(1), returned: ms(3), computed: ms(2), at_ms: 9 };
        statistics.batch(batch);
        statistics.batch(Batch { rows: 1, requests: 1, at_ms: 10, ..batch });
        let counts = statistics.counts();
        assert_eq!((counts.last_ms, counts.rows, counts.batches), (10, 5, 2));
        assert_eq!(counts.waited, Total { count: 4, ns: 12_000_000 });
        assert_eq!(counts.computed, Total { count: 4, ns: 8_000_000 });
        assert_eq!(counts.by_size[&4].carried, Total { count: 1, ns: 1_000_000 });
        assert_eq!((counts.returned.ns, counts.by_size[&1].returned.ns), (12_000_000, 3_000_000));
        assert_eq!(counts.by_size.len(), 2);
    }

    #[test]
    fn what_got_no_answer_is_summed_over_the_reasons() {
        let mut counts = Counts::default();
        counts.failed.add(1, Duration::from_nanos(5));
        counts.shed.entry("queue full").or_default().add(2, Duration::from_nanos(3));
        assert_eq!(counts.refused(), Total { count: 3, ns: 11 });
    }
}
