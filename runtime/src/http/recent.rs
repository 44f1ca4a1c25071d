//! Requests that were answered and whose labels may still come, by the ids that the clients gave them.
//!
//! Knows nothing of HTTP. Bounded by bytes and by age: the oldest go.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

/// How a tenant's requests are remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remember {
    /// Longest time from the answer to the label.
    pub age: Duration,
    /// Most memory.
    pub bytes: usize,
    /// Whether the inputs are kept too, so that a labelled request becomes a sample.
    pub features: bool,
}

/// What an entry takes beside its id and its rows.
const OVERHEAD: usize = 160;

/// Answered requests of one tenant, oldest first.
#[derive(Debug)]
pub(crate) struct Recent {
    pub how: Remember,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Number of the newest request of an id.
    by_id: HashMap<Arc<str>, u64>,
    entries: VecDeque<Entry>,
    /// Number of the first entry.
    first: u64,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    id: Arc<str>,
    at: Instant,
    version: u32,
    rows: Vec<Row>,
    labelled: bool,
    bytes: usize,
}

/// A row that was answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    /// The class that came out on top.
    pub answered: u32,
    /// Its inputs, where they are kept.
    pub features: Option<Bytes>,
}

/// What is known of a request that is to be labelled.
#[derive(Debug, PartialEq)]
pub(crate) enum Found {
    /// It is labelled from now on, unless it is [given back](Recent::give_back).
    Taken(Answered),
    /// It was answered with another number of rows.
    Rows(usize),
    /// It has its label already.
    Labelled,
    /// No request of this id is remembered.
    Unknown,
}

/// An answered request.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answered {
    /// Tells it from others of the same id.
    number: u64,
    /// Version that answered.
    pub version: u32,
    /// Its rows.
    pub rows: Vec<Row>,
}

impl Recent {
    pub fn new(how: Remember) -> Recent {
        Recent { how, inner: Mutex::default() }
    }

    /// A request was answered; one of the same id from before is forgotten.
    pub fn remember(&self, now: Instant, id: &str, version: u32, rows: Vec<Row>) {
        let kept: usize = rows.iter().map(|row| size_of::<Row>() + row.features.as_ref().map_or(0, Bytes::len)).sum();
        let bytes = OVERHEAD + id.len() + kept;
        let mut inner = self.lock();
        if bytes > self.how.bytes {
            // A label of this id must not go to the request before.
            if let Some(old) = inner.by_id.remove(id) {
                inner.empty(old);
            }
            return;
        }
        let id: Arc<str> = id.into();
        let number = inner.first + inner.entries.len() as u64;
        if let Some(old) = inner.by_id.insert(Arc::clone(&id), number) {
            inner.empty(old);
        }
        inner.bytes += bytes;
        inner.entries.push_back(Entry { id, at: now, version, rows, labelled: false, bytes });
        while inner.bytes > self.how.bytes || inner.entries.front().is_some_and(|oldest| self.expired(now, oldest)) {
            inner.forget_oldest();
        }
    }

    /// Takes what a label of `rows` rows needs.
    pub fn take(&self, now: Instant, id: &str, rows: usize) -> Found {
        let mut inner = self.lock();
        let Some(&number) = inner.by_id.get(id) else { return Found::Unknown };
        let Some(entry) = inner.entry(number).filter(|entry| !self.expired(now, entry)) else { return Found::Unknown };
        if entry.labelled {
            return Found::Labelled;
        }
        if entry.rows.len() != rows {
            return Found::Rows(entry.rows.len());
        }
        entry.labelled = true;
        let (version, rows) = (entry.version, std::mem::take(&mut entry.rows));
        inner.shrink(number);
        Found::Taken(Answered { number, version, rows })
    }

    /// What was taken could not be used: it may be labelled again.
    pub fn give_back(&self, taken: Answered) {
        let mut inner = self.lock();
        let Answered { number, rows, .. } = taken;
        let bytes: usize = rows.iter().map(|row| size_of::<Row>() + row.features.as_ref().map_or(0, Bytes::len)).sum();
        let Some(entry) = inner.entry(number).filter(|entry| entry.labelled) else { return };
        (entry.labelled, entry.rows) = (false, rows);
        entry.bytes += bytes;
        inner.bytes += bytes;
        while inner.bytes > self.how.bytes {
            inner.forget_oldest();
        }
    }

    /// Memory in use, bytes.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.lock().bytes
    }

    fn expired(&self, now: Instant, entry: &Entry) -> bool {
        now.saturating_duration_since(entry.at) > self.how.age
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    /// Gives up an entry's rows; its place stays until its turn comes.
    fn empty(&mut self, number: u64) {
        if let Some(entry) = self.entry(number) {
            (entry.rows, entry.labelled) = (Vec::new(), true);
        }
        self.shrink(number);
    }

    fn shrink(&mut self, number: u64) {
        let Some(entry) = self.entry(number) else { return };
        let bytes = OVERHEAD + entry.id.len();
        let freed = std::mem::replace(&mut entry.bytes, bytes).saturating_sub(bytes);
        self.bytes -= freed;
    }

    fn forget_oldest(&mut self) {
        let Some(entry) = self.entries.pop_front() else { return };
        self.bytes -= entry.bytes;
        if self.by_id.get(&entry.id) == Some(&self.first) {
            self.by_id.remove(&entry.id);
        }
        self.first += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recent(bytes: usize) -> (Recent, Instant) {
        (Recent::new(Remember { age: Duration::from_secs(60), bytes, features: true }), Instant::now())
    }

    fn rows(features: &[&'static [u8]]) -> Vec<Row> {
        let row = |(index, features): (usize, &&'static [u8])| Row { answered: index as u32, features: Some(Bytes::from_static(features)) };
        features.iter().enumerate().map(row).collect()
    }

    fn taken(found: Found) -> Answered {
        match found {
            Found::Taken(answered) => answered,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_labelled_once_and_by_its_newest_inputs() {
        let (recent, now) = recent(1 << 20);
        recent.remember(now, "a", 1, rows(&[b"one"]));
        recent.remember(now, "b", 1, rows(&[b"two", b"three"]));
        recent.remember(now, "a", 2, rows(&[b"four"]));
        let a = taken(recent.take(now, "a", 1));
        assert_eq!((a.version, a.rows), (2, rows(&[b"four"])));
        assert_eq!((recent.take(now, "a", 1), recent.take(now, "c", 1)), (Found::Labelled, Found::Unknown));
        assert_eq!(recent.take(now, "b", 1), Found::Rows(2));
        assert_eq!(taken(recent.take(now, "b", 2)).rows.len(), 2);
    }

    #[test]
    fn what_could_not_be_used_is_given_back() {
        let (recent, now) = recent(1 << 20);
        recent.remember(now, "a", 1, rows(&[b"one"]));
        let before = recent.bytes();
        let a = taken(recent.take(now, "a", 1));
        assert!(recent.bytes() < before);
        recent.give_back(a.clone());
        assert_eq!((recent.bytes(), recent.take(now, "a", 1)), (before, Found::Taken(a)));
    }

    #[test]
    fn the_oldest_are_forgotten_by_bytes_and_nothing_is_left_of_them() {
        let (recent, now) = recent(100 * (OVERHEAD + 3 + size_of::<Row>() + 10));
        for number in 0..250 {
            recent.remember(now, &format!("{number:03}"), 1, rows(&[b"0123456789"]));
        }
        assert_eq!(recent.take(now, "149", 1), Found::Unknown);
        taken(recent.take(now, "150", 1));
        assert_eq!(recent.lock().by_id.len(), 100);
        recent.remember(now, "huge", 1, vec![Row { answered: 0, features: Some(Bytes::from(vec![0; 1 << 20])) }]);
        assert_eq!(recent.take(now, "huge", 1), Found::Unknown, "what does not fit at all drives nothing out");
        taken(recent.take(now, "151", 1));
        let mut inner = recent.lock();
        while !inner.entries.is_empty() {
            inner.forget_oldest();
        }
        assert_eq!((inner.bytes, inner.by_id.len()), (0, 0));
    }

    #[test]
    fn a_request_that_is_not_remembered_is_not_taken_for_the_one_before_it() {
        let (recent, now) = recent(1000);
        recent.remember(now, "a", 1, rows(&[b"one"]));
        recent.remember(now, "a", 2, vec![Row { answered: 0, features: Some(Bytes::from(vec![0; 1000])) }]);
        assert_eq!(recent.take(now, "a", 1), Found::Unknown);
        recent.remember(now, "a", 3, rows(&[b"two"]));
        assert_eq!(taken(recent.take(now, "a", 1)).version, 3);
    }

    #[test]
    fn an_id_that_is_used_again_and_again_takes_no_more_than_its_bound() {
        let (recent, now) = recent(10_000);
        (0..10_000).for_each(|_| recent.remember(now, "same", 1, rows(&[b"0123456789"])));
        assert!(recent.bytes() <= 10_000 && recent.lock().entries.len() < 100);
        taken(recent.take(now, "same", 1));
    }

    #[test]
    fn the_old_are_unknown_and_go_with_the_next_request() {
        let (recent, now) = recent(1 << 20);
        recent.remember(now, "a", 1, rows(&[b"one"]));
        let later = now + Duration::from_secs(61);
        assert_eq!(recent.take(later, "a", 1), Found::Unknown);
        recent.remember(later, "b", 1, rows(&[b"two"]));
        assert_eq!(recent.lock().entries.len(), 1);
        assert_eq!(recent.lock().by_id.len(), 1);
        taken(recent.take(now + Duration::from_secs(60 + 61), "b", 1));
    }
}
