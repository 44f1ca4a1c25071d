//! Accuracy by window, one line per policy, as SVG.

use std::fmt::Write;
use std::path::Path;

use crate::stage::Report;
use crate::stream::Stream;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 260.0;
const MARGIN: f64 = 44.0;

pub fn write(path: &Path, stream: &Stream, reports: &[Report; 3]) {
    let all = || reports.iter().flat_map(|report| &report.accuracy).copied();
    let least = (all().fold(1.0, f64::min) * 10.0).floor() / 10.0;
    let windows = reports[0].accuracy.len().max(2);
    let x = |window: usize| MARGIN + (WIDTH - 2.0 * MARGIN) * window as f64 / (windows - 1) as f64;
    let y = |accuracy: f64| HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * (accuracy - least) / (1.0 - least).max(0.1);
    let mut out =
        format!(r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" font-family="sans-serif" font-size="12">"##);
    let _ = write!(
        out,
        r##"<rect width="100%" height="100%" fill="white"/><text x="{MARGIN}" y="18">{}: accuracy by window</text>"##,
        stream.name
    );
    for accuracy in [least, (least + 1.0) / 2.0, 1.0] {
        let _ = write!(
            out,
            r##"<text x="8" y="{:.1}">{accuracy:.2}</text><path d="M{MARGIN} {:.1}H{}" stroke="#ddd"/>"##,
            y(accuracy) + 4.0,
            y(accuracy),
            WIDTH - MARGIN
        );
    }
    for (index, (report, (name, colour))) in reports.iter().zip([("never", "#888"), ("always", "#06c"), ("chosen", "#d40")]).enumerate() {
        let points: Vec<String> = report.accuracy.iter().enumerate().map(|(window, a)| format!("{:.1},{:.1}", x(window), y(*a))).collect();
        let _ = write!(out, r##"<polyline points="{}" fill="none" stroke="{colour}" stroke-width="1.5"/>"##, points.join(" "));
        let cost = report.core_s + report.profile_s;
        let at = MARGIN + 200.0 * index as f64;
        let _ =
            write!(out, r##"<text x="{at}" y="{}" fill="{colour}">{name}: {:.3}, {cost:.1} core s</text>"##, HEIGHT - 12.0, report.mean());
        for (window, _) in report.retrained.iter().enumerate().filter(|(_, published)| **published && index == 2) {
            let _ = write!(out, r##"<circle cx="{:.1}" cy="{:.1}" r="3" fill="{colour}"/>"##, x(window), y(report.accuracy[window]));
        }
    }
    out.push_str("</svg>\n");
    if let Err(error) = std::fs::write(path, out) {
        eprintln!("{}: {error}", path.display());
    }
}
