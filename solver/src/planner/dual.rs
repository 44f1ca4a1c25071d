//! Prices of room: the Lagrangian bound and its subgradient (`reference/ilp.md` section 3, item 3).

use crate::planner::price::{Column, Limits, Market, Scratch, add_room, best};
use crate::planner::table::Table;

/// Prices by block and row, and what they prove.
pub(crate) struct Dual {
    pub rows: usize,
    /// Right sides: [block][row].
    pub most: Vec<i32>,
    /// Seconds by block.
    pub seconds: Vec<f64>,
    /// μ: [block][row], weighted answers per unit of the row for the whole block.
    pub prices: Vec<f32>,
    /// The least bound proven, and the prices that prove it.
    pub bound: f64,
    pub best: Vec<f32>,
    direction: Vec<f64>,
    step: f64,
    stalled: u32,
}

impl Dual {
    pub fn new(rows: usize, most: Vec<i32>, seconds: Vec<f64>, prices: Vec<f32>) -> Dual {
        let direction = vec![0.0; prices.len()];
        Dual { rows, most, seconds, best: prices.clone(), prices, bound: f64::INFINITY, direction, step: 1.0, stalled: 0 }
    }

    /// (L) L(μ) = Σ_bk μ_bk h_k|G| + Σ_i max_p [V_i(p) − μ · room(p)], an upper bound for every μ ≥ 0; each tenant's best plans.
    pub fn price(&mut self, tables: &[Table], limits: &[Limits], scratch: &mut Scratch) -> (f64, Vec<Column>) {
        let mut bound: f64 = self.prices.iter().zip(&self.most).map(|(price, most)| f64::from(*price) * f64::from(*most)).sum();
        let mut columns = Vec::with_capacity(tables.len());
        for (tenant, table) in tables.iter().enumerate() {
            let market = Market { rows: self.rows, prices: &self.prices, left: None, limits: limits.get(tenant) };
            // Nothing at all always fits, unless a branching forbids it.
            let Some((value, column)) = best(table, market, scratch) else { continue };
            bound += value;
            columns.push(column);
        }
        self.stalled += 1;
        if bound < self.bound {
            if bound < self.bound - 1e-4 * bound.abs() {
                self.stalled = 0;
            }
            self.bound = bound;
            self.best.clone_from(&self.prices);
        }
        if self.stalled >= 5 {
            (self.step, self.stalled) = (0.6 * self.step, 0);
        }
        (bound, columns)
    }

    /// Deflected subgradient step of Polyak's length towards `target`, scaled by the blocks' lengths.
    pub fn step(&mut self, tables: &[Table], columns: &[Column], bound: f64, target: f64) {
        let mut left = self.most.clone();
        tables.iter().zip(columns).for_each(|(table, column)| add_room(table, column, self.rows, -1, &mut left));
        let mut norm = 0.0;
        for (index, direction) in self.direction.iter_mut().enumerate() {
            // What is not scarce and costs nothing stays free.
            let slope = if self.prices[index] <= 0.0 && left[index] >= 0 { 0.0 } else { -f64::from(left[index]) };
            *direction = 0.6 * slope + 0.4 * *direction;
            norm += self.seconds[index / self.rows] * *direction * *direction;
        }
        if norm <= 1e-12 {
            return;
        }
        let length = self.step * (bound - target).max(1e-3 * bound.abs().max(1e-6)) / norm;
        for (index, price) in self.prices.iter_mut().enumerate() {
            *price = (f64::from(*price) + length * self.seconds[index / self.rows] * self.direction[index]).max(0.0) as f32;
        }
    }
}
