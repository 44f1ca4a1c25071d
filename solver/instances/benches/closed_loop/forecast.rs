//! Forecasters against each other: error and goodput, on random and on real demand.

use migrator_instances::closed_loop::Foresight;
use migrator_instances::{Spec, Window, window};
use migrator_solver::Forecaster;
use migrator_solver::forecast::{Decaying, Ewma, ForecastName};

use crate::accuracy::Accuracy;
use crate::ets::Ets;
use crate::measure::{Case, Mean, wanted, windows};
use crate::section::{one_at_a_time, preloaded};
use crate::trace::{CLASSES, traces_of};

type Make = Box<dyn Fn() -> Box<dyn Forecaster>>;

/// What is compared: every forecaster by its name, two settings of them, and one from a crate.
fn forecasters() -> Vec<(String, Make)> {
    fn make<F: Forecaster + Clone + 'static>(forecaster: F) -> Make {
        Box::new(move || Box::new(forecaster.clone()))
    }
    let named = ForecastName::ALL.into_iter().map(|name| (name.to_string(), Box::new(move || name.make()) as Make));
    let mut all: Vec<(String, Make)> = named.collect();
    all.push(("ewma of 30 s".to_owned(), make(Ewma::new(30.0))));
    all.push(("decaying without quantile".to_owned(), make(Decaying::new(5.0, 60.0, 1, 0.0, 1.05))));
    all.push(("augurs-ets".to_owned(), make(Ets::default())));
    let wanted = wanted("MIGRATOR_FORECASTS");
    all.retain(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted.contains(name)));
    all
}

/// Random windows, then one case per class of traces: four tenants that all have demand of that class.
fn cases() -> Vec<Case> {
    let (gpus, tenants) = (1, 4);
    let spec = Spec::feasible(gpus, tenants);
    let mut classes: Vec<(&str, Option<Vec<Vec<f64>>>)> = vec![("random", None)];
    classes.extend(CLASSES.iter().filter_map(|class| Some((class.name, Some(traces_of(class)?)))));
    let wanted = wanted("MIGRATOR_CLASSES");
    classes.retain(|(name, _)| wanted.as_ref().is_none_or(|wanted| wanted.iter().any(|one| one == name)));
    let one = |traces: &Option<Vec<Vec<f64>>>, seed: u64| match traces {
        None => window(&spec, seed),
        Some(traces) => {
            let mut turned = traces.clone();
            turned.rotate_left(seed as usize * tenants % traces.len());
            window(&spec, seed).with_traces(&turned, seed)
        }
    };
    let case = |(name, traces): &(&str, Option<Vec<Vec<f64>>>)| {
        let drawn = (0..windows(gpus)).map(|seed| preloaded(&one(traces, seed)));
        Case::new(name, drawn.collect::<Vec<Window>>().into_iter())
    };
    classes.iter().map(case).collect()
}

/// Goodput ÷ UB*, with one standard error, and what each gains over the first, window by window.
pub fn goodput() {
    for case in cases() {
        println!("\n| {} | {COLUMNS} |\n|{}", case.name, "---|".repeat(9));
        let perfect = case.mean(&one_at_a_time(Foresight::Perfect));
        let mut first: Option<Mean> = None;
        let line = |name: &str, mean: &Mean, first: &Option<Mean>, accuracy: &str| {
            let gain = first.as_ref().map_or("".to_owned(), |first| plus_minus(&differences(mean, first)));
            let (goodput, p) = (plus_minus(&mean.shares), |share| mean.percentile(share));
            println!("| {name} | {goodput} | {gain} | {:.1} | {:.1} / {:.1} / {:.0} | {accuracy} |", mean.starts, p(0.5), p(0.99), p(1.0));
        };
        line("(perfect)", &perfect, &None, " | | | ");
        for (name, make) in forecasters() {
            let accuracy = Accuracy::of(case.windows.iter().map(|(window, _)| window), &*make);
            let mean = case.mean(&one_at_a_time(Foresight::Forecast(&*make)));
            line(&name, &mean, &first, &accuracy.row());
            first.get_or_insert(mean);
        }
    }
}

const COLUMNS: &str =
    "goodput ÷ UB* | more than the first | starts per window | solve ms p50 / p99 / max | error 1 / 10 / 60 s | pinball | CRPS | µs";

fn differences(a: &Mean, b: &Mean) -> Vec<f64> {
    a.shares.iter().zip(&b.shares).map(|(a, b)| a - b).collect()
}

/// Mean and one standard error of it.
fn plus_minus(values: &[f64]) -> String {
    let count = values.len().max(1) as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0).max(1.0);
    format!("{mean:.4} ± {:.4}", (variance / count).sqrt())
}
