//! A host of fake GPUs, the device under test, and what is known of who is where.

use std::collections::BTreeMap;
use std::time::Duration;

use fake_nvml::FakeHost;
use migrator_device::{Device, DeviceError, Instance, NvmlDevice, NvmlOptions};
use migrator_machine::migration::{MigrationConfig, StepError, StepOk};
use migrator_machine::{MigrationMachine, MigrationWish, Time};
use migrator_mig::{Catalog, Partition, Site};
use migrator_solver::{
    Allocation, Generation, GpuModel, GpuPlan, GpuState, InstanceId, InstanceState, Plan, Problem, Scenario, Step, Target, Task, TenantId,
    TenantState, TransitionCosts, audit, transition,
};
use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

/// Tenants of whom any may be anywhere.
const TENANTS: u16 = 3;
/// Attempts before what fails is made to stop.
const PATIENCE: usize = 10;

/// The host, and everything that a server would remember of it.
pub struct Host {
    pub fake: FakeHost,
    options: NvmlOptions,
    /// `None` while the server is down.
    device: Option<NvmlDevice>,
    tasks: BTreeMap<InstanceId, Task>,
    generation: u64,
    now: Time,
}

impl Host {
    /// A host whose device is open.
    pub fn new(fake: FakeHost, options: NvmlOptions) -> Host {
        let mut host = Host { fake, options, device: None, tasks: BTreeMap::new(), generation: 0, now: Time::ZERO };
        host.restart();
        host
    }

    /// The server dies without a word and is started again, until the device opens.
    pub fn restart(&mut self) {
        self.device = None;
        self.tasks.clear();
        let device = self.patiently("the device does not open", || NvmlDevice::open(self.options.clone()));
        self.device = Some(device);
    }

    /// Tries again, as a supervisor would; what goes on for long ends then.
    fn patiently<T>(&self, what: &str, attempt: impl Fn() -> Result<T, DeviceError>) -> T {
        for _ in 0..PATIENCE {
            match attempt() {
                Ok(done) => return done,
                Err(error) => tracing::warn!(%error, "{what}"),
            }
        }
        self.fake.clear_faults().unwrap();
        attempt().unwrap_or_else(|error| panic!("{what} although nothing fails: {error}"))
    }

    pub fn device(&self) -> &NvmlDevice {
        self.device.as_ref().expect("it is open")
    }

    /// What the device lists; asked again while it fails.
    pub fn instances(&self) -> Vec<Instance> {
        self.patiently("the device cannot be read", || self.device().instances())
    }

    /// A random legal partition around what is not ours, with random owners, and the steps to it, carried out; `None` when the server
    /// dies after so many of them.
    pub fn migrate(&mut self, rng: &mut StdRng, mut steps: Option<usize>) -> Option<Plan> {
        let problem = self.problem();
        self.generation += 1;
        let gpus = (0..problem.gpus.len()).map(|gpu| random_plan(&problem, gpu, rng)).collect();
        let plan = Plan { generation: Generation(self.generation), gpus };
        assert_eq!(audit(&problem, &plan), [], "the test's own plan is legal");
        let mut machine = MigrationMachine::new(MigrationConfig::default());
        machine.begin(self.now, &problem, &plan, transition(&problem, &plan)).expect("a newer generation");
        loop {
            match machine.poll(self.now) {
                Some(MigrationWish::Do { .. }) if steps == Some(0) => return None,
                Some(MigrationWish::Do { id, step, instance, .. }) => {
                    steps = steps.map(|left| left - 1);
                    let result = self.carry_out(step, instance);
                    machine.done(self.now, id, result);
                }
                Some(MigrationWish::Unstage { .. }) => {}
                Some(MigrationWish::Finished(report)) => {
                    assert_eq!(report.generation, plan.generation);
                    return Some(plan);
                }
                None => {
                    self.now = machine.timeout().expect("a transition that is not over knows when to go on").max(self.now);
                    machine.handle_timeout(self.now);
                }
            }
            assert_eq!(machine.check(), []);
        }
    }

    fn carry_out(&mut self, step: Step, instance: Option<InstanceId>) -> Result<StepOk, StepError> {
        let result = self.try_to_carry_out(step, instance);
        if let Err(error) = &result {
            // As the server's migration actor does.
            tracing::warn!(?step, %error, "a step failed");
        }
        result
    }

    fn try_to_carry_out(&mut self, step: Step, instance: Option<InstanceId>) -> Result<StepOk, StepError> {
        let device = self.device.as_ref().expect("it is open");
        match step {
            Step::Create { key } => match device.create(key.gpu as u32, key.site) {
                Ok(made) => Ok(StepOk { instance: Some(InstanceId(made.id)) }),
                Err(error) => Err(StepError::Failed(error.to_string())),
            },
            Step::Destroy { instance, .. } => match device.destroy(instance.0) {
                Ok(()) => Ok(StepOk::default()),
                Err(error @ DeviceError::InUse { .. }) => {
                    tracing::debug!(%error, "the machine tries again");
                    Err(StepError::InUse)
                }
                Err(error) => Err(StepError::Failed(error.to_string())),
            },
            Step::Release { instance, .. } => {
                self.tasks.remove(&instance);
                Ok(StepOk::default())
            }
            Step::Bind { target, task } => {
                let id = match target {
                    Target::Existing(id) => id,
                    Target::New(_) => instance.ok_or_else(|| StepError::Failed("its instance does not exist".to_owned()))?,
                };
                self.tasks.insert(id, task);
                Ok(StepOk::default())
            }
            Step::Preload { .. } | Step::Drain { .. } | Step::Admit { .. } => Ok(StepOk::default()),
        }
    }

    fn problem(&mut self) -> Problem {
        let there = self.instances();
        self.tasks.retain(|id, _| there.iter().any(|instance| InstanceId(instance.id) == *id));
        let state = |instance: &Instance| InstanceState {
            id: InstanceId(instance.id),
            site: instance.site,
            task: self.tasks.get(&InstanceId(instance.id)).copied(),
            ready_in_s: 0.0,
            pinned: instance.foreign,
        };
        let gpus = self.device().gpus();
        let mut catalogs: Vec<Catalog> = Vec::new();
        for gpu in &gpus {
            if !catalogs.contains(&gpu.catalog) {
                catalogs.push(gpu.catalog.clone());
            }
        }
        let gpu_state = |gpu: &migrator_device::Gpu| GpuState {
            model: catalogs.iter().position(|catalog| *catalog == gpu.catalog).unwrap_or(0),
            instances: there.iter().filter(|instance| instance.gpu == gpu.index).map(state).collect(),
        };
        Problem {
            gpus: gpus.iter().map(gpu_state).collect(),
            tenants: (0..TENANTS).map(|id| tenant(id, &catalogs)).collect(),
            models: catalogs.into_iter().map(model).collect(),
            window_left_s: 60.0,
            beyond_window_s: 0.0,
            costs: TransitionCosts { drain_s: 0.2, handover_s: 0.2, preload: true },
        }
    }

    /// What must hold whatever fails: no slice has two owners, and whatever is on the GPUs is known to be there.
    pub fn check(&self) {
        assert_eq!(self.fake.audit().unwrap(), Vec::<String>::new());
        let listed = self.instances();
        for gpu in self.device().gpus() {
            let known = listed.iter().filter(|instance| instance.gpu == gpu.index).map(|instance| instance.site).collect();
            // No two overlap, and each lies where its profile may.
            Partition::new(&gpu.catalog, known).expect("what the device lists is a legal partition");
        }
    }

    /// What must hold once faults have stopped: the GPUs hold what was planned and what is not ours, no more and no less.
    pub fn settled(&self, plan: &Plan) {
        let listed = self.instances();
        for (gpu, planned) in self.device().gpus().iter().zip(&plan.gpus) {
            let mut there: Vec<Site> = listed.iter().filter(|i| i.gpu == gpu.index).map(|i| i.site).collect();
            there.sort();
            let wanted: Vec<Site> = planned.allocations.iter().map(|allocation| allocation.site).collect();
            assert_eq!(there, wanted, "GPU {}", gpu.index);
            assert_eq!(
                self.fake.instances(gpu.index as usize).unwrap().len(),
                there.len(),
                "an instance on GPU {} that nobody lists",
                gpu.index
            );
        }
    }
}

/// A device that gives up early: the fake's "in use" lasts as long as it is told to.
pub fn options(library: std::path::PathBuf, record: std::path::PathBuf, gpus: &[String]) -> NvmlOptions {
    NvmlOptions { library: Some(library), destroy_deadline: Duration::from_millis(200), ..NvmlOptions::new(gpus.to_vec(), record) }
}

fn random_plan(problem: &Problem, gpu: usize, rng: &mut StdRng) -> GpuPlan {
    let catalog = problem.catalog(gpu);
    let state = &problem.gpus[gpu];
    let pinned: Vec<&InstanceState> = state.instances.iter().filter(|old| old.pinned).collect();
    let fixed: Vec<Site> = pinned.iter().map(|old| old.site).collect();
    let partitions = catalog.partitions_around(&fixed);
    let partition = partitions.choose(rng).expect("the empty one at least");
    let owner = |rng: &mut StdRng| rng.random_bool(0.8).then(|| Task::inference(TenantId(rng.random_range(0..TENANTS))));
    let mut allocations: Vec<Allocation> = Vec::new();
    for &site in partition.sites() {
        let instance = state.instances.iter().find(|old| old.site == site).map(|old| old.id);
        allocations.push(Allocation { site, instance, task: owner(rng) });
    }
    allocations.extend(pinned.iter().map(|old| Allocation { site: old.site, instance: Some(old.id), task: old.task }));
    allocations.sort_by_key(|allocation| allocation.site);
    GpuPlan { allocations }
}

fn model(catalog: Catalog) -> GpuModel {
    let n = catalog.profiles.len();
    GpuModel { catalog, create_s: vec![0.2; n], destroy_s: vec![0.2; n] }
}

fn tenant(id: u16, catalogs: &[Catalog]) -> TenantState {
    let rates = |catalog: &Catalog| catalog.profiles.iter().map(|profile| f64::from(profile.compute_slices)).collect();
    TenantState {
        name: format!("tenant-{id}"),
        weight: 1.0,
        demand: Scenario::certain(vec![1.0]),
        capacity_rps: catalogs.iter().map(rates).collect(),
        memory_mib: 0,
        backlog: 0.0,
        accuracy: 1.0,
        load_s: 1.0,
        retraining: None,
        floor_rps: 0.0,
    }
}
