//! Who has which memory slices when: a Gantt chart of every GPU.

use anyhow::Result;
use migrator_mig::{Catalog, ProfileId, Site};
use migrator_sim::run::Occupancy;
use migrator_solver::{Task, TaskKind};
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::Subject;
use super::column::MOST;
use crate::figure::{Area, FAINT, GREY, HEADING, INK, LETTER, Mark, Ticks, chart, colour, figure, hatched, ink_on, pale, time, write};

/// Height of a GPU where there is one, and the least where there are many, pixels.
const GPU: (i32, i32) = (240, 88);
/// Height of all GPUs that is not exceeded without need, pixels: up to eight of eight slices, a line of letters fits into each slice.
const ALL: i32 = 1024;
/// Height from which a line of letters fits, pixels.
const LETTERS: i32 = 14;
/// Height of the gap between two GPUs, pixels.
const GAP: i32 = 12;

/// A box of the chart, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Span {
    gpu: usize,
    site: Site,
    task: Option<Task>,
    working: bool,
    from_s: f64,
    to_s: f64,
}

/// Memory slices of each GPU from top to bottom, time from left to right, a box per instance in its tenant's colour.
///
/// # Errors
/// Never in practice: it draws into memory.
pub fn timeline(subject: Subject<'_>) -> Result<String> {
    let (setup, run) = (subject.setup, subject.run);
    let seconds = setup.seconds as f64;
    let width_s = seconds / MOST as f64;
    let coarse = width_s > 1.0;
    let spans = if coarse { coarsened(&run.occupancy, seconds) } else { run.occupancy.iter().map(Span::of).collect() };
    let tenants = setup.tenants.iter().enumerate().map(|(index, tenant)| (Mark::Square(colour(index)), tenant.name.clone()));
    let kinds = [
        (Mark::Hatched(GREY), "striped: retraining"),
        (Mark::Narrow(GREY), "narrow: being set up or drained"),
        (Mark::Empty, "empty: in reserve, or kept by a retraining that is over"),
    ];
    let legend: Vec<(Mark, String)> = tenants.chain(kinds.map(|(mark, words)| (mark, words.to_owned()))).collect();
    let note = if coarse { format!("; per {width_s:.0} s, what lasts longest") } else { String::new() };
    let title = format!("{}: who has which memory slices{note}", subject.title);
    let count = setup.gpus.len().max(1) as i32;
    let most = setup.gpus.iter().map(|catalog| i32::from(catalog.memory_slices)).max().unwrap_or(1).max(1);
    let slice = ((ALL / count).clamp(GPU.1, GPU.0) / most).max(3);
    let height = count * (most * slice + GAP) + 70;
    figure(&title, &legend, height as u32, |area| {
        let chart = chart(area, time(setup.seconds as usize), 0.0..1.0, ("time, s", ""), Ticks::Numbers)?;
        let x = |second: f64| chart.backend_coord(&(second.clamp(0.0, seconds.max(1.0)), 0.0)).0 - area.get_base_pixel().0;
        let rows = Rows { area, catalogs: &setup.gpus, slice, x: &x };
        rows.frame(seconds)?;
        let names: Vec<&str> = setup.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        spans.iter().try_for_each(|span| rows.span(span, &names))
    })
}

/// Where things go on the chart.
struct Rows<'r, 'a> {
    area: &'r Area<'a>,
    catalogs: &'r [Catalog],
    slice: i32,
    x: &'r dyn Fn(f64) -> i32,
}

impl Rows<'_, '_> {
    /// Top of a memory slice of a GPU.
    fn y(&self, gpu: usize, slice: u8) -> i32 {
        let above: i32 = self.catalogs[..gpu].iter().map(|catalog| i32::from(catalog.memory_slices) * self.slice + GAP).sum();
        HEADING as i32 + above + i32::from(slice) * self.slice
    }

    /// GPUs, slices and their names.
    fn frame(&self, seconds: f64) -> Result<()> {
        let (left, right) = ((self.x)(0.0), (self.x)(seconds));
        for (gpu, catalog) in self.catalogs.iter().enumerate() {
            let (top, bottom) = (self.y(gpu, 0), self.y(gpu, catalog.memory_slices));
            self.area.draw(&Rectangle::new([(left, top), (right, bottom)], RGBColor(250, 250, 250).filled()))?;
            write(self.area, &format!("GPU {gpu}"), (8, (top + bottom) / 2), HPos::Left, INK)?;
            for slice in 0..catalog.memory_slices {
                let y = self.y(gpu, slice);
                if self.slice >= LETTERS / 2 {
                    self.area.draw(&PathElement::new([(left, y), (right, y)], FAINT.stroke_width(1)))?;
                }
                if self.slice >= LETTERS + 4 {
                    write(self.area, &slice.to_string(), (left - 8, y + self.slice / 2), HPos::Right, GREY)?;
                }
            }
            self.area.draw(&Rectangle::new([(left, top), (right, bottom)], GREY.stroke_width(1)))?;
        }
        Ok(())
    }

    fn span(&self, span: &Span, names: &[&str]) -> Result<()> {
        let Some(catalog) = self.catalogs.get(span.gpu) else { return Ok(()) };
        let (left, right) = ((self.x)(span.from_s), (self.x)(span.to_s).max((self.x)(span.from_s) + 1));
        let (top, bottom) = (self.y(span.gpu, span.site.placement.start) + 1, self.y(span.gpu, span.site.placement.end()) - 1);
        let corners = [(left, top), (right, bottom)];
        let Some(task) = span.task else {
            self.area.draw(&Rectangle::new(corners, WHITE.filled()))?;
            self.area.draw(&Rectangle::new(corners, GREY.stroke_width(1)))?;
            return self.label(span, catalog, "", corners, GREY);
        };
        let own = colour(task.tenant.index());
        if !span.working {
            let third = (bottom - top) / 3;
            self.area.draw(&Rectangle::new([(left, top + third), (right, bottom - third)], pale(own, 0.6).filled()))?;
            return Ok(());
        }
        let fill = pale(own, 0.8);
        let ink = match task.kind {
            TaskKind::Inference => {
                self.area.draw(&Rectangle::new(corners, fill.filled()))?;
                ink_on(fill)
            }
            TaskKind::Retraining => {
                hatched(self.area, corners[0], corners[1], own)?;
                INK
            }
        };
        self.area.draw(&Rectangle::new(corners, WHITE.stroke_width(1)))?;
        self.label(span, catalog, names.get(task.tenant.index()).copied().unwrap_or_default(), corners, ink)
    }

    /// `3g vision`, or `3g`, or nothing, as there is room.
    fn label(
        &self,
        span: &Span,
        catalog: &Catalog,
        name: &str,
        [(left, top), (right, bottom)]: [(i32, i32); 2],
        ink: RGBColor,
    ) -> Result<()> {
        let shape = shape(catalog, span.site.profile);
        let words = [format!("{shape} {name}"), shape];
        let fits = |words: &&String| words.trim().chars().count() as f64 * LETTER * 1.15 + 6.0 <= f64::from(right - left);
        let Some(words) = words.iter().find(fits).filter(|_| bottom - top >= LETTERS) else { return Ok(()) };
        let at = ((left + right) / 2, (top + bottom) / 2);
        if span.task.is_some_and(|task| task.kind == TaskKind::Retraining) {
            let half = (words.trim().chars().count() as f64 * LETTER * 0.58) as i32 + 2;
            let plate = [(at.0 - half, at.1 - 8), (at.0 + half, at.1 + 8)];
            self.area.draw(&Rectangle::new(plate, WHITE.mix(0.8).filled()))?;
        }
        write(self.area, words.trim(), at, HPos::Center, ink)
    }
}

/// `3g`, or the name of a profile that is called otherwise, as shares are.
fn shape(catalog: &Catalog, id: ProfileId) -> String {
    let profile = catalog.profile(id);
    let slices = profile.name.starts_with(&format!("{}g", profile.compute_slices));
    if slices { catalog.short_name(id) } else { profile.name.clone() }
}

impl Span {
    fn of(occupancy: &Occupancy) -> Span {
        let Occupancy { gpu, site, task, from_s, to_s, working } = *occupancy;
        Span { gpu, site, task, working, from_s, to_s }
    }

    fn same(&self, other: &Span) -> bool {
        (self.gpu, self.site, self.task, self.working) == (other.gpu, other.site, other.task, other.working)
    }
}

/// In each of [`MOST`] columns, the occupancies that last longest and do not overlap, joined where they go on.
fn coarsened(occupancy: &[Occupancy], seconds: f64) -> Vec<Span> {
    let width_s = seconds / MOST as f64;
    let mut columns: Vec<Vec<(f64, Span)>> = vec![Vec::new(); MOST];
    for span in occupancy.iter().map(Span::of) {
        let (first, last) = ((span.from_s / width_s) as usize, (span.to_s / width_s) as usize);
        for (index, column) in columns.iter_mut().enumerate().take(last + 1).skip(first) {
            let (from_s, to_s) = (index as f64 * width_s, (index + 1) as f64 * width_s);
            let lasts = span.to_s.min(to_s) - span.from_s.max(from_s);
            match column.iter_mut().find(|(_, other)| other.same(&span)) {
                Some((known, _)) => *known += lasts,
                None if lasts > 0.0 => column.push((lasts, Span { from_s, to_s, ..span })),
                None => {}
            }
        }
    }
    let mut joined: Vec<Span> = Vec::new();
    for mut column in columns {
        column.sort_by(|(a, _), (b, _)| b.total_cmp(a));
        let mut chosen: Vec<Span> = Vec::new();
        for (_, span) in column {
            let clash = |other: &Span| other.gpu == span.gpu && other.site.placement.overlaps(span.site.placement);
            if !chosen.iter().any(clash) {
                chosen.push(span);
            }
        }
        for span in chosen {
            let before =
                joined.iter_mut().rev().take(MOST).find(|before| before.same(&span) && (before.to_s - span.from_s).abs() < width_s / 2.0);
            match before {
                Some(before) => before.to_s = span.to_s,
                None => joined.push(span),
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::{run, setup};
    use migrator_mig::Placement;
    use migrator_solver::TenantId;

    fn occupancy(start: u8, size: u8, profile: u8, task: Option<Task>, from_s: f64, to_s: f64) -> Occupancy {
        let site = Site { placement: Placement { start, size }, profile: ProfileId(profile) };
        Occupancy { gpu: 0, site, task, from_s, to_s, working: true }
    }

    #[test]
    fn the_chart_names_gpus_shapes_and_owners() {
        let (setup, mut run) = (setup(1), run());
        run.occupancy = vec![
            occupancy(0, 4, 2, Some(Task::inference(TenantId(0))), 0.0, 30.0),
            occupancy(4, 4, 2, Some(Task::retraining(TenantId(1))), 0.0, 60.0),
            occupancy(0, 2, 1, None, 31.0, 60.0),
        ];
        let svg = timeline(Subject { title: "one", setup: &setup, run: &run }).unwrap();
        for words in ["GPU 0", "3g vision", "3g text", ">\n2g\n<", "time, s", "striped: retraining"] {
            assert!(svg.contains(words), "{words}");
        }
    }

    #[test]
    fn in_a_long_run_a_column_shows_what_lasts_longest() {
        let own = Some(Task::inference(TenantId(0)));
        // Columns of 10 s: the blink of 3 s goes, what lasted before and after stays in one piece.
        let runs = [occupancy(0, 4, 2, own, 0.0, 103.0), occupancy(0, 2, 1, own, 103.0, 106.0), occupancy(0, 4, 2, own, 106.0, 6000.0)];
        let spans = coarsened(&runs, 6000.0);
        assert_eq!(spans.len(), 1, "{spans:?}");
        assert_eq!((spans[0].from_s, spans[0].to_s), (0.0, 6000.0));
    }

    #[test]
    fn in_a_long_run_nothing_overlaps() {
        let own = Some(Task::inference(TenantId(0)));
        let runs = [occupancy(0, 4, 2, own, 0.0, 104.0), occupancy(0, 2, 1, own, 104.0, 110.0), occupancy(2, 2, 1, own, 105.0, 6000.0)];
        let spans = coarsened(&runs, 6000.0);
        for (index, a) in spans.iter().enumerate() {
            for b in &spans[..index] {
                let apart = a.to_s <= b.from_s + 1e-9 || b.to_s <= a.from_s + 1e-9 || !a.site.placement.overlaps(b.site.placement);
                assert!(apart, "{a:?} {b:?}");
            }
        }
    }
}
