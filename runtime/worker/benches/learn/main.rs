//! What knowing the gain is worth, on real streams: accuracy over time without retraining, with retraining in every window, and where a
//! window is retrained only if it is foretold to be worth it, and how; and how right the microprofiles were.
//!
//! `cargo bench -p migrator-worker --bench learn -- [NAME]…`, with `MIGRATOR_DATA` naming the folder of the data (`../shared/data`) and
//! `LEARN_OUT` the folder for the plots. The machine that decides is the server's; it is driven on virtual time, and trains in this process.
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "it measures")]

mod plot;
mod stage;
mod stream;

use std::path::PathBuf;

use stage::{Policy, Report, Stage};
use stream::Stream;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let folder = std::env::var_os("MIGRATOR_DATA").map_or_else(|| PathBuf::from("../shared/data"), PathBuf::from);
    let streams: Vec<Stream> = stream::all(&folder).into_iter().filter(|s| wanted.is_empty() || wanted.contains(&s.name)).collect();
    if streams.is_empty() {
        println!("skipped: no data under {}", folder.display());
        return;
    }
    println!(
        "| stream | windows × samples | never | always | chosen | of always | core s always | core s chosen | of it microprofiles | cost |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let all: Vec<(Stream, [Report; 3])> = streams.into_iter().map(measured).collect();
    println!(
        "\n| stream | retrainings | accuracy: median, p90 error | gain: median error | time: median error | microprofile, share of a window |"
    );
    println!("|---|---|---|---|---|---|");
    all.iter().for_each(|(stream, reports)| foretold(stream, reports));
    let pooled: Vec<(f64, f64)> = all.iter().flat_map(|(_, reports)| reports[1].foretold.iter().map(|f| (f.after, f.came))).collect();
    println!(
        "\nall {}: median error of accuracy {:.1} %",
        pooled.len(),
        100.0 * quantile(pooled.iter().map(|(a, b)| (a - b).abs() / b.max(1e-9)), 0.5)
    );
    if let Some(out) = std::env::var_os("LEARN_OUT") {
        all.iter().for_each(|(stream, reports)| plot::write(&PathBuf::from(&out).join(format!("{}.svg", stream.name)), stream, reports));
    }
}

fn measured(stream: Stream) -> (Stream, [Report; 3]) {
    let reports = [Policy::Never, Policy::Always, Policy::Chosen].map(|policy| Stage::new(&stream, policy).run());
    let [never, always, chosen] = &reports;
    println!(
        "| {} | {} × {} | {:.4} | {:.4} | {:.4} | {:.1} % | {:.1} | {:.1} | {:.1} | {:.0} % |",
        stream.name,
        stream.windows(),
        stream.window,
        never.mean(),
        always.mean(),
        chosen.mean(),
        100.0 * chosen.mean() / always.mean(),
        always.core_s,
        chosen.core_s + chosen.profile_s,
        chosen.profile_s,
        100.0 * (chosen.core_s + chosen.profile_s) / always.core_s,
    );
    (stream, reports)
}

fn foretold(stream: &Stream, reports: &[Report; 3]) {
    let all = &reports[1].foretold;
    let relative = |a: f64, b: f64| (a - b).abs() / b.max(1e-9);
    println!(
        "| {} | {} | {:.1} %, {:.1} % | {:.1} points | {:.0} % | {:.1} % |",
        stream.name,
        all.len(),
        100.0 * quantile(all.iter().map(|f| relative(f.after, f.came)), 0.5),
        100.0 * quantile(all.iter().map(|f| relative(f.after, f.came)), 0.9),
        100.0 * quantile(all.iter().map(|f| (f.after - f.came).abs()), 0.5),
        100.0 * quantile(all.iter().map(|f| relative(f.core_s, f.took)), 0.5),
        100.0 * reports[2].profile_s / reports[2].accuracy.len() as f64 / stage::WINDOW_S / stage::CORES,
    );
}

fn quantile(values: impl Iterator<Item = f64>, q: f64) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(((values.len() as f64 - 1.0) * q).round() as usize).copied().unwrap_or(f64::NAN)
}
