//! Policies side by side.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use crate::figure::{Area, FAINT, GREY, INK, LETTER, Mark, WIDTH, colour, figure, pale, write};
use crate::simulate::report::{PolicyReport, Report};
use crate::simulate::statistic::Estimate;

/// Height of a bar with the gap, pixels.
const BAR: i32 = 24;
/// Height of a panel's heading and axis, pixels.
const FRAME: i32 = 64;
/// Panels in a row.
const ACROSS: i32 = 2;
/// Room for a bar's number, pixels.
const NUMBER: i32 = 110;

/// Goodput by policy with its interval, a panel per scenario and one over all.
///
/// # Errors
/// Never in practice: it draws into memory.
pub fn policies(report: &Report) -> Result<String> {
    let mut panels: Vec<(String, &[PolicyReport])> =
        report.scenarios.iter().map(|scenario| (scenario.heading.name.clone(), &scenario.policies[..])).collect();
    if !report.overall.is_empty() {
        panels.push((format!("all {} scenarios", report.scenarios.len()), &report.overall));
    }
    let bars = panels.iter().map(|(_, policies)| policies.len()).max().unwrap_or(0) as i32;
    let across = ACROSS.min(panels.len().max(1) as i32);
    let rows = (panels.len() as i32 + across - 1) / across;
    let (width, height) = (WIDTH as i32 / across, bars * BAR + FRAME);
    let legend = [
        (Mark::Square(colour(0)), report.reference.clone()),
        (Mark::Square(pale(colour(0), 0.45)), "the others".to_owned()),
        (Mark::Empty, "the oracle, an upper bound".to_owned()),
        (Mark::Line(INK), "95 % interval over the seeds".to_owned()),
    ];
    figure("Goodput: share of the arrivals answered on time and correctly", &legend, (rows * height) as u32, |area| {
        for (index, (name, policies)) in (0i32..).zip(&panels) {
            let corner = (index % across * width, index / across * height);
            let panel = area.clone().shrink(corner, (width as u32, height as u32));
            draw(&panel, name, policies, &report.reference)?;
        }
        Ok(())
    })
}

fn draw(area: &Area<'_>, name: &str, policies: &[PolicyReport], reference: &str) -> Result<()> {
    let width = area.dim_in_pixel().0 as i32;
    let longest = policies.iter().map(|policy| policy.name.chars().count()).max().unwrap_or(0).min(34);
    let left = 24 + (longest as f64 * LETTER * 1.1) as i32;
    let right = width - NUMBER;
    let x = |share: f64| left + (share.clamp(0.0, 1.0) * f64::from(right - left)) as i32;
    let bottom = 30 + policies.len() as i32 * BAR;
    write(area, name, (left, 14), HPos::Left, INK)?;
    for percent in [0, 25, 50, 75, 100] {
        let at = x(f64::from(percent) / 100.0);
        area.draw(&PathElement::new([(at, 28), (at, bottom)], FAINT.stroke_width(1)))?;
        let label = if percent == 100 { "100 %".to_owned() } else { percent.to_string() };
        write(area, &label, (at, bottom + 12), HPos::Center, GREY)?;
    }
    for (row, policy) in (0i32..).zip(policies) {
        let y = 30 + row * BAR;
        write(area, &shortened(&policy.name), (left - 8, y + BAR / 2), HPos::Right, INK)?;
        let Some(goodput) = policy.metrics[0] else {
            write(area, "no numbers", (left + 6, y + BAR / 2), HPos::Left, GREY)?;
            continue;
        };
        bar(area, goodput, (left, y), &x, style(&policy.name, reference))?;
        let number = match goodput.half_width() {
            Some(half) => format!("{:.1} ± {:.1}", goodput.value() * 100.0, half * 100.0),
            None => format!("{:.1}", goodput.value() * 100.0),
        };
        write(area, &number, (right + 8, y + BAR / 2), HPos::Left, INK)?;
    }
    Ok(())
}

fn bar(area: &Area<'_>, goodput: Estimate, (left, y): (i32, i32), x: &dyn Fn(f64) -> i32, style: ShapeStyle) -> Result<()> {
    area.draw(&Rectangle::new([(left, y + 4), (x(goodput.value()), y + BAR - 4)], style))?;
    if let Some((low, high)) = goodput.interval() {
        let middle = y + BAR / 2;
        area.draw(&PathElement::new([(x(low), middle), (x(high), middle)], INK.stroke_width(2)))?;
        for end in [low, high] {
            area.draw(&PathElement::new([(x(end), middle - 4), (x(end), middle + 4)], INK.stroke_width(2)))?;
        }
    }
    Ok(())
}

fn style(name: &str, reference: &str) -> ShapeStyle {
    match name {
        "oracle" => GREY.stroke_width(1),
        name if name == reference => colour(0).filled(),
        _ => pale(colour(0), 0.45).filled(),
    }
}

/// Long names of variants end in an ellipsis.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(34) {
        Some((cut, _)) => format!("{}…", &name[..cut]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::report;

    #[test]
    fn every_scenario_has_a_panel_and_every_policy_a_bar_with_its_number() {
        let svg = policies(&report()).unwrap();
        for words in ["one", "two", "all 2 scenarios", "migrator", "ekya", "oracle", "80.5 ± 6.4", "59.5 ± 1.5"] {
            assert!(svg.contains(words), "{words}");
        }
    }
}
