//! Bundles: the sets of instances that are worth giving to one tenant's inference.

use crate::problem::TenantId;
use crate::shape::{SEVEN_SLICE_ROWS, Shape};
use crate::view::View;

/// More bundles than this make the integer program slower than plain counts do.
const MOST_BUNDLES: usize = 48;

/// Counts by profile that one tenant may hold: undominated in capacity and room, with what it holds now and every part of that.
/// `None` = too many.
pub(crate) fn bundles(view: &View, shape: &Shape, id: TenantId, held: &[u32]) -> Option<Vec<Vec<u32>>> {
    let parts = parts(held);
    if shape.together.is_empty() || parts.len() > MOST_BUNDLES {
        return None;
    }
    let usable = |counts: &&Vec<u32>| counts.iter().zip(&view.tenant(id).capacity_rps).all(|(&n, &rps)| n == 0 || rps > 0.0);
    let all: Vec<&Vec<u32>> = shape.together.iter().filter(usable).collect();
    let capacity = |counts: &[u32]| {
        let sum: f64 = counts.iter().zip(&view.tenant(id).capacity_rps).map(|(&n, rps)| f64::from(n) * rps).sum();
        sum.min(view.peak_demand(id))
    };
    let beaten = |index: usize| {
        all.iter().enumerate().any(|(other, counts)| {
            let (more, less) = (capacity(counts) - capacity(all[index]), fits_inside(shape, counts, all[index]));
            // Of equals the first stays.
            other != index && less && (more > 1e-9 || more > -1e-9 && (!fits_inside(shape, all[index], counts) || other < index))
        })
    };
    let mut chosen: Vec<Vec<u32>> = (0..all.len()).filter(|&index| !beaten(index)).map(|index| all[index].clone()).collect();
    chosen.extend(parts);
    chosen.sort();
    chosen.dedup();
    (chosen.len() <= MOST_BUNDLES).then_some(chosen)
}

/// Whether `small` takes no more room than `large`, by every row.
fn fits_inside(shape: &Shape, small: &[u32], large: &[u32]) -> bool {
    if !shape.seven_slices {
        return small.iter().zip(large).all(|(a, b)| a <= b);
    }
    let used = |row: &[u32; 5], counts: &[u32]| row.iter().zip(counts).map(|(alpha, n)| alpha * n).sum::<u32>();
    SEVEN_SLICE_ROWS.iter().all(|(row, _)| used(row, small) <= used(row, large))
}

/// Every part of `held`, itself and nothing included.
fn parts(held: &[u32]) -> Vec<Vec<u32>> {
    let mut parts = vec![Vec::new()];
    for &most in held {
        parts = parts.into_iter().flat_map(|part| (0..=most).map(move |n| [part.clone(), vec![n]].concat())).collect();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::SolveOptions;
    use crate::testing::{problem, tenant};

    #[test]
    fn bundles_are_undominated_and_hold_what_is_held() {
        let problem = problem(vec![tenant("vision", 25.0)]);
        let view = View::new(&problem, &SolveOptions::default());
        let shape = Shape::new(&problem.gpus[0].catalog, 1);
        let found = bundles(&view, &shape, TenantId(0), &[0, 0, 1, 0, 0]).unwrap();
        assert!(found.contains(&vec![0; 5]) && found.contains(&vec![0, 0, 1, 0, 0]) && found.contains(&vec![3, 0, 0, 0, 0]));
        assert!(!found.contains(&vec![4, 0, 0, 0, 0]), "3 × 1g answer all");
        assert!(found.len() < 12, "{found:?}");
    }
}
