//! How fast answers come, a panel per tenant.

use anyhow::Result;
use migrator_sim::run::TenantRun;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::Subject;
use crate::figure::{ALARM, Area, FAINT, INK, Mark, Ticks, chart, colour, figure, write};

/// Panels in a row.
const ACROSS: usize = 3;
/// Height of a panel, pixels.
const PANEL: u32 = 260;

/// Share of the arrivals answered within so many milliseconds, a panel per tenant, with the SLO. What is shed or fails is never answered, so
/// a line need not reach 100 %.
///
/// # Errors
/// Never in practice: it draws into memory.
pub fn latency(subject: Subject<'_>) -> Result<String> {
    let tenants = &subject.run.tenants;
    let legend = [
        (Mark::Line(colour(0)), "arrivals answered within (the tenant's colour; what is shed or fails never is)".to_owned()),
        (Mark::Line(ALARM), "SLO".to_owned()),
    ];
    let across = ACROSS.min(tenants.len().max(1));
    let rows = tenants.len().div_ceil(across).max(1);
    let title = format!("{}: latency", subject.title);
    figure(&title, &legend, PANEL * rows as u32, |area| {
        for ((index, tenant), panel) in tenants.iter().enumerate().zip(area.split_evenly((rows, across))) {
            let slo_ms = subject.setup.tenants.get(index).map_or(f64::NAN, |tenant| tenant.slo_ms);
            draw(&panel, index, tenant, slo_ms)?;
        }
        Ok(())
    })
}

fn draw(area: &Area<'_>, index: usize, tenant: &TenantRun, slo_ms: f64) -> Result<()> {
    let line = line(&tenant.latency, tenant.arrived);
    let low = line.iter().map(|(x, _)| *x).chain([slo_ms]).filter(|x| *x > 0.0).fold(f64::INFINITY, f64::min);
    let high = line.iter().map(|(x, _)| *x).chain([slo_ms]).fold(1.0, f64::max);
    let low = if low.is_finite() { low.min(high) } else { 1.0 };
    let (low, high) = (low * 0.8, high * 1.3);
    let mut chart = chart(area, low.log10()..high.log10(), 0.0..100.0, ("latency, ms", "answered, %"), Ticks::Own)?;
    for ms in ticks(low, high) {
        chart.draw_series([PathElement::new([(ms.log10(), 0.0), (ms.log10(), 100.0)], FAINT)])?;
        let (x, y) = chart.backend_coord(&(ms.log10(), 0.0));
        let (left, top) = area.get_base_pixel();
        write(area, &ms.to_string(), (x - left, y - top + 13), HPos::Center, INK)?;
    }
    if slo_ms > 0.0 {
        chart.draw_series(LineSeries::new([(slo_ms.log10(), 0.0), (slo_ms.log10(), 100.0)], ALARM.stroke_width(2)))?;
    }
    chart.draw_series(LineSeries::new(line.into_iter().map(|(ms, share)| (ms.log10(), share)), colour(index).stroke_width(3)))?;
    let within = 100.0 * tenant.ok as f64 / (tenant.arrived as f64).max(1.0);
    let name = format!("{}: {within:.1} % within {slo_ms:.0} ms", tenant.name);
    write(area, &name, (76, 12), HPos::Left, INK)
}

/// 1, 2, 5, 10, … milliseconds between two of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let powers = (-3..7).flat_map(|power| [1.0, 2.0, 5.0].map(|digit: f64| digit * 10f64.powi(power)));
    powers.filter(|ms| (low..=high).contains(ms)).collect()
}

/// The share of `arrived`, %, that was answered up to each edge, from the last edge below which nothing was.
fn line(latency: &[(f64, u64)], arrived: u64) -> Vec<(f64, f64)> {
    let mut answered = 0;
    let point = |&(edge, count): &(f64, u64)| {
        answered += count;
        (edge.max(1e-3), 100.0 * answered as f64 / (arrived as f64).max(1.0))
    };
    let empty = latency.iter().take_while(|(_, count)| *count == 0).count();
    latency[empty.saturating_sub(1)..].iter().map(point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::{run, setup};

    #[test]
    fn what_is_shed_never_arrives_at_the_top() {
        assert_eq!(line(&[(1.0, 0), (2.0, 0), (5.0, 20), (10.0, 60)], 100), [(2.0, 0.0), (5.0, 20.0), (10.0, 80.0)]);
        assert_eq!(line(&[], 100), []);
    }

    #[test]
    fn every_tenant_has_its_panel_with_its_slo() {
        let (setup, run) = (setup(1), run());
        let svg = latency(Subject { title: "one", setup: &setup, run: &run }).unwrap();
        for words in ["vision: 90.0 % within 50 ms", "text: 60.0 % within 50 ms", "latency, ms", "answered, %"] {
            assert!(svg.contains(words), "{words}");
        }
    }
}
