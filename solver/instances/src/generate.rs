//! Random windows as `reference/ilp.md` section 8 describes them.

use migrator_mig::Catalog;

use crate::rng::Rng;
use crate::window::{HISTORY_S, LEAD_S, TRAIL_S, Times, Truth, Window, Work};

/// Which windows to draw.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// GPUs; all of one model unless `mixed`.
    pub gpus: usize,
    /// Tenants.
    pub tenants: usize,
    /// Length of the window, seconds.
    pub seconds: usize,
    /// Mean inference demand in compute slices ÷ all slices is drawn from this range.
    pub load: (f64, f64),
    /// Whether every other GPU has four slices (A30) instead of seven.
    pub mixed: bool,
    /// Whether workers are loaded before the switch.
    pub preload: bool,
}

impl Spec {
    /// The window of the reference: 200 s, inference load 0.40 to 0.80 of all slices, seven-slice GPUs, no preloading.
    pub fn new(gpus: usize, tenants: usize) -> Spec {
        Spec { gpus, tenants, seconds: 200, load: (0.40, 0.80), mixed: false, preload: false }
    }

    /// Loads up to 0.60, where inference and all retrainings fit: the closed loop of the reference misses none.
    pub fn feasible(gpus: usize, tenants: usize) -> Spec {
        Spec { load: (0.40, 0.60), ..Spec::new(gpus, tenants) }
    }
}

/// The 4-slice geometry of an A30 with 24 GiB: 1g on any slice, 2g on each half, 4g (NVIDIA MIG user guide).
pub fn four_slices() -> Catalog {
    let mut catalog = Catalog::seven_slices("A30", 48 * 1024);
    catalog.name = "A30-24GB".to_owned();
    (catalog.compute_slices, catalog.memory_slices) = (4, 4);
    catalog.profiles.truncate(4);
    catalog.profiles.remove(2);
    let starts: [&[u8]; 3] = [&[0, 1, 2, 3], &[0, 2], &[0]];
    catalog.profiles.iter_mut().zip(starts).for_each(|(profile, starts)| profile.starts = starts.to_vec());
    catalog
}

/// The window of this seed; the same for ever.
pub fn window(spec: &Spec, seed: u64) -> Window {
    let mut rng = Rng::part(seed, 0);
    let models = if spec.mixed { vec![seven_slices(), four_slices()] } else { vec![seven_slices()] };
    let gpus: Vec<usize> = (0..spec.gpus).map(|gpu| gpu % models.len()).collect();
    let slices: f64 = gpus.iter().map(|&model| f64::from(models[model].compute_slices)).sum();
    let load = rng.uniform(spec.load.0, spec.load.1) * slices;
    let shares: Vec<f64> = (0..spec.tenants).map(|_| (0.6 * rng.normal()).exp()).collect();
    let all: f64 = shares.iter().sum();
    let tenants = shares.iter().enumerate().map(|(index, share)| {
        let mut rng = Rng::part(seed, index as u64 + 1);
        let mut past = Rng::part(seed, index as u64 + (1 << 33));
        tenant(&mut rng, &mut past, index, spec.seconds, load * share / all)
    });
    let times =
        Times { drain_s: 0.1, destroy_s: 0.1, create_s: 0.2, handover_s: if spec.preload { 0.3 } else { 0.0 }, preload: spec.preload };
    Window { seconds: spec.seconds, tenants: tenants.collect(), models, gpus, times }
}

fn seven_slices() -> Catalog {
    Catalog::seven_slices("A100-SXM4-80GB", 80 * 1024)
}

/// A tenant whose mean demand keeps `slices` compute slices busy.
fn tenant(rng: &mut Rng, past: &mut Rng, index: usize, seconds: usize, slices: f64) -> Truth {
    // Lognormal base rate of 50 to 2000 requests/s.
    let base_rps = (5.75 + 0.9 * rng.normal()).exp().clamp(50.0, 2000.0);
    let wave = Wave::new(rng, base_rps);
    let arrivals = wave.arrivals(rng, 0, LEAD_S + seconds + TRAIL_S);
    let mean_rps = arrivals.iter().sum::<f64>() / arrivals.len() as f64;
    let accuracy = rng.uniform(0.55, 0.75);
    Truth {
        name: format!("t{index}"),
        history: wave.arrivals(past, -(HISTORY_S as i64), HISTORY_S),
        arrivals,
        slice_rps: mean_rps / slices.max(1e-3),
        exponent: rng.uniform(0.65, 0.95),
        least_slices: if rng.chance(0.2) { 2 } else { 1 },
        load_s: rng.uniform(0.8, 3.0),
        accuracy,
        retraining: Some(work(rng, seconds, accuracy)),
    }
}

fn work(rng: &mut Rng, seconds: usize, accuracy: f64) -> Work {
    let exponent = rng.uniform(0.75, 0.98);
    // 40 to 100 s on 2g in a window of 200 s.
    let on_two_s = rng.uniform(0.2, 0.5) * seconds as f64;
    Work {
        slice_s: on_two_s * 2.0f64.powf(exponent),
        exponent,
        least_slices: if rng.chance(0.3) { 2 } else { 1 },
        accuracy_after: accuracy + rng.uniform(0.05, 0.25),
        restore_s: rng.uniform(2.0, 6.0),
    }
}

/// Base × (1 + sinus) × bursts × 8 % noise, then Poisson.
struct Wave {
    base_rps: f64,
    period_s: f64,
    amplitude: f64,
    phase: f64,
}

impl Wave {
    fn new(rng: &mut Rng, base_rps: f64) -> Wave {
        let (period_s, amplitude, phase) = (rng.uniform(60.0, 400.0), rng.uniform(0.2, 0.6), rng.uniform(0.0, std::f64::consts::TAU));
        Wave { base_rps, period_s, amplitude, phase }
    }

    /// Arrivals of `seconds` seconds from second `first` on.
    fn arrivals(&self, rng: &mut Rng, first: i64, seconds: usize) -> Vec<f64> {
        let (mut burst, mut left_s) = (1.0, 0);
        let mut second = |t: usize| {
            if left_s == 0 && rng.chance(0.02) {
                (burst, left_s) = (rng.uniform(1.5, 3.0), 3 + rng.index(13));
            }
            let factor = if left_s > 0 { burst } else { 1.0 };
            left_s = left_s.saturating_sub(1);
            let at_s = (first + t as i64) as f64;
            let wave = 1.0 + self.amplitude * (std::f64::consts::TAU * at_s / self.period_s + self.phase).sin();
            let noise = (1.0 + 0.08 * rng.normal()).max(0.0);
            rng.poisson(self.base_rps * wave * factor * noise)
        };
        (0..seconds).map(&mut second).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_decided_by_its_seed() {
        let spec = Spec::new(2, 8);
        assert_eq!(window(&spec, 3), window(&spec, 3));
        assert_ne!(window(&spec, 3), window(&spec, 4));
    }

    #[test]
    fn the_load_is_as_asked_for() {
        for seed in 0..20 {
            let window = window(&Spec::new(8, 16), seed);
            let busy: f64 = window.tenants.iter().map(|t| t.total(200) / 200.0 / t.slice_rps).sum();
            assert!((0.3..0.95).contains(&(busy / window.slices())), "{busy}");
            assert!(window.tenants.iter().all(|t| t.arrivals.len() == LEAD_S + 200 + TRAIL_S && t.slice_rps > 0.0));
        }
    }

    #[test]
    fn a_mixed_host_has_both_models() {
        let window = window(&Spec { mixed: true, ..Spec::new(3, 4) }, 1);
        assert_eq!((window.gpus.clone(), window.slices()), (vec![0, 1, 0], 18.0));
        assert!(window.models.iter().all(|catalog| catalog.check().is_ok()));
        assert_eq!(four_slices().maximal_partitions().len(), 5);
    }
}
