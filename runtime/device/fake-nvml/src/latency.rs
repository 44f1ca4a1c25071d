//! How long hardware takes to create and destroy instances.

use std::time::Duration;

use migrator_mig::Board;

/// Seconds by compute slices 1, 2, 3, 4 and 7 to create a GPU instance and its compute instance, and to destroy them.
struct Measured {
    create_s: [f64; 5],
    destroy_s: f64,
}

// `reference/nvml-mig.md` section 4.6; A30 has no 3g and no 7g, so their places repeat a neighbour. Middle of a range where it gives one.
const A30: Measured = Measured { create_s: [0.11, 0.12, 0.13, 0.13, 0.13], destroy_s: 0.10 };
const A100: Measured = Measured { create_s: [0.16, 0.17, 0.20, 0.21, 0.24], destroy_s: 0.21 };
const H100: Measured = Measured { create_s: [0.16, 0.21, 0.33, 0.38, 0.42], destroy_s: 0.235 };

/// How long the last destroyed compute instance keeps its GPU instance in use: "tenths of a second" (section 4.1).
const SETTLE_S: f64 = 0.3;

/// To create an instance of so many compute slices: the GPU instance or the compute instance, which the reference measures together.
pub(crate) fn create(board: &Board, slices: u8, factor: f64) -> Duration {
    let column = match slices {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4..=6 => 3,
        _ => 4,
    };
    half(measured(board).create_s[column], factor)
}

/// To destroy a GPU instance or a compute instance.
pub(crate) fn destroy(board: &Board, factor: f64) -> Duration {
    half(measured(board).destroy_s, factor)
}

/// How long a GPU instance stays in use after its last compute instance went, ms.
pub(crate) fn settle_ms(factor: f64) -> u64 {
    half(2.0 * SETTLE_S, factor).as_millis() as u64
}

/// Boards later than Hopper are taken to be as slow as it; no figures are published.
fn measured(board: &Board) -> &'static Measured {
    match (board.compute_capability.as_str(), board.compute_slices) {
        ("8.0", 4) => &A30,
        ("8.0", _) => &A100,
        _ => &H100,
    }
}

fn half(seconds: f64, factor: f64) -> Duration {
    Duration::try_from_secs_f64(seconds / 2.0 * factor).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use migrator_mig::board::find;

    use super::*;

    #[test]
    fn both_halves_make_the_measured_time_and_the_factor_scales_it() {
        let (a100, h200) = (find("a100").unwrap(), find("h200").unwrap());
        assert_eq!(create(a100, 3, 1.0) * 2, Duration::from_millis(200));
        assert_eq!(create(h200, 7, 0.5) * 2, Duration::from_millis(210));
        assert_eq!(destroy(find("a30").unwrap(), 1.0) * 2, Duration::from_millis(100));
        assert_eq!((create(a100, 1, 0.0), settle_ms(0.0), settle_ms(1.0)), (Duration::ZERO, 0, 300));
    }
}
