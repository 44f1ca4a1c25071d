//! One tenant's requests, as they arrive: counts per second, spread within the second by chance, or at moments that are given.

use migrator_machine::Time;

use crate::dice::Dice;

const SECOND_US: u64 = 1_000_000;

/// Arrivals to come; holds no more than one second of them.
#[derive(Debug)]
pub(crate) struct Incoming<'a> {
    counts: &'a [u32],
    /// The very moments; empty = drawn from the counts.
    moments: &'a [Time],
    dice: Dice,
    /// Second that `offsets` are of.
    second: usize,
    /// Microseconds within it, ascending.
    offsets: Vec<u32>,
    cursor: usize,
}

impl<'a> Incoming<'a> {
    /// The arrivals of the first `seconds`.
    pub fn new(counts: &'a [u32], moments: &'a [Time], seconds: u64, dice: Dice) -> Incoming<'a> {
        let counts = &counts[..counts.len().min(usize::try_from(seconds).unwrap_or(usize::MAX))];
        let counts = if moments.is_empty() { counts } else { &[] };
        let moments = &moments[..moments.partition_point(|at| at.0 < seconds.saturating_mul(SECOND_US))];
        let mut incoming = Incoming { counts, moments, dice, second: 0, offsets: Vec::new(), cursor: 0 };
        incoming.draw();
        incoming
    }

    /// When the next one arrives.
    pub fn next(&self) -> Option<Time> {
        let moment = self.moments.get(self.cursor).copied();
        moment.or_else(|| self.drawn())
    }

    fn drawn(&self) -> Option<Time> {
        self.offsets.get(self.cursor).map(|&offset| Time(self.second as u64 * SECOND_US + u64::from(offset)))
    }

    /// It has arrived.
    pub fn advance(&mut self) {
        self.cursor += 1;
        if self.cursor >= self.offsets.len() && self.second < self.counts.len() {
            self.second += 1;
            self.draw();
        }
    }

    /// Nothing arrives any more.
    pub fn close(&mut self) {
        (self.counts, self.moments, self.cursor) = (&[], &[], 0);
        self.offsets.clear();
    }

    /// Draws the next second that has arrivals.
    fn draw(&mut self) {
        self.cursor = 0;
        self.offsets.clear();
        while let Some(0) = self.counts.get(self.second) {
            self.second += 1;
        }
        if let Some(&count) = self.counts.get(self.second) {
            let dice = &mut self.dice;
            self.offsets.extend((0..count).map(|_| dice.offset_us()));
            self.offsets.sort_unstable();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::Purpose;

    fn drained(counts: &[u32], seconds: u64) -> Vec<u64> {
        let mut incoming = Incoming::new(counts, &[], seconds, Dice::new(1, Purpose::Arrivals(0)));
        std::iter::from_fn(|| incoming.next().inspect(|_| incoming.advance())).map(|at| at.0).collect()
    }

    #[test]
    fn as_many_arrive_in_each_second_as_are_counted() {
        let counts = [0, 3, 0, 0, 100, 1, 0];
        let arrivals = drained(&counts, 7);
        assert!(arrivals.is_sorted());
        for (second, &count) in counts.iter().enumerate() {
            assert_eq!(arrivals.iter().filter(|&&at| at / SECOND_US == second as u64).count(), count as usize);
        }
    }

    #[test]
    fn moments_that_are_given_are_kept_whatever_the_counts() {
        let moments = [Time(5), Time(5), Time(1_999_999), Time(2_000_000)];
        let mut incoming = Incoming::new(&[9, 9], &moments, 2, Dice::new(1, Purpose::Arrivals(0)));
        let arrived: Vec<Time> = std::iter::from_fn(|| incoming.next().inspect(|_| incoming.advance())).collect();
        assert_eq!(arrived, moments[..3]);
    }

    #[test]
    fn what_lies_beyond_the_end_never_arrives() {
        assert_eq!(drained(&[1, 2, 3], 2).len(), 3);
        assert!(drained(&[], 5).is_empty() && drained(&[0, 0], 5).is_empty());
    }
}
