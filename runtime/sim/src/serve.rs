//! One tenant's serving: what its actor does around a [`TenantMachine`], with service times for workers.

use std::collections::BTreeMap;
use std::time::Duration;

use migrator_machine::tenant::{Accuracy, Answer, BatchId, EvalId, LaneSpec, LaneState, Request, RequestId, TenantWish};
use migrator_machine::{TenantMachine, Time};
use migrator_solver::{InstanceId, Task, TenantId};

use crate::dice::{Dice, Purpose};
use crate::event::{Done, Event};
use crate::incoming::Incoming;
use crate::learn::Version;
use crate::record::Missed;
use crate::setup::{Setup, TenantSetup};
use crate::world::World;

/// One tenant.
#[derive(Debug)]
pub(crate) struct Tenant<'a> {
    pub machine: TenantMachine,
    pub incoming: Incoming<'a>,
    pub lanes: Vec<Lane>,
    /// Steps that wait for a lane to drain.
    pub drains: BTreeMap<InstanceId, Vec<usize>>,
    swap: Option<Swap>,
    /// In service; 0 before the first lane is up.
    pub version: u32,
    /// Number n is at n - 1.
    pub versions: Vec<Version>,
    /// Microseconds by profile and rows.
    service_us: Vec<Vec<f64>>,
    /// Requests/s by profile.
    pub capacity_rps: Vec<f64>,
    pub wake: Option<Time>,
    /// Requests that have no answer yet.
    pub waiting: u64,
    /// The version whose batch was just passed to the machine, and its accuracy now.
    answering: (u32, f64),
    numbered: u64,
    /// Share of a label that is still owed.
    label_rest: f64,
    labelled_arrivals: u64,
    service: Dice,
    labels: Dice,
    loads: Dice,
}

/// A worker that serves this tenant.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lane {
    pub instance: InstanceId,
    pub gpu: usize,
    pub profile: usize,
    pub worker: u64,
    pub version: u32,
    busy_until: Time,
    /// Batches in it.
    pub batches: u32,
}

/// A version on its way to every lane.
#[derive(Debug)]
struct Swap {
    version: u32,
    prior: Accuracy,
    waiting: Vec<InstanceId>,
}

/// Bits of a request's number that tell requests of one microsecond apart; the others are the microsecond.
const SEQUENCE: u32 = 20;
/// Bits of an evaluation's number that are its rows.
const ROWS: u32 = 20;

impl<'a> Tenant<'a> {
    pub fn new(setup: &'a Setup, index: usize) -> Tenant<'a> {
        let tenant = &setup.tenants[index];
        let dice = |purpose: fn(usize) -> Purpose| Dice::new(setup.seed, purpose(index));
        let profiles = setup.gpus.first().map_or(0, |catalog| catalog.profiles.len());
        let capacity = |profile: usize| {
            let curve = tenant.speed.get(profile).filter(|_| tenant.fits(profile));
            curve.map_or(0.0, |curve| curve.capacity_rps(1.0, tenant.slo_ms, setup.planning.utilisation))
        };
        Tenant {
            machine: TenantMachine::new(crate::machines::serving(setup, tenant)),
            incoming: Incoming::new(&tenant.arrivals, &tenant.moments, setup.seconds, dice(Purpose::Arrivals)),
            lanes: Vec::new(),
            drains: BTreeMap::new(),
            swap: None,
            version: 0,
            versions: vec![tenant.learning.first_version()],
            service_us: (0..profiles).map(|profile| service_us(tenant, profile)).collect(),
            capacity_rps: (0..profiles).map(capacity).collect(),
            wake: None,
            waiting: 0,
            answering: (0, 0.0),
            numbered: 0,
            label_rest: 0.0,
            labelled_arrivals: 0,
            service: dice(Purpose::Service),
            labels: dice(Purpose::Labels),
            loads: dice(Purpose::Loads),
        }
    }

    /// The newest version in the store.
    pub fn newest(&self) -> u32 {
        self.versions.len() as u32
    }

    /// When its next request arrives or its machine wakes.
    pub fn due(&self) -> Option<Time> {
        self.wake.into_iter().chain(self.incoming.next()).min()
    }

    /// Requests/s that its open lanes carry.
    pub fn capacity(&self) -> f64 {
        let open = self.machine.lanes().filter(|(_, state)| *state == LaneState::Up);
        open.filter_map(|(id, _)| self.lanes.iter().find(|lane| lane.instance == id)).map(|lane| self.capacity_rps[lane.profile]).sum()
    }

    fn number(&mut self) -> u64 {
        self.numbered += 1;
        self.numbered
    }

    fn service_us(&self, profile: usize, rows: u32) -> f64 {
        let by_rows = &self.service_us[profile];
        by_rows[(rows as usize).min(by_rows.len() - 1)]
    }
}

/// By rows, from none to the largest batch.
fn service_us(tenant: &TenantSetup, profile: usize) -> Vec<f64> {
    let ms = |rows: u32| tenant.speed.get(profile).map_or(0.0, |curve| curve.core_ms(rows));
    let us = |rows| (ms(rows) * 1e3).clamp(1.0, 3.6e9);
    (0..=tenant.max_batch.clamp(1, 1 << 16)).map(|rows| us(rows.max(1))).collect()
}

impl World<'_> {
    /// A request reaches the server.
    pub(crate) fn arrive(&mut self, index: usize) {
        let (now, tenant) = (self.now, &mut self.tenants[index]);
        tenant.incoming.advance();
        tenant.waiting += 1;
        let sequence = tenant.number() & ((1 << SEQUENCE) - 1);
        let id = RequestId(now.0 << SEQUENCE | sequence);
        self.record.arrived(index);
        tenant.machine.request(now, Request { id, rows: 1, arrived: now, timeout: None, priority: 0 });
        self.pump_tenant(index);
    }

    /// Does what the machine wishes, then notes when it wants to be woken.
    pub(crate) fn pump_tenant(&mut self, index: usize) {
        while let Some(wish) = self.tenants[index].machine.poll(self.now) {
            match wish {
                TenantWish::Dispatch { lane, batch, rows, .. } => self.dispatch(index, lane, batch, rows),
                TenantWish::Answer { request, answer } => self.answer(index, request, answer),
                TenantWish::Evaluated { eval, .. } => self.evaluated(index, eval),
                TenantWish::Dropped { .. } => {}
                TenantWish::Drained { lane } => self.lane_drained(index, lane),
                TenantWish::Stalled { lane } => self.kill(lane, Task::inference(TenantId(index as u16))),
            }
        }
        self.tenants[index].wake = self.tenants[index].machine.timeout();
        self.rearm_tenant(index);
        if self.setup.check_always {
            self.check_tenant(index);
        }
    }

    fn dispatch(&mut self, index: usize, lane: InstanceId, batch: BatchId, rows: u32) {
        let slowed = self.slowed(index, lane);
        let (now, jitter, tenant) = (self.now, self.setup.tenants[index].jitter, &mut self.tenants[index]);
        let Some(position) = tenant.lanes.iter().position(|open| open.instance == lane) else {
            tenant.machine.lane_lost(now, lane);
            return;
        };
        let profile = tenant.lanes[position].profile;
        let us = tenant.service_us(profile, rows) * slowed * tenant.service.factor(jitter);
        let compute_us = us.round().max(1.0) as u64;
        let open = &mut tenant.lanes[position];
        open.busy_until = open.busy_until.max(now) + Duration::from_micros(compute_us);
        open.batches += 1;
        let (worker, version) = (open.worker, open.version);
        self.queue.push(open.busy_until, Event::Batch { tenant: index, lane, worker, batch, version, compute_us });
    }

    /// What a batch takes longer because of what else computes on its GPU.
    fn slowed(&self, index: usize, lane: InstanceId) -> f64 {
        let (inference, retraining) = (self.setup.interference.inference, self.setup.interference.retraining);
        if inference == 0.0 && retraining == 0.0 {
            return 1.0;
        }
        let Some(made) = self.host.instances.get(&lane) else { return 1.0 };
        let catalog = &self.setup.gpus[made.gpu];
        let share = |profile: usize| {
            let slices = catalog.profiles.get(profile).map_or(0, |profile| profile.compute_slices);
            f64::from(slices) / f64::from(catalog.compute_slices.max(1))
        };
        let others = self.tenants.iter().enumerate().filter(|(other, _)| *other != index);
        let busy = others.flat_map(|(_, tenant)| &tenant.lanes).filter(|other| other.gpu == made.gpu && other.batches > 0);
        let serving: f64 = busy.map(|other| share(other.profile)).sum();
        let training = self.trainers.iter().filter_map(|trainer| trainer.computing_on());
        let on_it = training.filter_map(|instance| self.host.instances.get(&instance)).filter(|other| other.gpu == made.gpu);
        let training: f64 = on_it.map(|other| share(other.site.profile.index())).sum();
        (1.0 + inference * serving + retraining * training).max(1e-3)
    }

    /// A worker answered a batch.
    pub(crate) fn batch_done(&mut self, index: usize, lane: InstanceId, worker: u64, batch: BatchId, version: u32, compute_us: u64) {
        let (now, tenant) = (self.now, &mut self.tenants[index]);
        let Some(open) = tenant.lanes.iter_mut().find(|open| open.instance == lane && open.worker == worker) else { return };
        open.batches = open.batches.saturating_sub(1);
        let learning = &self.setup.tenants[index].learning;
        let made = tenant.versions.get((version as usize).saturating_sub(1));
        tenant.answering = (version, made.map_or(0.0, |made| learning.accuracy(*made, now.as_secs())));
        tenant.machine.finished(now, batch, Duration::from_micros(compute_us));
        self.pump_tenant(index);
    }

    fn answer(&mut self, index: usize, request: RequestId, answer: Answer) {
        let tenant = &mut self.tenants[index];
        tenant.waiting = tenant.waiting.saturating_sub(1);
        match answer {
            Answer::Served { late, .. } => {
                let latency_us = self.now.0 - (request.0 >> SEQUENCE).min(self.now.0);
                self.record.served(index, late, latency_us, tenant.answering.1);
            }
            Answer::Shed { .. } => self.record.missed(index, Missed::Shed),
            Answer::WorkerLost | Answer::Failed => self.record.missed(index, Missed::Error),
        }
    }

    /// Labels come back: they are answered by the version in service, and kept to be learnt from.
    pub(crate) fn label(&mut self, index: usize) {
        let (share, now, tenant) = (self.setup.tenants[index].learning.label_share, self.now, &mut self.tenants[index]);
        let arrived = tenant.machine.totals().arrived;
        // Half a second ago the second ended; what has arrived since belongs to the next.
        let ended = arrived - self.record.arrived_now(index).min(arrived);
        let fresh = ended - tenant.labelled_arrivals.min(ended);
        tenant.labelled_arrivals = ended;
        let owed = fresh as f64 * share.clamp(0.0, 1.0) + tenant.label_rest;
        let count = owed as u64;
        tenant.label_rest = owed - count as f64;
        let mut left = count;
        while left > 0 {
            let rows = left.min(u64::from(self.setup.tenants[index].max_batch.clamp(1, (1 << ROWS) - 1)));
            let eval = EvalId(tenant.number() << ROWS | rows);
            tenant.machine.evaluate(now, eval, rows as u32);
            left -= rows;
        }
        self.pump_tenant(index);
        self.trainers[index].labelled(now, count);
    }

    fn evaluated(&mut self, index: usize, eval: EvalId) {
        let (now, tenant) = (self.now, &mut self.tenants[index]);
        let (version, accuracy) = tenant.answering;
        let rows = eval.0 & ((1 << ROWS) - 1);
        let correct = tenant.labels.successes(rows, accuracy);
        tenant.machine.labelled(now, version, correct as u32, rows as u32);
    }
}

/// Lanes: opened, drained, lost, and given a new version.
impl World<'_> {
    pub(crate) fn lane_up(&mut self, index: usize, instance: InstanceId, worker: u64, version: u32) {
        let Some(made) = self.host.instances.get(&instance).copied() else { return };
        let (now, profile) = (self.now, made.site.profile.index());
        let curve = self.setup.tenants[index].speed.get(profile).cloned();
        let tenant = &mut self.tenants[index];
        tenant.lanes.retain(|lane| lane.instance != instance);
        tenant.lanes.push(Lane { instance, gpu: made.gpu, profile, worker, version, busy_until: now, batches: 0 });
        tenant.lanes.sort_by_key(|lane| lane.instance);
        if tenant.version == 0 {
            self.in_service(index, version, None);
        }
        let tenant = &mut self.tenants[index];
        tenant.machine.lane_up(now, instance, LaneSpec { share: 1.0, executors: 1, curve });
        // Loaded before the newest version was published: it follows the others.
        let newest = tenant.swap.as_ref().map_or(tenant.version, |swap| swap.version);
        if version < newest {
            if let Some(swap) = &mut tenant.swap {
                swap.waiting.push(instance);
            }
            self.upgrade(index, instance, newest);
        }
        self.pump_tenant(index);
    }

    pub(crate) fn drain_lane(&mut self, id: usize, index: usize, instance: InstanceId) {
        let tenant = &mut self.tenants[index];
        tenant.drains.entry(instance).or_default().push(id);
        tenant.machine.drain(self.now, instance);
        self.pump_tenant(index);
    }

    fn lane_drained(&mut self, index: usize, lane: InstanceId) {
        let tenant = &mut self.tenants[index];
        tenant.lanes.retain(|open| open.instance != lane);
        for id in tenant.drains.remove(&lane).unwrap_or_default() {
            self.queue.push(self.now, Event::Step { id, done: Done::Drained });
        }
        self.forget_in_swap(index, lane);
    }

    pub(crate) fn lane_lost(&mut self, index: usize, instance: InstanceId) {
        let tenant = &mut self.tenants[index];
        tenant.lanes.retain(|lane| lane.instance != instance);
        tenant.machine.lane_lost(self.now, instance);
        self.forget_in_swap(index, instance);
        self.pump_tenant(index);
    }

    /// Loads a version on every lane; [`Event::Swapped`] follows when all of them serve it.
    pub(crate) fn swap(&mut self, index: usize, version: u32, accuracy: f64, held_out: u64) {
        let tenant = &mut self.tenants[index];
        let waiting: Vec<InstanceId> = tenant.lanes.iter().map(|lane| lane.instance).collect();
        let prior = Accuracy { value: accuracy, samples: held_out as f64 };
        tenant.swap = Some(Swap { version, prior, waiting: waiting.clone() });
        for instance in waiting {
            self.upgrade(index, instance, version);
        }
        self.finish_swap(index);
        self.pump_tenant(index);
    }

    fn upgrade(&mut self, index: usize, instance: InstanceId, version: u32) {
        let (load_s, sigma) = (self.setup.tenants[index].load_s, self.setup.times.jitter);
        let tenant = &mut self.tenants[index];
        let Some(lane) = tenant.lanes.iter().find(|lane| lane.instance == instance) else { return };
        let loaded = self.now + tenant.loads.about(load_s, sigma);
        self.queue.push(loaded, Event::Upgraded { tenant: index, lane: instance, worker: lane.worker, version });
    }

    pub(crate) fn upgraded(&mut self, index: usize, instance: InstanceId, worker: u64, version: u32) {
        let tenant = &mut self.tenants[index];
        let lane = tenant.lanes.iter_mut().find(|lane| lane.instance == instance && lane.worker == worker);
        let Some(lane) = lane else { return };
        lane.version = lane.version.max(version);
        self.forget_in_swap(index, instance);
        self.pump_tenant(index);
    }

    fn forget_in_swap(&mut self, index: usize, instance: InstanceId) {
        if let Some(swap) = &mut self.tenants[index].swap {
            swap.waiting.retain(|waiting| *waiting != instance);
        }
        self.finish_swap(index);
    }

    fn finish_swap(&mut self, index: usize) {
        if let Some(Swap { version, prior, .. }) = self.tenants[index].swap.take_if(|swap| swap.waiting.is_empty()) {
            self.in_service(index, version, Some(prior));
            self.queue.push(self.now, Event::Swapped { tenant: index });
        }
    }

    fn in_service(&mut self, index: usize, version: u32, prior: Option<Accuracy>) {
        let tenant = &mut self.tenants[index];
        tenant.version = version;
        tenant.machine.swapped(self.now, version, prior);
    }
}
