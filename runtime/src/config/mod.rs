//! The configuration file: what it may hold ([`schema`]), what it means ([`Config`]), what is wrong with it ([`ConfigErrors`]).
//!
//! Knows nothing of actors, devices or HTTP. A file is either accepted whole or refused with every defect listed at once.

mod check;
pub mod command;
pub mod device;
mod explain;
pub(crate) mod key;
mod schema;
mod server;
pub(crate) mod source;
mod tenant;
#[cfg(test)]
mod tests;

use std::path::Path;

use migrator_models::TrainSpec;
use migrator_solver::PolicyName;
use migrator_solver::forecast::ForecastName;
use serde::{Deserialize, Serialize};

pub use device::{Compute, DeviceConfig, DeviceKind, Enforcement};
pub use explain::{Explanation, explain, warnings};
pub use server::{JwtAlgorithm, JwtConfig, KeyConfig, OtlpConfig, Scope, ServerConfig, TlsConfig};
pub use source::{ConfigError, ConfigErrors};
pub use tenant::{Effort, GoldenConfig, LabelsConfig, RetrainingOverride, TenantConfig};

/// The whole file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Ports, limits and where state is kept.
    #[serde(default)]
    pub server: ServerConfig,
    /// What is cut into instances.
    #[serde(default)]
    pub device: DeviceConfig,
    /// How plans are made.
    #[serde(default)]
    pub planner: PlannerConfig,
    /// How models are retrained, unless a tenant says otherwise.
    #[serde(default)]
    pub retraining: RetrainingConfig,
    /// The tenants; their index here is their `TenantId`.
    pub tenants: Vec<TenantConfig>,
}

/// `[planner]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PlannerConfig {
    /// Who decides.
    pub policy: PolicyName,
    /// How demand is forecast.
    pub forecast: ForecastName,
    /// Seconds between solves.
    pub slot_s: f64,
    /// Seconds looked ahead.
    pub horizon_s: f64,
    /// Longest a solve may take, milliseconds.
    pub time_limit_ms: u64,
    /// Shortest time between two reconfigurations, seconds.
    pub dwell_s: f64,
    /// Relative gain in goodput below which nothing is changed (0.02 = 2 %).
    pub min_gain: f64,
    /// Whether workers and models are made ready before the switch.
    pub preload: bool,
    /// Blank workers kept ready (libtorch loaded, no model), so that preloading and recovery need not start a process.
    pub spares: u32,
}

/// `[retraining]`, and with a tenant's overrides applied what [`Config::retraining_of`] gives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrainingConfig {
    /// Length of a retraining window, seconds.
    pub window_s: f64,
    /// Whether models are retrained at all.
    pub enabled: bool,
    /// Fewest samples of the last window that start a retraining.
    pub min_samples: u32,
    /// Most samples of the last window that are used (the newest).
    pub max_samples: u32,
    /// Older samples added, as a share of the new ones (0.5 = one old for two new).
    pub replay_share: f64,
    /// Share of the new samples that is held out to compare versions.
    pub held_out_share: f64,
    /// Gain in held-out accuracy from which a version is published (0.0 = at least as good).
    pub min_gain: f64,
    /// Most accuracy on samples of older windows that a version may lose to be published; none = whatever it loses.
    pub max_forgetting: Option<f64>,
    /// Share of the requests that a new version answers at first, beside the one in service; 0 = all of them at once.
    pub canary_share: f64,
    /// Labelled samples that it answers meanwhile before it goes into service.
    pub canary_samples: u32,
    /// Longest time that it is tried, seconds; then it goes into service unless it does clearly worse.
    pub canary_s: f64,
    /// Whether a version that does clearly worse in service than the one before it did is taken back.
    pub rollback: bool,
    /// Share of the samples that a microprofile trains on; 0 = none: every window retrains as `train` says, for what it may bring.
    pub microprofile_share: f64,
    /// Epochs of a microprofile.
    pub microprofile_epochs: u32,
    /// Seconds beyond the window's end for which a better model is still worth its gain.
    pub beyond_window_s: f64,
    /// Most samples kept per tenant; the oldest go.
    pub stored_samples: u32,
    /// Most that the samples of a tenant take, MiB; none = any size.
    pub stored_mib: Option<u32>,
    /// Longest that a sample is kept, days; none = any age.
    pub stored_days: Option<f64>,
}

impl Default for PlannerConfig {
    fn default() -> Self {
        PlannerConfig {
            policy: PolicyName::Migrator,
            forecast: ForecastName::default(),
            slot_s: 1.0,
            horizon_s: 300.0,
            time_limit_ms: 250,
            dwell_s: 3.0,
            min_gain: 0.005,
            preload: true,
            spares: 2,
        }
    }
}

impl Default for RetrainingConfig {
    fn default() -> Self {
        RetrainingConfig {
            window_s: 200.0,
            enabled: true,
            min_samples: 64,
            max_samples: 2000,
            replay_share: 0.5,
            held_out_share: 0.2,
            min_gain: 0.0,
            max_forgetting: None,
            canary_share: 0.0,
            canary_samples: 200,
            canary_s: 60.0,
            rollback: true,
            microprofile_share: 0.1,
            microprofile_epochs: 4,
            beyond_window_s: 0.0,
            stored_samples: 20_000,
            stored_mib: None,
            stored_days: None,
        }
    }
}

/// A name that no tenant has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no tenant {name:?} in the configuration; it has {known}")]
pub struct UnknownTenant {
    name: String,
    known: String,
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// Every defect of the file, each with its line, key, value and what is allowed.
    pub fn load(path: &Path) -> Result<Config, ConfigErrors> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigErrors::unreadable(path, &e))?;
        Config::parse(&path.display().to_string(), &text)
    }

    /// Checks the text of a file that is called `file` in messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn parse(file: &str, text: &str) -> Result<Config, ConfigErrors> {
        let source = source::Source::parse(file, text)?;
        let mut errors = ConfigErrors::default();
        key::check(&source, schema::ROOT, &mut errors);
        errors.raise()?;
        let config: Config = toml::from_str(text).map_err(|e| source.refused(&e))?;
        check::check(&source, &config, &mut errors);
        errors.raise()?;
        Ok(config)
    }

    /// The tenant of that name.
    ///
    /// # Errors
    /// That there is none, with the names that there are.
    pub fn tenant(&self, name: &str) -> Result<&TenantConfig, UnknownTenant> {
        self.tenants.iter().find(|tenant| tenant.name == name).ok_or_else(|| UnknownTenant {
            name: name.to_owned(),
            known: self.tenants.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>().join(", "),
        })
    }

    /// How a tenant's model is retrained: `[retraining]` with the tenant's overrides.
    pub fn retraining_of(&self, tenant: &TenantConfig) -> RetrainingConfig {
        let (base, own) = (&self.retraining, &tenant.retraining);
        RetrainingConfig {
            enabled: own.enabled.unwrap_or(base.enabled),
            min_samples: own.min_samples.unwrap_or(base.min_samples),
            max_samples: own.max_samples.unwrap_or(base.max_samples),
            replay_share: own.replay_share.unwrap_or(base.replay_share),
            held_out_share: own.held_out_share.unwrap_or(base.held_out_share),
            min_gain: own.min_gain.unwrap_or(base.min_gain),
            max_forgetting: own.max_forgetting.or(base.max_forgetting),
            canary_share: own.canary_share.unwrap_or(base.canary_share),
            microprofile_share: own.microprofile_share.unwrap_or(base.microprofile_share),
            stored_samples: own.stored_samples.unwrap_or(base.stored_samples),
            stored_mib: own.stored_mib.or(base.stored_mib),
            stored_days: own.stored_days.or(base.stored_days),
            ..base.clone()
        }
    }

    /// The ways in which a tenant's model may be retrained: its own, else the usual ones.
    pub fn configurations_of(&self, tenant: &TenantConfig) -> Vec<TrainSpec> {
        match &tenant.retraining.configurations[..] {
            [] => migrator_machine::retraining::usual(&tenant.train),
            own => own.iter().map(|effort| effort.of(&tenant.train)).collect(),
        }
    }
}
