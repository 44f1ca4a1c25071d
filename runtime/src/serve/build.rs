//! What a server stands on, and the actors of one configuration on top of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use actix::prelude::*;
use anyhow::Context as _;
use migrator_actors::clock::Clock;
use migrator_actors::coordinator::{CoordinatorActor, CoordinatorParts, Halt};
use migrator_actors::golden::Golden;
use migrator_actors::launcher::{Launcher, Processes, Spawn, TenantModel};
use migrator_actors::message::SampleStore;
use migrator_actors::migration::{MigrationActor, Shutdown, TenantActors};
use migrator_actors::retraining::{ExportSpec, RetrainingActor, RetrainingParts};
use migrator_actors::tenant::{Close, TenantActor, TenantFlags, TenantParts};
use migrator_actors::view::View;
use migrator_device::{Device, Gpu};
use migrator_machine::coordinator::{CoordinatorConfig, GpuConfig, TenantPlanning};
use migrator_machine::migration::MigrationConfig;
use migrator_machine::retraining::{MicroprofileConfig, RetrainingConfig};
use migrator_machine::tenant::{Dispatch, TenantConfig as Serving};
use migrator_models::curve::CurvePoint;
use migrator_models::store::Store;
use migrator_models::{Curve, ModelSpec};
use migrator_solver::{Facts, Task, TenantFacts, TenantId};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::front::ActorFront;
use super::{golden, reload};
use crate::config::{Config, TenantConfig};
use crate::http::TenantFront;
use crate::storage;

/// A tenant without any instance could not answer its next request for seconds, so each keeps at least the smallest one that fits.
const ALWAYS_RPS: f64 = 1.0;

/// Fewest requests/s that a tenant keeps.
pub(super) fn floor_rps(tenant: &TenantConfig) -> f64 {
    tenant.floor_rps.max(ALWAYS_RPS)
}

/// What a server stands on.
pub struct Host {
    /// What is cut into instances.
    pub device: Arc<dyn Device>,
    /// Where blank workers come from.
    pub workers: Box<dyn Spawn>,
    /// Where labelled samples go.
    pub samples: Arc<dyn SampleStore>,
    /// The thread that tenants answer requests on.
    pub tenants: ArbiterHandle,
}

impl Host {
    /// This machine, as the configuration wants it used.
    ///
    /// # Errors
    /// One that names what could not be set up.
    pub fn of(config: &Config) -> anyhow::Result<Host> {
        let device = super::device::open(&config.device, config.server.instances_file())?;
        Ok(Host {
            device,
            workers: Box::new(Processes { binary: super::worker_binary()? }),
            samples: samples(config)?,
            tenants: Arbiter::new().handle(),
        })
    }
}

/// The labelled samples, kept within their bounds.
fn samples(config: &Config) -> anyhow::Result<Arc<dyn SampleStore>> {
    let samples = Arc::new(storage::of(config)?);
    storage::watch(&samples);
    Ok(samples)
}

/// The running server, less its front.
pub struct Setup {
    /// By the tenant's name.
    pub fronts: BTreeMap<String, Arc<dyn TenantFront>>,
    /// What the outside may see.
    pub view: watch::Receiver<Arc<View>>,
    pub(super) coordinator: Addr<CoordinatorActor>,
    migration: Addr<MigrationActor>,
    pub(super) tenants: Vec<TenantActors>,
    arbiter: ArbiterHandle,
}

impl Setup {
    /// No further plans.
    pub async fn hold(&self) {
        let _ = self.coordinator.send(Halt).await;
    }

    /// Sheds what waits, ends workers, removes instances, ends the threads.
    pub async fn stop(self) {
        self.hold().await;
        for actors in &self.tenants {
            let _ = actors.tenant.send(Close).await;
        }
        let _ = self.migration.send(Shutdown).await;
        self.arbiter.stop();
    }
}

/// What measuring a tenant's model at the start gave.
struct Measured {
    curve: Curve,
    memory_mib: u64,
    load_s: f64,
    /// Of its newest version at its validation.
    accuracy: Option<f64>,
}

/// Sets everything up; workers have measured each model when this returns, and the first plan is about to be made.
///
/// # Errors
/// One that names what could not be set up.
pub async fn build(config: &Config, host: Host) -> anyhow::Result<Setup> {
    let Host { device, workers, samples, tenants: arbiter } = host;
    let store = Arc::new(Store::open(&config.server.models_dir())?);
    let models = config.tenants.iter().map(|tenant| TenantModel { tenant: tenant.name.clone(), spec: tenant.model.clone() }).collect();
    let spares = if config.planner.preload { config.planner.spares as usize } else { 0 };
    let runtime = runtime_of(&arbiter).await?;
    let launcher = Arc::new(Launcher::new(workers, Arc::clone(&device), Arc::clone(&store), runtime, models, spares));
    let mut measured = Vec::new();
    for (index, tenant) in config.tenants.iter().enumerate() {
        measured.push(measure(&launcher, TenantId(index as u16), tenant).await?);
    }
    launcher.refill();
    let builder = Builder { config, clock: Clock::start(), launcher, store, samples, gpus: device.gpus(), measured };
    builder.actors(arbiter)
}

async fn runtime_of(arbiter: &ArbiterHandle) -> anyhow::Result<Handle> {
    let (tell, told) = oneshot::channel();
    arbiter.spawn(async move {
        let _ = tell.send(Handle::current());
    });
    told.await.context("a thread for the tenants could not be started")
}

/// Takes a model's timings for the curve.
async fn measure(launcher: &Arc<Launcher>, id: TenantId, tenant: &TenantConfig) -> anyhow::Result<Measured> {
    let found = launcher.measure(Task::inference(id)).await.with_context(|| format!("tenant {:?}", tenant.name))?;
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
    let manifest = launcher.store.manifest(&tenant.model.name, u64::from(found.version)).ok();
    let accuracy = manifest.and_then(|manifest| manifest.accuracy_after);
    Ok(Measured { curve: Curve { points }, memory_mib: found.memory_mib, load_s: found.load_s, accuracy })
}

struct Builder<'c> {
    config: &'c Config,
    clock: Clock,
    launcher: Arc<Launcher>,
    store: Arc<Store>,
    samples: Arc<dyn SampleStore>,
    gpus: Vec<Gpu>,
    measured: Vec<Measured>,
}

impl Builder<'_> {
    fn actors(self, arbiter: ArbiterHandle) -> anyhow::Result<Setup> {
        let names: Vec<&str> = self.config.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
        migrator_actors::meter::register(&names);
        let mut fronts: BTreeMap<String, Arc<dyn TenantFront>> = BTreeMap::new();
        let mut tenants = Vec::new();
        for (index, tenant) in self.config.tenants.iter().enumerate() {
            let (spec, flags) = (Arc::new(tenant.model.clone()), Arc::new(TenantFlags::default()));
            let (golden, offered) = tenant.golden.as_ref().map(|how| Golden::new(&tenant.name, how.share)).unzip();
            let address = self.tenant(index, tenant, &spec, &flags, golden, &arbiter);
            if let (Some(how), Some(offered)) = (&tenant.golden, offered) {
                let (id, state_dir) = (TenantId(index as u16), &self.config.server.state_dir);
                golden::start(id, tenant, how, &self.launcher, state_dir, address.clone(), offered)?;
            }
            let retraining = self.retraining(index, tenant, &spec, address.clone())?.start();
            fronts.insert(
                tenant.name.clone(),
                Arc::new(ActorFront { address: address.clone(), spec, flags, store: Arc::clone(&self.store) }),
            );
            tenants.push(TenantActors { tenant: address, retraining });
        }
        let migration = MigrationActor::new(MigrationConfig::default(), self.clock, Arc::clone(&self.launcher), tenants.clone());
        let there = self.launcher.device.instances().context("the device cannot be read")?;
        let migration = migration.adopting(there).start();
        let (view, seen) = watch::channel(Arc::new(View::default()));
        let facts = self.facts();
        let parts = CoordinatorParts {
            config: self.planning(),
            clock: self.clock,
            models: self.config.tenants.iter().map(|tenant| tenant.model.name.clone()).collect(),
            gpus: self.gpus,
            tenants: tenants.clone(),
            migration: migration.clone(),
            view,
            facts,
        };
        let coordinator = CoordinatorActor::new(parts).start();
        Ok(Setup { fronts, view: seen, coordinator, migration, tenants, arbiter })
    }

    fn tenant(
        &self,
        index: usize,
        tenant: &TenantConfig,
        spec: &Arc<ModelSpec>,
        flags: &Arc<TenantFlags>,
        golden: Option<Golden>,
        arbiter: &ArbiterHandle,
    ) -> Addr<TenantActor> {
        let parts = TenantParts {
            id: TenantId(index as u16),
            name: tenant.name.clone(),
            spec: Arc::clone(spec),
            clock: self.clock,
            config: Serving {
                slo: reload::slo(tenant),
                patience: reload::patience(tenant),
                max_batch: spec.max_batch,
                queue_limit: tenant.queue as usize,
                curve: self.measured[index].curve.clone(),
                dispatch: Dispatch::of(self.config.planner.policy),
                ..Serving::default()
            },
            launcher: Arc::clone(&self.launcher),
            samples: Arc::clone(&self.samples),
            flags: Arc::clone(flags),
            golden,
        };
        TenantActor::start_in_arbiter(arbiter, |_| TenantActor::new(parts))
    }

    fn retraining(
        &self,
        index: usize,
        tenant: &TenantConfig,
        spec: &Arc<ModelSpec>,
        address: Addr<TenantActor>,
    ) -> anyhow::Result<RetrainingActor> {
        let how = self.config.retraining_of(tenant);
        let folder = std::path::absolute(self.config.server.state_dir.join("retraining").join(&tenant.name))?;
        let batch = tenant.train.batch.max(1);
        let config = RetrainingConfig {
            enabled: how.enabled,
            min_samples: u64::from(how.min_samples),
            epochs: tenant.train.epochs,
            min_gain: how.min_gain,
            configurations: if how.microprofile_share > 0.0 { self.config.configurations_of(tenant) } else { Vec::new() },
            microprofile: MicroprofileConfig {
                share: how.microprofile_share,
                epochs: how.microprofile_epochs,
                ..MicroprofileConfig::default()
            },
            max_forgetting: how.max_forgetting,
            canary_share: how.canary_share,
            canary_samples: u64::from(how.canary_samples),
            canary: std::time::Duration::from_secs_f64(how.canary_s),
            rollback: how.rollback,
            window_s: how.window_s,
            beyond_window_s: how.beyond_window_s,
            cores: self.cores(),
            // Forward and backward cost about three times the forward pass alone.
            prior_core_s: 3.0 * self.measured[index].curve.core_ms(batch) / f64::from(batch) / 1000.0,
            ..RetrainingConfig::default()
        };
        let export =
            ExportSpec { max_samples: how.max_samples as usize, replay_share: how.replay_share, held_out_share: how.held_out_share };
        let actor = RetrainingActor::new(RetrainingParts {
            id: TenantId(index as u16),
            name: tenant.name.clone(),
            spec: Arc::clone(spec),
            launcher: Arc::clone(&self.launcher),
            train: tenant.train.clone(),
            config,
            export,
            clock: self.clock,
            samples: Arc::clone(&self.samples),
            store: Arc::clone(&self.store),
            folder,
            tenant: address,
            keep_versions: 5,
        });
        actor.map_err(anyhow::Error::msg)
    }

    /// Cores of the device, or compute slices of all its GPUs: what the cost of a retraining is counted in.
    fn cores(&self) -> f64 {
        let slices = |gpu: &Gpu| gpu.catalog.profiles.iter().map(|profile| profile.compute_slices).max().unwrap_or(0);
        self.gpus.iter().map(|gpu| f64::from(slices(gpu)) * gpu.cores_per_slice).sum()
    }

    /// What the measured curves tell policies that ask for more than the planner does.
    fn facts(&self) -> Facts {
        let mut models: Vec<&Gpu> = Vec::new();
        for gpu in &self.gpus {
            if !models.iter().any(|known| known.catalog == gpu.catalog) {
                models.push(gpu);
            }
        }
        let tenants = self.config.tenants.iter().zip(&self.measured).map(|(tenant, measured)| {
            let batches = |share: f64| measured.curve.points.iter().map(|point| (point.batch, point.core_ms / share)).collect();
            let profiles = |gpu: &&Gpu| {
                let shares = gpu.catalog.profiles.iter().map(|profile| f64::from(profile.compute_slices) * gpu.cores_per_slice);
                shares.map(batches).collect()
            };
            TenantFacts { slo_ms: tenant.slo_ms, latency_ms: models.iter().map(profiles).collect(), ..TenantFacts::default() }
        });
        Facts { tenants: tenants.collect(), window_s: self.config.retraining.window_s }
    }

    fn planning(&self) -> CoordinatorConfig {
        let planner = &self.config.planner;
        let tenants = self.config.tenants.iter().zip(&self.measured);
        CoordinatorConfig {
            gpus: self.gpus.iter().map(|gpu| GpuConfig { catalog: gpu.catalog.clone(), cores_per_slice: gpu.cores_per_slice }).collect(),
            tenants: tenants
                .map(|(tenant, measured)| TenantPlanning {
                    name: tenant.name.clone(),
                    weight: tenant.weight,
                    slo_ms: tenant.slo_ms,
                    floor_rps: floor_rps(tenant),
                    curve: measured.curve.clone(),
                    memory_mib: measured.memory_mib,
                    // Weights, gradients, optimizer state and activations beside the libraries.
                    retrain_memory_mib: measured.memory_mib * 2,
                    load_s: measured.load_s,
                    prior_accuracy: measured.accuracy.unwrap_or(TenantPlanning::default().prior_accuracy),
                    ..TenantPlanning::default()
                })
                .collect(),
            window_s: self.config.retraining.window_s,
            beyond_window_s: self.config.retraining.beyond_window_s,
            horizon_s: planner.horizon_s,
            forecast: planner.forecast,
            dwell_s: planner.dwell_s,
            solve_every_s: planner.slot_s,
            preload: planner.preload,
            policy: planner.policy,
            time_limit_ms: u32::try_from(planner.time_limit_ms).unwrap_or(u32::MAX),
            min_gain: planner.min_gain,
            ..CoordinatorConfig::default()
        }
    }
}
