//! What both sides are given: GPUs, tenants and the moments of their requests.
//!
//! Timers have a resolution of 1 ms, so every span here is of whole milliseconds, and every batch takes a multiple of [`GRID_MS`]. Ticks
//! are at multiples of it, requests of tenant i and models that finish loading are at remainders of their own: nothing that matters to
//! one tenant ever coincides but the end of a batch and a request, and then the end comes first. What a retraining's worker says must not
//! coincide with a tick either, and it complains when it does: live that is a race of two messages, simulated one is always first.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

use migrator_device::Gpu;
use migrator_mig::Catalog;
use migrator_models::Curve;
use migrator_models::curve::CurvePoint;

use crate::worker::Nature;

/// See above; tenants have remainders 1, 2, 3, loads [`LOAD_REMAINDER_MS`].
pub const GRID_MS: u64 = 5;

/// Remainder of the times that loads take.
pub const LOAD_REMAINDER_MS: u64 = 4;

/// Seconds of a slot of a tenant's demand.
const SLOT_S: u64 = 1;

/// One scenario.
#[derive(Clone, Debug)]
pub struct Case {
    pub gpus: Vec<Catalog>,
    pub cores_per_slice: f64,
    pub seconds: u64,
    pub window_s: f64,
    pub dwell_s: f64,
    pub beyond_window_s: f64,
    /// `None` = no retraining.
    pub retraining: Option<RetrainingCase>,
    pub tenants: Vec<TenantCase>,
}

/// How every tenant is retrained.
#[derive(Clone, Debug)]
pub struct RetrainingCase {
    /// Newest samples of a data set; no fewer are enough.
    pub max_samples: u64,
    pub epochs: u32,
    /// Rows of a step by the configuration, from which the server first guesses what a sample takes.
    pub batch: u32,
    pub min_gain: f64,
    /// Share of the requests whose label comes back, half a second after the end of their second.
    pub label_share: f64,
    /// When the weather changes, seconds.
    pub changes_s: Vec<f64>,
}

/// One tenant of it.
#[derive(Clone, Debug)]
pub struct TenantCase {
    pub name: &'static str,
    pub slo_ms: f64,
    pub max_batch: u32,
    pub queue: u32,
    pub curve: Curve,
    pub load_ms: u64,
    pub memory_mib: u64,
    /// Ascending, milliseconds.
    pub arrivals_ms: Vec<u64>,
}

impl TenantCase {
    /// Requests by second.
    pub fn counts(&self, seconds: u64) -> Vec<u32> {
        (0..seconds).map(|second| self.arrivals_ms.iter().filter(|&&at| at / 1000 == second).count() as u32).collect()
    }
}

impl Case {
    pub fn gpus(&self) -> Vec<Gpu> {
        let gpu = |(index, catalog): (usize, &Catalog)| Gpu {
            index: index as u32,
            uuid: format!("memory-{index}"),
            catalog: catalog.clone(),
            cores_per_slice: self.cores_per_slice,
        };
        self.gpus.iter().enumerate().map(gpu).collect()
    }

    pub fn natures(&self) -> BTreeMap<String, Nature> {
        let nature = |tenant: &TenantCase| Nature {
            load: Duration::from_millis(tenant.load_ms),
            curve: tenant.curve.clone(),
            memory_mib: tenant.memory_mib,
            sample_core_s: self.sample_core_s(tenant),
        };
        self.tenants.iter().map(|tenant| (tenant.name.to_owned(), nature(tenant))).collect()
    }

    /// Core seconds of a sample and epoch: what the server guesses is true.
    pub fn sample_core_s(&self, tenant: &TenantCase) -> f64 {
        let Some(RetrainingCase { batch, .. }) = self.retraining else { return 0.0 };
        3.0 * tenant.curve.core_ms(batch) / f64::from(batch) / 1000.0
    }

    pub fn changes_s(&self) -> &[f64] {
        self.retraining.as_ref().map_or(&[], |retraining| &retraining.changes_s)
    }

    /// Labels that come back of each second's requests; what is not a whole one is owed to the next.
    pub fn labels(&self, tenant: &TenantCase) -> Vec<u64> {
        let Some(RetrainingCase { label_share, .. }) = self.retraining else { return Vec::new() };
        let mut rest = 0.0;
        let count = |arrived: u32| {
            let owed = f64::from(arrived) * label_share + rest;
            rest = owed.fract();
            owed as u64
        };
        tenant.counts(self.seconds - 1).into_iter().map(count).collect()
    }

    /// The live server's configuration file.
    pub fn config(&self, state_dir: &Path) -> String {
        let mut text = format!(
            "[server]\nstate_dir = {state_dir:?}\n\
             [planner]\ndwell_s = {:?}\ntime_limit_ms = 60000\nspares = 0\n\
             [retraining]\nenabled = {}\nwindow_s = {:?}\nreplay_share = 0.0\nmicroprofile_share = 0.0\nrollback = false\nbeyond_window_s = {:?}\n",
            self.dwell_s,
            self.retraining.is_some(),
            self.window_s,
            self.beyond_window_s
        );
        if let Some(RetrainingCase { max_samples, min_gain, .. }) = &self.retraining {
            let _ = writeln!(text, "max_samples = {max_samples}\nmin_samples = {max_samples}\nmin_gain = {min_gain:?}");
        }
        for TenantCase { name, slo_ms, max_batch, queue, .. } in &self.tenants {
            let _ = write!(
                text,
                "[[tenants]]\nname = {name:?}\nslo_ms = {slo_ms:?}\nqueue = {queue}\n\
                 [tenants.model]\nname = {name:?}\nclasses = {CLASSES}\nmax_batch = {max_batch}\n\
                 [tenants.model.source]\nsource = \"architecture\"\narchitecture = {{ kind = \"mlp\", features = 2, hidden = [] }}\n"
            );
            if let Some(RetrainingCase { epochs, batch, .. }) = &self.retraining {
                let _ = write!(text, "[tenants.train]\nepochs = {epochs}\nbatch = {batch}\n");
            }
        }
        text
    }
}

/// Classes of every model.
pub const CLASSES: u32 = 2;

/// Milliseconds of a batch: `first` for one row, `further` for each further one.
pub fn curve(first: f64, further: f64, max_batch: u32) -> Curve {
    let sizes = std::iter::successors(Some(1), |batch| Some(batch * 2)).take_while(|&batch| batch < max_batch).chain([max_batch]);
    Curve { points: sizes.map(|batch| CurvePoint { batch, core_ms: first + further * f64::from(batch - 1) }).collect() }
}

/// Requests at the given rates, each for so many seconds, at moments of `remainder`; the same for the same seed.
pub fn arrivals(rates: &[(u64, f64)], remainder: u64, seed: u64) -> Vec<u64> {
    let mut moments = Vec::new();
    let (mut second, mut state) = (0, seed);
    for &(seconds, rps) in rates {
        for _ in 0..seconds / SLOT_S {
            // A count around the rate, so that no two seconds are the same.
            let noise = (next(&mut state) % 1000) as f64 / 1000.0 - 0.5;
            let count = (rps * (1.0 + 0.5 * noise)).round().max(0.0) as u64;
            for _ in 0..count {
                let slot = next(&mut state) % (1000 / GRID_MS);
                moments.push(second * 1000 + slot * GRID_MS + remainder);
            }
            second += SLOT_S;
        }
    }
    moments.sort_unstable();
    moments
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Three tenants on one GPU, whose demands change places.
pub fn shifting() -> Case {
    let tenant = |name, index: u64, rates: &[(u64, f64)]| TenantCase {
        name,
        slo_ms: 2000.0,
        max_batch: 8,
        queue: 200,
        curve: curve(120.0, 60.0, 8),
        load_ms: 300 + LOAD_REMAINDER_MS,
        memory_mib: 1000,
        arrivals_ms: arrivals(rates, index + 1, 7 + index),
    };
    Case {
        gpus: vec![Catalog::seven_slices("memory", 40_960)],
        cores_per_slice: 1.0 / 7.0,
        seconds: 120,
        window_s: 60.0,
        dwell_s: 3.0,
        beyond_window_s: 0.0,
        retraining: None,
        tenants: vec![
            tenant("one", 0, &[(40, 6.0), (40, 2.0), (40, 4.0)]),
            tenant("two", 1, &[(40, 2.0), (40, 7.0), (40, 1.0)]),
            tenant("three", 2, &[(60, 3.0), (20, 1.0), (40, 5.0)]),
        ],
    }
}

/// Four windows on two GPUs whose shares are exact as floats, with labels; what there is to know changes twice, each time so long before a
/// data set is written that all its samples are younger, and models are retrained on it.
///
/// The least gain is what the server hopes for before it has retrained anything; the simulator, whose first window gains nothing, takes
/// it too.
pub fn drifting() -> Case {
    let retraining =
        RetrainingCase { max_samples: 20, epochs: 1, batch: 4, min_gain: 0.05, label_share: 1.0, changes_s: vec![68.4, 144.4] };
    let mut case = Case {
        gpus: vec![Catalog::four_slices("memory", 24_576); 2],
        cores_per_slice: 0.25,
        seconds: 240,
        beyond_window_s: 100.0,
        retraining: Some(retraining),
        ..shifting()
    };
    let rates: [&[(u64, f64)]; 3] =
        [&[(60, 3.0), (60, 1.0), (60, 2.0), (60, 1.0)], &[(80, 1.0), (80, 3.0), (80, 1.0)], &[(100, 2.0), (40, 1.0), (100, 2.0)]];
    for (index, (tenant, rates)) in case.tenants.iter_mut().zip(rates).enumerate() {
        tenant.arrivals_ms = arrivals(rates, index as u64 + 1, 17 + index as u64);
        tenant.arrivals_ms.retain(|at| *at < case.seconds * 1000);
    }
    case
}
