//! Plans that fit: insertion of one tenant after another, best responses, and rebuilding after destroying a few.

use crate::dice::Dice;
use crate::planner::price::{Column, Market, Scratch, add_room, best, value};
use crate::planner::table::Table;

/// One plan per tenant that fit together, and their value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Incumbent {
    pub columns: Vec<Column>,
    pub value: f64,
}

/// Builds plans for fixed tables.
pub(crate) struct Primal<'a> {
    pub tables: &'a [Table],
    pub rows: usize,
    /// Right sides: [block][row].
    pub most: &'a [i32],
    pub scratch: Scratch,
    pub dice: Dice,
}

impl Primal<'_> {
    /// All tenants anew, in random order, room at `prices` softened by `share`.
    pub fn insert_all(&mut self, prices: &[f32]) -> Option<Incumbent> {
        let mut order: Vec<usize> = (0..self.tables.len()).collect();
        self.dice.shuffle(&mut order);
        let mut columns: Vec<Option<Column>> = vec![None; self.tables.len()];
        let mut left = self.most.to_vec();
        self.insert(&order, prices, &mut columns, &mut left)?;
        self.finished(columns)
    }

    fn insert(&mut self, order: &[usize], prices: &[f32], columns: &mut [Option<Column>], left: &mut [i32]) -> Option<()> {
        for &tenant in order {
            let market = Market { rows: self.rows, prices, left: Some(left), limits: None };
            let (_, column) = best(&self.tables[tenant], market, &mut self.scratch)?;
            add_room(&self.tables[tenant], &column, self.rows, -1, left);
            columns[tenant] = Some(column);
        }
        Some(())
    }

    fn finished(&self, columns: Vec<Option<Column>>) -> Option<Incumbent> {
        let columns: Vec<Column> = columns.into_iter().collect::<Option<_>>()?;
        let value = self.tables.iter().zip(&columns).map(|(table, column)| value(table, column)).sum();
        Some(Incumbent { columns, value })
    }

    /// Given plans as far as they fit together, the others inserted at `prices`.
    pub fn complete(&mut self, mut columns: Vec<Option<Column>>, prices: &[f32]) -> Option<Incumbent> {
        let mut left = self.most.to_vec();
        for (table, column) in self.tables.iter().zip(&mut columns) {
            let Some(given) = column else { continue };
            add_room(table, given, self.rows, -1, &mut left);
            if left.iter().any(|left| *left < 0) {
                add_room(table, given, self.rows, 1, &mut left);
                *column = None;
            }
        }
        let missing: Vec<usize> = (0..columns.len()).filter(|&tenant| columns[tenant].is_none()).collect();
        self.insert(&missing, prices, &mut columns, &mut left)?;
        self.finished(columns)
    }

    /// Each tenant in turn takes its best with what the others leave, until nobody gains, at most `sweeps` times.
    pub fn respond(&mut self, incumbent: &mut Incumbent, sweeps: usize) {
        let free = vec![0.0; self.most.len()];
        let mut left = self.most.to_vec();
        self.tables.iter().zip(&incumbent.columns).for_each(|(table, column)| add_room(table, column, self.rows, -1, &mut left));
        for _ in 0..sweeps {
            let mut gained = 0.0;
            for (tenant, table) in self.tables.iter().enumerate() {
                let before = value(table, &incumbent.columns[tenant]);
                add_room(table, &incumbent.columns[tenant], self.rows, 1, &mut left);
                let market = Market { rows: self.rows, prices: &free, left: Some(&left), limits: None };
                if let Some((_, column)) = best(table, market, &mut self.scratch) {
                    let gain = value(table, &column) - before;
                    // Of equals the one in hand: f32 decides nothing.
                    if gain > 1e-4 * before.abs().max(1.0) * 1e-2 {
                        incumbent.columns[tenant] = column;
                        gained += gain;
                    }
                }
                add_room(table, &incumbent.columns[tenant], self.rows, -1, &mut left);
            }
            if gained <= 1e-6 * incumbent.value.abs() {
                break;
            }
        }
        incumbent.value = self.tables.iter().zip(&incumbent.columns).map(|(table, column)| value(table, column)).sum();
    }

    /// Takes two or three tenants out and inserts them anew at `prices`; keeps what is better.
    pub fn rebuild(&mut self, incumbent: &mut Incumbent, prices: &[f32]) {
        let mut order: Vec<usize> = (0..self.tables.len()).collect();
        self.dice.shuffle(&mut order);
        order.truncate(2 + self.dice.below(2));
        let mut columns: Vec<Option<Column>> = incumbent.columns.iter().cloned().map(Some).collect();
        order.iter().for_each(|&tenant| columns[tenant] = None);
        let mut left = self.most.to_vec();
        for (table, column) in self.tables.iter().zip(&columns) {
            if let Some(column) = column {
                add_room(table, column, self.rows, -1, &mut left);
            }
        }
        if self.insert(&order, prices, &mut columns, &mut left).is_none() {
            return;
        }
        let Some(mut found) = self.finished(columns) else { return };
        self.respond(&mut found, 1);
        if found.value > incumbent.value + 1e-6 * incumbent.value.abs() {
            *incumbent = found;
        }
    }
}
