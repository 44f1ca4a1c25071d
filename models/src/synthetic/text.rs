//! Short texts of 6 classes: a class is a set of topic words, and each topic word is replaced by a new one every few windows.
//!
//! Words come from a fixed vocabulary, and every text carries some that are nobody's topic at the moment: a tokenizer trained on the
//! first texts has seen tomorrow's topics, a classifier has learned nothing from them.

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::noise::mix;
use super::vocabulary::{COMMON, TOPIC};
use crate::reader::{Features, Row};

pub(super) const CLASSES: usize = 6;

/// Topic words of a class at any time.
const TOPICS: usize = 6;
const SLOTS: usize = CLASSES * TOPICS;
/// Windows that a word stays a topic; words of one class change one after the other.
const LIFE: f64 = 3.0;
/// Words of a text that are topics of its class, of another class, nobody's, and common.
const OWN: usize = 4;
const FOREIGN: usize = 1;
const NOBODYS: usize = 3;
const FILLERS: usize = 4;

/// The concept.
#[derive(Clone, Debug)]
pub(super) struct Text {
    /// The vocabulary in the order in which words become topics.
    order: Vec<&'static str>,
}

impl Text {
    pub(super) fn new(seed: u64) -> Self {
        let mut order = TOPIC.to_vec();
        order.shuffle(&mut StdRng::seed_from_u64(mix(&[seed, 0x7e_8700])));
        Text { order }
    }

    pub(super) fn sample(&self, drift: f64, rng: &mut impl Rng) -> Row {
        let label = rng.random_range(0..CLASSES);
        let mut words = Vec::with_capacity(OWN + FOREIGN + NOBODYS + FILLERS);
        words.extend((0..OWN).map(|_| self.topic(label, drift, rng)));
        for _ in 0..FOREIGN {
            let other = (label + rng.random_range(1..CLASSES)) % CLASSES;
            words.push(self.topic(other, drift, rng));
        }
        words.extend((0..NOBODYS).map(|_| self.nobodys(drift, rng)));
        words.extend((0..FILLERS).map(|_| COMMON[rng.random_range(0..COMMON.len())]));
        words.shuffle(rng);
        Row { features: Features::Text(words.join(" ")), label: label as u32 }
    }

    fn topic(&self, class: usize, drift: f64, rng: &mut impl Rng) -> &'static str {
        self.order[place(class + CLASSES * rng.random_range(0..TOPICS), drift, self.order.len())]
    }

    /// A word that is nobody's topic now.
    fn nobodys(&self, drift: f64, rng: &mut impl Rng) -> &'static str {
        loop {
            let candidate = rng.random_range(0..self.order.len());
            if (0..SLOTS).all(|slot| place(slot, drift, self.order.len()) != candidate) {
                return self.order[candidate];
            }
        }
    }
}

/// Index of the word that holds `slot`. Slot `c + 6 i` is the i-th topic of class c; its turn comes i sixths of a life into each life.
/// After the whole vocabulary has had its turn everything moves on by one, so that a word returns as a topic of another class.
fn place(slot: usize, drift: f64, words: usize) -> usize {
    let phase = (slot / CLASSES) as f64 / TOPICS as f64;
    let turn = slot + SLOTS * (drift / LIFE + phase) as usize;
    (turn + turn / words) % words
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_vocabulary_has_no_word_twice_and_fills_whole_rounds() {
        let all: BTreeSet<&str> = TOPIC.iter().chain(&COMMON).copied().collect();
        assert_eq!(all.len(), TOPIC.len() + COMMON.len());
        assert_eq!(TOPIC.len() % SLOTS, 0);
    }

    #[test]
    fn no_word_is_the_topic_of_two_slots_at_once() {
        for step in 0..400 {
            let drift = f64::from(step) * 0.1;
            let places: BTreeSet<usize> = (0..SLOTS).map(|slot| place(slot, drift, TOPIC.len())).collect();
            assert_eq!(places.len(), SLOTS, "drift {drift}");
        }
    }

    #[test]
    fn all_topics_of_a_class_have_changed_after_one_life() {
        let topics = |drift| (0..TOPICS).map(|i| place(2 + CLASSES * i, drift, TOPIC.len())).collect::<BTreeSet<_>>();
        assert!(topics(0.4).is_disjoint(&topics(0.4 + LIFE)));
        assert_eq!(topics(0.4).intersection(&topics(1.4)).count(), 4);
    }
}
