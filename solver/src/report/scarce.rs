//! What is scarce, from the prices that the solve put on slices.

use crate::problem::Problem;
use crate::shape::Shape;
use crate::view::View;

/// What one more unit of a row of [`Shape::rows`] is worth over some time blocks, in weighted correct answers.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Price {
    row: usize,
    from_s: f64,
    to_s: f64,
    worth: f64,
}

/// Lines at most: the dearest first.
const MOST_LINES: usize = 3;

/// The dearest rows in words, from prices by block and row; blocks in a row are taken together.
pub(super) fn scarce(view: &View, shape: &Shape, prices: &[Vec<f64>]) -> Vec<String> {
    let begins = [0].into_iter().chain(view.ends.iter().copied());
    let blocks = begins.zip(&view.ends).zip(prices);
    let price = |((from, &to), rows): ((usize, &usize), &Vec<f64>)| {
        rows.iter().enumerate().map(|(row, &worth)| Price { row, from_s: from as f64, to_s: to as f64, worth }).collect::<Vec<_>>()
    };
    let mut prices: Vec<Price> = blocks.flat_map(price).filter(|price| price.worth.is_finite() && price.worth >= 0.5).collect();
    prices.sort_by(|a, b| a.row.cmp(&b.row).then(a.from_s.total_cmp(&b.from_s)));
    let mut spans: Vec<Price> = Vec::new();
    for price in prices {
        match spans.last_mut() {
            Some(last) if last.row == price.row && (last.to_s - price.from_s).abs() < 1e-6 => {
                last.to_s = price.to_s;
                last.worth += price.worth;
            }
            _ => spans.push(price),
        }
    }
    spans.sort_by(|a, b| b.worth.total_cmp(&a.worth).then(a.row.cmp(&b.row)));
    spans.truncate(MOST_LINES);
    spans.iter().map(|span| sentence(view.problem, shape, span)).collect()
}

fn sentence(problem: &Problem, shape: &Shape, span: &Price) -> String {
    let what = resource(problem, shape, span.row);
    let when = if span.from_s < 0.5 {
        format!("until +{:.0} s", span.to_s)
    } else {
        format!("between +{:.0} s and +{:.0} s", span.from_s, span.to_s)
    };
    format!("{what} {when}: one more would give about {:.0} more correct answers", span.worth)
}

/// What a row counts: the profiles' compute slices, their memory slices, or places for the larger ones.
fn resource(problem: &Problem, shape: &Shape, row: usize) -> String {
    let Some(row) = shape.rows().get(row) else { return "slices".to_owned() };
    let counted: Vec<(usize, u32)> = row.alpha.iter().copied().enumerate().filter(|(_, alpha)| *alpha > 0).collect();
    let Some(class) = counted.first().map(|(kind, _)| shape.kinds()[*kind].class) else { return "slices".to_owned() };
    let own: Vec<usize> = (0..shape.kinds().len()).filter(|kind| shape.kinds()[*kind].class == class).collect();
    let profile = |kind: usize| problem.models[shape.kinds()[kind].model].catalog.profile(shape.kinds()[kind].profile);
    let matches = |size: &dyn Fn(usize) -> u32| own.iter().all(|kind| row.alpha[*kind] == size(*kind));
    let gpus = &shape.classes()[class].gpus;
    let of = match gpus[..] {
        [gpu] => format!("of GPU {gpu}"),
        _ => format!("of {} GPUs", gpus.len()),
    };
    if matches(&|kind| u32::from(profile(kind).memory_slices)) {
        return format!("memory slices {of}");
    }
    if matches(&|kind| u32::from(profile(kind).compute_slices)) {
        return format!("compute slices {of}");
    }
    let catalog = &problem.models[shape.classes()[class].model].catalog;
    let names: Vec<String> = counted.iter().map(|(kind, _)| catalog.short_name(shape.kinds()[*kind].profile)).collect();
    format!("places for {} {of}", super::list(names))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SolveOptions;
    use crate::testing::{problem, tenant};

    #[test]
    fn rows_are_told_by_what_they_count_and_blocks_in_a_row_are_one_span() {
        let problem = problem(vec![tenant("vision", 40.0)]);
        let (view, shape) = (View::new(&problem, &SolveOptions::default()), Shape::new(&problem));
        let mut prices = vec![vec![0.0; 4]; view.ends.len()];
        (prices[0][2], prices[1][3], prices[2][3], prices[1][0], prices[3][1]) = (7.0, 15.0, 20.0, 9.0, 0.1);
        let [first, second, third] = view.ends[..3] else { panic!("{:?}", view.ends) };
        assert_eq!(
            scarce(&view, &shape, &prices),
            [
                format!("memory slices of GPU 0 between +{first} s and +{third} s: one more would give about 35 more correct answers"),
                format!(
                    "places for 4g and 7g of GPU 0 between +{first} s and +{second} s: one more would give about 9 more correct answers"
                ),
                format!("compute slices of GPU 0 until +{first} s: one more would give about 7 more correct answers"),
            ]
        );
        assert_eq!(scarce(&view, &shape, &[vec![f64::NAN, f64::INFINITY]]), Vec::<String>::new());
    }
}
