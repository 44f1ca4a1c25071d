//! The report as JSON.

use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::measure::{Measures, Metric, TenantMeasures};
use super::report::{PolicyReport, Report, ScenarioReport};
use super::statistic::Estimate;

/// The report as JSON, indented. Shares are 0 to 1; what there is no number for is `null`.
pub fn json(report: &Report) -> String {
    let document = Document {
        scenarios: report.scenarios.iter().map(Scenario::new).collect(),
        all_scenarios: (!report.overall.is_empty()).then(|| Overall { policies: policies(&report.overall, &[]) }),
        reference: &report.reference,
        failures: &report.failures,
        violations: &report.violations,
    };
    // Nothing in it can fail to serialise: all keys are strings, and serde_json writes what is not finite as null.
    serde_json::to_string_pretty(&document).unwrap_or_default() + "\n"
}

/// A JSON object whose keys come in this order.
struct Object<K, V>(Vec<(K, V)>);

#[derive(Serialize)]
struct Document<'r> {
    scenarios: Vec<Scenario<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all_scenarios: Option<Overall<'r>>,
    reference: &'r str,
    failures: &'r [String],
    violations: &'r [String],
}

#[derive(Serialize)]
struct Scenario<'r> {
    name: &'r str,
    gpus: &'r str,
    tenants: &'r [String],
    seconds: u64,
    seeds: &'r [u64],
    policies: Object<&'r str, Policy<'r>>,
}

#[derive(Serialize)]
struct Overall<'r> {
    policies: Object<&'r str, Policy<'r>>,
}

#[derive(Serialize)]
struct Policy<'r> {
    #[serde(flatten)]
    values: Object<&'r str, Option<f64>>,
    interval: Object<&'r str, Option<(f64, f64)>>,
    #[serde(skip_serializing_if = "Object::is_empty")]
    tenants: Object<&'r str, Object<&'r str, Option<f64>>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    runs: Vec<Row<'r>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<Speed>,
}

#[derive(Serialize)]
struct Row<'r> {
    seed: u64,
    #[serde(flatten)]
    values: Object<&'r str, Option<f64>>,
    requests: u64,
    solves: u64,
}

#[derive(Serialize)]
struct Speed {
    wall_s: f64,
    simulated_s_per_s: f64,
    requests_per_s: f64,
}

impl<'r> Scenario<'r> {
    fn new(scenario: &'r ScenarioReport) -> Scenario<'r> {
        let heading = &scenario.heading;
        Scenario {
            name: &heading.name,
            gpus: &heading.gpus,
            tenants: &heading.tenants,
            seconds: heading.seconds,
            seeds: &heading.seeds,
            policies: policies(&scenario.policies, &heading.tenants),
        }
    }
}

fn policies<'r>(policies: &'r [PolicyReport], tenants: &'r [String]) -> Object<&'r str, Policy<'r>> {
    Object(policies.iter().map(|policy| (policy.name.as_str(), Policy::new(policy, tenants))).collect())
}

impl<'r> Policy<'r> {
    fn new(policy: &'r PolicyReport, tenants: &'r [String]) -> Policy<'r> {
        let names = Metric::ALL.map(Metric::name).into_iter().chain(["share_of_oracle", "ratio"]);
        let estimates: Vec<(&str, Option<Estimate>)> =
            names.zip(policy.metrics.into_iter().chain([policy.share_of_oracle, policy.ratio])).collect();
        let tenant = |(numbers, name): (&[Option<Estimate>; TenantMeasures::NAMES.len()], &'r String)| {
            let values = TenantMeasures::NAMES.into_iter().zip(numbers.iter().map(value));
            (name.as_str(), Object(values.collect()))
        };
        Policy {
            values: Object(estimates.iter().map(|(name, estimate)| (*name, value(estimate))).collect()),
            interval: Object(estimates.iter().map(|(name, estimate)| (*name, estimate.and_then(|e| e.interval()))).collect()),
            tenants: Object(policy.tenants.iter().zip(tenants).map(tenant).collect()),
            runs: policy.runs.iter().map(|(seed, run)| row(*seed, run)).collect(),
            speed: Speed::new(policy),
        }
    }
}

fn value(estimate: &Option<Estimate>) -> Option<f64> {
    estimate.as_ref().map(Estimate::value)
}

fn row<'r>(seed: u64, run: &Measures) -> Row<'r> {
    let values = Metric::ALL.map(Metric::name).into_iter().zip(run.values);
    Row { seed, values: Object(values.collect()), requests: run.requests, solves: run.solves }
}

impl Speed {
    fn new(policy: &PolicyReport) -> Option<Speed> {
        let wall_s = policy.wall_s();
        let requests = policy.requests() * policy.runs.len() as f64;
        let speed = Speed { wall_s, simulated_s_per_s: policy.seconds() as f64 / wall_s, requests_per_s: requests / wall_s };
        (wall_s > 0.0).then_some(speed)
    }
}

impl<K, V> Object<K, V> {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Serialize, V: Serialize> Serialize for Object<K, V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulate::tests::report;
    use serde_json::Value;

    #[test]
    fn the_form_is_the_documented_one() {
        let json: Value = serde_json::from_str(&json(&report())).unwrap();
        let migrator = &json["scenarios"][0]["policies"]["migrator"];
        assert_eq!(json["scenarios"][0]["name"], "one");
        for key in ["goodput", "slo_attainment", "accuracy", "reconfigurations", "overhead_s"] {
            assert!(migrator[key].is_f64(), "{key}: {migrator}");
            assert!(migrator["interval"][key][0].as_f64() <= migrator[key].as_f64(), "{key}: {migrator}");
        }
        assert!(migrator["tenants"]["vision"]["goodput"].is_f64());
        assert_eq!(migrator["runs"][1]["seed"], 2);
        assert!(migrator["speed"]["simulated_s_per_s"].is_f64());
    }

    #[test]
    fn what_the_oracle_has_no_number_for_is_null() {
        let json: Value = serde_json::from_str(&json(&report())).unwrap();
        let oracle = &json["scenarios"][0]["policies"]["oracle"];
        assert!(oracle["accuracy"].is_null() && oracle["share_of_oracle"] == 1.0, "{oracle}");
    }

    #[test]
    fn policies_keep_the_order_asked_for() {
        let text = json(&report());
        let at = |name: &str| text.find(&format!("\"{name}\": {{")).unwrap();
        assert!(at("migrator") < at("ekya") && at("ekya") < at("oracle"), "{text}");
    }
}
