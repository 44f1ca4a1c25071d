//! What holds for every forecaster.

use super::*;

pub(super) fn fed(mut forecaster: impl Forecaster, counts: &[f64]) -> Vec<f64> {
    counts.iter().for_each(|&count| forecaster.observe(count));
    forecaster.forecast(100)
}

fn made(name: ForecastName, counts: &[f64]) -> Box<dyn Forecaster> {
    let mut forecaster = name.make();
    counts.iter().for_each(|&count| forecaster.observe(count));
    forecaster
}

/// Sound for a planner: probabilities that sum to 1, as long as asked for, nothing negative or infinite.
fn assert_sound(name: ForecastName, forecaster: &dyn Forecaster) {
    for horizon in [1, 7, 300] {
        let forecast = forecaster.forecast(horizon);
        assert_eq!(forecast.len(), horizon, "{name}");
        assert!(forecast.iter().all(|rps| (0.0..=1e9).contains(rps)), "{name}: {forecast:?}");
        let scenarios = forecaster.scenarios(horizon);
        let sum: f64 = scenarios.iter().map(|scenario| scenario.probability).sum();
        assert!((sum - 1.0).abs() < 1e-9 && scenarios.iter().all(|scenario| scenario.probability > 0.0), "{name}: {sum}");
        for scenario in &scenarios {
            assert_eq!(scenario.rps.len(), horizon, "{name}");
            assert!(scenario.rps.iter().all(|rps| (0.0..=1e9).contains(rps)), "{name}: {scenario:?}");
        }
    }
}

#[test]
fn every_forecaster_foretells_a_constant_as_itself() {
    for name in ForecastName::ALL {
        let margin = if name == ForecastName::Decaying { 1.05 } else { 1.0 };
        let forecast = made(name, &[20.0; 300]).forecast(100);
        assert!(forecast.iter().all(|rps| (rps - 20.0 * margin).abs() < 1e-6), "{name}: {forecast:?}");
    }
}

#[test]
fn nothing_seen_is_nothing_foretold() {
    for name in ForecastName::ALL {
        let forecaster = name.make();
        assert_sound(name, &*forecaster);
        assert!(forecaster.forecast(50).iter().all(|&rps| rps == 0.0), "{name}");
    }
}

#[test]
fn garbage_counts_as_no_arrivals() {
    for name in ForecastName::ALL {
        let mut odd = name.make();
        let mut none = name.make();
        for count in [5.0, f64::NAN, 7.0, f64::INFINITY, -3.0, f64::NEG_INFINITY] {
            odd.observe(count);
            none.observe(if count.is_finite() { count.max(0.0) } else { 0.0 });
        }
        assert_eq!(odd.forecast(20), none.forecast(20), "{name}");
        assert_sound(name, &*odd);
    }
}

#[test]
fn whatever_is_counted_the_courses_are_sound() {
    let mut dice = crate::dice::Dice(3);
    let mut noise = |t: usize| (dice.next() % 1000) as f64 * if t % 97 < 9 { 5.0 } else { 1.0 };
    let series: [Vec<f64>; 6] = [
        vec![0.0; 700],
        (0..700).map(&mut noise).collect(),
        (0..700).map(|t| if t % 50 == 0 { 1.0 } else { 0.0 }).collect(),
        (0..700).map(|t| if t < 600 { 0.0 } else { 1e9 }).collect(),
        (0..700).map(|t| if t == 650 { f64::MAX } else { 3.0 }).collect(),
        (0..700).map(|t| 700.0 - t as f64).collect(),
    ];
    for name in ForecastName::ALL {
        for counts in &series {
            for length in [1, 2, 30, 700] {
                assert_sound(name, &*made(name, &counts[..length]));
            }
        }
    }
}

#[test]
fn equal_counts_are_equal_forecasts() {
    let counts: Vec<f64> = (0..400).map(|t| f64::from((t * 7919) % 83)).collect();
    for name in ForecastName::ALL {
        assert_eq!(made(name, &counts).scenarios(60), made(name, &counts).scenarios(60), "{name}");
    }
}

#[test]
fn names_in_files_are_names_on_the_command_line() {
    assert_eq!(ForecastName::ALL.map(ForecastName::as_str), ForecastName::NAMES);
    for name in ForecastName::ALL {
        let read = serde_json::to_value(name);
        assert_eq!(read.ok(), Some(serde_json::Value::from(name.as_str())));
    }
}
