//! L(μ, θ), its slope, and the search for its lowest value.

use super::Room;
use super::bundle::cost;
use super::buyer::{Buyer, Segment};
use super::walk::{Done, Market, Walk};

/// How far below the best value the steps aim, as a share of it, in the first iteration.
const FIRST_AIM: f64 = 0.1;
/// The same in the last.
const LAST_AIM: f64 = 2e-5;
/// Weight of the newest slope in the direction (`reference/ilp.md` section 3, item 3).
const NEW_SLOPE: f64 = 0.6;
/// Iterations without a lower value before the search goes back to the best prices.
const PATIENCE: u32 = 12;
/// Step of θ against its slope over the second's requests, in the first iteration and in the last.
const SHORTAGE_STEPS: (f64, f64) = (0.3, 0.01);
/// Weight of the newest answers in what is remembered of them.
const NEW_ANSWERS: f64 = 0.02;

/// The dual function.
pub(crate) struct Dual {
    room: Room,
    buyers: Vec<Buyer>,
    segments: Vec<Vec<Segment>>,
    /// μ by second and row.
    prices: Vec<f64>,
    /// Room taken at the prices, by second and row.
    used: Vec<f64>,
    /// θ by buyer and second, and L's slope by it over the worth of an answer.
    shortage: Vec<Vec<f64>>,
    bends: Vec<Vec<f64>>,
    /// Good answers by buyer, over the last prices.
    answers: Vec<f64>,
    walk: Walk,
}

impl Dual {
    pub fn new(room: Room, buyers: Vec<Buyer>, seconds: usize) -> Dual {
        let cells = seconds * room.most.len();
        // Where no request waits, θ = 1 says it all.
        let shortage: Vec<Vec<f64>> = buyers.iter().map(|_| vec![1.0; seconds]).collect();
        Dual {
            segments: buyers.iter().map(Buyer::segments).collect(),
            prices: vec![0.0; cells],
            used: vec![0.0; cells],
            bends: shortage.iter().map(|shortage| vec![0.0; shortage.len()]).collect(),
            answers: vec![0.0; buyers.len()],
            shortage,
            walk: Walk::default(),
            room,
            buyers,
        }
    }

    fn rows(&self) -> usize {
        self.room.most.len()
    }

    /// L at the prices, and what would be taken there.
    pub fn value(&mut self) -> f64 {
        self.used.fill(0.0);
        let mut sum: f64 = self.prices.chunks(self.room.most.len()).map(|prices| cost(prices, &self.room.most)).sum();
        for (index, buyer) in self.buyers.iter().enumerate() {
            let (bends, patience) = (&mut self.bends[index], buyer.patience.seconds);
            let shortage = &self.shortage[index];
            bends.fill(0.0);
            let mut answers = 0.0;
            let market = Market { room: &self.room, prices: &self.prices, shortage };
            sum += self.walk.best(buyer, &self.segments[index], market, &mut self.used, |done: Done| {
                let (own, late) = done.rush.split(done.deal.rps);
                answers += done.worth * (own + late);
                bends[done.second] += own - done.rush.arrivals;
                if late > 0.0 {
                    let before = done.second.saturating_sub(patience)..done.second;
                    let dearest = before.max_by(|a, b| shortage[*a].total_cmp(&shortage[*b]));
                    dearest.into_iter().for_each(|second| bends[second] += late);
                }
            });
            self.answers[index] += NEW_ANSWERS * (answers - self.answers[index]);
        }
        sum
    }

    /// The lowest L found: subgradient steps, deflected, of the length Polyak gives for an aim a little below the best.
    pub fn lowest(&mut self, iterations: u32) -> f64 {
        let mut best = self.value();
        let (mut best_prices, mut stalled) = (self.prices.clone(), 0);
        let mut direction = vec![0.0; self.prices.len()];
        let mut value = best;
        for iteration in 0..iterations {
            let along = f64::from(iteration) / f64::from(iterations);
            let below = FIRST_AIM * (LAST_AIM / FIRST_AIM).powf(along);
            let step = (value - best * (1.0 - below)) / self.deflect(&mut direction).max(1e-12);
            for (price, slope) in self.prices.iter_mut().zip(&direction) {
                *price = (*price - step * slope).max(0.0);
            }
            self.bend(SHORTAGE_STEPS.0 * (SHORTAGE_STEPS.1 / SHORTAGE_STEPS.0).powf(along));
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

    /// Good answers by buyer near the lowest value, an average over the last prices.
    pub fn answers(&self) -> &[f64] {
        &self.answers
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

    /// Moves every θ of those that may wait against its slope.
    fn bend(&mut self, step: f64) {
        let waiting = self.buyers.iter().map(|buyer| buyer.patience.seconds > 0);
        for (((buyer, shortage), bends), _) in
            self.buyers.iter().zip(&mut self.shortage).zip(&self.bends).zip(waiting).filter(|(_, waits)| *waits)
        {
            for ((theta, bend), arrivals) in shortage.iter_mut().zip(bends).zip(&buyer.arrivals) {
                *theta = (*theta - step * bend / arrivals.max(1.0)).clamp(0.0, 1.0);
            }
        }
    }
}
