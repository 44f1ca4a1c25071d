//! Writes down what comes of a simulation.

use std::collections::BTreeMap;

use migrator_machine::Time;
use migrator_mig::Site;
use migrator_solver::{InstanceId, Task};

use crate::run::{Occupancy, Run, Second, TenantRun};
use crate::setup::Setup;

/// Bins of the latency histogram: the first ends at 1 ms, each is a quarter wider than the one before, the last holds the rest.
const BINS: usize = 40;
const FIRST_US: f64 = 1000.0;
const WIDER: f64 = 1.25;
/// Lines kept of invariants that do not hold.
const VIOLATIONS: usize = 100;

#[derive(Debug)]
pub(crate) struct Record {
    pub run: Run,
    /// Upper edges of the bins, microseconds.
    edges_us: Vec<u64>,
    /// Counts by tenant and bin.
    bins: Vec<[u64; BINS]>,
    /// Instances that somebody has now.
    open: BTreeMap<InstanceId, Occupancy>,
    second: usize,
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missed {
    Shed,
    Error,
}

impl Record {
    pub fn new(setup: &Setup) -> Record {
        let tenants = setup.tenants.iter().map(|tenant| TenantRun {
            name: tenant.name.clone(),
            seconds: Vec::with_capacity(usize::try_from(setup.seconds).unwrap_or(0).min(1 << 20)),
            ..TenantRun::default()
        });
        let run = Run { tenants: tenants.collect(), ..Run::default() };
        let edges_us = (0..BINS as i32).map(|bin| (FIRST_US * WIDER.powi(bin)).round() as u64).collect();
        let bins = vec![[0; BINS]; run.tenants.len()];
        let mut record = Record { run, edges_us, bins, open: BTreeMap::new(), second: 0 };
        record.begin_second(0);
        record
    }

    /// From now on things happen in this second.
    pub fn begin_second(&mut self, second: usize) {
        self.second = second;
        for tenant in &mut self.run.tenants {
            tenant.seconds.resize(second + 1, Second::default());
        }
    }

    /// What a tenant has at the end of the second that runs.
    pub fn end_second(&mut self, tenant: usize, capacity_rps: f64, accuracy: f64) {
        let second = &mut self.run.tenants[tenant].seconds[self.second];
        (second.capacity_rps, second.accuracy) = (capacity_rps as f32, accuracy as f32);
    }

    pub fn arrived(&mut self, tenant: usize) {
        let run = &mut self.run.tenants[tenant];
        run.arrived += 1;
        run.seconds[self.second].arrived += 1;
    }

    /// Requests of a tenant that arrived in the second that runs.
    pub fn arrived_now(&self, tenant: usize) -> u64 {
        self.run.tenants[tenant].seconds.get(self.second).map_or(0, |second| u64::from(second.arrived))
    }

    pub fn served(&mut self, tenant: usize, late: bool, latency_us: u64, accuracy: f64) {
        let run = &mut self.run.tenants[tenant];
        run.correct += accuracy;
        if late {
            run.late += 1;
            run.seconds[self.second].missed += 1;
        } else {
            run.ok += 1;
            run.good += accuracy;
            run.seconds[self.second].ok += 1;
        }
        let bin = self.edges_us.partition_point(|&edge| edge < latency_us).min(BINS - 1);
        self.bins[tenant][bin] += 1;
    }

    pub fn missed(&mut self, tenant: usize, missed: Missed) {
        let run = &mut self.run.tenants[tenant];
        match missed {
            Missed::Shed => run.shed += 1,
            Missed::Error => run.error += 1,
        }
        run.seconds[self.second].missed += 1;
    }

    /// An instance is somebody's from now on, or nobody's.
    pub fn occupy(&mut self, now: Time, instance: InstanceId, gpu: usize, site: Site, task: Option<Task>, working: bool) {
        let same = |open: &Occupancy| open.task == task && open.working == working;
        if self.open.get(&instance).is_none_or(|open| !same(open)) {
            self.vacate(now, instance);
            let (from_s, to_s) = (now.as_secs(), now.as_secs());
            self.open.insert(instance, Occupancy { gpu, site, task, from_s, to_s, working });
        }
    }

    /// A task works on its instance, or does not for a while.
    pub fn works(&mut self, now: Time, instance: InstanceId, working: bool) {
        if let Some(&Occupancy { gpu, site, task, .. }) = self.open.get(&instance) {
            self.occupy(now, instance, gpu, site, task, working);
        }
    }

    /// An instance is nobody's in effect: whoever has it is done.
    pub fn spare(&mut self, now: Time, instance: InstanceId) {
        if let Some(&Occupancy { gpu, site, .. }) = self.open.get(&instance) {
            self.occupy(now, instance, gpu, site, None, false);
        }
    }

    /// An instance is gone.
    pub fn vacate(&mut self, now: Time, instance: InstanceId) {
        if let Some(open) = self.open.remove(&instance)
            && open.from_s < now.as_secs()
        {
            self.run.occupancy.push(Occupancy { to_s: now.as_secs(), ..open });
        }
    }

    pub fn violation(&mut self, now: Time, text: &dyn std::fmt::Display) {
        if self.run.violations.len() < VIOLATIONS {
            self.run.violations.push(format!("{:.6} {text}", now.as_secs()));
        }
    }

    /// The whole run, which ended now.
    pub fn finish(mut self, now: Time) -> Run {
        let open: Vec<InstanceId> = self.open.keys().copied().collect();
        for instance in open {
            self.vacate(now, instance);
        }
        self.run
            .occupancy
            .sort_by(|a, b| (a.gpu, a.from_s, a.site).partial_cmp(&(b.gpu, b.from_s, b.site)).unwrap_or(std::cmp::Ordering::Equal));
        let edges = self.edges_us.iter().map(|&us| us as f64 / 1e3);
        for (tenant, bins) in self.run.tenants.iter_mut().zip(&self.bins) {
            let last = bins.iter().rposition(|&count| count > 0).map_or(0, |bin| bin + 1);
            tenant.latency = edges.clone().zip(bins.iter().copied()).take(last).collect();
        }
        self.run
    }
}
