//! One tenant's actors, and what the planner is told of it: the same at the start as when one comes later.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use anyhow::Context as _;
use migrator_actors::clock::Clock;
use migrator_actors::golden::Golden;
use migrator_actors::launcher::{Launcher, TenantModel};
use migrator_actors::message::SampleStore;
use migrator_actors::migration::TenantActors;
use migrator_actors::retraining::{Earlier, ExportSpec, RetrainingActor, RetrainingParts};
use migrator_actors::tenant::{TenantActor, TenantFlags, TenantParts};
use migrator_device::Gpu;
use migrator_machine::coordinator::TenantPlanning;
use migrator_machine::retraining::{MicroprofileConfig, RetrainingConfig};
use migrator_machine::tenant::{Dispatch, TenantConfig as Serving};
use migrator_models::curve::CurvePoint;
use migrator_models::store::Store;
use migrator_models::{Curve, ModelSpec, OnProfile};
use migrator_solver::{Task, TenantFacts, TenantId};

use super::front::ActorFront;
use super::golden;
use super::profiled::Profiled;
use crate::config::{Config, TenantConfig};
use crate::curve::own::Known;
use crate::http::TenantFront;

/// A tenant without any instance could not answer its next request for seconds, so each keeps at least the smallest one that fits.
const ALWAYS_RPS: f64 = 1.0;

/// Fewest requests/s that a tenant keeps.
pub(super) fn floor_rps(tenant: &TenantConfig) -> f64 {
    tenant.floor_rps.max(ALWAYS_RPS)
}

/// A tenant's SLO.
pub(super) fn slo(tenant: &TenantConfig) -> Duration {
    Duration::from_secs_f64(tenant.slo_ms / 1000.0)
}

/// How long a tenant's requests are answered late.
pub(super) fn patience(tenant: &TenantConfig) -> Option<Duration> {
    tenant.patience_ms.map(|ms| Duration::from_secs_f64(ms / 1000.0))
}

/// What a data set is made of.
pub(super) fn export(config: &Config, tenant: &TenantConfig) -> ExportSpec {
    let how = config.retraining_of(tenant);
    ExportSpec {
        max_samples: how.max_samples as usize,
        replay_share: how.replay_share,
        held_out_share: how.held_out_share,
        least_held_out_share: how.held_out_share,
    }
}

/// What measuring a tenant's model gave.
pub(super) struct Measured {
    curve: Curve,
    memory_mib: u64,
    load_s: f64,
    /// Of its newest version at its validation.
    accuracy: Option<f64>,
    /// What `migrator profile` found.
    known: Option<Known>,
}

/// A tenant's actors, which nobody has work for yet, and what is to be known of it.
pub(super) struct Made {
    pub actors: TenantActors,
    pub front: Arc<dyn TenantFront>,
    pub planning: TenantPlanning,
    pub facts: TenantFacts,
}

/// What is read for a tenant before its actors are made.
struct Files {
    /// Of its retraining.
    folder: PathBuf,
    earlier: Earlier,
    /// Its golden model and the folder of that one's weights.
    teacher: Option<(ModelSpec, PathBuf)>,
}

impl Files {
    fn read(tenant: &TenantConfig, store: &Store, state_dir: &Path) -> anyhow::Result<Files> {
        let find = |how| golden::find(tenant, how, store, state_dir);
        let teacher = tenant.golden.as_ref().map(find).transpose();
        let teacher = teacher.with_context(|| format!("tenant {:?}: its golden model", tenant.name))?;
        let folder = std::path::absolute(state_dir.join("retraining").join(&tenant.name))?;
        let earlier = Earlier::look(store, &tenant.model, &folder).map_err(anyhow::Error::msg)?;
        Ok(Files { folder, earlier, teacher })
    }
}

/// What every tenant's actors are made from.
pub(super) struct Maker {
    pub clock: Clock,
    pub launcher: Arc<Launcher>,
    pub store: Arc<Store>,
    pub samples: Arc<dyn SampleStore>,
    pub gpus: Vec<Gpu>,
    /// What was measured before.
    pub profiled: Arc<Profiled>,
    /// The thread that tenants answer requests on.
    pub arbiter: ArbiterHandle,
}

impl Maker {
    /// Takes a model's timings for the curve; its worker is kept for the first plan.
    ///
    /// # Errors
    /// One that names the tenant: it has no version, or could not be measured.
    pub async fn measure(&self, id: TenantId, tenant: &TenantConfig) -> anyhow::Result<Measured> {
        self.launcher.join(id, TenantModel { tenant: tenant.name.clone(), spec: tenant.model.clone() });
        let found = self.launcher.measure(Task::inference(id)).await.with_context(|| format!("tenant {:?}", tenant.name))?;
        let points: Vec<CurvePoint> = found.core_ms.iter().map(|&(batch, core_ms)| CurvePoint { batch, core_ms }).collect();
        let text: Vec<String> = points.iter().map(|point| format!("{}: {:.2}", point.batch, point.core_ms)).collect();
        tracing::info!(
            tenant = tenant.name,
            version = found.version,
            load_s = found.load_s,
            memory_mib = found.memory_mib,
            "measured; core ms by batch {}",
            text.join(", ")
        );
        // Of a slow model only small batches were timed.
        let curve = Curve { points }.reaching(&tenant.model.batch_sizes());
        let manifest = self.launcher.store.manifest(&tenant.model.name, u64::from(found.version)).ok();
        let accuracy = manifest.and_then(|manifest| manifest.accuracy_after);
        let known = self.profiled.of(tenant);
        if known.is_some() {
            tracing::info!(tenant = tenant.name, "speeds by profile are those of the curve file");
        }
        Ok(Measured { curve, memory_mib: found.memory_mib, load_s: found.load_s, accuracy, known })
    }

    /// Starts a tenant's actors.
    ///
    /// # Errors
    /// When its folder, or its model's, cannot be read, or there is no such golden model.
    pub async fn make(&self, config: &Config, id: TenantId, tenant: &TenantConfig, measured: Measured) -> anyhow::Result<Made> {
        let (store, of, state_dir) = (Arc::clone(&self.store), tenant.clone(), config.server.state_dir.clone());
        // Weights are copied and hashed, and requests are answered meanwhile.
        let read = tokio::task::spawn_blocking(move || Files::read(&of, &store, &state_dir));
        let Files { folder, earlier, teacher } = read.await.context("its files could not be read")??;
        let (spec, flags) = (Arc::new(tenant.model.clone()), Arc::new(TenantFlags::default()));
        let (golden, offered) = tenant.golden.as_ref().map(|how| Golden::new(&tenant.name, how.share)).unzip();
        let address = self.tenant(config, id, tenant, &measured, &spec, &flags, golden);
        if let (Some(how), Some(teacher), Some(offered)) = (&tenant.golden, teacher, offered) {
            golden::start(id, tenant, how, teacher, &self.launcher, address.clone(), offered);
        }
        let parts = self.retraining(config, id, tenant, &measured, address.clone(), folder);
        let retraining = RetrainingActor::new(parts, earlier).start();
        let front = ActorFront { address: address.clone(), spec, flags, store: Arc::clone(&self.store) };
        Ok(Made {
            actors: TenantActors { tenant: address, retraining },
            front: Arc::new(front),
            planning: self.planning(tenant, &measured),
            facts: self.facts(tenant, &measured),
        })
    }

    #[expect(clippy::too_many_arguments, reason = "what an actor is made of, told apart by type")]
    fn tenant(
        &self,
        config: &Config,
        id: TenantId,
        tenant: &TenantConfig,
        measured: &Measured,
        spec: &Arc<ModelSpec>,
        flags: &Arc<TenantFlags>,
        golden: Option<Golden>,
    ) -> Addr<TenantActor> {
        let parts = TenantParts {
            id,
            name: tenant.name.clone(),
            spec: Arc::clone(spec),
            clock: self.clock,
            config: Serving {
                slo: slo(tenant),
                patience: patience(tenant),
                max_batch: spec.max_batch,
                queue_limit: tenant.queue as usize,
                curve: measured.curve.clone(),
                dispatch: Dispatch::of(config.planner.policy),
                hedge: tenant.hedge,
                ..Serving::default()
            },
            launcher: Arc::clone(&self.launcher),
            samples: Arc::clone(&self.samples),
            flags: Arc::clone(flags),
            golden,
            on_profile: self.on_profiles(measured),
        };
        TenantActor::start_in_arbiter(&self.arbiter, |_| TenantActor::new(parts))
    }

    fn retraining(
        &self,
        config: &Config,
        id: TenantId,
        tenant: &TenantConfig,
        measured: &Measured,
        address: Addr<TenantActor>,
        folder: PathBuf,
    ) -> RetrainingParts {
        let how = config.retraining_of(tenant);
        let batch = tenant.train.batch.max(1);
        // Forward and backward cost about three times the forward pass alone.
        let estimated_core_s = 3.0 * measured.curve.core_ms(batch) / f64::from(batch) / 1000.0;
        let machine = RetrainingConfig {
            enabled: how.enabled,
            min_samples: u64::from(how.min_samples),
            epochs: tenant.train.epochs,
            min_gain: how.min_gain,
            configurations: if how.microprofile_share > 0.0 { config.configurations_of(tenant) } else { Vec::new() },
            microprofile: MicroprofileConfig {
                share: how.microprofile_share,
                epochs: how.microprofile_epochs,
                ..MicroprofileConfig::default()
            },
            max_forgetting: how.max_forgetting,
            canary_share: how.canary_share,
            canary_samples: u64::from(how.canary_samples),
            canary: Duration::from_secs_f64(how.canary_s),
            rollback: how.rollback,
            window_s: how.window_s,
            beyond_window_s: how.beyond_window_s,
            cores: self.cores(),
            prior_core_s: measured.known.as_ref().and_then(Known::sample_core_s).unwrap_or(estimated_core_s),
            ..RetrainingConfig::default()
        };
        RetrainingParts {
            id,
            name: tenant.name.clone(),
            spec: Arc::new(tenant.model.clone()),
            launcher: Arc::clone(&self.launcher),
            train: tenant.train.clone(),
            config: machine,
            export: export(config, tenant),
            clock: self.clock,
            samples: Arc::clone(&self.samples),
            store: Arc::clone(&self.store),
            folder,
            tenant: address,
            keep_versions: 5,
        }
    }

    /// Cores of the device, or compute slices of all its GPUs: what the cost of a retraining is counted in.
    fn cores(&self) -> f64 {
        let slices = |gpu: &Gpu| gpu.catalog.profiles.iter().map(|profile| profile.compute_slices).max().unwrap_or(0);
        self.gpus.iter().map(|gpu| f64::from(slices(gpu)) * gpu.cores_per_slice).sum()
    }

    /// What the measured curve tells policies that ask for more than the planner does.
    fn facts(&self, tenant: &TenantConfig, measured: &Measured) -> TenantFacts {
        let mut models: Vec<&Gpu> = Vec::new();
        for gpu in &self.gpus {
            if !models.iter().any(|known| known.catalog == gpu.catalog) {
                models.push(gpu);
            }
        }
        let batches = |curve: Curve| curve.points.iter().map(|point| (point.batch, point.core_ms)).collect();
        let profiles = |gpu: &&Gpu| match &measured.known {
            Some(known) => known.on_profiles(gpu).into_iter().map(|(_, on)| batches(on.curve)).collect(),
            None => {
                let shares = gpu.catalog.profiles.iter().map(|profile| f64::from(profile.compute_slices) * gpu.cores_per_slice);
                shares.map(|share| batches(OnProfile::scaled(&measured.curve, share).curve)).collect()
            }
        };
        TenantFacts { slo_ms: tenant.slo_ms, latency_ms: models.iter().map(profiles).collect(), ..TenantFacts::default() }
    }

    /// Measured speeds by the cores of a profile; empty where nothing was measured.
    fn on_profiles(&self, measured: &Measured) -> Vec<(f64, OnProfile)> {
        match (&measured.known, self.gpus.first()) {
            (Some(known), Some(gpu)) => known.on_profiles(gpu),
            _ => Vec::new(),
        }
    }

    fn planning(&self, tenant: &TenantConfig, measured: &Measured) -> TenantPlanning {
        let known = measured.known.as_ref();
        let speeds = || known?.train_speeds(self.gpus.first()?);
        // Weights, gradients, optimizer state and activations beside the libraries.
        let estimated_mib = measured.memory_mib * 2;
        TenantPlanning {
            name: tenant.name.clone(),
            weight: tenant.weight,
            slo_ms: tenant.slo_ms,
            floor_rps: floor_rps(tenant),
            curve: measured.curve.clone(),
            on_profile: self.on_profiles(measured).into_iter().map(|(_, on)| on).collect(),
            retrain_speeds: speeds().unwrap_or_default(),
            memory_mib: known.and_then(Known::memory_mib).unwrap_or(0).max(measured.memory_mib),
            retrain_memory_mib: known.and_then(Known::train_memory_mib).unwrap_or(estimated_mib),
            load_s: measured.load_s,
            prior_accuracy: measured.accuracy.unwrap_or(TenantPlanning::default().prior_accuracy),
        }
    }
}
