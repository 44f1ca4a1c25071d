//! SIGHUP and `POST /v1/reload`: the configuration is read again, and what may change while the server runs is changed.
//!
//! All of it, or nothing: a file with a defect, or with a change that needs a restart, changes nothing, and whoever asked is told why.
//! What differs, and what may, is found by [`change`].

mod change;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use migrator_actors::coordinator::Retune as Replan;
use migrator_actors::retraining::Retune as Relearn;
use migrator_actors::tenant::Retune;
use migrator_actors::{coordinator, migration, retraining, tenant};
use migrator_machine::retraining::Tuning;
use migrator_solver::TenantId;

use self::change::{compared, differences, live_from};
use super::build::Setup;
use super::maker::{self, Made, patience, slo};
use super::seat::Seats;
use super::tls::{self, Certificate};
use crate::cli::ServeArgs;
use crate::config::{Config, TenantConfig};
use crate::http::AppState;
use crate::http::key::{Access, Key, Keys};
use crate::http::limit::Quota;
use crate::http::recent::Remember;
use crate::http::reload::Reloaded;
use crate::http::token::Tokens;
use crate::storage;

/// What is told of a new configuration.
pub(super) struct Reload {
    pub args: ServeArgs,
    pub current: Config,
    pub state: Arc<AppState>,
    pub certificate: Option<Arc<Certificate>>,
}

impl Reload {
    /// Reads the file again and changes what it changes; says what, or why nothing. Dropped before it ends, it may leave half of it
    /// undone: only a server that stops may do that.
    pub async fn reload(&mut self, setup: &Setup) -> Result<Reloaded, String> {
        let result = self.change(setup).await;
        if result.is_ok() {
            crate::config::warnings(&self.current).iter().for_each(|warning| tracing::warn!("{warning}"));
        }
        let told = match &result {
            Ok(Reloaded { changed, added, removed }) => {
                let [changed, added, removed] = [changed, added, removed].map(|names| names.join(", "));
                tracing::info!(changed, added, removed, "configuration reloaded");
                "changed"
            }
            Err(error) => {
                tracing::error!("configuration not reloaded, nothing was changed: {error:#}");
                "refused"
            }
        };
        metrics::counter!("migrator_config_reloads_total", "result" => told).increment(1);
        result.map_err(|error| format!("{error:#}"))
    }

    async fn change(&mut self, setup: &Setup) -> anyhow::Result<Reloaded> {
        let mut new = Config::load(&self.args.config)?;
        self.args.apply(&mut new);
        let fixed = differences(&live_from(&self.current, &new), &new)?;
        anyhow::ensure!(fixed.is_empty(), "{} can only be changed by a restart", fixed.join(", "));
        let reloaded = compared(&self.current, &new)?;
        if let Some(name) = reloaded.added.iter().find(|name| setup.seats.borrow().leaving(name)) {
            anyhow::bail!("tenant {name:?} is still being removed: try again when its requests are answered");
        }
        // What may fail comes before the first change.
        let certified = match (&self.certificate, &new.server.tls) {
            (Some(certificate), Some(config)) => Some((certificate, tls::read(config).context("server.tls")?)),
            _ => None,
        };
        let access = access(&new)?;
        let joining = prepare(setup, &new, &reloaded.added).await?;
        if let Some((certificate, read)) = certified {
            certificate.change(read);
        }
        self.state.set_access(access);
        for name in &reloaded.removed {
            self.depart(setup, name);
        }
        for tenant in &new.tenants {
            self.tune(setup, &new, tenant).await;
        }
        for (id, made) in joining {
            self.join(setup, &new, id, made).await;
        }
        self.current = new;
        Ok(reloaded)
    }

    /// Tells a tenant that was there before what is different for it.
    async fn tune(&self, setup: &Setup, new: &Config, tenant: &TenantConfig) {
        let Some(old) = self.current.tenants.iter().find(|old| old.name == tenant.name) else { return };
        let how = new.retraining_of(tenant);
        if old == tenant && self.current.retraining_of(old) == how {
            return;
        }
        self.state.set_quota(&tenant.name, quota(tenant));
        let Some((id, actors)) = setup.seats.borrow().find(&tenant.name) else { return };
        let _ = actors.tenant.send(Retune { slo: slo(tenant), patience: patience(tenant), queue_limit: tenant.queue as usize }).await;
        let TenantConfig { slo_ms, weight, .. } = *tenant;
        let floor_rps = maker::floor_rps(tenant);
        let _ = setup.coordinator.send(Replan { tenant: id, slo_ms, weight, floor_rps }).await;
        let _ = actors.retraining.send(relearn(new, tenant)).await;
    }

    async fn join(&self, setup: &Setup, new: &Config, id: TenantId, made: Made) {
        let Some(tenant) = new.tenants.iter().find(|tenant| tenant.name == made.planning.name) else { return };
        let Made { actors, front, planning, facts } = made;
        migrator_actors::meter::register(&[&tenant.name]);
        setup.maker.samples.set_bounds(&tenant.name, storage::bounds(&new.retraining_of(tenant)));
        setup.seats.borrow_mut().join(id, &tenant.name, actors.clone());
        let _ = setup.migration.send(migration::Join { tenant: id, actors: actors.clone() }).await;
        let model = tenant.model.name.clone();
        let _ = setup.coordinator.send(coordinator::Join { tenant: id, actors, model, planning, facts }).await;
        self.state.join(&tenant.name, front, quota(tenant), labels(tenant));
    }

    /// Lets a tenant's requests in no longer; in the background, those within are answered, its workers end, and its number becomes free.
    fn depart(&self, setup: &Setup, name: &str) {
        let Some((id, actors)) = setup.seats.borrow().find(name) else { return };
        setup.seats.borrow_mut().leave(id);
        let (answered, drain_s) = (self.state.leave_tenant(name), self.current.server.drain_s);
        let (coordinator, migration) = (setup.coordinator.clone(), setup.migration.clone());
        let (launcher, seats, state) =
            (Arc::clone(&setup.maker.launcher), Rc::<RefCell<Seats>>::clone(&setup.seats), Arc::clone(&self.state));
        let name = name.to_owned();
        actix::spawn(async move {
            if tokio::time::timeout(Duration::from_secs_f64(drain_s), answered).await.is_err() {
                tracing::warn!(tenant = name, drain_s, "requests were still without an answer at the deadline");
            }
            // Actors that are gone already, because the server stops, need not be told.
            let _ = coordinator.send(coordinator::Leave { tenant: id }).await;
            let _ = migration.send(migration::Leave { tenant: id }).await;
            let _ = actors.tenant.send(tenant::Leave).await;
            let _ = actors.retraining.send(retraining::Leave).await;
            launcher.leave(id).await;
            state.forget_tenant(&name);
            seats.borrow_mut().vacate(id);
            tracing::info!(tenant = name, "removed; its samples and versions stay");
        });
    }
}

/// Measures the models of new tenants and starts their actors, which have no work yet.
async fn prepare(setup: &Setup, new: &Config, added: &[String]) -> anyhow::Result<Vec<(TenantId, Made)>> {
    let ids = setup.seats.borrow().free(added.len());
    let mut made = Vec::new();
    for (tenant, &id) in new.tenants.iter().filter(|tenant| added.contains(&tenant.name)).zip(&ids) {
        match measured(setup, new, tenant, id).await {
            Ok(one) => made.push((id, one)),
            Err(error) => {
                for (_, Made { actors, .. }) in made {
                    let _ = actors.tenant.send(tenant::Leave).await;
                }
                for &id in &ids {
                    setup.maker.launcher.leave(id).await;
                }
                return Err(error);
            }
        }
    }
    Ok(made)
}

async fn measured(setup: &Setup, new: &Config, tenant: &TenantConfig, id: TenantId) -> anyhow::Result<Made> {
    let measured = setup.maker.measure(id, tenant).await?;
    setup.maker.make(new, id, tenant, measured).await
}

/// What a tenant's retraining is told of a new configuration: all that [`live_from`] lets change.
fn relearn(config: &Config, tenant: &TenantConfig) -> Relearn {
    let how = config.retraining_of(tenant);
    let tuning = Tuning {
        enabled: how.enabled,
        min_samples: u64::from(how.min_samples),
        min_gain: how.min_gain,
        max_forgetting: how.max_forgetting,
        canary_share: how.canary_share,
        canary_samples: u64::from(how.canary_samples),
        canary: Duration::from_secs_f64(how.canary_s),
        rollback: how.rollback,
    };
    Relearn { how: tuning, export: maker::export(config, tenant) }
}

/// Who may ask for what.
///
/// # Errors
/// When the key of the tokens cannot be used.
pub(super) fn access(config: &Config) -> anyhow::Result<Access> {
    let tokens = config.server.jwt.as_ref().map(Tokens::open).transpose().context("server.jwt.key")?;
    Ok(Access { keys: keys(config), tokens })
}

/// The keys of a configuration that was checked.
fn keys(config: &Config) -> Keys {
    let key = |key: &crate::config::KeyConfig| {
        let sha256 = key.hash()?;
        Some(Key { name: key.name.clone(), sha256, tenants: key.tenants.clone(), scopes: key.scopes.clone() })
    };
    Keys(config.server.keys.iter().filter_map(key).collect())
}

/// A tenant's quota.
pub(super) fn quota(tenant: &TenantConfig) -> Quota {
    Quota { rate_rps: tenant.rate_rps, burst: tenant.burst, concurrency: tenant.concurrency }
}

/// How a tenant's answered requests are remembered for labels that come later.
pub(super) fn labels(tenant: &TenantConfig) -> Option<Remember> {
    let labels = tenant.labels.as_ref()?;
    let (age, bytes) = (Duration::from_secs_f64(labels.wait_s), labels.memory_mib as usize * 1024 * 1024);
    Some(Remember { age, bytes, features: labels.features })
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) const FILE: &str = r#"
        [server]
        keys = [{ name = "k", sha256 = "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f", scopes = ["admin"] }]
        [[tenants]]
        name = "a"
        slo_ms = 50
        rate_rps = 10
        model = { name = "m", classes = 2, max_batch = 4, source = { source = "architecture", architecture = { kind = "mlp", features = 4, hidden = [4] } } }
    "#;

    pub(super) fn parse(text: &str) -> Config {
        Config::parse("test", text).unwrap()
    }

    #[test]
    fn whatever_may_change_of_a_retraining_is_told_to_it() {
        let with = |all: &str, own: &str| {
            let own = FILE.replace("rate_rps", &format!("retraining = {{ {own} }}\nrate_rps"));
            parse(&format!("[retraining]\n{all}\n{own}"))
        };
        let told = |config: &Config| relearn(config, &config.tenants[0]);
        let usual = parse(FILE);
        let all = "min_samples max_samples canary_samples canary_s";
        let all = all.split(' ').map(|key| (format!("{key} = 77"), String::new()));
        let own = ["replay_share", "held_out_share", "min_gain", "max_forgetting", "canary_share"];
        let own = own.into_iter().map(|key| (String::new(), format!("{key} = 0.3")));
        let flags = [(String::new(), "enabled = false".to_owned()), ("rollback = false".to_owned(), String::new())];
        for (all, own) in all.chain(own).chain(flags) {
            let changed = with(&all, &own);
            assert_eq!(differences(&live_from(&usual, &changed), &changed).unwrap(), [""; 0], "{all}{own}");
            assert_ne!(told(&changed), told(&usual), "{all}{own} changes nothing and is not refused");
        }
        for fixed in ["stored_samples = 7000", "microprofile_epochs = 2", "window_s = 50", "beyond_window_s = 9", "stored_days = 1"] {
            let changed = with(fixed, "");
            assert_eq!(differences(&live_from(&usual, &changed), &changed).unwrap().len(), 1, "{fixed}");
        }
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
