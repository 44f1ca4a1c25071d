//! The exact dynamic programme of one tenant: its best plan when room has a price, or is short.
//!
//! A plan p of tenant i is a bundle n_b for every block and an interval of retraining o = (kind, start) or none; it is worth
//!
//! (P1) V_i(p) = Σ_b acc_b · (S_b(n_b) − loss_b(n_b−1, n_b)) − Σ_b charge_b(n_b) + tail(o), with acc_b = w a0 before the block in which o
//!      finishes, w a1 after it, and split at the second of the finish within it;
//! (P2) room_bk(p) = Σ_q α_kq (n_qb + u_qb(o)), with u = 1 from the block in which o starts to that in which it finishes;
//! (P3) max_p V_i(p) − Σ_bk μ_bk room_bk(p) is found by going forward with a0 and backward with a1, joined at the finishing block;
//! (P4) where room is short, room_bk(p) ≤ left_bk too: options by their value without it, best first, each with (P3) exactly.

use crate::planner::table::Table;

/// A tenant's plan: a bundle for every block, and a retraining option or none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub bundles: Vec<u16>,
    pub option: Option<usize>,
}

/// What the dynamic programme keeps between calls, so that it need not allocate.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Price and charge of a bundle: [block][m]; infinite = forbidden.
    cost: Vec<f32>,
    /// Best value of arriving at a bundle: [block][m], its own block not counted.
    arrive: Vec<f32>,
    /// The same with the block counted.
    reach: Vec<f32>,
    /// Best value of all later blocks with the better model: [block][m].
    rest: Vec<f32>,
    ranked: Vec<(f32, Option<usize>)>,
    /// Cells filled since it was made.
    pub work: u64,
}

/// Prices [block][row], and what is left of each row where room is short.
#[derive(Clone, Copy)]
pub(crate) struct Market<'a> {
    pub rows: usize,
    pub prices: &'a [f32],
    pub left: Option<&'a [i32]>,
    pub limits: Option<&'a Limits>,
}

impl Market<'_> {
    fn cost(&self, block: usize, room: &[u32]) -> f32 {
        let at = block * self.rows..(block + 1) * self.rows;
        if self.left.is_some_and(|left| left[at.clone()].iter().zip(room).any(|(left, used)| *left < *used as i32)) {
            return f32::INFINITY;
        }
        self.prices[at].iter().zip(room).map(|(price, used)| price * *used as f32).sum()
    }
}

/// What a tenant's plan must obey where a branching has narrowed it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// Retrainings that may be chosen, [none] last; empty = all.
    pub options: Vec<bool>,
    /// (block, least, most) capacity of its bundles, requests/s.
    pub capacity: Vec<(usize, f64, f64)>,
}

impl Limits {
    pub fn allows_option(&self, option: Option<usize>) -> bool {
        self.options.is_empty() || option.map_or(self.options.last(), |index| self.options.get(index)).copied().unwrap_or(true)
    }

    pub fn allows_bundle(&self, block: usize, rps: f64) -> bool {
        self.capacity.iter().all(|&(of, least, most)| of != block || (least..=most).contains(&rps))
    }
}

/// The best plan at these prices, and its value less what it pays; `None` when nothing fits.
pub(crate) fn best(table: &Table, market: Market, scratch: &mut Scratch) -> Option<(f64, Column)> {
    let (m, blocks) = (table.bundles.len() as u64, blocks_of(table));
    // Every cell looks at m before it; the rest of a call costs about as much as 16 more.
    let pass = blocks * m * (m + 16);
    scratch.work += 2 * pass;
    fill_costs(table, market, scratch);
    forward(table, scratch);
    backward(table, scratch);
    rank(table, market, scratch);
    let mut best: Option<(f64, Column)> = None;
    for (bound, option) in std::mem::take(&mut scratch.ranked) {
        // Values of options alone are exact unless room is short: bundle and retraining may not fit together.
        if best.as_ref().is_some_and(|(value, _)| f64::from(bound) <= *value) {
            break;
        }
        scratch.work += pass;
        let found = walk(table, market, option, scratch);
        if found.as_ref().is_some_and(|(value, _)| best.as_ref().is_none_or(|(most, _)| value > most)) {
            best = found;
        }
        if market.left.is_none() && best.is_some() {
            break;
        }
    }
    best
}

fn blocks_of(table: &Table) -> u64 {
    (table.served.len() / table.bundles.len().max(1)) as u64
}

fn fill_costs(table: &Table, market: Market, scratch: &mut Scratch) {
    let (m, blocks) = (table.bundles.len(), table.served.len() / table.bundles.len());
    scratch.cost.clear();
    for block in 0..blocks {
        let cost = |(index, bundle): (usize, &crate::planner::bundle::Bundle)| {
            let allowed = market.limits.is_none_or(|limits| limits.allows_bundle(block, bundle.rps.min(table.peak_rps)));
            if allowed { market.cost(block, &bundle.room) + table.charge[block * m + index] } else { f32::INFINITY }
        };
        scratch.cost.extend(table.bundles.iter().enumerate().map(cost));
    }
    for part in [&mut scratch.arrive, &mut scratch.reach, &mut scratch.rest] {
        part.clear();
        part.resize(blocks * m, f32::NEG_INFINITY);
    }
}

/// max over `from` of `reach[from] − worth · loss[from][to]`.
fn arrive(m: usize, reach: &[f32], loss: &[f32], worth: f32, out: &mut [f32]) {
    out.fill(f32::NEG_INFINITY);
    for (from, &value) in reach.iter().enumerate() {
        if value == f32::NEG_INFINITY {
            continue;
        }
        for (best, lost) in out.iter_mut().zip(&loss[from * m..(from + 1) * m]) {
            let candidate = value - worth * lost;
            *best = if candidate > *best { candidate } else { *best };
        }
    }
}

fn forward(table: &Table, scratch: &mut Scratch) {
    let (m, worth) = (table.bundles.len(), table.worth[0]);
    for block in 0..scratch.cost.len() / m {
        let (at, loss) = (block * m, &table.loss[block * m * m..(block + 1) * m * m]);
        if block == 0 {
            scratch.arrive[..m].iter_mut().zip(&table.first).for_each(|(out, lost)| *out = -worth * lost);
        } else {
            arrive(m, &scratch.reach[at - m..at], loss, worth, &mut scratch.arrive[at..at + m]);
        }
        for index in at..at + m {
            scratch.reach[index] = scratch.arrive[index] + worth * table.served[index] - scratch.cost[index];
        }
    }
}

fn backward(table: &Table, scratch: &mut Scratch) {
    if table.options.is_empty() {
        return;
    }
    let (m, worth) = (table.bundles.len(), table.worth[1]);
    let blocks = scratch.cost.len() / m;
    scratch.rest[(blocks - 1) * m..].fill(0.0);
    let mut onward = vec![0.0f32; m];
    for block in (0..blocks - 1).rev() {
        let next = (block + 1) * m;
        for (index, value) in onward.iter_mut().enumerate() {
            *value = worth * table.served[next + index] - scratch.cost[next + index] + scratch.rest[next + index];
        }
        for from in 0..m {
            let row = &table.loss[(next + from) * m..(next + from + 1) * m];
            let mut lanes = [f32::NEG_INFINITY; 8];
            for (values, losses) in onward.chunks(8).zip(row.chunks(8)) {
                for ((best, value), lost) in lanes.iter_mut().zip(values).zip(losses) {
                    let candidate = value - worth * lost;
                    *best = if candidate > *best { candidate } else { *best };
                }
            }
            scratch.rest[block * m + from] = lanes.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        }
    }
}

/// Options by their value when room for bundle and retraining need not be shared, best first.
fn rank(table: &Table, market: Market, scratch: &mut Scratch) {
    let (m, blocks) = (table.bundles.len(), scratch.cost.len() / table.bundles.len());
    let skip = scratch.reach[(blocks - 1) * m..].iter().copied().fold(f32::NEG_INFINITY, f32::max);
    scratch.ranked.clear();
    let allowed = |option: Option<usize>| market.limits.is_none_or(|limits| limits.allows_option(option));
    if allowed(None) {
        scratch.ranked.push((skip, None));
    }
    for (index, option) in table.options.iter().enumerate() {
        let paid: f32 = (option.start..=option.end).map(|block| market.cost(block, &option.room)).sum();
        if paid == f32::INFINITY || !allowed(Some(index)) {
            continue;
        }
        let at = option.end * m;
        let mut value = f32::NEG_INFINITY;
        for bundle in 0..m {
            let here =
                scratch.arrive[at + bundle] + table.mixed[index * m + bundle] - scratch.cost[at + bundle] + scratch.rest[at + bundle];
            value = if here > value { here } else { value };
        }
        scratch.ranked.push((value + table.tail[index] - paid, Some(index)));
    }
    // Stable: the first of equals, which is the earliest.
    scratch.ranked.sort_by(|a, b| b.0.total_cmp(&a.0));
}

/// The best bundles with this option, exactly.
fn walk(table: &Table, market: Market, option: Option<usize>, scratch: &mut Scratch) -> Option<(f64, Column)> {
    let m = table.bundles.len();
    let blocks = scratch.cost.len() / m;
    let chosen = option.map(|index| &table.options[index]);
    let end = chosen.map_or(blocks, |option| option.end);
    let mut paid = 0.0;
    for block in 0..blocks {
        let worth = table.worth[usize::from(block > end)];
        let at = block * m;
        if block == 0 {
            scratch.arrive[..m].iter_mut().zip(&table.first).for_each(|(out, lost)| *out = -table.worth[0] * lost);
        } else {
            let loss = &table.loss[at * m..(at + m) * m];
            arrive(m, &scratch.reach[at - m..at], loss, worth, &mut scratch.arrive[at..at + m]);
        }
        let shared = chosen.filter(|option| (option.start..=option.end).contains(&block));
        paid += shared.map_or(0.0, |option| market.cost(block, &option.room));
        for bundle in 0..m {
            let gain = match option {
                Some(index) if block == end => table.mixed[index * m + bundle],
                _ => worth * table.served[at + bundle],
            };
            let fits = |o: &crate::planner::table::RetrainOption| together(market, block, &table.bundles[bundle].room, &o.room);
            let fits = market.left.is_none() || shared.is_none_or(fits);
            let cost = scratch.cost[at + bundle];
            scratch.reach[at + bundle] = if fits { scratch.arrive[at + bundle] + gain - cost } else { f32::NEG_INFINITY };
        }
    }
    let tail = option.map_or(0.0, |index| table.tail[index]);
    let (last, value) = highest(&scratch.reach[(blocks - 1) * m..])?;
    let bundles = trace(table, scratch, last, end);
    Some((f64::from(value) + f64::from(tail) - f64::from(paid), Column { bundles, option }))
}

fn together(market: Market, block: usize, bundle: &[u32], retraining: &[u32]) -> bool {
    let Some(left) = market.left else { return true };
    let left = &left[block * market.rows..(block + 1) * market.rows];
    left.iter().zip(bundle.iter().zip(retraining)).all(|(left, (a, b))| *left >= (a + b) as i32)
}

fn highest(values: &[f32]) -> Option<(usize, f32)> {
    let best = values.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (index, &v)| if v > best.1 { (index, v) } else { best });
    (best.1 > f32::NEG_INFINITY).then_some(best)
}

/// The way back from the last block.
fn trace(table: &Table, scratch: &Scratch, last: usize, end: usize) -> Vec<u16> {
    let m = table.bundles.len();
    let blocks = scratch.cost.len() / m;
    let mut bundles = vec![last as u16; blocks];
    for block in (1..blocks).rev() {
        let (to, worth) = (usize::from(bundles[block]), table.worth[usize::from(block > end)]);
        let from = |from: usize| scratch.reach[(block - 1) * m + from] - worth * table.loss[(block * m + from) * m + to];
        // Of equals the one that stays: nothing is changed for nothing.
        let mut best = (to, from(to));
        for other in 0..m {
            if from(other) > best.1 {
                best = (other, from(other));
            }
        }
        bundles[block - 1] = best.0 as u16;
    }
    bundles
}

/// Value of a plan at no price, in f64.
pub(crate) fn value(table: &Table, column: &Column) -> f64 {
    let m = table.bundles.len();
    let end = column.option.map_or(column.bundles.len(), |index| table.options[index].end);
    let mut sum = column.option.map_or(0.0, |index| f64::from(table.tail[index]));
    for (block, &bundle) in column.bundles.iter().enumerate() {
        let (at, worth) = (block * m + usize::from(bundle), f64::from(table.worth[usize::from(block > end)]));
        let lost = match block {
            0 => table.first[usize::from(bundle)],
            _ => table.loss[(block * m + usize::from(column.bundles[block - 1])) * m + usize::from(bundle)],
        };
        sum += match column.option {
            Some(index) if block == end => f64::from(table.mixed[index * m + usize::from(bundle)]),
            _ => worth * f64::from(table.served[at]),
        };
        sum -= worth * f64::from(lost) + f64::from(table.charge[at]);
    }
    sum
}

/// Adds `sign` × the room of a plan to `used` [block][row].
pub(crate) fn add_room(table: &Table, column: &Column, rows: usize, sign: i32, used: &mut [i32]) {
    for (block, &bundle) in column.bundles.iter().enumerate() {
        let at = block * rows..(block + 1) * rows;
        used[at].iter_mut().zip(&table.bundles[usize::from(bundle)].room).for_each(|(used, room)| *used += sign * *room as i32);
    }
    let Some(option) = column.option.map(|index| &table.options[index]) else { return };
    for block in option.start..=option.end {
        let at = block * rows..(block + 1) * rows;
        used[at].iter_mut().zip(&option.room).for_each(|(used, room)| *used += sign * *room as i32);
    }
}
