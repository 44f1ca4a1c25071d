//! The report as CSV: a row per scenario, policy and seed, and with tenants a row for each of them.

use csv::{Error, Writer};

use super::measure::{Metric, TenantMeasures};
use super::report::Report;

/// The report as CSV; `tenants` gives a row per tenant too, and their numbers instead of the run's.
///
/// # Errors
/// Never in practice: it writes to memory.
pub fn csv(report: &Report, tenants: bool) -> Result<String, Error> {
    let mut writer = Writer::from_writer(Vec::new());
    writer.write_record(header(tenants))?;
    for scenario in &report.scenarios {
        let heading = &scenario.heading;
        for (policy, seed, run) in
            scenario.policies.iter().flat_map(|policy| policy.runs.iter().map(move |(seed, run)| (policy, seed, run)))
        {
            let start = [heading.name.clone(), policy.name.clone(), seed.to_string()];
            if tenants {
                for (tenant, name) in run.tenants.iter().zip(&heading.tenants) {
                    writer.write_record(start.iter().cloned().chain([name.clone()]).chain(tenant.0.iter().map(field)))?;
                }
            } else {
                let end = [run.requests.to_string(), run.solves.to_string(), run.seconds.to_string(), run.violations.len().to_string()];
                writer.write_record(start.into_iter().chain(run.values.iter().map(field)).chain(end))?;
            }
        }
    }
    let bytes = writer.into_inner().map_err(|error| Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn header(tenants: bool) -> Vec<&'static str> {
    let start = ["scenario", "policy", "seed"].into_iter();
    if tenants {
        return start.chain(["tenant"]).chain(TenantMeasures::NAMES).collect();
    }
    start.chain(Metric::ALL.map(Metric::name)).chain(["requests", "solves", "seconds", "violations"]).collect()
}

/// An empty field where there is no number.
fn field(value: &Option<f64>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::report;

    #[test]
    fn a_row_is_a_run() {
        let text = csv(&report(), false).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "scenario,policy,seed,goodput,slo_attainment,accuracy,reconfigurations,overhead_s,requests,solves,seconds,violations"
        );
        assert_eq!(lines[1], "one,migrator,1,0.8,0.75,0.75,3,0.5,200,60,60,0");
        assert!(text.lines().any(|line| line == "one,oracle,1,1,,,,,200,0,60,0"), "{text}");
        assert_eq!(lines.len(), 1 + 3 * 2 + 3 * 2);
    }

    #[test]
    fn with_tenants_a_row_is_a_tenant_of_a_run() {
        let text = csv(&report(), true).unwrap();
        assert!(text.starts_with("scenario,policy,seed,tenant,goodput,"), "{text}");
        assert!(text.contains("\none,migrator,1,text,0.3,0.6,"), "{text}");
    }
}
