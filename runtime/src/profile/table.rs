//! What was measured, in words.

use std::fmt::Write as _;

use super::{ProfileFigures, TenantFigures};
use crate::curve::own;

/// One profile in one line, while the next is measured.
pub fn line(tenant: &str, found: &ProfileFigures) -> String {
    let profile = own::profile(found.slices);
    let (Some(one), Some(best)) = (found.batches.first(), found.batches.iter().max_by(|a, b| a.rows_per_s.total_cmp(&b.rows_per_s))) else {
        return format!("{tenant} {profile}: does not fit");
    };
    let training = match &found.training {
        Some(training) => format!("retraining {:.0} samples/s", f64::from(training.batch) / training.iteration_s),
        None => "no retraining".to_owned(),
    };
    format!("{tenant} {profile}: one row {:.2} ms, {:.0} rows/s in batches of {}, {training}", one.p50_ms, best.rows_per_s, best.batch)
}

/// All of it.
pub fn text(found: &[TenantFigures]) -> String {
    let mut text = String::new();
    for tenant in found {
        let _ = writeln!(text, "{}: model {} version {}, SLO {} ms", tenant.tenant, tenant.model, tenant.version, tenant.slo_ms);
        let _ = writeln!(text, "  profile  cores  batch    p50 ms    p99 ms     rows/s  ms/batch   within half the SLO");
        for profile in &tenant.profiles {
            serving(&mut text, profile, tenant.slo_ms);
        }
        let _ = writeln!(text, "  profile  memory MiB  load s   retraining: batch  s/iteration  core s  samples/s  memory MiB");
        for profile in &tenant.profiles {
            retraining(&mut text, profile);
        }
        text.push('\n');
    }
    text
}

fn serving(text: &mut String, profile: &ProfileFigures, slo_ms: f64) {
    let name = own::profile(profile.slices);
    if profile.batches.is_empty() {
        let _ = writeln!(text, "  {name:<7}  {:>5.2}  does not fit", profile.share);
    }
    for batch in &profile.batches {
        let fits = if batch.p99_ms <= slo_ms / 2.0 { "yes" } else { "no" };
        let (share, rows, p50, p99) = (profile.share, batch.batch, batch.p50_ms, batch.p99_ms);
        let _ = writeln!(
            text,
            "  {name:<7}  {share:>5.2}  {rows:>5}  {p50:>8.2}  {p99:>8.2}  {:>9.1}  {:>8.3}   {fits}",
            batch.rows_per_s,
            batch.batch_ms()
        );
    }
}

fn retraining(text: &mut String, profile: &ProfileFigures) {
    let own = format!("  {:<7}  {:>10}  {:>6.2}", own::profile(profile.slices), profile.memory_mib, profile.load_s);
    let _ = match &profile.training {
        Some(training) => writeln!(
            text,
            "{own}              {:>5}  {:>11.4}  {:>6.4}  {:>9.0}  {:>10}",
            training.batch,
            training.iteration_s,
            training.core_s,
            f64::from(training.batch) / training.iteration_s,
            training.memory_mib
        ),
        None => writeln!(text, "{own}               none"),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::serving::BatchFigures;
    use crate::profile::training::TrainFigures;

    #[test]
    fn every_profile_is_told_of_and_what_does_not_fit_is_said() {
        let batches = vec![BatchFigures { batch: 4, p50_ms: 3.0, p99_ms: 30.0, rows_per_s: 800.0 }];
        let training = Some(TrainFigures { batch: 32, iteration_s: 0.5, core_s: 0.25, memory_mib: 200 });
        let fits = ProfileFigures { slices: 2, share: 0.57, load_s: 1.5, memory_mib: 90, batches, training };
        let small = ProfileFigures { slices: 1, share: 0.29, load_s: 0.0, memory_mib: 0, batches: Vec::new(), training: None };
        assert_eq!(line("vision", &fits), "vision 2g: one row 3.00 ms, 800 rows/s in batches of 4, retraining 64 samples/s");
        assert_eq!(line("vision", &small), "vision 1g: does not fit");
        let tenant = TenantFigures { tenant: "vision".into(), model: "m".into(), version: 7, slo_ms: 50.0, profiles: vec![small, fits] };
        let text = text(&[tenant]);
        for words in ["model m version 7, SLO 50 ms", "1g        0.29  does not fit", "5.000   no", "0.5000  0.2500         64"] {
            assert!(text.contains(words), "{words}\n{text}");
        }
    }
}
