//! `migrator profile`: what the tenants' models take on every profile of the device at hand, serving and retraining.
//!
//! Each profile is created alone on the device, a worker put onto it as the server would, and measured over the wire. Read in the order
//! [`serving`], [`training`], then what becomes of the figures: the curve file ([`crate::curve::own`]), [`table`], [`plot`].

pub mod plot;
pub mod serving;
pub mod table;
pub mod training;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use migrator_actors::launcher::{Launcher, Processes, RELEASE, TenantModel};
use migrator_device::{Device, Instance};
use migrator_mig::Site;
use migrator_models::curve::executors;
use migrator_models::store::Store;
use migrator_solver::{Task, TenantId};
use migrator_wire::message::ModelKey;
use serde::Serialize;
use tokio::runtime::Handle;

use self::serving::{BatchFigures, Subject};
use self::training::TrainFigures;
use crate::cli::ProfileArgs;
use crate::config::{Config, TenantConfig};
use crate::curve::file::{InferenceEntry, TrainingEntry};
use crate::curve::own::{self, Own, Place, digest, rounded};

/// Everything that was measured of one tenant's model.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TenantFigures {
    /// The tenant.
    pub tenant: String,
    /// Its model.
    pub model: String,
    /// The version measured.
    pub version: u32,
    /// The tenant's SLO, milliseconds.
    pub slo_ms: f64,
    /// By profile, smallest first.
    pub profiles: Vec<ProfileFigures>,
}

/// What was measured on one profile.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ProfileFigures {
    /// Compute slices.
    pub slices: u8,
    /// Cores, or compute slices on a GPU.
    pub share: f64,
    /// Seconds from the start of a worker to the end of its warm-up, there.
    pub load_s: f64,
    /// Memory in use with the model loaded and warm, MiB.
    pub memory_mib: u64,
    /// By size of the batch; empty where the model does not fit.
    pub batches: Vec<BatchFigures>,
    /// `None` where retraining does not fit, or the model is never retrained.
    pub training: Option<TrainFigures>,
}

/// Measures, prints, draws and writes.
///
/// # Errors
/// One that names the tenant, profile or file it is about.
pub fn run(args: ProfileArgs) -> anyhow::Result<ExitCode> {
    let mut config = Config::load(&args.config).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    if let Some(dir) = &args.state_dir {
        config.server.state_dir.clone_from(dir);
    }
    let tenants = chosen(&config, &args.tenants)?;
    let device = crate::serve::device::open(&config.device, config.server.instances_file())?;
    let place = Place::of(&*device).context("the host's GPUs are of several models: name those of one model in device.gpus")?;
    let path = args.out.clone().unwrap_or_else(|| config.server.curves_file());
    let mut own = Own::read(&path, &place)?.unwrap_or_else(|| Own::new(&place));
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().context("no runtime for the workers")?;
    let found = runtime.block_on(async {
        let bench = Bench::new(&config, device, Duration::from_secs_f64(args.seconds), tenants.len()).await?;
        let mut found = Vec::new();
        for (index, tenant) in tenants.iter().enumerate() {
            let figures = bench
                .tenant(TenantId(index as u16), tenant, config.retraining_of(tenant).enabled)
                .await
                .with_context(|| format!("tenant {:?}", tenant.name))?;
            let (inference, training) = entries(&figures, tenant);
            own.put(inference, training);
            // What is measured is kept even if the next model cannot be.
            own.write(&path).with_context(|| format!("{} cannot be written", path.display()))?;
            found.push(figures);
        }
        bench.bar.finish_and_clear();
        anyhow::Ok(found)
    })?;
    if let Some(plot) = &args.plot {
        let title = format!("{}{}", place.gpu, place.host.map(|host| format!(" ({host})")).unwrap_or_default());
        std::fs::write(plot, plot::draw(&title, &found)?).with_context(|| format!("{} cannot be written", plot.display()))?;
    }
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(&found)?),
        false => print!("{}", table::text(&found)),
    }
    eprintln!("written: {}", path.display());
    Ok(ExitCode::SUCCESS)
}

/// The tenants that are asked for; all when none is.
fn chosen(config: &Config, names: &[String]) -> anyhow::Result<Vec<TenantConfig>> {
    for name in names {
        config.tenant(name)?;
    }
    Ok(config.tenants.iter().filter(|tenant| names.is_empty() || names.contains(&tenant.name)).cloned().collect())
}

/// The rows of the curve file.
fn entries(figures: &TenantFigures, tenant: &TenantConfig) -> (InferenceEntry, Option<TrainingEntry>) {
    let (model, spec) = (figures.model.clone(), Some(digest(&tenant.model)));
    let served = figures.profiles.iter().filter(|profile| !profile.batches.is_empty());
    let batch_ms = served.clone().map(|profile| {
        let points = profile.batches.iter().map(|batch| (batch.batch, rounded(batch.batch_ms()))).collect();
        (own::profile(profile.slices), points)
    });
    let inference = InferenceEntry {
        model: model.clone(),
        spec: spec.clone(),
        memory_mib: served.clone().map(|profile| profile.memory_mib).max(),
        batch_ms: batch_ms.collect(),
    };
    let trained: Vec<(u8, &TrainFigures)> =
        figures.profiles.iter().filter_map(|profile| Some((profile.slices, profile.training.as_ref()?))).collect();
    let training = trained.first().map(|(_, first)| TrainingEntry {
        model,
        batch: first.batch,
        spec,
        memory_mib: trained.iter().map(|(_, of)| of.memory_mib).max().filter(|mib| *mib > 0),
        core_s: Some(rounded(trained.iter().map(|(_, of)| of.core_s).sum::<f64>() / trained.len() as f64)),
        iteration_s: trained.iter().map(|(slices, of)| (own::profile(*slices), rounded(of.iteration_s))).collect::<BTreeMap<_, _>>(),
    });
    (inference, training)
}

/// The device with nothing on it.
struct Bench {
    launcher: Arc<Launcher>,
    /// One of each size of profile, by ascending compute slices.
    sites: Vec<(u8, u32, Site)>,
    each: Duration,
    scratch: PathBuf,
    bar: ProgressBar,
}

impl Bench {
    async fn new(config: &Config, device: Arc<dyn Device>, each: Duration, tenants: usize) -> anyhow::Result<Bench> {
        let store = Arc::new(Store::open(&config.server.models_dir())?);
        let workers = Box::new(Processes { binary: crate::serve::worker_binary()? });
        let launcher = Arc::new(Launcher::new(workers, Arc::clone(&device), store, Handle::current(), Vec::new(), 0));
        let gpus = device.gpus();
        let catalog = &gpus.first().context("the device has no GPU")?.catalog;
        let mut sites: Vec<(u8, u32, Site)> = Vec::new();
        for (gpu, site) in launcher.free_sites().await? {
            let slices = catalog.profile(site.profile).compute_slices;
            if sites.last().is_none_or(|(last, ..)| *last < slices) {
                sites.push((slices, gpu, site));
            }
        }
        let missing = catalog.profiles.iter().find(|profile| sites.iter().all(|(slices, ..)| *slices != profile.compute_slices));
        if let Some(profile) = missing {
            anyhow::bail!(
                "no room for a {}: is a server running, or has somebody else cut the GPU? `migrator gpu state` shows it",
                profile.name
            )
        }
        let scratch = config.server.state_dir.join("profile");
        let style = ProgressStyle::with_template("{elapsed_precise} [{bar:30}] {pos} of {len} {msg}")?;
        let bar = ProgressBar::new((tenants * sites.len()) as u64).with_style(style);
        Ok(Bench { launcher, sites, each, scratch: std::path::absolute(scratch)?, bar })
    }

    async fn tenant(&self, id: TenantId, tenant: &TenantConfig, retrained: bool) -> anyhow::Result<TenantFigures> {
        self.launcher.join(id, TenantModel { tenant: tenant.name.clone(), spec: tenant.model.clone() });
        let (version, _) = self.launcher.newest(id).await?;
        let mut profiles = Vec::new();
        for &(slices, gpu, site) in &self.sites {
            self.bar.set_message(format!("{} on {}", tenant.name, own::profile(slices)));
            let measured = self.launcher.with_instance(gpu, site, async |instance| {
                let mut found = self.serving(id, tenant, slices, instance).await?;
                if retrained && !found.batches.is_empty() {
                    self.bar.set_message(format!("{} on {}: retraining", tenant.name, own::profile(slices)));
                    found.training = self.training(id, tenant, instance).await?;
                }
                anyhow::Ok(found)
            });
            let found = measured.await?;
            self.bar.inc(1);
            let line = table::line(&tenant.name, &found);
            if self.bar.is_hidden() {
                eprintln!("{line}")
            } else {
                self.bar.println(line)
            }
            profiles.push(found);
        }
        Ok(TenantFigures { tenant: tenant.name.clone(), model: tenant.model.name.clone(), version, slo_ms: tenant.slo_ms, profiles })
    }

    async fn serving(&self, id: TenantId, tenant: &TenantConfig, slices: u8, instance: &Instance) -> anyhow::Result<ProfileFigures> {
        let mut found = ProfileFigures { slices, share: instance.share, load_s: 0.0, memory_mib: 0, batches: Vec::new(), training: None };
        let started = match self.launcher.start_on(Task::inference(id), instance.id, instance.share).await {
            Ok(started) => started,
            Err(error) if error.is_out_of_memory() => return Ok(found),
            Err(error) => return Err(error.into()),
        };
        (found.load_s, found.memory_mib) = (started.seconds, started.memory_mib);
        let key = ModelKey(started.version.unwrap_or_default());
        let executors = executors(instance.share);
        let subject = Subject { worker: &started.handle, key, spec: &tenant.model, executors, slo_ms: tenant.slo_ms };
        let of = |batch: &BatchFigures| format!("{} on {}: batches of {}", tenant.name, own::profile(slices), batch.batch);
        let batches = subject.measure(self.each, |batch| self.bar.set_message(of(batch))).await;
        started.handle.shutdown(RELEASE).await;
        found.batches = batches?;
        Ok(found)
    }

    async fn training(&self, id: TenantId, tenant: &TenantConfig, instance: &Instance) -> anyhow::Result<Option<TrainFigures>> {
        let (_, base) = self.launcher.newest(id).await?;
        let started = match self.launcher.start_on(Task::retraining(id), instance.id, instance.share).await {
            Ok(started) => started,
            Err(error) if error.is_out_of_memory() => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let _ = std::fs::remove_dir_all(&self.scratch);
        std::fs::create_dir_all(&self.scratch)?;
        let measured = training::measure(&started.handle, &tenant.model, &tenant.train, &base, &self.scratch, self.each).await;
        let memory_mib = self.memory_mib(instance.id, started.handle.pid());
        started.handle.shutdown(RELEASE).await;
        let _ = std::fs::remove_dir_all(&self.scratch);
        let figures = |(iteration_s, core_s)| TrainFigures { batch: tenant.train.batch.max(1), iteration_s, core_s, memory_mib };
        Ok(measured?.map(figures))
    }

    /// Of the host's process at its most, or of the GPU's instance at present; 0 where neither is told.
    fn memory_mib(&self, instance: u64, pid: u32) -> u64 {
        let device = &self.launcher.device;
        if device.computes_on_host() {
            return training::peak_mib(pid).unwrap_or(0);
        }
        let usage = device.usage().unwrap_or_default();
        usage.iter().find(|usage| usage.instance == instance).map_or(0, |usage| usage.memory_mib)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config::parse("demo.toml", include_str!("../../../configs/demo.toml")).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn figures(slices: u8, ms: &[(u32, f64)], iteration_s: Option<f64>) -> ProfileFigures {
        let batch = |&(batch, ms): &(u32, f64)| BatchFigures { batch, p50_ms: ms, p99_ms: ms, rows_per_s: f64::from(batch) * 1000.0 / ms };
        let training =
            iteration_s.map(|iteration_s| TrainFigures { batch: 32, iteration_s, core_s: 0.25, memory_mib: 300 + u64::from(slices) });
        let batches = ms.iter().map(batch).collect();
        ProfileFigures { slices, share: f64::from(slices), load_s: 1.0, memory_mib: 100 + u64::from(slices), batches, training }
    }

    #[test]
    fn a_profile_that_the_model_does_not_fit_is_not_in_the_file() {
        let tenant = &config().tenants[0];
        let profiles = vec![figures(1, &[], None), figures(2, &[(1, 3.0)], None), figures(7, &[(1, 1.0), (4, 2.0)], Some(0.5))];
        let all = TenantFigures { tenant: "a".into(), model: "m".into(), version: 3, slo_ms: 50.0, profiles };
        let (inference, training) = entries(&all, tenant);
        assert_eq!(inference.batch_ms.keys().collect::<Vec<_>>(), ["2g", "7g"]);
        assert_eq!((inference.memory_mib, &inference.batch_ms["7g"]), (Some(107), &vec![(1, 1.0), (4, 2.0)]));
        let training = training.unwrap();
        assert_eq!((training.memory_mib, training.core_s, training.iteration_s.len()), (Some(307), Some(0.25), 1));
    }

    #[test]
    fn a_tenant_that_is_not_there_is_named_beside_those_that_are() {
        assert_eq!(chosen(&config(), &[]).unwrap().len(), 3);
        assert_eq!(chosen(&config(), &["sensor".into()]).unwrap()[0].name, "sensor");
        let error = chosen(&config(), &["nobody".into()]).unwrap_err().to_string();
        assert_eq!(error, "no tenant \"nobody\" in the configuration; it has vision, sensor, text");
    }
}
