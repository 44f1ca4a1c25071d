//! L(μ), its slope, and the search for its lowest value.

use super::bundle::{Choice, cost};
use super::cover::Cover;
use super::{Buyer, Room};

/// How far below the best value the steps aim, as a share of it, in the first iteration.
const FIRST_AIM: f64 = 0.1;
/// The same in the last.
const LAST_AIM: f64 = 2e-5;
/// Weight of the newest slope in the direction (`reference/ilp.md` section 3, item 3).
const NEW_SLOPE: f64 = 0.6;
/// Iterations without a lower value before the search goes back to the best prices.
const PATIENCE: u32 = 12;

/// The dual function.
pub(crate) struct Dual {
    room: Room,
    buyers: Vec<Buyer>,
    seconds: usize,
    /// μ by second and row.
    prices: Vec<f64>,
    /// Room taken at the prices, by second and row.
    used: Vec<f64>,
    /// Scratch: value and choice by second, before and after retraining.
    best: [Vec<(f64, Choice)>; 2],
}

impl Dual {
    pub fn new(room: Room, buyers: Vec<Buyer>, seconds: usize) -> Dual {
        let cells = seconds * room.most.len();
        let none = vec![(0.0, Choice::Part(0, 0.0)); seconds];
        Dual { room, buyers, seconds, prices: vec![0.0; cells], used: vec![0.0; cells], best: [none.clone(), none] }
    }

    fn rows(&self) -> usize {
        self.room.most.len()
    }

    /// L at the prices, and what would be taken there.
    pub fn value(&mut self) -> f64 {
        let rows = self.rows();
        self.used.fill(0.0);
        let mut sum: f64 = self.prices.chunks(rows).map(|prices| cost(prices, &self.room.most)).sum();
        let buyers = std::mem::take(&mut self.buyers);
        for buyer in &buyers {
            sum += self.buy(buyer);
        }
        self.buyers = buyers;
        sum
    }

    fn buy(&mut self, buyer: &Buyer) -> f64 {
        let rows = self.rows();
        for (best, worth) in self.best.iter_mut().zip(buyer.worth) {
            for (t, best) in best.iter_mut().enumerate() {
                *best = buyer.offer.best(&self.room, &self.prices[t * rows..][..rows], buyer.arrivals[t], worth);
            }
        }
        let (value, end) = self.best_end(buyer);
        for t in 0..self.seconds {
            let choice = self.best[usize::from(end.is_some_and(|end| t >= end))][t].1;
            buyer.offer.add(&self.room, choice, &mut self.used[t * rows..][..rows]);
        }
        if let Some(end) = end {
            self.train(buyer, end);
        }
        value
    }

    /// The best second for the retraining to end in, `None` = never, and the value with it.
    fn best_end(&self, buyer: &Buyer) -> (f64, Option<usize>) {
        let never: f64 = self.best[0].iter().map(|best| best.0).sum();
        let mut found = (never, None);
        if buyer.speeds.is_empty() {
            return found;
        }
        let (mut before, mut after): (f64, f64) = (0.0, self.best[1].iter().map(|best| best.0).sum());
        let mut cover = Cover::default();
        for t in 0..self.seconds {
            cover.add(t, &buyer.speeds, &self.costs(t));
            // The second in which it ends is counted in full.
            let value = cover.cost().map(|cost| before + after - cost);
            if let Some(value) = value.filter(|&value| value > found.0) {
                found = (value, Some(t));
            }
            before += self.best[0][t].0;
            after -= self.best[1][t].0;
        }
        found
    }

    fn costs(&self, t: usize) -> Vec<f64> {
        let prices = &self.prices[t * self.rows()..][..self.rows()];
        self.room.kinds.iter().map(|alpha| cost(prices, alpha)).collect()
    }

    /// Adds the room of the cheapest cover up to `end`.
    fn train(&mut self, buyer: &Buyer, end: usize) {
        let rows = self.rows();
        let mut cover = Cover::default();
        for t in 0..=end {
            cover.add(t, &buyer.speeds, &self.costs(t));
        }
        for (part, share) in cover.parts() {
            let used = &mut self.used[part.second * rows..][..rows];
            for (row, used) in used.iter_mut().enumerate() {
                let left = part.from.map_or(0.0, |kind| self.room.kinds[kind][row]);
                *used += share * (self.room.kinds[part.to][row] - left);
            }
        }
    }

    /// The lowest L found: subgradient steps, deflected, of the length Polyak gives for an aim a little below the best.
    pub fn lowest(mut self, iterations: u32) -> f64 {
        let mut best = self.value();
        let (mut best_prices, mut stalled) = (self.prices.clone(), 0);
        let mut direction = vec![0.0; self.prices.len()];
        let mut value = best;
        for iteration in 0..iterations {
            let below = FIRST_AIM * (LAST_AIM / FIRST_AIM).powf(f64::from(iteration) / f64::from(iterations));
            let step = (value - best * (1.0 - below)) / self.deflect(&mut direction).max(1e-12);
            for (price, slope) in self.prices.iter_mut().zip(&direction) {
                *price = (*price - step * slope).max(0.0);
            }
            value = self.value();
            stalled += 1;
            if value < best {
                (best, stalled) = (value, 0);
                best_prices.clone_from(&self.prices);
            } else if stalled == PATIENCE {
                stalled = 0;
                self.prices.clone_from(&best_prices);
                direction.fill(0.0);
                value = self.value();
            }
        }
        best
    }

    /// Turns `direction` towards the slope at the prices; its squared length.
    fn deflect(&self, direction: &mut [f64]) -> f64 {
        let rows = self.rows();
        let mut length = 0.0;
        for (cell, old) in direction.iter_mut().enumerate() {
            let slope = self.room.most[cell % rows] - self.used[cell];
            // A price cannot fall below nothing.
            let slope = if self.prices[cell] <= 0.0 { slope.min(0.0) } else { slope };
            *old = NEW_SLOPE * slope + (1.0 - NEW_SLOPE) * *old;
            length += *old * *old;
        }
        length
    }
}
