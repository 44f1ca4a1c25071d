//! What all plots have in common: size, colours, letters, legend, axes.

use std::ops::Range;

use anyhow::Result;
use plotters::chart::ChartContext;
use plotters::coord::Shift;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Width of every plot, pixels.
pub const WIDTH: u32 = 1200;
/// Letters and axes.
pub const INK: RGBColor = RGBColor(40, 40, 40);
/// Lines that guide the eye.
pub const FAINT: RGBColor = RGBColor(228, 228, 228);
/// What is less important.
pub const GREY: RGBColor = RGBColor(140, 140, 140);
/// What went wrong.
pub const ALARM: RGBColor = RGBColor(213, 94, 0);
/// Height of the letters, as plotters counts it: 1.24 times the pixels.
const LETTERS: f64 = 16.0;
/// Mean width of a letter of that size, pixels.
pub const LETTER: f64 = 6.6;
/// Height of a line of the legend, pixels.
const LINE: i32 = 22;
/// Height of the line above a chart, pixels.
pub const HEADING: u32 = 22;
/// Height of the title, pixels.
const TITLE: i32 = 34;

/// Okabe and Ito's colours without black and without the vermilion, which stands for what goes wrong; then seven that are told from them and
/// from each other by lightness as well (most of Tol's muted ones).
const COLOURS: [RGBColor; 14] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(150, 130, 20),
    RGBColor(110, 110, 110),
    RGBColor(51, 34, 136),
    RGBColor(136, 34, 85),
    RGBColor(221, 204, 119),
    RGBColor(17, 90, 51),
    RGBColor(178, 160, 224),
    RGBColor(120, 70, 30),
    RGBColor(160, 222, 205),
];

/// A part of a plot.
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// A part of a plot with axes.
pub type Chart<'c, 'a> = ChartContext<'c, SVGBackend<'a>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// How an entry of a legend looks.
#[derive(Clone, Copy, Debug)]
pub enum Mark {
    /// A filled square.
    Square(RGBColor),
    /// A line.
    Line(RGBColor),
    /// A band.
    Band(RGBColor),
    /// A hatched square.
    Hatched(RGBColor),
    /// A square of less height.
    Narrow(RGBColor),
    /// An empty square.
    Empty,
}

/// The colour of a tenant; from the fifteenth on the first ones again, paler.
pub fn colour(tenant: usize) -> RGBColor {
    let own = COLOURS[tenant % COLOURS.len()];
    if tenant < COLOURS.len() { own } else { pale(own, 0.45) }
}

/// The colour of letters on this one.
pub fn ink_on(RGBColor(r, g, b): RGBColor) -> RGBColor {
    // Luma of BT.601; the letters are darker than its lower third.
    let luma = 0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b);
    if luma < 120.0 { WHITE } else { INK }
}

/// `colour` on white, so much of it.
pub fn pale(RGBColor(r, g, b): RGBColor, share: f64) -> RGBColor {
    let mix = |c: u8| (255.0 - (255.0 - f64::from(c)) * share) as u8;
    RGBColor(mix(r), mix(g), mix(b))
}

/// The text of a plot of this height with a title and a legend; `draw` gets what is below them.
pub fn figure(title: &str, legend: &[(Mark, String)], height: u32, draw: impl FnOnce(&Area<'_>) -> Result<()>) -> Result<String> {
    let rows = rows(legend);
    let top = TITLE + rows.len() as i32 * LINE + 4;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height + top as u32)).into_drawing_area();
        root.fill(&WHITE)?;
        let bold = TextStyle::from(("sans-serif", 20).into_font().style(FontStyle::Bold)).color(&INK);
        root.draw(&Text::new(title.to_owned(), (14, 9), bold))?;
        for (row, entries) in rows.iter().enumerate() {
            for &(x, index) in entries {
                let (mark, name) = &legend[index];
                entry(&root, *mark, name, (x, TITLE + row as i32 * LINE))?;
            }
        }
        let (_, rest) = root.split_vertically(top);
        draw(&rest)?;
        root.present()?;
    }
    Ok(svg)
}

/// Where the entries of a legend go: by line, (x, index).
fn rows(legend: &[(Mark, String)]) -> Vec<Vec<(i32, usize)>> {
    let mut rows: Vec<Vec<(i32, usize)>> = Vec::new();
    let mut x = WIDTH as i32;
    for (index, (_, name)) in legend.iter().enumerate() {
        let width = 46 + (name.chars().count() as f64 * LETTER * 1.08) as i32;
        if x + width > WIDTH as i32 {
            rows.push(Vec::new());
            x = 14;
        }
        if let Some(row) = rows.last_mut() {
            row.push((x, index));
        }
        x += width;
    }
    rows
}

fn entry(area: &Area<'_>, mark: Mark, name: &str, (x, y): (i32, i32)) -> Result<()> {
    let (left, right, top, bottom) = (x, x + 22, y + 3, y + 17);
    let square = |top, bottom, style: ShapeStyle| Rectangle::new([(left, top), (right, bottom)], style);
    match mark {
        Mark::Square(colour) => area.draw(&square(top, bottom, colour.filled()))?,
        Mark::Band(colour) => area.draw(&square(top, bottom, pale(colour, 0.35).filled()))?,
        Mark::Line(colour) => area.draw(&PathElement::new([(left, y + 10), (right, y + 10)], colour.stroke_width(3)))?,
        Mark::Hatched(colour) => hatched(area, (left, top), (right, bottom), colour)?,
        Mark::Narrow(colour) => area.draw(&square(y + 8, y + 12, colour.filled()))?,
        Mark::Empty => area.draw(&square(top, bottom, GREY.stroke_width(1)))?,
    }
    write(area, name, (x + 28, y + 10), HPos::Left, INK)
}

/// A rectangle that is paler and striped.
pub fn hatched(area: &Area<'_>, (left, top): (i32, i32), (right, bottom): (i32, i32), colour: RGBColor) -> Result<()> {
    /// Pixels from stripe to stripe.
    const STRIPE: usize = 7;
    area.draw(&Rectangle::new([(left, top), (right, bottom)], pale(colour, 0.3).filled()))?;
    let height = bottom - top;
    for start in (left - height..right).step_by(STRIPE) {
        let (from, to) = (start.max(left), (start + height).min(right));
        if from < to {
            area.draw(&PathElement::new([(from, bottom - (from - start)), (to, bottom - (to - start))], colour.stroke_width(1)))?;
        }
    }
    Ok(())
}

/// Words at a place, centred on its height.
pub fn write(area: &Area<'_>, text: &str, at: (i32, i32), side: HPos, colour: RGBColor) -> Result<()> {
    let style = letters().color(&colour).pos(Pos::new(side, VPos::Center));
    Ok(area.draw(&Text::new(text.to_owned(), at, style))?)
}

/// The usual letters.
pub fn letters() -> TextStyle<'static> {
    TextStyle::from(("sans-serif", LETTERS).into_font()).color(&INK)
}

/// What is drawn along the axis of x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ticks {
    /// Lines, numbers, and the axis' name.
    Numbers,
    /// Lines only.
    Lines,
    /// The axis' name only: the caller draws lines and numbers.
    Own,
}

/// A chart with axes and their names; without a name y has no numbers. Above it is room for one line of letters.
pub fn chart<'c, 'a>(area: &'c Area<'a>, x: Range<f64>, y: Range<f64>, names: (&str, &str), ticks: Ticks) -> Result<Chart<'c, 'a>> {
    let mut chart = ChartBuilder::on(area)
        .margin_right(20)
        .margin_top(HEADING)
        .set_label_area_size(LabelAreaPosition::Left, 74)
        .set_label_area_size(LabelAreaPosition::Bottom, if ticks == Ticks::Lines { 8 } else { 46 })
        .build_cartesian_2d(x.clone(), y.clone())?;
    let (x_digits, y_digits) = (digits(&x), digits(&y));
    let x_label = |value: &f64| if ticks == Ticks::Numbers { format!("{value:.x_digits$}") } else { String::new() };
    let mut mesh = chart.configure_mesh();
    if ticks == Ticks::Own {
        mesh.disable_x_mesh();
    }
    mesh.light_line_style(TRANSPARENT)
        .bold_line_style(FAINT)
        .axis_style(GREY)
        .label_style(letters())
        .x_labels(10)
        .y_labels(if names.1.is_empty() { 0 } else { (area.dim_in_pixel().1 as usize / 40).clamp(2, 8) })
        .x_label_formatter(&x_label)
        .y_label_formatter(&|value| format!("{value:.y_digits$}"))
        .x_desc(if ticks == Ticks::Lines { "" } else { names.0 })
        .y_desc(names.1)
        .draw()?;
    Ok(chart)
}

/// Digits that tell one label from the next.
fn digits(range: &Range<f64>) -> usize {
    match range.end - range.start {
        span if span > 8.0 => 0,
        span if span > 0.8 => 1,
        _ => 2,
    }
}

/// The seconds of a plot: at least one, so that there is an axis.
pub fn time(seconds: usize) -> Range<f64> {
    0.0..seconds.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_legend_goes_on_in_the_next_line() {
        let legend: Vec<(Mark, String)> = (0..20).map(|index| (Mark::Empty, format!("a tenant with number {index}"))).collect();
        let rows = rows(&legend);
        assert!(rows.len() > 1 && rows.iter().all(|row| row[0].0 == 14));
        assert_eq!(rows.iter().map(Vec::len).sum::<usize>(), 20);
    }

    #[test]
    fn letters_are_dark_on_pale_and_white_on_dark_and_no_two_of_sixteen_tenants_look_alike() {
        assert_eq!((ink_on(RGBColor(230, 159, 0)), ink_on(RGBColor(51, 34, 136))), (INK, WHITE));
        let far = |a: RGBColor, b: RGBColor| a.0.abs_diff(b.0) as u32 + a.1.abs_diff(b.1) as u32 + a.2.abs_diff(b.2) as u32;
        let pairs = (0..16).flat_map(|a| (0..a).map(move |b| (a, b)));
        let alike: Vec<(usize, usize)> = pairs.filter(|&(a, b)| far(colour(a), colour(b)) < 50).collect();
        assert_eq!(alike, []);
    }

    #[test]
    fn a_paler_colour_is_nearer_to_white() {
        assert_eq!(pale(RGBColor(0, 100, 255), 0.5), RGBColor(127, 177, 255));
    }
}
