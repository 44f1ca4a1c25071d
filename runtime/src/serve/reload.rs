//! SIGHUP: the configuration is read again, and what may change while the server runs is changed.
//!
//! All of it, or nothing: a file with a defect, or with a change that needs a restart, changes nothing and the log says why.

use std::sync::Arc;

use actix::Addr;
use anyhow::Context as _;
use migrator_actors::coordinator::{CoordinatorActor, Retune as Replan};
use migrator_actors::migration::TenantActors;
use migrator_actors::tenant::Retune;
use migrator_solver::TenantId;
use std::time::Duration;

use super::tls::{self, Certificate};
use crate::cli::ServeArgs;
use crate::config::{Config, TenantConfig};
use crate::http::AppState;
use crate::http::key::{Key, Keys, parse_hash};
use crate::http::limit::Quota;

/// What is told of a new configuration.
pub(super) struct Reload {
    pub args: ServeArgs,
    pub current: Config,
    pub state: Arc<AppState>,
    pub certificate: Option<Arc<Certificate>>,
    pub coordinator: Addr<CoordinatorActor>,
    pub tenants: Vec<TenantActors>,
}

impl Reload {
    /// Reads the file again and changes what it changes.
    pub async fn reload(&mut self) {
        let result = match self.change().await {
            Ok(changed) => {
                tracing::info!(changed = %changed.join(", "), "configuration reloaded");
                "changed"
            }
            Err(error) => {
                tracing::error!("configuration not reloaded, nothing was changed: {error:#}");
                "refused"
            }
        };
        metrics::counter!("migrator_config_reloads_total", "result" => result).increment(1);
    }

    async fn change(&mut self) -> anyhow::Result<Vec<String>> {
        let mut new = Config::load(&self.args.config)?;
        self.args.apply(&mut new);
        let fixed = differences(&live_from(&self.current, &new), &new)?;
        anyhow::ensure!(fixed.is_empty(), "{} can only be changed by a restart", fixed.join(", "));
        let changed = differences(&self.current, &new)?;
        // The last that may fail comes before the first change.
        if let (Some(certificate), Some(config)) = (&self.certificate, &new.server.tls) {
            certificate.change(tls::read(config).context("server.tls")?);
        }
        self.state.set_keys(keys(&new));
        for (index, (old, tenant)) in self.current.tenants.iter().zip(&new.tenants).enumerate() {
            if old != tenant {
                self.tune(index, tenant).await;
            }
        }
        self.current = new;
        Ok(changed)
    }

    async fn tune(&self, index: usize, tenant: &TenantConfig) {
        self.state.set_quota(&tenant.name, quota(tenant));
        let actor = &self.tenants[index].tenant;
        let _ = actor.send(Retune { slo: slo(tenant), patience: patience(tenant), queue_limit: tenant.queue as usize }).await;
        let TenantConfig { slo_ms, weight, .. } = *tenant;
        let floor_rps = super::build::floor_rps(tenant);
        let _ = self.coordinator.send(Replan { tenant: TenantId(index as u16), slo_ms, weight, floor_rps }).await;
    }
}

/// The old configuration with what may change while it runs taken from the new one.
fn live_from(old: &Config, new: &Config) -> Config {
    let mut live = old.clone();
    live.server.keys = new.server.keys.clone();
    if let (Some(live), Some(new)) = (&mut live.server.tls, &new.server.tls) {
        *live = new.clone();
    }
    for tenant in &mut live.tenants {
        let Some(new) = new.tenants.iter().find(|new| new.name == tenant.name) else { continue };
        *tenant = TenantConfig {
            slo_ms: new.slo_ms,
            weight: new.weight,
            floor_rps: new.floor_rps,
            queue: new.queue,
            patience_ms: new.patience_ms,
            rate_rps: new.rate_rps,
            burst: new.burst,
            concurrency: new.concurrency,
            ..tenant.clone()
        };
    }
    live
}

/// Paths of the keys that differ.
fn differences(old: &Config, new: &Config) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    compare("", &toml::Value::try_from(old)?, &toml::Value::try_from(new)?, &mut found);
    Ok(found)
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

/// The keys of a configuration that was checked.
pub(super) fn keys(config: &Config) -> Keys {
    let key = |key: &crate::config::KeyConfig| {
        let sha256 = parse_hash(&key.sha256)?;
        Some(Key { name: key.name.clone(), sha256, tenants: key.tenants.clone(), scopes: key.scopes.clone() })
    };
    Keys(config.server.keys.iter().filter_map(key).collect())
}

/// A tenant's quota.
pub(super) fn quota(tenant: &TenantConfig) -> Quota {
    Quota { rate_rps: tenant.rate_rps, burst: tenant.burst, concurrency: tenant.concurrency }
}

/// A tenant's SLO.
pub(super) fn slo(tenant: &TenantConfig) -> Duration {
    Duration::from_secs_f64(tenant.slo_ms / 1000.0)
}

/// How long a tenant's requests are answered late.
pub(super) fn patience(tenant: &TenantConfig) -> Option<Duration> {
    tenant.patience_ms.map(|ms| Duration::from_secs_f64(ms / 1000.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"
        [server]
        keys = [{ name = "k", sha256 = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f", scopes = ["admin"] }]
        [[tenants]]
        name = "a"
        slo_ms = 50
        rate_rps = 10
        model = { name = "m", classes = 2, max_batch = 4, source = { source = "architecture", architecture = { kind = "mlp", features = 4, hidden = [4] } } }
    "#;

    fn parse(text: &str) -> Config {
        Config::parse("test", text).unwrap()
    }

    #[test]
    fn what_may_change_while_it_runs_is_told_from_what_may_not() {
        let (old, wider) =
            (parse(FILE), parse(&FILE.replace("rate_rps = 10", "rate_rps = 20\nweight = 2").replace("slo_ms = 50", "slo_ms = 60")));
        assert_eq!(differences(&old, &wider).unwrap(), ["tenants[0].rate_rps", "tenants[0].slo_ms", "tenants[0].weight"]);
        assert!(differences(&live_from(&old, &wider), &wider).unwrap().is_empty());
        let other = parse(&FILE.replace("features = 4", "features = 5").replace("[server]", "[server]\nhttp_port = 1"));
        let fixed = differences(&live_from(&old, &other), &other).unwrap();
        assert_eq!(fixed, ["server.http_port", "tenants[0].model.source.architecture.features"]);
        let renamed = parse(&FILE.replace("\"a\"", "\"b\""));
        assert_eq!(differences(&live_from(&old, &renamed), &renamed).unwrap(), ["tenants[0].name"]);
    }

    #[test]
    fn a_tenants_quota_and_the_keys_are_taken_from_the_file() {
        let config = parse(FILE);
        assert_eq!(quota(&config.tenants[0]), Quota { rate_rps: Some(10.0), ..Quota::default() });
        assert_eq!(keys(&config).0[0].sha256, [15; 32]);
        let errors = Config::parse("test", &FILE.replace("0f0f", "xx")).unwrap_err().to_string();
        assert!(errors.contains("server.keys[0].sha256") && errors.contains("64 hexadecimal digits"), "{errors}");
    }
}
