//! The tables.

use migrator_instances::Window;
use migrator_instances::closed_loop::{Conditions, Foresight};
use migrator_instances::host::Execution;
use migrator_solver::forecast::{Decaying, Ewma, Holt, LastValue, SlidingQuantile};
use migrator_solver::{Forecaster, SolveOptions};

use crate::measure::{COLUMNS, Case, Mean, traces};

/// By name.
pub const ALL: [(&str, fn()); 7] = [
    ("synthetic", synthetic),
    ("real", real),
    ("forecast", forecast),
    ("horizon", horizon),
    ("every", every),
    ("gap", gap),
    ("dwell", dwell),
];

const SIZES: [(usize, usize); 2] = [(1, 4), (8, 16)];

fn default_forecaster() -> Box<dyn Forecaster> {
    Box::new(Decaying::default())
}

fn head(what: &str) {
    println!("| {what} | {COLUMNS} |\n|{}", "---|".repeat(5));
}

fn line(name: &str, case: &Case, mean: &Mean) {
    println!("| {name} | {} |", mean.row(case.windows.len()));
}

fn preloaded(window: &Window) -> Window {
    let mut window = window.clone();
    (window.times.preload, window.times.handover_s) = (true, 0.3);
    window
}

/// What the proven gap of a solve may be when the solver's own loss is to be told.
fn tight() -> SolveOptions {
    SolveOptions { mip_gap: 5e-4, time_limit_ms: 2000, ..SolveOptions::default() }
}

fn synthetic() {
    losses(&SIZES.map(|(gpus, tenants)| Case::synthetic(gpus, tenants)));
}

fn real() {
    match traces() {
        Some(traces) => losses(&SIZES.map(|(gpus, tenants)| Case::real(gpus, tenants, &traces))),
        None => println!("skipped: no arrivals/common under ../shared/data or MIGRATOR_DATA"),
    }
}

/// The chain from the bound down to the loop as it is, each link one thing that is lost.
fn losses(cases: &[Case]) {
    head("case");
    let mut chains = Vec::new();
    for case in cases {
        let free =
            case.map(" free", Window::free).mean(&Conditions { execution: Execution::Counted, options: tight(), ..Conditions::default() });
        let counted = |options| Conditions { execution: Execution::Counted, options, ..Conditions::default() };
        let (exact, count) = (case.mean(&counted(tight())), case.mean(&counted(SolveOptions::default())));
        let perfect = case.mean(&Conditions::default());
        let told = Conditions { foresight: Foresight::Forecast(&default_forecaster), ..Conditions::default() };
        let forecast = case.mean(&told);
        let preload = case.map(" preloaded", preloaded).mean(&Conditions { foresight: Foresight::Perfect, ..Conditions::default() });
        line(&format!("{}, perfect forecast", case.name), case, &perfect);
        line(&format!("{}, perfect forecast, workers preloaded", case.name), case, &preload);
        line(&format!("{}, the project's forecast", case.name), case, &forecast);
        chains.push((case.name.clone(), [1.0, free.share, exact.share, count.share, perfect.share, forecast.share]));
    }
    println!("\n| case | retraining, grid | warm-up | solver | placement | forecast | all |\n|{}", "---|".repeat(7));
    for (name, chain) in chains {
        let lost: Vec<String> = chain.windows(2).map(|pair| format!("{:.4}", pair[0] - pair[1])).collect();
        println!("| {name} | {} | {:.4} |", lost.join(" | "), 1.0 - chain[5]);
    }
}

type Make = Box<dyn Fn() -> Box<dyn Forecaster>>;

fn forecasters() -> Vec<(&'static str, Make)> {
    fn make<F: Forecaster + Clone + 'static>(forecaster: F) -> Make {
        Box::new(move || Box::new(forecaster.clone()))
    }
    vec![
        ("last value", make(LastValue::default())),
        ("EWMA 5 s", make(Ewma::new(5.0))),
        ("EWMA 30 s", make(Ewma::new(30.0))),
        ("90 % of the last 10 s", make(SlidingQuantile::new(10, 0.9))),
        ("90 % of the last 60 s", make(SlidingQuantile::new(60, 0.9))),
        ("Holt 5 s, 30 s", make(Holt::new(5.0, 30.0))),
        ("decaying, EWMA 5 s → 60 s × 1.05, no quantile", make(Decaying::new(5.0, 60.0, 1, 0.0, 1.05))),
        ("decaying, the default before", make(Decaying::new(5.0, 60.0, 10, 0.9, 1.05))),
        ("decaying, the default", make(Decaying::default())),
    ]
}

fn forecast() {
    let mut cases = vec![Case::synthetic(1, 4)];
    cases.extend(traces().map(|traces| Case::real(1, 4, &traces)));
    for case in &cases {
        head(&format!("{}, forecast", case.name));
        for (name, make) in forecasters() {
            line(name, case, &case.mean(&Conditions { foresight: Foresight::Forecast(&*make), ..Conditions::default() }));
        }
        println!();
    }
}

fn horizon() {
    for case in SIZES.map(|(gpus, tenants)| Case::synthetic(gpus, tenants)) {
        head(&format!("{}, horizon s", case.name));
        for horizon_s in [10.0, 30.0, 60.0, 100.0, 150.0, 300.0] {
            let options = SolveOptions { horizon_s, ..SolveOptions::default() };
            line(&format!("{horizon_s}"), &case, &case.mean(&Conditions { options, ..Conditions::default() }));
        }
        println!();
    }
}

fn every() {
    let case = Case::synthetic(1, 4);
    for (name, foresight) in [("perfect", None), ("the project's forecast", Some(&default_forecaster))] {
        head(&format!("{}, {name}, solve every s", case.name));
        for every_s in [1, 2, 5, 10, 20] {
            let foresight = foresight.map_or(Foresight::Perfect, |make| Foresight::Forecast(make));
            line(&format!("{every_s}"), &case, &case.mean(&Conditions { foresight, every_s, ..Conditions::default() }));
        }
        println!();
    }
}

fn gap() {
    let case = Case::synthetic(1, 4);
    head(&format!("{}, the project's forecast: gap, least gain", case.name));
    for (mip_gap, min_gain) in [(0.01, 0.005), (0.003, 0.01), (0.003, 0.005), (0.003, 0.001), (0.003, 0.0), (0.0005, 0.001)] {
        let options = SolveOptions { mip_gap, min_gain, ..SolveOptions::default() };
        let told = Conditions { foresight: Foresight::Forecast(&default_forecaster), options, ..Conditions::default() };
        line(&format!("{mip_gap}, {min_gain}"), &case, &case.mean(&told));
    }
}

/// As the coordinator does it: one thing at a time.
fn dwell() {
    let case = Case::synthetic(1, 4).map(" preloaded", preloaded);
    head(&format!("{}, the project's forecast: dwell s", case.name));
    for dwell_s in [None, Some(0.0), Some(2.0), Some(5.0), Some(10.0), Some(20.0)] {
        let told = Conditions { foresight: Foresight::Forecast(&default_forecaster), dwell_s, ..Conditions::default() };
        let name = dwell_s.map_or("plans while it changes".to_owned(), |s| format!("{s} after a change"));
        line(&name, &case, &case.mean(&told));
    }
}
