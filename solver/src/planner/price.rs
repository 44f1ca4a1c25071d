//! The exact dynamic programme of one tenant: its best plan when room has a price, or is short.
//!
//! A plan p of tenant i is a bundle n_b for every block and an interval of retraining o = (kind, start) or none; it is worth
//!
//! (P1) V_i(p) = Σ_b acc_b · (S_b(n_b) − loss_b(n_b−1, n_b)) − Σ_b charge_b(n_b) + tail(o), with acc_b = w a0 before the block in which o
//!      finishes, w a1 after it, and split at the second of the finish within it;
//! (P2) room_bk(p) = Σ_q α_kq (n_qb + u_qb(o)), with u = 1 from the block in which o starts to that in which it finishes;
//! (P3) max_p V_i(p) − Σ_bk μ_bk room_bk(p) is found by going forward with a0 and backward with a1, joined at the finishing block;
//! (P4) where room is short, room_bk(p) ≤ left_bk too: options by their value without it, best first, each with (P3) exactly.

use std::array::from_fn;

use crate::planner::bundle::{Bundle, MOST};
use crate::planner::table::{RetrainOption, Table};

/// Rows of bundles are filled up to a multiple of it with what may never be chosen: whole vectors are looked at.
pub(crate) const LANES: usize = 4;
/// Most bundles, filled up.
const MOST_PADDED: usize = MOST.next_multiple_of(LANES);

/// A tenant's plan: a bundle for every block, and a retraining option or none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Column {
    pub bundles: Vec<u16>,
    pub option: Option<usize>,
}

/// What the dynamic programme keeps between calls, so that it need not allocate. [block][stride] where nothing else is said.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Price and charge of a bundle; infinite = forbidden.
    cost: Vec<f32>,
    /// Price of the room of a hire: [hire][block]; infinite = not enough is left.
    hire: Vec<f32>,
    /// Best value of arriving at a bundle without the better model, its own block not counted, and with it counted.
    before: Way,
    /// The same with a retraining, from the first block on in which that makes a difference.
    with: Way,
    /// Best value of all later blocks with the better model, from the first block on in which a retraining may finish.
    rest: Vec<f32>,
    /// Options that may be chosen: what their room costs, then their value.
    offers: Vec<(f32, Option<usize>)>,
    /// Cells that would be filled if every pass were made in full, since it was made: a measure of effort that depends on nothing else.
    pub work: u64,
}

#[derive(Default)]
struct Way {
    arrive: Vec<f32>,
    reach: Vec<f32>,
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
    let (m, blocks) = (table.bundles.len() as u64, table.blocks() as u64);
    // Every cell looks at m before it; the rest of a call costs about as much as 16 more.
    let pass = blocks * m * (m + 16);
    scratch.work += 2 * pass;
    fill_costs(table, market, scratch);
    forward(table, scratch);
    offer(table, market, scratch);
    backward(table, scratch);
    rank(table, scratch);
    let mut best: Option<(f64, Column)> = None;
    while let Some((bound, option)) = next(&mut scratch.offers) {
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

fn fill_costs(table: &Table, market: Market, scratch: &mut Scratch) {
    let (stride, blocks) = (table.stride, table.blocks());
    scratch.cost.clone_from(&table.charge);
    for (block, cost) in scratch.cost.chunks_exact_mut(stride).enumerate() {
        let at = block * market.rows..(block + 1) * market.rows;
        // Summed row by row for all bundles at once; what is free adds nothing.
        let mut paid = [0.0f32; MOST_PADDED];
        let paid = &mut paid[..stride];
        for (price, room) in market.prices[at.clone()].iter().zip(table.room.chunks_exact(stride)).filter(|(price, _)| **price != 0.0) {
            paid.iter_mut().zip(room).for_each(|(sum, room)| *sum += price * room);
        }
        cost.iter_mut().zip(&*paid).for_each(|(cost, paid)| *cost += paid);
        for (left, room) in market.left.map_or(&[][..], |left| &left[at]).iter().zip(table.room.chunks_exact(stride)) {
            let left = *left as f32;
            cost.iter_mut().zip(room).for_each(|(cost, room)| *cost = if *room > left { f32::INFINITY } else { *cost });
        }
        if let Some(limits) = market.limits.filter(|limits| limits.capacity.iter().any(|(of, ..)| *of == block)) {
            let forbidden = |bundle: &Bundle| !limits.allows_bundle(block, bundle.rps.min(table.peak_rps));
            let bundles = cost.iter_mut().zip(&table.bundles).filter(|(_, bundle)| forbidden(bundle));
            bundles.for_each(|(cost, _)| *cost = f32::INFINITY);
        }
    }
    let Scratch { before, with, rest, .. } = scratch;
    for part in [&mut before.arrive, &mut before.reach, &mut with.arrive, &mut with.reach, rest] {
        part.resize(blocks * stride, f32::NEG_INFINITY);
    }
}

/// max over `from` of `reach[from] − worth · loss[from][to]`.
fn arrive(reach: &[f32], loss: &[f32], worth: f32, out: &mut [f32]) {
    let stride = out.len();
    for (chunk, out) in out.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        *out = [f32::NEG_INFINITY; LANES];
        for (value, row) in reach.iter().zip(loss.chunks_exact(stride)) {
            let lost = &lanes(row)[chunk];
            *out = higher(*out, from_fn(|lane| value - worth * lost[lane]));
        }
    }
}

/// Lane by lane; of equals the first.
fn higher(most: [f32; LANES], other: [f32; LANES]) -> [f32; LANES] {
    from_fn(|lane| if other[lane] > most[lane] { other[lane] } else { most[lane] })
}

fn lanes(row: &[f32]) -> &[[f32; LANES]] {
    row.as_chunks().0
}

fn arrive_first(table: &Table, out: &mut [f32]) {
    out.iter_mut().zip(&table.first).for_each(|(out, lost)| *out = -table.worth[0] * lost);
}

fn forward(table: &Table, scratch: &mut Scratch) {
    let (m, stride, worth) = (table.bundles.len(), table.stride, table.worth[0]);
    let Way { arrive: arrived, reach } = &mut scratch.before;
    for block in 0..table.blocks() {
        let (before, here) = reach.split_at_mut(block * stride);
        let at = block * stride..(block + 1) * stride;
        let out = &mut arrived[at.clone()];
        match block {
            0 => arrive_first(table, out),
            _ => arrive(&before[(block - 1) * stride..][..m], table.loss(block), worth, out),
        }
        let values = out.iter().zip(&table.served[at.clone()]).zip(&scratch.cost[at]);
        here.iter_mut().zip(values).for_each(|(reach, ((arrive, served), cost))| *reach = arrive + worth * served - cost);
    }
}

/// Options that may be chosen and what their room costs; none first.
fn offer(table: &Table, market: Market, scratch: &mut Scratch) {
    let blocks = table.blocks();
    scratch.hire.clear();
    scratch.hire.extend(table.hires.iter().flat_map(|room| (0..blocks).map(move |block| market.cost(block, room))));
    scratch.offers.clear();
    let allowed = |option: Option<usize>| market.limits.is_none_or(|limits| limits.allows_option(option));
    if allowed(None) {
        scratch.offers.push((0.0, None));
    }
    for (index, option) in table.options.iter().enumerate() {
        let paid: f32 = scratch.hire[option.hire * blocks..][option.start..=option.end].iter().sum();
        if paid < f32::INFINITY && allowed(Some(index)) {
            scratch.offers.push((paid, Some(index)));
        }
    }
}

fn backward(table: &Table, scratch: &mut Scratch) {
    let ends = scratch.offers.iter().filter_map(|(_, option)| option.map(|index| table.options[index].end));
    let Some(earliest) = ends.min() else { return };
    let (m, stride, worth) = (table.bundles.len(), table.stride, table.worth[1]);
    let blocks = table.blocks();
    scratch.rest[(blocks - 1) * stride..].fill(0.0);
    let mut onward = [0.0f32; MOST_PADDED];
    let onward = &mut onward[..stride];
    for block in (earliest..blocks - 1).rev() {
        let next = (block + 1) * stride..(block + 2) * stride;
        let (here, later) = scratch.rest.split_at_mut(next.start);
        let values = table.served[next.clone()].iter().zip(&scratch.cost[next]).zip(later);
        onward.iter_mut().zip(values).for_each(|(value, ((served, cost), rest))| *value = worth * served - cost + *rest);
        for (rest, row) in here[block * stride..][..m].iter_mut().zip(table.loss(block + 1).chunks_exact(stride)) {
            *rest = highest_of(lanes(onward).iter().zip(lanes(row)).map(|(value, lost)| from_fn(|lane| value[lane] - worth * lost[lane])));
        }
    }
}

fn highest_of(chunks: impl Iterator<Item = [f32; LANES]>) -> f32 {
    chunks.fold([f32::NEG_INFINITY; LANES], higher).into_iter().fold(f32::NEG_INFINITY, f32::max)
}

/// Options by their value when room for bundle and retraining need not be shared.
fn rank(table: &Table, scratch: &mut Scratch) {
    let Scratch { cost, before, rest, offers, .. } = scratch;
    let stride = table.stride;
    for (value, option) in offers {
        let Some(index) = *option else {
            *value = before.reach[(table.blocks() - 1) * stride..].iter().copied().fold(f32::NEG_INFINITY, f32::max);
            continue;
        };
        let at = table.options[index].end * stride..(table.options[index].end + 1) * stride;
        let (arrive, cost, rest) = (lanes(&before.arrive[at.clone()]), lanes(&cost[at.clone()]), lanes(&rest[at]));
        let ways = arrive.iter().zip(lanes(&table.mixed[index * stride..])).zip(cost.iter().zip(rest));
        let most =
            highest_of(ways.map(|((arrive, mixed), (cost, rest))| from_fn(|lane| arrive[lane] + mixed[lane] - cost[lane] + rest[lane])));
        *value = most + table.tail[index] - *value;
    }
}

/// Takes the best of what is left; of equals the first, which is the earliest.
fn next(offers: &mut Vec<(f32, Option<usize>)>) -> Option<(f32, Option<usize>)> {
    let better = |best: usize, other: usize| if offers[other].0.total_cmp(&offers[best].0).is_gt() { other } else { best };
    let best = (0..offers.len()).reduce(better)?;
    Some(offers.remove(best))
}

/// The best bundles with this option, exactly.
fn walk(table: &Table, market: Market, option: Option<usize>, scratch: &mut Scratch) -> Option<(f64, Column)> {
    let (m, stride, blocks) = (table.bundles.len(), table.stride, table.blocks());
    let chosen = option.map(|index| &table.options[index]);
    let end = chosen.map_or(blocks, |option| option.end);
    // Before it, everything is as without a retraining.
    let other = chosen.map_or(blocks, |option| if market.left.is_some() { option.start } else { option.end });
    let Scratch { cost, hire, before, with, .. } = scratch;
    for block in other..blocks {
        let (worth, at) = (table.worth[usize::from(block > end)], block * stride..(block + 1) * stride);
        let out = &mut with.arrive[at.clone()];
        if block == other {
            out.copy_from_slice(&before.arrive[at.clone()]);
        } else {
            arrive(&with.reach[at.start - stride..][..m], table.loss(block), worth, out);
        }
        let reach = &mut with.reach[at.clone()];
        let values = out.iter().zip(&cost[at.clone()]);
        match option {
            Some(index) if block == end => {
                let values = values.zip(&table.mixed[index * stride..]);
                reach.iter_mut().zip(values).for_each(|(reach, ((arrive, cost), mixed))| *reach = arrive + mixed - cost);
            }
            _ => {
                let values = values.zip(&table.served[at]);
                reach.iter_mut().zip(values).for_each(|(reach, ((arrive, cost), served))| *reach = arrive + worth * served - cost);
            }
        }
        if let (Some(left), Some(option)) = (market.left, chosen.filter(|_| block <= end)) {
            exclude(table, &left[block * market.rows..][..market.rows], &option.room, reach);
        }
    }
    let hired = |option: &RetrainOption| hire[option.hire * blocks..][option.start..=option.end].iter().sum::<f32>();
    let (paid, tail) = (chosen.map_or(0.0, hired), option.map_or(0.0, |index| table.tail[index]));
    let way = |block: usize| if block < other { &*before } else { &*with };
    let (last, value) = highest(&way(blocks - 1).reach[(blocks - 1) * stride..][..m])?;
    let bundles = trace(table, way, last, end);
    Some((f64::from(value) + f64::from(tail) - f64::from(paid), Column { bundles, option }))
}

/// Forbids the bundles that do not fit beside a retraining.
fn exclude(table: &Table, left: &[i32], retraining: &[u32], reach: &mut [f32]) {
    for ((left, taken), room) in left.iter().zip(retraining).zip(table.room.chunks_exact(table.stride)) {
        let left = (*left - *taken as i32) as f32;
        reach.iter_mut().zip(room).for_each(|(reach, room)| *reach = if *room > left { f32::NEG_INFINITY } else { *reach });
    }
}

fn highest(values: &[f32]) -> Option<(usize, f32)> {
    let best = values.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (index, &v)| if v > best.1 { (index, v) } else { best });
    (best.1 > f32::NEG_INFINITY).then_some(best)
}

/// The way back from the last block.
fn trace<'a>(table: &Table, way: impl Fn(usize) -> &'a Way, last: usize, end: usize) -> Vec<u16> {
    let (m, stride, blocks) = (table.bundles.len(), table.stride, table.blocks());
    let mut bundles = vec![last as u16; blocks];
    for block in (1..blocks).rev() {
        let (to, worth) = (usize::from(bundles[block]), table.worth[usize::from(block > end)]);
        let (reach, loss) = (&way(block - 1).reach[(block - 1) * stride..][..m], table.loss(block));
        let (value, from) = (way(block).arrive[block * stride + to], |from: usize| reach[from] - worth * loss[from * stride + to]);
        // The same sums as on the way there. Of equals the one that stays: nothing is changed for nothing.
        let came = |&other: &usize| from(other) >= value;
        bundles[block - 1] = std::iter::once(to).chain(0..m).find(came).unwrap_or(to) as u16;
    }
    bundles
}

/// Value of a plan at no price, in f64.
pub(crate) fn value(table: &Table, column: &Column) -> f64 {
    let stride = table.stride;
    let end = column.option.map_or(column.bundles.len(), |index| table.options[index].end);
    let mut sum = column.option.map_or(0.0, |index| f64::from(table.tail[index]));
    for (block, &bundle) in column.bundles.iter().enumerate() {
        let (at, worth) = (block * stride + usize::from(bundle), f64::from(table.worth[usize::from(block > end)]));
        let lost = match block {
            0 => table.first[usize::from(bundle)],
            _ => table.loss(block)[usize::from(column.bundles[block - 1]) * stride + usize::from(bundle)],
        };
        sum += match column.option {
            Some(index) if block == end => f64::from(table.mixed[index * stride + usize::from(bundle)]),
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
