//! Windows, and what a way of running them makes of them.

use std::time::Instant;

use migrator_instances::closed_loop::{Conditions, Run, run, upper_bound};
use migrator_instances::{Spec, Window, window};
use migrator_solver::solve::Planner;
use migrator_solver::{Outcome, Plan, Problem, SolveOptions};

/// Windows with their bounds.
pub struct Case {
    pub name: String,
    pub windows: Vec<(Window, f64)>,
}

/// Means over the windows of a case.
#[derive(Default)]
pub struct Mean {
    /// Goodput ÷ UB*, mean over the windows.
    pub share: f64,
    /// The same by window.
    pub shares: Vec<f64>,
    pub missed: u32,
    /// Per window.
    pub starts: f64,
    /// Per window.
    pub transitions: f64,
    /// Of every solve, ascending.
    pub solve_ms: Vec<f64>,
}

impl Case {
    pub fn new(name: &str, windows: impl Iterator<Item = Window>) -> Case {
        let bounded = |window: Window| {
            let bound = upper_bound(&window);
            (window, bound)
        };
        Case { name: name.to_owned(), windows: windows.map(bounded).collect() }
    }

    /// Random windows: as many as asked for at 1 × 4, an eighth of it at 8 × 16.
    pub fn synthetic(gpus: usize, tenants: usize) -> Case {
        let count = windows(gpus);
        Case::new(&format!("{gpus}×{tenants}"), (0..count).map(|seed| window(&Spec::feasible(gpus, tenants), seed)))
    }

    /// The same with real demand; `None` when there is none.
    pub fn real(gpus: usize, tenants: usize, traces: &[Vec<f64>]) -> Case {
        let count = windows(gpus);
        let one = |seed: u64| {
            let mut turned = traces.to_vec();
            turned.rotate_left(seed as usize * tenants % traces.len());
            window(&Spec::feasible(gpus, tenants), seed).with_traces(&turned, seed)
        };
        Case::new(&format!("{gpus}×{tenants} real"), (0..count).map(one))
    }

    pub fn map(&self, name: &str, change: impl Fn(&Window) -> Window) -> Case {
        Case {
            name: format!("{}{name}", self.name),
            windows: self.windows.iter().map(|(window, bound)| (change(window), *bound)).collect(),
        }
    }

    /// Runs every window.
    pub fn mean(&self, conditions: &Conditions) -> Mean {
        let mut mean = Mean::default();
        let count = self.windows.len() as f64;
        for (index, (window, bound)) in self.windows.iter().enumerate() {
            let Run { goodput, missed, starts, transitions, defects, .. } = run(window, conditions, &mut timed(&mut mean.solve_ms));
            assert_eq!(defects, 0, "illegal plans in window {index}");
            assert!(goodput <= *bound, "window {index}: {goodput} is above the bound {bound}");
            mean.share += goodput / bound / count;
            mean.shares.push(goodput / bound);
            mean.missed += missed;
            mean.starts += f64::from(starts) / count;
            mean.transitions += f64::from(transitions) / count;
            eprint!("\r{} {}/{}  ", self.name, index + 1, self.windows.len());
        }
        eprint!("\r                              \r");
        mean.solve_ms.sort_by(f64::total_cmp);
        mean
    }
}

/// A fresh planner with a clock.
#[expect(clippy::disallowed_methods, reason = "a benchmark; the crate itself stays without a clock")]
fn timed(millis: &mut Vec<f64>) -> impl FnMut(&Problem, Option<&Plan>, &SolveOptions) -> Outcome {
    let mut planner = Planner::default();
    move |problem, previous, options| {
        let start = Instant::now();
        let mut elapsed = || start.elapsed().as_secs_f64();
        let outcome = planner.solve(problem, previous, options, &mut elapsed).expect("the generator makes sound problems");
        millis.push(start.elapsed().as_secs_f64() * 1e3);
        outcome
    }
}

impl Mean {
    pub fn percentile(&self, share: f64) -> f64 {
        self.solve_ms.get(((self.solve_ms.len().max(1) - 1) as f64 * share).round() as usize).copied().unwrap_or(0.0)
    }

    /// The columns that all tables share.
    pub fn row(&self, windows: usize) -> String {
        format!(
            "{:.4} | {}/{windows} | {:.1} | {:.1} / {:.1} / {:.1} / {:.0}",
            self.share,
            self.missed,
            self.starts,
            self.percentile(0.5),
            self.percentile(0.9),
            self.percentile(0.99),
            self.percentile(1.0)
        )
    }
}

pub const COLUMNS: &str = "goodput ÷ UB* | missed / windows | starts per window | solve ms p50 / p90 / p99 / max";

/// The names that a variable lists, separated by commas; `None` = all.
pub fn wanted(variable: &str) -> Option<Vec<String>> {
    let names = std::env::var(variable).ok()?;
    Some(names.split(',').map(|name| name.trim().to_owned()).collect())
}

/// Windows of a case: as many as asked for on one GPU, an eighth of it on several.
pub fn windows(gpus: usize) -> u64 {
    let wanted = std::env::var("MIGRATOR_WINDOWS").ok().and_then(|text| text.parse().ok()).unwrap_or(16);
    if gpus > 1 { (wanted / 8).max(1) } else { wanted }
}
