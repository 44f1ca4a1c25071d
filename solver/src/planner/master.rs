//! The restricted master: the best combination of the plans seen, as an integer program (`reference/ilp.md` section 2, F5).

use good_lp::solvers::microlp::microlp;
use good_lp::{Expression, ProblemVariables, Solution, SolverModel, Variable, WithMipGap, WithTimeLimit, constraint, variable};

use crate::planner::price::{Column, add_room, value};
use crate::planner::primal::Incumbent;
use crate::planner::table::Table;

/// Chooses one of the `seen` plans for every tenant; `None` when the time was too short or nothing fits together.
pub(crate) fn combine(tables: &[Table], seen: &[Vec<Column>], most: &[i32], rows: usize, seconds: f64, gap: f32) -> Option<Incumbent> {
    let mut variables = ProblemVariables::new();
    let mut objective = Expression::from(0.0);
    let mut used = vec![Expression::from(0.0); most.len()];
    let mut chosen: Vec<Vec<Variable>> = Vec::new();
    for (table, columns) in tables.iter().zip(seen) {
        let mut own = Vec::new();
        for column in columns {
            let x = variables.add(variable().binary());
            objective += value(table, column) * x;
            let mut room = vec![0; most.len()];
            add_room(table, column, rows, 1, &mut room);
            used.iter_mut().zip(room).filter(|(_, room)| *room > 0).for_each(|(sum, room)| *sum += f64::from(room) * x);
            own.push(x);
        }
        chosen.push(own);
    }
    let mut model = variables.maximise(objective).using(microlp).with_time_limit(seconds).with_mip_gap(gap.max(0.0)).ok()?;
    for own in &chosen {
        // (M1) Σ_p x_ip = 1
        let one: Expression = own.iter().map(|x| Expression::from(*x)).sum();
        model.add_constraint(constraint!(one == 1.0));
    }
    for (sum, most) in used.into_iter().zip(most) {
        // (M2 b, k) Σ_i Σ_p Σ_q α_kq (n_qb(p) + u_qb(p)) x_ip ≤ h_k |G|
        model.add_constraint(constraint!(sum <= f64::from(*most)));
    }
    let solution = model.solve().ok()?;
    let pick = |(own, columns): (&Vec<Variable>, &Vec<Column>)| {
        own.iter().zip(columns).find(|(x, _)| solution.value(**x) > 0.5).map(|(_, column)| column.clone())
    };
    let columns: Vec<Column> = chosen.iter().zip(seen).map(pick).collect::<Option<_>>()?;
    let mut left = most.to_vec();
    tables.iter().zip(&columns).for_each(|(table, column)| add_room(table, column, rows, -1, &mut left));
    // Whatever the back-end says at its time limit: only what fits is a plan.
    if left.iter().any(|left| *left < 0) {
        return None;
    }
    let value = tables.iter().zip(&columns).map(|(table, column)| value(table, column)).sum();
    Some(Incumbent { columns, value })
}
