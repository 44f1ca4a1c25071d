//! Best-first branch and bound on the Lagrangian (`reference/ilp.md` section 3, item 5).

use crate::planner::dual::Dual;
use crate::planner::price::{Column, Limits, Scratch};
use crate::planner::table::Table;

/// Iterations of the prices in a node.
pub(crate) const NODE_ITERATIONS: u32 = 22;
/// Pricing solutions that a branching is chosen by.
const RECENT: usize = 16;

/// A part of all plans, what bounds it, and prices to begin with.
pub(crate) struct Node {
    pub bound: f64,
    pub limits: Vec<Limits>,
    pub prices: Vec<f32>,
}

/// What a node's iterations gave.
pub(crate) struct Explored {
    pub bound: f64,
    pub prices: Vec<f32>,
    /// Plans of all tenants, by iteration.
    pub recent: Vec<Vec<Column>>,
}

/// Tightens the node's bound, until `enough` (it can be pruned then) or [`NODE_ITERATIONS`].
pub(crate) fn explore(tables: &[Table], root: &Dual, node: &Node, target: f64, enough: f64, scratch: &mut Scratch) -> Explored {
    let mut dual = Dual::new(root.rows, root.most.clone(), root.seconds.clone(), node.prices.clone());
    let mut recent: Vec<Vec<Column>> = Vec::new();
    for _ in 0..NODE_ITERATIONS {
        let (bound, columns) = dual.price(tables, &node.limits, scratch);
        if columns.len() < tables.len() {
            // Some tenant has no plan left.
            return Explored { bound: f64::NEG_INFINITY, prices: dual.best, recent };
        }
        dual.step(tables, &columns, bound, target);
        recent.push(columns);
        if dual.bound <= enough {
            break;
        }
    }
    let from = recent.len().saturating_sub(RECENT);
    Explored { bound: dual.bound.min(node.bound), prices: dual.best, recent: recent.split_off(from) }
}

/// Where the pricing solutions disagree most, in objective units.
enum Split {
    /// Tenant; retrainings of the one side.
    Options(usize, Vec<bool>),
    /// Tenant, block, capacity of the border.
    Capacity(usize, usize, f64),
}

/// The two halves of a node, or none when its pricing solutions agree.
pub(crate) fn split(tables: &[Table], dual: &Dual, node: &Node, explored: &Explored) -> Vec<Node> {
    let mut best: Option<(f64, Split)> = None;
    let mut offer = |weight: f64, split: Split| {
        if weight > 1e-9 && best.as_ref().is_none_or(|(most, _)| weight > *most) {
            best = Some((weight, split));
        }
    };
    for (tenant, table) in tables.iter().enumerate() {
        let plans: Vec<&Column> = explored.recent.iter().map(|columns| &columns[tenant]).collect();
        if let Some((weight, side)) = by_option(table, &plans) {
            offer(weight, Split::Options(tenant, side));
        }
        for block in 0..dual.seconds.len() {
            let rps = plans.iter().map(|column| table.bundles[usize::from(column.bundles[block])].rps.min(table.peak_rps));
            let (mean, spread) = mean_and_spread(&rps.collect::<Vec<f64>>());
            offer(spread * f64::from(table.worth[0]) * dual.seconds[block], Split::Capacity(tenant, block, mean));
        }
    }
    let child = |change: &dyn Fn(&mut Vec<Limits>)| {
        let mut limits = node.limits.clone();
        change(&mut limits);
        Node { bound: explored.bound, limits, prices: explored.prices.clone() }
    };
    match best {
        None => Vec::new(),
        Some((_, Split::Capacity(tenant, block, mean))) => vec![
            child(&|limits| limits[tenant].capacity.push((block, 0.0, mean))),
            child(&|limits| limits[tenant].capacity.push((block, mean.next_up(), f64::INFINITY))),
        ],
        Some((_, Split::Options(tenant, side))) => {
            let narrowed = |limits: &mut Vec<Limits>, keep: bool| {
                let old = limits[tenant].clone();
                let allowed = |index: usize| old.options.is_empty() || old.options[index];
                limits[tenant].options = side.iter().enumerate().map(|(index, &one)| one == keep && allowed(index)).collect();
            };
            vec![child(&|limits| narrowed(limits, true)), child(&|limits| narrowed(limits, false))]
        }
    }
}

/// Splits a tenant's retrainings at the mean finish, or, where that is the same, by kind.
fn by_option(table: &Table, plans: &[&Column]) -> Option<(f64, Vec<bool>)> {
    let none = table.options.len();
    let ends: Vec<f64> = plans.iter().map(|column| table.finish(column.option)).collect();
    let (mean, spread) = mean_and_spread(&ends);
    let per_second = f64::from(table.worth[1] - table.worth[0]) * table.mean_rps;
    if spread > 1e-6 {
        let side = (0..=none).map(|index| table.finish((index < none).then_some(index)) <= mean).collect();
        return Some((spread * per_second, side));
    }
    let first = plans.first()?.option?;
    plans.iter().any(|column| column.option != Some(first)).then(|| (1e-6, (0..=none).map(|index| index == first).collect()))
}

fn mean_and_spread(values: &[f64]) -> (f64, f64) {
    let n = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / n;
    let spread = (values.iter().map(|value| (value - mean) * (value - mean)).sum::<f64>() / n).sqrt();
    // Equal values must not split at a rounding error.
    if spread <= 1e-9 * mean.abs() { (mean, 0.0) } else { (mean, spread) }
}
