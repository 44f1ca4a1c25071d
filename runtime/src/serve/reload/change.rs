//! What differs between two configurations, and what of it may change while the server runs.

use crate::config::{Config, RetrainingConfig, RetrainingOverride, TenantConfig};
use crate::http::reload::Reloaded;

/// The old configuration with what may change while it runs taken from the new one.
pub(super) fn live_from(old: &Config, new: &Config) -> Config {
    let mut live = old.clone();
    (live.server.keys, live.server.jwt) = (new.server.keys.clone(), new.server.jwt.clone());
    if let (Some(live), Some(new)) = (&mut live.server.tls, &new.server.tls) {
        *live = new.clone();
    }
    live.retraining = live_retraining(&old.retraining, &new.retraining);
    let before = |new: &TenantConfig| old.tenants.iter().find(|old| old.name == new.name);
    // One that comes may be anything.
    live.tenants = new.tenants.iter().map(|new| before(new).map_or_else(|| new.clone(), |old| live_tenant(old, new))).collect();
    live
}

// Every field is named here, so that a new one is not taken for one that may change before anything goes by it.

fn live_retraining(old: &RetrainingConfig, new: &RetrainingConfig) -> RetrainingConfig {
    RetrainingConfig {
        window_s: old.window_s,
        enabled: new.enabled,
        min_samples: new.min_samples,
        max_samples: new.max_samples,
        replay_share: new.replay_share,
        held_out_share: new.held_out_share,
        min_gain: new.min_gain,
        max_forgetting: new.max_forgetting,
        canary_share: new.canary_share,
        canary_samples: new.canary_samples,
        canary_s: new.canary_s,
        rollback: new.rollback,
        microprofile_share: old.microprofile_share,
        microprofile_epochs: old.microprofile_epochs,
        beyond_window_s: old.beyond_window_s,
        stored_samples: old.stored_samples,
        stored_mib: old.stored_mib,
        stored_days: old.stored_days,
    }
}

fn live_tenant(old: &TenantConfig, new: &TenantConfig) -> TenantConfig {
    TenantConfig {
        name: old.name.clone(),
        slo_ms: new.slo_ms,
        weight: new.weight,
        floor_rps: new.floor_rps,
        queue: new.queue,
        patience_ms: new.patience_ms,
        rate_rps: new.rate_rps,
        burst: new.burst,
        concurrency: new.concurrency,
        hedge: old.hedge,
        labels: old.labels.clone(),
        golden: old.golden.clone(),
        retraining: live_override(&old.retraining, &new.retraining),
        model: old.model.clone(),
        train: old.train.clone(),
    }
}

fn live_override(old: &RetrainingOverride, new: &RetrainingOverride) -> RetrainingOverride {
    RetrainingOverride {
        enabled: new.enabled,
        min_samples: new.min_samples,
        max_samples: new.max_samples,
        replay_share: new.replay_share,
        held_out_share: new.held_out_share,
        min_gain: new.min_gain,
        max_forgetting: new.max_forgetting,
        canary_share: new.canary_share,
        microprofile_share: old.microprofile_share,
        stored_samples: old.stored_samples,
        stored_mib: old.stored_mib,
        stored_days: old.stored_days,
        configurations: old.configurations.clone(),
    }
}

/// What differs: keys of the file and of tenants that stay, and tenants.
pub(super) fn compared(old: &Config, new: &Config) -> anyhow::Result<Reloaded> {
    let has = |config: &Config, name: &str| config.tenants.iter().any(|tenant| tenant.name == name);
    let lacking = |of: &Config, other: &Config| -> Vec<String> {
        of.tenants.iter().map(|tenant| tenant.name.clone()).filter(|name| !has(other, name)).collect()
    };
    let staying = |of: &Config, other: &Config| {
        let tenants = of.tenants.iter().filter(|tenant| has(other, &tenant.name)).cloned().collect();
        Config { tenants, ..of.clone() }
    };
    Ok(Reloaded { changed: differences(&staying(old, new), &staying(new, old))?, added: lacking(new, old), removed: lacking(old, new) })
}

/// Paths of the keys that differ.
pub(super) fn differences(old: &Config, new: &Config) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    compare("", &by_name(toml::Value::try_from(old)?), &by_name(toml::Value::try_from(new)?), &mut found);
    Ok(found)
}

/// The file with its tenants by name: their order means nothing.
fn by_name(mut file: toml::Value) -> toml::Value {
    if let Some(tenants) = file.get_mut("tenants")
        && let toml::Value::Array(list) = std::mem::replace(tenants, toml::Value::Table(toml::Table::new()))
    {
        let named = list.into_iter().map(|tenant| (tenant["name"].as_str().unwrap_or_default().to_owned(), tenant));
        *tenants = toml::Value::Table(named.collect());
    }
    file
}

fn compare(path: &str, old: &toml::Value, new: &toml::Value, found: &mut Vec<String>) {
    use toml::Value::{Array, Table};
    match (old, new) {
        (Table(old), Table(new)) => {
            let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (old.get(key), new.get(key)) {
                    (Some(old), Some(new)) => compare(&at, old, new, found),
                    _ => found.push(at),
                }
            }
        }
        (Array(old), Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                compare(&format!("{path}[{index}]"), old, new, found);
            }
        }
        _ if old != new => found.push(path.to_owned()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{FILE, parse};
    use super::*;

    #[test]
    fn what_may_change_while_it_runs_is_told_from_what_may_not() {
        let (old, wider) =
            (parse(FILE), parse(&FILE.replace("rate_rps = 10", "rate_rps = 20\nweight = 2").replace("slo_ms = 50", "slo_ms = 60")));
        assert_eq!(differences(&old, &wider).unwrap(), ["tenants.a.rate_rps", "tenants.a.slo_ms", "tenants.a.weight"]);
        assert!(differences(&live_from(&old, &wider), &wider).unwrap().is_empty());
        let other = parse(&FILE.replace("features = 4", "features = 5").replace("[server]", "[server]\nhttp_port = 1"));
        let fixed = differences(&live_from(&old, &other), &other).unwrap();
        assert_eq!(fixed, ["server.http_port", "tenants.a.model.source.architecture.features"]);
        let learning = parse(&FILE.replace("rate_rps", "retraining = { enabled = false, microprofile_share = 0 }\nrate_rps"));
        assert_eq!(differences(&live_from(&old, &learning), &learning).unwrap(), ["tenants.a.retraining.microprofile_share"]);
    }

    #[test]
    fn tenants_come_and_go_by_name_whatever_their_order() {
        let table = &FILE[FILE.find("[[tenants]]").unwrap()..];
        let second = table.replace("\"a\"", "\"b\"").replace("\"m\"", "\"n\"");
        let (one, both) = (parse(FILE), parse(&FILE.replace("[[tenants]]", &format!("{second}\n[[tenants]]"))));
        assert_eq!(compared(&one, &both).unwrap(), Reloaded { added: vec!["b".to_owned()], ..Reloaded::default() });
        assert!(differences(&live_from(&one, &both), &both).unwrap().is_empty());
        assert_eq!(compared(&both, &one).unwrap(), Reloaded { removed: vec!["b".to_owned()], ..Reloaded::default() });
        assert!(differences(&live_from(&both, &one), &one).unwrap().is_empty());
    }
}
