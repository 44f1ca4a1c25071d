//! The closed loop, measured: `cargo bench -p migrator-instances --bench closed_loop -- [SECTION…]`, see `docs/closed-loop.md`.
//!
//! Sections: `synthetic`, `real`, `solver`, `forecast`, `horizon`, `every`, `gain`, `dwell`; without one, all. `MIGRATOR_WINDOWS` sets the number
//! of windows at 1 × 4 (an eighth of it at 8 × 16), `MIGRATOR_SIZE` one of `1x4` and `8x16`, `MIGRATOR_DATA` where `arrivals/common` is.
//! Section `forecast` takes `MIGRATOR_FORECASTS` and `MIGRATOR_CLASSES`, names separated by commas (`docs/forecasting.md`).

mod accuracy;
mod ets;
mod forecast;
mod measure;
mod section;
mod trace;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    for (name, section) in section::ALL {
        if wanted.is_empty() || wanted.iter().any(|arg| arg == name) {
            println!("\n## {name}\n");
            section();
        }
    }
}
