//! What happens, in the order of time and, at one time, in the order it was arranged.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use migrator_machine::migration::{MigrationReport, StepError};
use migrator_machine::tenant::BatchId;
use migrator_machine::time::Time;
use migrator_solver::{Generation, InstanceId, Outcome, SiteKey, Target, Task};

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A second begins.
    Second,
    /// Labels of the second that ended half a second ago come back.
    Labels,
    /// A solve is over.
    Solved(Box<(Generation, Result<Outcome, String>)>),
    /// A migration is over.
    Migrated(Box<MigrationReport>),
    /// A step is over.
    Step { id: usize, done: Done },
    /// A worker is through with a batch.
    Batch { tenant: usize, lane: InstanceId, worker: u64, batch: BatchId, version: u32, compute_us: u64 },
    /// A lane's worker has loaded a version beside the one it serves.
    Upgraded { tenant: usize, lane: InstanceId, worker: u64, version: u32 },
    /// Every lane serves the new version.
    Swapped { tenant: usize },
    /// A data set is written.
    Exported { tenant: usize },
    /// A new version is in the store.
    Published { tenant: usize },
    /// A retraining's worker tells something; ignored when it is of an earlier start.
    Training { tenant: usize, serial: u64, news: News },
    /// A worker that hung is dead.
    Killed { instance: InstanceId, task: Task },
    /// A worker that died is to be started again.
    Restart { instance: InstanceId, task: Task },
    /// It is loaded and bound.
    Restarted { instance: InstanceId, task: Task, version: u32 },
    /// It has lived a while.
    Settled { instance: InstanceId, worker: u64 },
    /// Something goes wrong: index of [`Setup::faults`](crate::setup::Setup::faults).
    Fault(usize),
}

/// How a step ended.
#[derive(Debug)]
pub(crate) enum Done {
    Staged { target: Target, task: Task, version: u32 },
    Created { key: SiteKey },
    Destroyed { instance: InstanceId },
    Drained,
    Released,
    Bound { instance: InstanceId, task: Task, version: u32 },
    Admitted { instance: InstanceId, task: Task },
    Failed(StepError),
}

/// What a retraining's worker tells.
#[derive(Clone, Copy, Debug)]
pub(crate) enum News {
    /// It goes on, or is through with its steps.
    Progress,
    /// It wrote its checkpoint and stopped.
    Paused,
    /// It has validated both versions.
    Trained,
}

/// Events to come.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    heap: BinaryHeap<Entry>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry {
    at: Time,
    sequence: u64,
    event: Event,
}

impl Queue {
    pub fn push(&mut self, at: Time, event: Event) {
        self.sequence += 1;
        self.heap.push(Entry { at, sequence: self.sequence, event });
    }

    /// When the next one is.
    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|entry| entry.at)
    }

    pub fn pop(&mut self) -> Option<(Time, Event)> {
        self.heap.pop().map(|entry| (entry.at, entry.event))
    }
}

impl Ord for Entry {
    /// The heap gives its largest first.
    fn cmp(&self, other: &Entry) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Entry) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Entry) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_as_they_were_arranged() {
        let mut queue = Queue::default();
        for (at, fault) in [(5, 0), (3, 1), (5, 2), (3, 3)] {
            queue.push(Time(at), Event::Fault(fault));
        }
        assert_eq!(queue.next(), Some(Time(3)));
        let order: Vec<usize> = std::iter::from_fn(|| queue.pop())
            .map(|(_, event)| match event {
                Event::Fault(fault) => fault,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(order, [1, 3, 0, 2]);
    }
}
