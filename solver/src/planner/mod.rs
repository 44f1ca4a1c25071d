//! The planner: column generation over tenants with an exact dynamic programme each (`reference/ilp.md` section 3).
//!
//! Read in the order [`bundle`], [`table`], [`loss`], [`price`], [`dual`], [`primal`], [`branch`], [`master`].

mod branch;
mod bundle;
mod dual;
mod loss;
mod master;
mod price;
mod primal;
mod table;
#[cfg(test)]
mod tests;
mod warm;

use crate::dice::Dice;
use crate::evaluate::Counts;
use crate::options::SolveOptions;
use crate::shape::{KindId, Shape};
use crate::view::View;

use branch::{Node, explore, split};
use dual::Dual;
use price::{Column, Limits, Scratch};
use primal::{Incumbent, Primal};
use table::Table;
use warm::Carried;
pub(crate) use warm::Warm;

/// Iterations of the prices in one solve, at most.
const ITERATIONS: u32 = 80;
/// A new plan is built from prices every so many iterations.
const PRIMAL_EVERY: u32 = 4;
/// Rounds of destroying and rebuilding.
const REBUILDS: u32 = 24;
/// Nodes of the branch and bound, at most.
const NODES: u32 = 240;
/// Most columns by tenant in the restricted master.
const MOST_COLUMNS: usize = 60;
/// Rows × columns above which the master takes longer than it gains.
const MASTER_TENANTS: usize = 40;
/// Seconds the restricted master may take: what it improves it improves early, and its whole time was nearly all of the slowest solves
/// (1 GPU × 4 tenants: p99 635 ms with up to a second, 118 ms without, 5 of 200 more proven).
const MASTER_S: f64 = 0.03;

/// What the planner found.
pub(crate) struct Answer {
    pub counts: Counts,
    /// Value of the counts in the planner's model.
    pub value: f64,
    /// Upper bound on that value, proven.
    pub bound: f64,
    pub optimal: bool,
    /// Iterations of the prices.
    pub iterations: u32,
    /// Plans of single tenants that were looked at.
    pub columns: usize,
    /// Which limit ended the solve.
    pub stopped: &'static str,
    /// Prices by block and row, weighted answers for the whole block.
    pub prices: Vec<Vec<f64>>,
    pub warm: Warm,
}

/// Plans counts for every block.
pub(crate) fn plan(
    view: &View,
    shape: &Shape,
    options: &SolveOptions,
    warm: Option<&Warm>,
    clock: Option<&mut dyn FnMut() -> f64>,
) -> Answer {
    let timed = clock.is_some();
    let mut stands_still = || 0.0;
    let elapsed: &mut dyn FnMut() -> f64 = match clock {
        Some(clock) => clock,
        None => &mut stands_still,
    };
    let warm = warm.filter(|warm| warm.suits(view, shape));
    let extra = |tenant: usize| -> Vec<Vec<u32>> {
        let mut all: Vec<Vec<u32>> = warm.map_or_else(Vec::new, |warm| warm.plans[tenant].counts.clone());
        all.dedup();
        all
    };
    let tables: Vec<Table> = view.tenants().map(|(id, _)| Table::new(view, shape, id, &extra(id.index()))).collect();
    let mut search = Search::new(view, shape, options, &tables, warm);
    search.start(warm);
    search.iterate(elapsed);
    search.polish(elapsed);
    search.branch(elapsed);
    // microlp stops by a clock of its own: without one from the caller it would make equal inputs unequal.
    if timed {
        search.master(elapsed);
    }
    search.answer()
}

struct Search<'a> {
    view: &'a View<'a>,
    shape: &'a Shape,
    options: &'a SolveOptions,
    tables: &'a [Table],
    dual: Dual,
    most: Vec<i32>,
    incumbent: Option<Incumbent>,
    seen: Vec<Vec<Column>>,
    iterations: u32,
    nodes: u32,
    /// Highest bound of a node that was not split.
    pruned: f64,
    looked_at: usize,
    /// Cells of the dynamic programmes filled so far.
    work: u64,
    stopped: &'static str,
    dice: u64,
}

impl<'a> Search<'a> {
    fn new(view: &'a View<'a>, shape: &'a Shape, options: &'a SolveOptions, tables: &'a [Table], warm: Option<&Warm>) -> Search<'a> {
        let (blocks, rows) = (view.ends.len(), shape.rows().len());
        let most: Vec<i32> = (0..blocks).flat_map(|_| shape.rows().iter().map(|row| row.most as i32)).collect();
        let begin = |block: usize| if block == 0 { 0 } else { view.ends[block - 1] };
        let seconds: Vec<f64> = (0..blocks).map(|block| (view.ends[block] - begin(block)) as f64).collect();
        let shift_s = warm.map_or(0.0, |warm| warm.window_left_s - view.problem.window_left_s);
        let guess = first_guess(view, shape);
        let price = |block: usize, row: usize| {
            let middle = begin(block) as f64 + 0.5 * seconds[block];
            let density = warm.map_or(guess, |warm| warm.density[warm.block(shift_s, middle)][row]);
            density * seconds[block] as f32
        };
        let prices: Vec<f32> = (0..blocks).flat_map(|block| (0..rows).map(move |row| (block, row))).map(|(b, r)| price(b, r)).collect();
        let dual = Dual::new(rows, most.clone(), seconds, prices);
        let seen = vec![Vec::new(); tables.len()];
        Search {
            view,
            shape,
            options,
            tables,
            dual,
            most,
            incumbent: None,
            seen,
            iterations: 0,
            nodes: 0,
            pruned: f64::NEG_INFINITY,
            looked_at: 0,
            work: 0,
            stopped: "iterations",
            dice: 7,
        }
    }

    fn primal<T>(&mut self, work: impl FnOnce(&mut Primal, &mut Dual) -> T) -> T {
        let (rows, most) = (self.shape.rows().len(), self.most.clone());
        let mut primal = Primal { tables: self.tables, rows, most: &most, scratch: Scratch::default(), dice: Dice(self.dice) };
        let done = work(&mut primal, &mut self.dual);
        self.dice = primal.dice.0;
        self.work += primal.scratch.work;
        done
    }

    /// Never without a plan: the earlier one re-read on the new grid, or what is held, and nothing at all at the worst.
    fn start(&mut self, warm: Option<&Warm>) {
        let carried: Vec<Option<Column>> =
            (0..self.tables.len()).map(|tenant| warm.and_then(|warm| self.read(warm, tenant)).or_else(|| self.held(tenant))).collect();
        let nothing = vec![0.0; self.most.len()];
        let found = self.primal(|primal, _| {
            let mut found = primal.complete(carried, &nothing)?;
            primal.respond(&mut found, 2);
            Some(found)
        });
        self.offer(found);
    }

    /// The tenant's part of the earlier plan.
    fn read(&self, warm: &Warm, tenant: usize) -> Option<Column> {
        let (table, Carried { counts, retraining }) = (&self.tables[tenant], &warm.plans[tenant]);
        let shift_s = warm.window_left_s - self.view.problem.window_left_s;
        let begin = |block: usize| if block == 0 { 0.0 } else { self.view.ends[block - 1] as f64 };
        let bundle = |block: usize| table.bundle(&counts[warm.block(shift_s, begin(block) + 0.5)]).map(|index| index as u16);
        let bundles = (0..self.view.ends.len()).map(bundle).collect::<Option<Vec<u16>>>()?;
        let started_s = |block: usize| if block == 0 { 0.0 } else { warm.ends[block - 1] as f64 } - shift_s;
        let option = retraining.and_then(|(kind, block)| {
            let at = self.view.ends.iter().position(|&end| started_s(block).max(0.0) < end as f64)?;
            table.options.iter().position(|option| option.kind == kind && option.start == at)
        });
        Some(Column { bundles, option })
    }

    /// Holding on to everything.
    fn held(&self, tenant: usize) -> Option<Column> {
        let id = crate::problem::TenantId(tenant as u16);
        let counts: Vec<u32> = self.shape.kind_ids().map(|kind| crate::monolith::held_now(self.view, self.shape, id, kind)).collect();
        let table = &self.tables[tenant];
        let bundle = table.bundle(&counts)? as u16;
        let running = self.view.running(id).map(|(gpu, old)| self.shape.kind_of(gpu, old.site.profile));
        let option = running.and_then(|kind| table.options.iter().position(|option| option.kind == kind && option.start == 0));
        Some(Column { bundles: vec![bundle; self.view.ends.len()], option })
    }

    fn offer(&mut self, found: Option<Incumbent>) {
        let Some(found) = found else { return };
        found.columns.iter().enumerate().for_each(|(tenant, column)| remember(&mut self.seen[tenant], column));
        if self.incumbent.as_ref().is_none_or(|best| found.value > best.value) {
            self.incumbent = Some(found);
        }
    }

    fn value(&self) -> f64 {
        self.incumbent.as_ref().map_or(f64::NEG_INFINITY, |incumbent| incumbent.value)
    }

    fn closed(&self) -> bool {
        self.dual.bound - self.value() <= f64::from(self.options.mip_gap) * self.value().abs().max(1e-6)
    }

    /// Whether to stop, and why is noted: the gap is closed, the time is up, or enough was done.
    fn over(&mut self, elapsed: &mut dyn FnMut() -> f64) -> bool {
        if self.closed() {
            self.stopped = "gap";
            return true;
        }
        let (late, worked) = (elapsed() * 1000.0 >= f64::from(self.options.time_limit_ms), self.work >= self.options.work_limit);
        if late || worked {
            self.stopped = if late { "time" } else { "work" };
        }
        late || worked
    }

    fn iterate(&mut self, elapsed: &mut dyn FnMut() -> f64) {
        let mut scratch = Scratch::default();
        while self.iterations < ITERATIONS {
            let (bound, columns) = self.dual.price(self.tables, &[], &mut scratch);
            self.work += std::mem::take(&mut scratch.work);
            self.iterations += 1;
            self.looked_at += columns.len();
            columns.iter().enumerate().for_each(|(tenant, column)| remember(&mut self.seen[tenant], column));
            if self.over(elapsed) {
                return;
            }
            if self.iterations.is_multiple_of(PRIMAL_EVERY) {
                self.construct();
                if self.closed() {
                    self.stopped = "gap";
                    return;
                }
            }
            let target = self.value();
            self.dual.step(self.tables, &columns, bound, target);
        }
    }

    fn construct(&mut self) {
        let found = self.primal(|primal, dual| {
            let mut found = primal.insert_all(&dual.prices)?;
            primal.respond(&mut found, 2);
            Some(found)
        });
        self.offer(found);
    }

    fn polish(&mut self, elapsed: &mut dyn FnMut() -> f64) {
        for round in 0..REBUILDS {
            if self.over(elapsed) {
                return;
            }
            let Some(mut incumbent) = self.incumbent.clone() else { return };
            incumbent = self.primal(|primal, dual| {
                let softened: Vec<f32> = dual.best.iter().map(|price| if round % 2 == 0 { *price } else { 0.5 * *price }).collect();
                primal.rebuild(&mut incumbent, &softened);
                incumbent
            });
            self.offer(Some(incumbent));
        }
    }

    /// Best first; the bound is that of the best node left.
    fn branch(&mut self, elapsed: &mut dyn FnMut() -> f64) {
        if self.stopped != "iterations" || self.tables.is_empty() {
            return;
        }
        let mut scratch = Scratch::default();
        let limits = vec![Limits::default(); self.tables.len()];
        let mut open = vec![Node { bound: self.dual.bound, limits, prices: self.dual.best.clone() }];
        self.stopped = "nodes";
        for _ in 0..NODES {
            // Of equals the oldest.
            let best = (0..open.len()).reduce(|best, next| if open[next].bound > open[best].bound { next } else { best });
            let Some(best) = best else { break };
            self.dual.bound = self.dual.bound.min(open[best].bound.max(self.pruned));
            if self.over(elapsed) {
                return;
            }
            let node = open.remove(best);
            self.visit(&node, &mut open, &mut scratch);
        }
        let left = open.iter().map(|node| node.bound).fold(self.value().max(self.pruned), f64::max);
        self.dual.bound = self.dual.bound.min(left);
        if self.closed() {
            self.stopped = "gap";
        }
    }

    fn visit(&mut self, node: &Node, open: &mut Vec<Node>, scratch: &mut Scratch) {
        let enough = self.value() + f64::from(self.options.mip_gap) * self.value().abs();
        let explored = explore(self.tables, &self.dual, node, self.value(), enough, scratch);
        self.work += std::mem::take(&mut scratch.work);
        self.nodes += 1;
        self.looked_at += explored.recent.len() * self.tables.len();
        for columns in &explored.recent {
            columns.iter().enumerate().for_each(|(tenant, column)| remember(&mut self.seen[tenant], column));
        }
        let found = self.primal(|primal, _| {
            let mut found = primal.insert_all(&explored.prices)?;
            primal.respond(&mut found, 1);
            Some(found)
        });
        self.offer(found);
        let enough = self.value() + f64::from(self.options.mip_gap) * self.value().abs();
        let children = split(self.tables, &self.dual, node, &explored);
        if explored.bound <= enough || children.is_empty() {
            // Pruned: what it may still hide is within the gap, or counted as its bound.
            if explored.bound > f64::NEG_INFINITY {
                self.pruned = self.pruned.max(explored.bound);
            }
            return;
        }
        open.extend(children);
    }

    /// The restricted master, with the time that is left.
    fn master(&mut self, elapsed: &mut dyn FnMut() -> f64) {
        let left_s = f64::from(self.options.time_limit_ms) / 1000.0 - elapsed();
        if self.stopped == "gap" || left_s <= 0.005 || self.tables.len() > MASTER_TENANTS || self.tables.is_empty() {
            return;
        }
        let gap = 0.5 * self.options.mip_gap;
        let found = master::combine(self.tables, &self.seen, &self.most, self.shape.rows().len(), left_s.min(MASTER_S), gap);
        self.offer(found);
        if self.closed() {
            self.stopped = "gap";
        }
    }

    fn answer(self) -> Answer {
        let (value, bound, optimal) = (self.value(), self.dual.bound.max(self.value()), self.closed());
        let columns = self.incumbent.map_or_else(Vec::new, |incumbent| incumbent.columns);
        let (blocks, rows) = (self.view.ends.len(), self.shape.rows().len());
        let bundle =
            |tenant: usize, column: &Column, block: usize| self.tables[tenant].bundles[usize::from(column.bundles[block])].counts.clone();
        let inference: Vec<Vec<Vec<u32>>> =
            (0..blocks).map(|block| columns.iter().enumerate().map(|(tenant, column)| bundle(tenant, column, block)).collect()).collect();
        let retraining: Vec<Option<(KindId, usize)>> = columns
            .iter()
            .zip(self.tables)
            .map(|(column, table)| column.option.map(|index| (table.options[index].kind, table.options[index].start)))
            .collect();
        let counts_of = |tenant: usize| inference.iter().map(|block| block[tenant].clone()).collect();
        let plans = retraining.iter().enumerate().map(|(tenant, &retraining)| Carried { counts: counts_of(tenant), retraining });
        let density = |block: usize| self.dual.best[block * rows..][..rows].iter().map(|p| p / self.dual.seconds[block] as f32).collect();
        let warm = Warm {
            window_left_s: self.view.problem.window_left_s,
            ends: self.view.ends.clone(),
            density: (0..blocks).map(density).collect(),
            plans: plans.collect(),
        };
        let prices = self.dual.best.chunks(rows.max(1)).map(|chunk| chunk.iter().map(|&price| f64::from(price)).collect()).collect();
        let columns = self.looked_at;
        let counts = Counts { inference, retraining };
        Answer {
            counts,
            value,
            bound,
            optimal,
            iterations: self.iterations + self.nodes * branch::NODE_ITERATIONS,
            columns,
            stopped: self.stopped,
            prices,
            warm,
        }
    }
}

fn remember(seen: &mut Vec<Column>, column: &Column) {
    if !seen.contains(column) && seen.len() < MOST_COLUMNS {
        seen.push(column.clone());
    }
}

/// A third of what all answers are worth, spread over the rows: scarce enough to begin with.
fn first_guess(view: &View, shape: &Shape) -> f32 {
    let worth: f64 = view.tenants().map(|(id, _)| view.answer_worth(id) * view.mean_demand(id, 0, view.horizon)).sum();
    let room: u32 = shape.rows().iter().map(|row| row.most).sum();
    (0.33 * worth / f64::from(room.max(1))) as f32
}
