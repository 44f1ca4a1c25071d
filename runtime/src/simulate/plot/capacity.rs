//! Arrivals against capacity, a panel per tenant.

use anyhow::Result;
use migrator_sim::run::{Second, TenantRun};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::Subject;
use super::column::{Column, columns, width};
use crate::figure::{ALARM, Area, Chart, GREY, INK, Mark, Ticks, chart, colour, figure, time, write};

/// Height of a panel, pixels.
const PANEL: u32 = 150;
/// Capacity beyond so many times the greatest arrivals is cut off, or the arrivals would be a flat line.
const MOST_CAPACITY: f64 = 2.0;

/// Arrivals, capacity and requests that missed, per second, a panel per tenant.
///
/// # Errors
/// Never in practice: it draws into memory.
pub fn capacity(subject: Subject<'_>) -> Result<String> {
    let tenants = &subject.run.tenants;
    let columns = width(tenants.first().map_or(0, |tenant| tenant.seconds.len()));
    let span = if columns > 1 { format!(", mean of {columns} s") } else { String::new() };
    let legend = [
        (Mark::Square(colour(0)), format!("capacity within the SLO (the tenant's colour, cut off at twice the arrivals){span}")),
        (Mark::Line(INK), format!("arrivals{span}")),
        (Mark::Band(GREY), if columns > 1 { format!("arrivals, least to most in {columns} s") } else { "arrivals".to_owned() }),
        (Mark::Line(ALARM), format!("late, shed or failed{span}")),
    ];
    let shown: Vec<(Mark, String)> =
        legend.into_iter().enumerate().filter(|(index, _)| columns > 1 || *index != 2).map(|(_, entry)| entry).collect();
    let title = format!("{}: arrivals against capacity, requests/s", subject.title);
    let height = PANEL * tenants.len().max(1) as u32 + 40;
    figure(&title, &shown, height, |area| {
        for (index, tenant) in tenants.iter().enumerate() {
            let last = index + 1 == tenants.len();
            let (top, bottom) = (PANEL * index as u32, if last { height } else { PANEL * (index as u32 + 1) });
            let panel = area.clone().shrink((0, top), (crate::figure::WIDTH, bottom - top));
            draw(&panel, index, tenant, last)?;
        }
        Ok(())
    })
}

fn draw(area: &Area<'_>, index: usize, tenant: &TenantRun, last: bool) -> Result<()> {
    let series = |value: fn(&Second) -> f64| columns(tenant.seconds.iter().map(value));
    let arrived = series(|second| f64::from(second.arrived));
    let capacity = series(|second| f64::from(second.capacity_rps));
    let missed = series(|second| f64::from(second.missed));
    let most = |columns: &[Column]| columns.iter().map(|column| column.high).fold(1.0, f64::max);
    let top = most(&arrived).max(most(&missed)).max(most(&capacity).min(MOST_CAPACITY * most(&arrived))) * 1.05;
    let ticks = if last { Ticks::Numbers } else { Ticks::Lines };
    let mut chart = chart(area, time(tenant.seconds.len()), 0.0..top, ("time, s", "requests/s"), ticks)?;
    let steps = |columns: &[Column], value: fn(&Column) -> f64| -> Vec<(f64, f64)> {
        columns.iter().flat_map(|column| [column.from, column.to].map(|x| (x, value(column).min(top)))).collect()
    };
    let own = colour(index);
    fill(&mut chart, &steps(&capacity, |column| column.mean), own.mix(0.3))?;
    let band: Vec<(f64, f64)> =
        steps(&arrived, |column| column.high).into_iter().chain(steps(&arrived, |column| column.low).into_iter().rev()).collect();
    chart.draw_series([Polygon::new(band, GREY.mix(0.35))])?;
    chart.draw_series(LineSeries::new(steps(&capacity, |column| column.mean), own.stroke_width(2)))?;
    chart.draw_series(LineSeries::new(steps(&arrived, |column| column.mean), INK.stroke_width(1)))?;
    chart.draw_series(LineSeries::new(steps(&missed, |column| column.mean), ALARM.stroke_width(2)))?;
    write(area, &tenant.name, (76, 11), HPos::Left, INK)
}

/// The area under a line.
fn fill(chart: &mut Chart<'_, '_>, line: &[(f64, f64)], colour: RGBAColor) -> Result<()> {
    let (Some(first), Some(last)) = (line.first(), line.last()) else { return Ok(()) };
    let shape: Vec<(f64, f64)> = line.iter().copied().chain([(last.0, 0.0), (first.0, 0.0)]).collect();
    chart.draw_series([Polygon::new(shape, colour)])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::{run, setup};

    #[test]
    fn every_tenant_has_a_panel_and_the_axes_have_units() {
        let (setup, run) = (setup(1), run());
        let svg = capacity(Subject { title: "one, migrator, seed 1", setup: &setup, run: &run }).unwrap();
        for words in ["vision", "text", "time, s", "requests/s", "late, shed or failed"] {
            assert!(svg.contains(words), "{words}");
        }
    }
}
