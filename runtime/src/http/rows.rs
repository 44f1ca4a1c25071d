//! How many rows one body may bring: what is labelled is evaluated and stored as one, and others wait meanwhile.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, SeqAccess, Visitor};

/// Most labelled rows of one body: stored in about a second where they have 64 numbers each.
pub(super) const MOST_ROWS: usize = 50_000;

/// One line for a body of more.
pub(super) fn too_many() -> String {
    format!("more than {MOST_ROWS} rows: a body takes 1 to {MOST_ROWS}; send several")
}

/// A list of at most [`MOST_ROWS`] entries; parsing ends with the first beyond them.
pub(super) fn list<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    deserializer.deserialize_seq(List(PhantomData))
}

struct List<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
        let mut all = Vec::new();
        while let Some(one) = seq.next_element()? {
            if all.len() == MOST_ROWS {
                return Err(A::Error::custom(too_many()));
            }
            all.push(one);
        }
        Ok(all)
    }
}
