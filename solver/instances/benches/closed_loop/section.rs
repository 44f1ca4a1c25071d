//! The tables.

use migrator_instances::Window;
use migrator_instances::closed_loop::{Conditions, Foresight};
use migrator_instances::host::Execution;
use migrator_solver::forecast::ForecastName;
use migrator_solver::{Forecaster, SolveOptions};

use crate::forecast;
use crate::measure::{COLUMNS, Case, Mean};
use crate::trace::traces;

/// By name.
pub const ALL: [(&str, fn()); 8] = [
    ("solver", solver),
    ("synthetic", synthetic),
    ("real", real),
    ("forecast", forecast::goodput),
    ("horizon", horizon),
    ("every", every),
    ("gain", gain),
    ("dwell", dwell),
];

/// GPUs and tenants: 1 × 4 and 8 × 16, or the one that `MIGRATOR_SIZE` names (`8x16`).
fn sizes() -> Vec<(usize, usize)> {
    let wanted = std::env::var("MIGRATOR_SIZE").ok();
    let all = [(1, 4), (8, 16)].into_iter();
    all.filter(|(gpus, tenants)| wanted.as_ref().is_none_or(|name| *name == format!("{gpus}x{tenants}"))).collect()
}

fn default_forecaster() -> Box<dyn Forecaster> {
    ForecastName::default().make()
}

fn head(what: &str) {
    println!("| {what} | {COLUMNS} |\n|{}", "---|".repeat(5));
}

fn line(name: &str, case: &Case, mean: &Mean) {
    println!("| {name} | {} |", mean.row(case.windows.len()));
}

/// As [`Window`], with workers loaded before the switch and handed over in 0.3 s.
pub fn preloaded(window: &Window) -> Window {
    let mut window = window.clone();
    (window.times.preload, window.times.handover_s) = (true, 0.3);
    window
}

/// One thing at a time, as the coordinator does it: what is staged for a switch is not given up for a second thought.
pub fn one_at_a_time(foresight: Foresight) -> Conditions {
    Conditions { foresight, dwell_s: Some(0.0), ..Conditions::default() }
}

fn synthetic() {
    for (gpus, tenants) in sizes() {
        losses(&Case::synthetic(gpus, tenants));
    }
}

fn real() {
    let Some(traces) = traces() else {
        println!("skipped: no arrivals/common under ../shared/data or MIGRATOR_DATA");
        return;
    };
    for (gpus, tenants) in sizes() {
        losses(&Case::real(gpus, tenants, &traces));
    }
}

/// The chain from the bound down to the loop as it is, each link one thing that is lost.
fn losses(case: &Case) {
    head(&case.name);
    let counted = |options| Conditions { execution: Execution::Counted, options, ..Conditions::default() };
    let told = || Foresight::Forecast(&default_forecaster);
    let perfect = case.mean(&Conditions::default());
    line("perfect forecast", case, &perfect);
    let forecast = case.mean(&Conditions { foresight: told(), ..Conditions::default() });
    line("the project's forecast", case, &forecast);
    let staged = case.map(" preloaded", preloaded);
    line("perfect forecast, workers preloaded", case, &staged.mean(&one_at_a_time(Foresight::Perfect)));
    line("the project's forecast, workers preloaded", case, &staged.mean(&one_at_a_time(told())));
    let free = case.map(" free", Window::free).mean(&counted(SolveOptions::default()));
    line("perfect forecast, changes take no time", case, &free);
    let count = case.mean(&counted(SolveOptions::default()));
    line("perfect forecast, instances without sites", case, &count);
    let chain = [1.0, free.share, count.share, perfect.share, forecast.share];
    let lost: Vec<String> = chain.windows(2).map(|pair| format!("{:.4}", pair[0] - pair[1])).collect();
    println!("\n| {} loses | retraining, grid, solver | warm-up | placement | forecast | all |\n|{}", case.name, "---|".repeat(6));
    println!("| of UB* | {} | {:.4} |\n", lost.join(" | "), 1.0 - chain[4]);
}

/// What is lost by not solving to the end.
fn solver() {
    for (gpus, tenants) in sizes() {
        let case = Case::synthetic(gpus, tenants);
        head(&format!("{}, perfect forecast: gap, limit ms", case.name));
        for (mip_gap, time_limit_ms) in [(0.01, 250), (0.003, 5), (0.003, 20), (0.003, 250), (0.0005, 250)] {
            let options = SolveOptions { mip_gap, time_limit_ms, ..SolveOptions::default() };
            line(
                &format!("{:.2} %, {time_limit_ms}", 100.0 * mip_gap),
                &case,
                &case.mean(&Conditions { options, ..Conditions::default() }),
            );
        }
        println!();
    }
}

fn horizon() {
    for (gpus, tenants) in sizes() {
        let case = Case::synthetic(gpus, tenants);
        head(&format!("{}, perfect forecast: horizon s", case.name));
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

fn gain() {
    let case = Case::synthetic(1, 4);
    head(&format!("{}, the project's forecast: least gain", case.name));
    for min_gain in [0.02, 0.01, 0.005, 0.002, 0.001, 0.0] {
        let options = SolveOptions { min_gain, ..SolveOptions::default() };
        let told = Conditions { foresight: Foresight::Forecast(&default_forecaster), options, ..Conditions::default() };
        line(&format!("{min_gain}"), &case, &case.mean(&told));
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
