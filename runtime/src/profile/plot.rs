//! What was measured, drawn: latency and rate by batch and profile, and retraining by profile, a row per tenant.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{ProfileFigures, TenantFigures};
use crate::curve::own;
use crate::figure::{ALARM, Area, FAINT, INK, Mark, Ticks, chart, colour, figure, write};

/// Height of a row, pixels.
const ROW: u32 = 260;
/// Charts beside each other.
const ACROSS: usize = 3;
/// Latency beyond so many SLOs is cut off.
const MOST: f64 = 2.0;
/// Half the width of a bar, of the distance between two.
const HALF: f64 = 0.35;

/// A row of charts per tenant, as SVG.
///
/// # Errors
/// Never in practice: it draws into memory.
pub fn draw(title: &str, found: &[TenantFigures]) -> Result<String> {
    let mut slices: Vec<u8> = found.iter().flat_map(|tenant| tenant.profiles.iter().map(|profile| profile.slices)).collect();
    slices.sort_unstable();
    slices.dedup();
    let colour_of = |slices_of: u8| colour(slices.iter().position(|known| *known == slices_of).unwrap_or(0));
    let mut legend: Vec<(Mark, String)> = slices.iter().map(|&of| (Mark::Line(colour_of(of)), own::profile(of))).collect();
    legend.push((Mark::Line(ALARM), "SLO; a plan uses batches below half of it".to_owned()));
    let rows = found.len().max(1);
    figure(&format!("{title}: measured by profile"), &legend, ROW * rows as u32, |area| {
        let panels = area.split_evenly((rows, ACROSS));
        for (tenant, panels) in found.iter().zip(panels.chunks(ACROSS)) {
            let [latency, rate, training] = panels else { continue };
            self::latency(latency, tenant, &colour_of)?;
            self::rate(rate, tenant, &colour_of)?;
            self::training(training, tenant, &colour_of)?;
        }
        Ok(())
    })
}

/// Points of a profile by the logarithm of the batch.
fn line(profile: &ProfileFigures, value: impl Fn(&super::BatchFigures) -> f64) -> Vec<(f64, f64)> {
    profile.batches.iter().map(|batch| (f64::from(batch.batch).log2(), value(batch))).collect()
}

fn latency(area: &Area<'_>, tenant: &TenantFigures, colour_of: &dyn Fn(u8) -> RGBColor) -> Result<()> {
    let top = MOST * tenant.slo_ms.max(1e-3);
    let lines: Vec<_> = tenant.profiles.iter().map(|of| (of.slices, line(of, |batch| batch.p50_ms.min(top)))).collect();
    let most = lines.iter().flat_map(|(_, line)| line).map(|(_, ms)| *ms).fold(0.0, f64::max);
    let top = top.min(most.max(1e-3) * 1.1);
    let slo = (tenant.slo_ms <= top).then_some(tenant.slo_ms);
    by_batch(area, tenant, "p50 of a batch, ms", top, &lines, colour_of, slo)?;
    write(area, &format!("{}: latency of one batch alone", tenant.tenant), (76, 12), HPos::Left, INK)
}

fn rate(area: &Area<'_>, tenant: &TenantFigures, colour_of: &dyn Fn(u8) -> RGBColor) -> Result<()> {
    let lines: Vec<_> = tenant.profiles.iter().map(|of| (of.slices, line(of, |batch| batch.rows_per_s))).collect();
    let most = lines.iter().flat_map(|(_, line)| line).map(|(_, rate)| *rate).fold(1e-3, f64::max);
    by_batch(area, tenant, "rows/s", most * 1.1, &lines, colour_of, None)?;
    write(area, &format!("{}: rows/s of a busy instance", tenant.tenant), (76, 12), HPos::Left, INK)
}

fn by_batch(
    area: &Area<'_>,
    tenant: &TenantFigures,
    name: &str,
    top: f64,
    lines: &[(u8, Vec<(f64, f64)>)],
    colour_of: &dyn Fn(u8) -> RGBColor,
    slo_ms: Option<f64>,
) -> Result<()> {
    let batches = tenant.profiles.iter().flat_map(|profile| &profile.batches).map(|batch| batch.batch);
    let mut batches: Vec<u32> = batches.collect();
    batches.sort_unstable();
    batches.dedup();
    let last = batches.last().map_or(1.0, |batch| f64::from(*batch).log2()).max(1.0);
    let mut chart = chart(area, -0.2..last + 0.2, 0.0..top, ("rows of a batch", name), Ticks::Own)?;
    let (left, above) = area.get_base_pixel();
    for batch in batches {
        let at = f64::from(batch).log2();
        chart.draw_series([PathElement::new([(at, 0.0), (at, top)], FAINT)])?;
        let (x, y) = chart.backend_coord(&(at, 0.0));
        write(area, &batch.to_string(), (x - left, y - above + 13), HPos::Center, INK)?;
    }
    if let Some(slo_ms) = slo_ms {
        chart.draw_series([PathElement::new([(-0.2, slo_ms), (last + 0.2, slo_ms)], ALARM.stroke_width(2))])?;
    }
    for (slices, line) in lines {
        let own = colour_of(*slices);
        chart.draw_series(line.iter().map(|&at| Circle::new(at, 3, own.filled())))?;
        chart.draw_series(LineSeries::new(line.iter().copied(), own.stroke_width(2)))?;
    }
    Ok(())
}

fn training(area: &Area<'_>, tenant: &TenantFigures, colour_of: &dyn Fn(u8) -> RGBColor) -> Result<()> {
    let rate = |profile: &ProfileFigures| profile.training.as_ref().map_or(0.0, |of| f64::from(of.batch) / of.iteration_s.max(1e-9));
    let most = tenant.profiles.iter().map(rate).fold(1e-3, f64::max);
    let count = tenant.profiles.len().max(1) as f64;
    let mut chart = chart(area, -0.5..count - 0.5, 0.0..most * 1.1, ("profile", "samples/s"), Ticks::Own)?;
    let (left, above) = area.get_base_pixel();
    for (index, profile) in tenant.profiles.iter().enumerate() {
        let (at, rate) = (index as f64, rate(profile));
        chart.draw_series([Rectangle::new([(at - HALF, 0.0), (at + HALF, rate)], colour_of(profile.slices).filled())])?;
        let (x, y) = chart.backend_coord(&(at, 0.0));
        write(area, &own::profile(profile.slices), (x - left, y - above + 13), HPos::Center, INK)?;
        if profile.training.is_none() {
            write(area, "none", (x - left, y - above - 10), HPos::Center, INK)?;
        }
    }
    write(area, &format!("{}: retraining", tenant.tenant), (76, 12), HPos::Left, INK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::serving::BatchFigures;
    use crate::profile::training::TrainFigures;

    #[test]
    fn every_tenant_has_a_row_with_latency_rate_and_retraining() {
        let batch = |batch: u32, ms: f64| BatchFigures { batch, p50_ms: ms, p99_ms: ms, rows_per_s: f64::from(batch) * 1000.0 / ms };
        let training = Some(TrainFigures { batch: 32, iteration_s: 0.5, core_s: 0.25, memory_mib: 200 });
        let batches = vec![batch(1, 5.0), batch(8, 21.0)];
        let one = ProfileFigures { slices: 1, share: 0.3, load_s: 1.0, memory_mib: 90, batches, training };
        let none = ProfileFigures { slices: 7, share: 2.0, load_s: 0.0, memory_mib: 0, batches: Vec::new(), training: None };
        let tenant = |name: &str| TenantFigures {
            tenant: name.into(),
            model: "m".into(),
            version: 1,
            slo_ms: 20.0,
            profiles: vec![one.clone(), none.clone()],
        };
        let svg = draw("cpu", &[tenant("vision"), tenant("text")]).unwrap();
        for words in
            ["cpu: measured by profile", "vision: latency", "text: retraining", "rows of a batch", "samples/s", "7g", "none", "SLO"]
        {
            assert!(svg.contains(words), "{words}");
        }
        assert!(svg.contains(&format!("width=\"{}\"", crate::figure::WIDTH)));
        draw("cpu", &[]).unwrap();
    }
}
