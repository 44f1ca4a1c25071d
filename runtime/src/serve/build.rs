//! What a server stands on, and the actors of one configuration on top of it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use actix::prelude::*;
use anyhow::Context as _;
use migrator_actors::clock::Clock;
use migrator_actors::coordinator::{CoordinatorActor, CoordinatorParts, Halt};
use migrator_actors::launcher::{Launcher, Processes, Spawn};
use migrator_actors::message::SampleStore;
use migrator_actors::migration::{MigrationActor, Shutdown};
use migrator_actors::tenant::Close;
use migrator_actors::view::View;
use migrator_device::Device;
use migrator_machine::coordinator::{CoordinatorConfig, GpuConfig, TenantPlanning};
use migrator_machine::migration::MigrationConfig;
use migrator_models::store::Store;
use migrator_solver::{Facts, TenantFacts, TenantId};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::maker::{Made, Maker};
use super::profiled::Profiled;
use super::seat::Seats;
use crate::config::Config;
use crate::http::TenantFront;
use crate::storage;

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
    storage::watch(&samples, Clock::start());
    Ok(samples)
}

/// The running server, less its front.
pub struct Setup {
    /// By the tenant's name.
    pub fronts: BTreeMap<String, Arc<dyn TenantFront>>,
    /// What the outside may see.
    pub view: watch::Receiver<Arc<View>>,
    pub(super) coordinator: Addr<CoordinatorActor>,
    pub(super) migration: Addr<MigrationActor>,
    pub(super) maker: Maker,
    /// Who has which number.
    pub(super) seats: Rc<RefCell<Seats>>,
}

impl Setup {
    /// No further plans.
    pub async fn hold(&self) {
        let _ = self.coordinator.send(Halt).await;
    }

    /// Takes what the tenants' batches took into the curve file, where there is one.
    pub async fn refine(&self) {
        let Maker { profiled, launcher, gpus, .. } = &self.maker;
        let tenants = self.seats.borrow().numbered();
        if let Some(gpu) = gpus.first() {
            profiled.refine(gpu, launcher, tenants).await;
        }
    }

    /// Sheds what waits, ends workers, removes instances, ends the threads.
    pub async fn stop(self) {
        self.hold().await;
        let tenants = self.seats.borrow().actors();
        for actors in tenants {
            let _ = actors.tenant.send(Close).await;
        }
        let _ = self.migration.send(Shutdown).await;
        self.maker.arbiter.stop();
    }
}

/// Sets everything up; workers have measured each model when this returns, and the first plan is about to be made.
///
/// # Errors
/// One that names what could not be set up.
pub async fn build(config: &Config, host: Host) -> anyhow::Result<Setup> {
    let Host { device, workers, samples, tenants: arbiter } = host;
    let store = Arc::new(Store::open(&config.server.models_dir())?);
    let spares = if config.planner.preload { config.planner.spares as usize } else { 0 };
    let runtime = runtime_of(&arbiter).await?;
    let launcher = Arc::new(Launcher::new(workers, Arc::clone(&device), Arc::clone(&store), runtime, Vec::new(), spares));
    let profiled = Arc::new(Profiled::read(config, &*device));
    let mut maker = Maker { clock: Clock::start(), launcher, store, samples, gpus: device.gpus(), profiled, arbiter };
    let mut measured = Vec::new();
    for (index, tenant) in config.tenants.iter().enumerate() {
        measured.push(maker.measure(TenantId(index as u16), tenant).await?);
    }
    maker.launcher.refill();
    // Time begins when everything is measured.
    maker.clock = Clock::start();
    let mut made = Vec::new();
    for (index, (tenant, measured)) in config.tenants.iter().zip(measured).enumerate() {
        made.push(maker.make(config, TenantId(index as u16), tenant, measured).await?);
    }
    assemble(config, maker, made)
}

/// Starts the actors that there is one of.
fn assemble(config: &Config, maker: Maker, made: Vec<Made>) -> anyhow::Result<Setup> {
    let names: Vec<&str> = config.tenants.iter().map(|tenant| tenant.name.as_str()).collect();
    migrator_actors::meter::register(&names);
    let tenants: Vec<_> = made.iter().map(|made| Some(made.actors.clone())).collect();
    let migration = MigrationActor::new(MigrationConfig::default(), maker.clock, Arc::clone(&maker.launcher), tenants.clone());
    let there = maker.launcher.device.instances().context("the device cannot be read")?;
    let migration = migration.adopting(there).start();
    let (view, seen) = watch::channel(Arc::new(View::default()));
    let (planning, facts) = made.iter().map(|made| (made.planning.clone(), made.facts.clone())).unzip();
    let parts = CoordinatorParts {
        config: self::planning(config, &maker, planning),
        clock: maker.clock,
        models: config.tenants.iter().map(|tenant| tenant.model.name.clone()).collect(),
        gpus: maker.gpus.clone(),
        tenants,
        migration: migration.clone(),
        view,
        facts: self::facts(config, facts),
    };
    let coordinator = CoordinatorActor::new(parts).start();
    let named = || config.tenants.iter().map(|tenant| tenant.name.clone());
    let fronts = named().zip(&made).map(|(name, made)| (name, Arc::clone(&made.front))).collect();
    let seats = Seats::of(named().zip(made.into_iter().map(|made| made.actors)));
    Ok(Setup { fronts, view: seen, coordinator, migration, maker, seats: Rc::new(RefCell::new(seats)) })
}

async fn runtime_of(arbiter: &ArbiterHandle) -> anyhow::Result<Handle> {
    let (tell, told) = oneshot::channel();
    arbiter.spawn(async move {
        let _ = tell.send(Handle::current());
    });
    told.await.context("a thread for the tenants could not be started")
}

/// What policies that ask for more than the planner does are told.
fn facts(config: &Config, tenants: Vec<TenantFacts>) -> Facts {
    Facts { tenants, window_s: config.retraining.window_s }
}

fn planning(config: &Config, maker: &Maker, tenants: Vec<TenantPlanning>) -> CoordinatorConfig {
    let planner = &config.planner;
    CoordinatorConfig {
        gpus: maker.gpus.iter().map(|gpu| GpuConfig { catalog: gpu.catalog.clone(), cores_per_slice: gpu.cores_per_slice }).collect(),
        tenants,
        window_s: config.retraining.window_s,
        beyond_window_s: config.retraining.beyond_window_s,
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
