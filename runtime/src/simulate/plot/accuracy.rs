//! Accuracy over time.

use anyhow::Result;
use plotters::prelude::*;

use super::Subject;
use super::column::{columns, width};
use crate::figure::{Mark, Ticks, chart, colour, figure, time};

/// Height, pixels.
const HEIGHT: u32 = 480;
/// Accuracy that is left free above and below the lines, %.
const AIR: f64 = 1.0;

/// Accuracy of the version in service, a line per tenant.
///
/// # Errors
/// Never in practice: it draws into memory.
pub fn accuracy(subject: Subject<'_>) -> Result<String> {
    let tenants = &subject.run.tenants;
    let seconds = tenants.iter().map(|tenant| tenant.seconds.len()).max().unwrap_or(0);
    let legend: Vec<(Mark, String)> =
        tenants.iter().enumerate().map(|(index, tenant)| (Mark::Line(colour(index)), tenant.name.clone())).collect();
    let span = if width(seconds) > 1 { format!(" (mean of {} s)", width(seconds)) } else { String::new() };
    let title = format!("{}: accuracy of the version in service{span}", subject.title);
    let lines: Vec<Vec<(f64, f64)>> = tenants
        .iter()
        .map(|tenant| {
            let columns = columns(tenant.seconds.iter().map(|second| f64::from(second.accuracy) * 100.0));
            columns.iter().flat_map(|column| [column.from, column.to].map(|x| (x, column.mean))).collect()
        })
        .collect();
    let all = lines.iter().flatten().map(|(_, y)| *y);
    let (low, high) = (all.clone().fold(f64::INFINITY, f64::min), all.fold(f64::NEG_INFINITY, f64::max));
    let range = if low <= high { (low - AIR).floor().max(0.0)..(high + AIR).ceil().min(100.0) } else { 0.0..100.0 };
    figure(&title, &legend, HEIGHT, |area| {
        let mut chart = chart(area, time(seconds), range, ("time, s", "accuracy, %"), Ticks::Numbers)?;
        for (index, line) in lines.into_iter().enumerate() {
            chart.draw_series(LineSeries::new(line, colour(index).stroke_width(stroke(index, tenants.len()))))?;
        }
        Ok(())
    })
}

/// The first lines are the broadest, so that those that coincide all show, pixels.
fn stroke(index: usize, lines: usize) -> u32 {
    2 + (lines - 1 - index).min(3) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::{run, setup};

    #[test]
    fn every_tenant_has_a_line_and_the_axes_have_units() {
        let (setup, run) = (setup(1), run());
        let svg = accuracy(Subject { title: "one", setup: &setup, run: &run }).unwrap();
        for words in ["vision", "text", "time, s", "accuracy, %"] {
            assert!(svg.contains(words), "{words}");
        }
        assert!(svg.matches("<polyline").count() >= 2, "two lines");
    }

    #[test]
    fn a_run_without_seconds_is_an_empty_plot() {
        let setup = setup(1);
        let run = migrator_sim::Run::default();
        assert!(accuracy(Subject { title: "none", setup: &setup, run: &run }).unwrap().contains("</svg>"));
    }
}
