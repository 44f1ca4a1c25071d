//! The planner against the exact optimum of its own model: a dynamic programme over the joint bundles of two tenants (inference only).

use crate::dice::Dice;
use crate::options::SolveOptions;
use crate::planner::plan;
use crate::planner::table::Table;
use crate::problem::{Problem, Scenario, Task, TenantId};
use crate::shape::Shape;
use crate::testing::{instance, problem, tenant};
use crate::view::View;

/// Two tenants whose demand jumps every few seconds, on a GPU that is cut already.
fn drawn(seed: u64) -> Problem {
    let mut dice = Dice(seed);
    let mut one = |name: &str| {
        let mut state = tenant(name, 0.0);
        let mut rps = Vec::new();
        while rps.len() < 120 {
            let (level, seconds) = (dice.below(60) as f64, 3 + dice.below(25));
            rps.extend(std::iter::repeat_n(level, seconds));
        }
        state.demand = Scenario::certain(rps);
        state.accuracy = 0.5 + 0.05 * dice.below(9) as f64;
        state.load_s = 0.5 * dice.below(8) as f64;
        state
    };
    let mut drawn = problem(vec![one("vision"), one("speech")]);
    drawn.costs.preload = dice.below(2) == 0;
    drawn.window_left_s = 30.0 + dice.below(90) as f64;
    let owner = |n: usize| (n < 2).then(|| Task::inference(TenantId(n as u16)));
    drawn.gpus[0].instances = vec![instance(1, 1, 0, owner(dice.below(3))), instance(2, 2, 4, owner(dice.below(3)))];
    drawn
}

/// Best value of two tenants' bundles over all blocks that fit together in each.
fn optimum(tables: &[Table], most: &[u32]) -> f64 {
    let [a, b] = tables else { panic!("two tenants") };
    let (m, n) = (a.bundles.len(), b.bundles.len());
    let fits = |i: usize, j: usize| a.bundles[i].room.iter().zip(&b.bundles[j].room).zip(most).all(|((x, y), most)| x + y <= *most);
    let worth = |table: &Table, block: usize, bundle: usize| {
        let at = block * table.stride + bundle;
        f64::from(table.worth[0] * table.served[at] - table.charge[at])
    };
    let lost =
        |table: &Table, block: usize, from: usize, to: usize| f64::from(table.worth[0] * table.loss(block)[from * table.stride + to]);
    let joint = |block: usize, arrived: &dyn Fn(usize, usize) -> f64| -> Vec<f64> {
        let pairs = (0..m).flat_map(|i| (0..n).map(move |j| (i, j)));
        let value = |(i, j)| if fits(i, j) { arrived(i, j) + worth(a, block, i) + worth(b, block, j) } else { f64::NEG_INFINITY };
        pairs.map(value).collect()
    };
    let first = |i: usize, j: usize| -f64::from(a.worth[0] * a.first[i]) - f64::from(b.worth[0] * b.first[j]);
    let mut best = joint(0, &first);
    for block in 1..a.blocks() {
        let highest = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max);
        let half: Vec<f64> = (0..m)
            .flat_map(|i| (0..n).map(move |j| (i, j)))
            .map(|(i, j)| highest(&mut (0..m).map(|from| best[from * n + j] - lost(a, block, from, i))))
            .collect();
        best = joint(block, &|i, j| highest(&mut (0..n).map(|from| half[i * n + from] - lost(b, block, from, j))));
    }
    best.into_iter().fold(f64::NEG_INFINITY, f64::max)
}

#[test]
fn the_plan_is_within_its_gap_of_the_optimum_and_the_bound_is_never_below_it() {
    for seed in 0..60 {
        let drawn = drawn(seed);
        let options = SolveOptions::default();
        let (view, shape) = (View::new(&drawn, &options), Shape::new(&drawn));
        let tables: Vec<Table> = view.tenants().map(|(id, _)| Table::new(&view, &shape, id, &[])).collect();
        let most: Vec<u32> = shape.rows().iter().map(|row| row.most).collect();
        let (exact, answer) = (optimum(&tables, &most), plan(&view, &shape, &options, None, None));
        // f32 tables: sums differ in the fifth digit.
        let rounding = 1e-4 * exact.abs().max(1.0);
        assert!(answer.bound >= exact - rounding, "seed {seed}: bound {} below the optimum {exact}", answer.bound);
        assert!(answer.value <= exact + rounding, "seed {seed}: {} above the optimum {exact}", answer.value);
        let gap = if answer.optimal { f64::from(options.mip_gap) } else { 0.02 };
        assert!(answer.value >= (1.0 - gap) * exact - rounding, "seed {seed}: {} of {exact}, proven: {}", answer.value, answer.optimal);
    }
}
