//! What the server shows over HTTP, as far as the demo looks.

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::load::target::Target;

/// The server at one moment.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Seen {
    /// Retraining window.
    pub window: Window,
    /// Tenants in configuration order.
    pub tenants: Vec<Tenant>,
    /// GPUs.
    #[serde(skip)]
    pub gpus: Vec<Gpu>,
    /// Reconfigurations so far.
    #[serde(skip)]
    pub reconfigurations: u64,
    /// What the last solve changes, a sentence each.
    #[serde(skip)]
    pub changes: Vec<String>,
}

/// The retraining window.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Window {
    pub number: u64,
    pub elapsed_s: f64,
    pub length_s: f64,
}

/// One tenant.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tenant {
    pub name: String,
    pub version: u32,
    pub ready: bool,
    pub accuracy: Option<f64>,
    pub capacity_rps: f64,
    pub retraining: String,
    pub windows: Vec<Retrained>,
}

/// One retraining.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Retrained {
    pub window: u64,
    pub accuracy_before: f64,
    pub accuracy_after: f64,
    pub published: Option<u32>,
    pub core_s: f64,
}

/// One GPU.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Gpu {
    pub text: String,
    pub instances: Vec<Instance>,
}

/// One instance.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Instance {
    pub profile: String,
    pub tenant: Option<String>,
    pub task: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Partition {
    gpus: Vec<Gpu>,
    reconfigurations: u64,
}

impl Seen {
    /// Looks.
    ///
    /// # Errors
    /// When the server does not answer, or with something else than a view.
    pub(super) async fn look(target: &Target) -> Result<Seen> {
        let mut seen: Seen = part(target, "/v1/tenants").await?;
        let partition: Partition = part(target, "/v1/partition").await?;
        (seen.gpus, seen.reconfigurations) = (partition.gpus, partition.reconfigurations);
        let plan = target.ask("/v1/plan").await?.unwrap_or_default();
        seen.changes = serde_json::from_value(plan["report"]["changes"].clone()).unwrap_or_default();
        Ok(seen)
    }

    /// Whether every tenant is served.
    pub(super) fn ready(&self) -> bool {
        !self.tenants.is_empty() && self.tenants.iter().all(|tenant| tenant.ready)
    }

    /// Compute slices on which a tenant answers requests.
    pub(super) fn slices(&self, tenant: &str) -> u32 {
        let own = |i: &&Instance| i.tenant.as_deref() == Some(tenant) && i.task.as_deref() == Some("inference");
        self.gpus.iter().flat_map(|gpu| &gpu.instances).filter(own).map(Instance::compute_slices).sum()
    }

    /// `3g vision | 2g sensor | 1g text | 1g vision retraining`.
    pub(super) fn partition(&self) -> String {
        let instances: Vec<String> = self.gpus.iter().flat_map(|gpu| &gpu.instances).map(Instance::text).collect();
        instances.join(" | ")
    }
}

impl Instance {
    /// The number in front of the `g` of a profile's name.
    fn compute_slices(&self) -> u32 {
        self.profile.split('g').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    fn text(&self) -> String {
        let slices = self.compute_slices();
        let tenant = self.tenant.as_deref().unwrap_or("-");
        match self.task.as_deref() {
            Some("retraining") => format!("{slices}g {tenant} retraining"),
            _ => format!("{slices}g {tenant}"),
        }
    }
}

async fn part<T: for<'de> Deserialize<'de>>(target: &Target, path: &str) -> Result<T> {
    let value = target.ask(path).await?.with_context(|| format!("http://{}{path}: the server does not know it", target.host))?;
    serde_json::from_value(value).with_context(|| format!("http://{}{path}: not what was expected", target.host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_reads_like_one() {
        let instance = |profile: &str, tenant: &str, task: &str| Instance {
            profile: profile.into(),
            tenant: (!tenant.is_empty()).then(|| tenant.to_owned()),
            task: (!task.is_empty()).then(|| task.to_owned()),
        };
        let instances = vec![
            instance("3g.20gb", "a", "inference"),
            instance("2g.10gb", "a", "retraining"),
            instance("1g.5gb", "a", "inference"),
            instance("1g.5gb", "", ""),
        ];
        let seen = Seen { gpus: vec![Gpu { text: String::new(), instances }], ..Seen::default() };
        assert_eq!(seen.partition(), "3g a | 2g a retraining | 1g a | 1g -");
        assert_eq!((seen.slices("a"), seen.slices("b")), (4, 0));
    }
}
