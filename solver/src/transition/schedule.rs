//! When each job of an order is done, and the service that is lost meanwhile.

use super::job::{Job, Jobs, What};

/// Cost of capacity that comes late, beside capacity that is lost: a gain is waited for rather than service given up for it.
pub(super) const LATE: f64 = 0.1;

/// Cost of a compute slice that stands still for a second, beside a whole tenant's service for a second.
const IDLE: f64 = 0.01;

/// What an order costs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Cost {
    /// Share of `min(before, after)` missing, integrated, summed over tenants, seconds: what the migration's report measures.
    pub lost_s: f64,
    /// Share of `after` missing, likewise, and seconds for which a retraining waits.
    pub late_s: f64,
    /// Slice-seconds idle of what is in use before and after on each GPU.
    pub idle_slice_s: f64,
}

impl Cost {
    /// What orders are compared by.
    pub fn total(&self) -> f64 {
        self.lost_s + LATE * self.late_s + IDLE * self.idle_slice_s
    }
}

/// A change of what serves and works.
#[derive(Clone, Copy, Debug)]
struct Event {
    at_s: f64,
    gpu: usize,
    tenant: Option<usize>,
    rps: f64,
    slices: f64,
}

/// Jobs done in an order, each part as soon as may be: a drain after its heirs are staged, after its tenant's admissions that come
/// earlier in the order, and after the creates of its GPU that come earlier; device calls of a GPU one at a time in the order.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    /// End of the last device call, by GPU.
    device_s: Vec<f64>,
    /// End of the last create, by GPU.
    created_s: Vec<f64>,
    /// Last admission of inference, by tenant.
    serving_s: Vec<f64>,
    /// By job: released and admitted; infinite while it is not in the order.
    free_s: Vec<f64>,
    /// By job: when its slices are clear.
    clear_s: Vec<f64>,
    /// By job: when it is drained from.
    drained_s: Vec<f64>,
    /// By job: when its worker is on its instance.
    bound_s: Vec<f64>,
    events: Vec<Event>,
    end_s: f64,
    waits_s: f64,
}

impl Timeline {
    pub fn new(jobs: &Jobs) -> Timeline {
        let all = jobs.all.len();
        Timeline {
            device_s: vec![0.0; jobs.gpus],
            created_s: vec![0.0; jobs.gpus],
            serving_s: vec![0.0; jobs.before.len()],
            free_s: vec![f64::INFINITY; all],
            clear_s: vec![f64::INFINITY; all],
            drained_s: vec![f64::INFINITY; all],
            bound_s: vec![f64::INFINITY; all],
            events: Vec::new(),
            end_s: 0.0,
            waits_s: 0.0,
        }
    }

    pub fn of(jobs: &Jobs, order: &[usize]) -> Timeline {
        let mut timeline = Timeline::new(jobs);
        order.iter().for_each(|&index| timeline.push(jobs, index));
        timeline
    }

    /// The jobs in an order, but each drain begins when `starts` says, or when its heirs are staged.
    #[cfg(test)]
    pub fn by_the_clock(jobs: &Jobs, order: &[usize], starts: &[f64]) -> Timeline {
        let mut timeline = Timeline::new(jobs);
        for &index in order {
            timeline.serving_s.fill(0.0);
            timeline.created_s.fill(if jobs.all[index].leaves() { starts[index] } else { 0.0 });
            timeline.push(jobs, index);
        }
        timeline
    }

    /// When everything is over, seconds from the start.
    pub fn end_s(&self) -> f64 {
        self.end_s
    }

    /// Puts a job at the end of the order. Its needs must be in the order already.
    pub fn push(&mut self, jobs: &Jobs, index: usize) {
        let job = &jobs.all[index];
        match job.what {
            What::Leave { destroyed, drain_s, destroy_s, heirs_s, .. } => {
                let gates_s = if job.task.is_some() { heirs_s.max(self.created_s[job.gpu]).max(self.replaced_s(job)) } else { 0.0 };
                self.leave(job, index, gates_s, drain_s);
                if destroyed {
                    self.device_s[job.gpu] = self.free_s[index].max(self.device_s[job.gpu]) + destroy_s;
                    self.clear_s[index] = self.device_s[job.gpu];
                }
                self.end_s = self.end_s.max(self.clear_s[index]);
                if let Some(twin) = job.twin.filter(|&twin| self.bound_s[twin].is_finite()) {
                    self.arrive(jobs, twin, self.bound_s[twin].max(self.free_s[index]));
                }
            }
            What::Arrive { create_s, preload_s, settle_s, .. } => {
                let mut base_s = job.needs.iter().map(|&old| self.clear_s[old]).fold(0.0, f64::max);
                if job.creates() {
                    base_s = base_s.max(self.device_s[job.gpu]) + create_s;
                    self.device_s[job.gpu] = base_s;
                    self.created_s[job.gpu] = base_s;
                }
                self.bound_s[index] = base_s.max(preload_s) + settle_s;
                // A retraining that moves is admitted when it has left.
                let left_s = job.twin.map_or(0.0, |twin| self.free_s[twin]);
                if left_s.is_finite() {
                    self.arrive(jobs, index, self.bound_s[index].max(left_s));
                }
            }
        }
    }

    /// When what comes earlier in the order and replaces a leaving instance is ready: its tenant's new instances; of a retraining, its worker.
    fn replaced_s(&self, job: &Job) -> f64 {
        let own_s = job.serves().and_then(|tenant| self.serving_s.get(tenant.index())).copied().unwrap_or(0.0);
        let twin_s = job.twin.map(|twin| self.bound_s[twin]).filter(|bound_s| bound_s.is_finite()).unwrap_or(0.0);
        own_s.max(twin_s)
    }

    fn leave(&mut self, job: &Job, index: usize, from_s: f64, drain_s: f64) {
        self.drained_s[index] = from_s;
        self.free_s[index] = from_s + drain_s;
        self.clear_s[index] = from_s + drain_s;
        let tenant = job.serves().map(|tenant| tenant.index());
        // What drains still works; a retraining that writes its checkpoint does not.
        let idle_s = if tenant.is_some() { from_s + drain_s } else { from_s };
        self.events.push(Event { at_s: from_s, gpu: job.gpu, tenant, rps: -job.rps, slices: 0.0 });
        self.events.push(Event { at_s: idle_s, gpu: job.gpu, tenant: None, rps: 0.0, slices: -job.slices });
    }

    fn arrive(&mut self, jobs: &Jobs, index: usize, at_s: f64) {
        let job = &jobs.all[index];
        let tenant = job.serves().map(|tenant| tenant.index());
        self.events.push(Event { at_s, gpu: job.gpu, tenant, rps: job.rps, slices: job.slices });
        self.free_s[index] = at_s;
        self.end_s = self.end_s.max(at_s);
        if let Some(serving_s) = tenant.and_then(|tenant| self.serving_s.get_mut(tenant)) {
            *serving_s = serving_s.max(at_s);
        }
        if job.trains() {
            // One that moves works on until it is drained.
            self.waits_s += at_s - job.twin.map_or(0.0, |twin| self.drained_s[twin].min(at_s));
        }
    }

    /// What the jobs in the order cost so far; with all of them in it, what the order costs.
    pub fn cost(&self, jobs: &Jobs) -> Cost {
        let mut sums = Sums::new(jobs);
        let mut events: Vec<&Event> = self.events.iter().collect();
        events.sort_by(|a, b| a.at_s.total_cmp(&b.at_s));
        for event in events {
            sums.take(event);
        }
        sums.cost.late_s += self.waits_s;
        sums.cost
    }

    /// No order that begins like this one costs less: what is left to leave serves for ever, and what is left to arrive does so at once, as
    /// far as device and staging allow.
    pub fn bound(&self, jobs: &Jobs) -> f64 {
        let mut rest = self.clone();
        for (index, job) in jobs.all.iter().enumerate() {
            if let What::Arrive { create_s, preload_s, settle_s, .. } = job.what
                && self.free_s[index].is_infinite()
            {
                let base_s = if job.creates() { self.device_s[job.gpu] + create_s } else { 0.0 };
                let bound_s = if self.bound_s[index].is_finite() { self.bound_s[index] } else { base_s.max(preload_s) + settle_s };
                rest.arrive(jobs, index, bound_s);
            }
        }
        rest.cost(jobs).total()
    }
}

/// The integrals, event by event.
struct Sums {
    now: Vec<f64>,
    after: Vec<f64>,
    owed: Vec<f64>,
    /// Compute slices in use, and owed, by GPU; of jobs only, for all others are in use throughout.
    in_use: Vec<f64>,
    owed_slices: Vec<f64>,
    /// Share of `owed` missing and share of `after` missing, summed over tenants, and slices idle.
    lost: f64,
    late: f64,
    idle: f64,
    at_s: f64,
    cost: Cost,
}

impl Sums {
    fn new(jobs: &Jobs) -> Sums {
        let slices = |leaves: bool| {
            let mut sums = vec![0.0; jobs.gpus];
            jobs.all.iter().filter(|job| job.leaves() == leaves).for_each(|job| sums[job.gpu] += job.slices);
            sums
        };
        let (before, after) = (slices(true), slices(false));
        let least = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a.min(*b)).collect::<Vec<f64>>();
        let mut sums = Sums {
            now: jobs.before.clone(),
            after: jobs.after.clone(),
            owed: least(&jobs.before, &jobs.after),
            owed_slices: least(&before, &after),
            in_use: before,
            lost: 0.0,
            late: 0.0,
            idle: 0.0,
            at_s: 0.0,
            cost: Cost::default(),
        };
        sums.late = (0..sums.now.len()).map(|tenant| missing(sums.after[tenant], sums.now[tenant])).sum();
        sums
    }

    fn take(&mut self, event: &Event) {
        let seconds = event.at_s - self.at_s;
        self.cost.lost_s += seconds * self.lost;
        self.cost.late_s += seconds * self.late;
        self.cost.idle_slice_s += seconds * self.idle;
        self.at_s = event.at_s;
        let idle = |sums: &Sums| (sums.owed_slices[event.gpu] - sums.in_use[event.gpu]).max(0.0);
        self.idle -= idle(self);
        self.in_use[event.gpu] += event.slices;
        self.idle += idle(self);
        if let Some(tenant) = event.tenant.filter(|&tenant| tenant < self.now.len()) {
            let (lost, late) = self.shares(tenant);
            self.now[tenant] += event.rps;
            let (lost_now, late_now) = self.shares(tenant);
            self.lost += lost_now - lost;
            self.late += late_now - late;
        }
    }

    fn shares(&self, tenant: usize) -> (f64, f64) {
        (missing(self.owed[tenant], self.now[tenant]), missing(self.after[tenant], self.now[tenant]))
    }
}

/// Share of `owed` that `has` lacks; rounding is no lack.
fn missing(owed: f64, has: f64) -> f64 {
    let share = if owed > 0.0 { (owed - has) / owed } else { 0.0 };
    if share > 1e-9 { share } else { 0.0 }
}
