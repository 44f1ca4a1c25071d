//! Sends what is due when it is due, whatever became of the requests before: one thread, one task per request in flight.
//!
//! Requests in flight are bounded by rate × timeout: each one ends, at the latest, `timeout` after it was due.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, interval, sleep_until, timeout_at};

use super::body::{Renderer, SharedSupply, Supply, argmax};
use super::client::{ClientError, Pool};
use super::label::Labels;
use super::plan::{LoadPlan, TenantLoad};
use super::progress::{Live, Progress};
use super::record::{Outcome, Record};
use super::report::{LoadReport, TenantRecords};
use super::schedule::Schedule;
use super::target::{Reconfiguration, Target};

/// Time between preparing and the first request, so that no tenant starts late.
const LEAD: Duration = Duration::from_millis(20);
/// How often it is looked whether all requests have ended.
const TICK: Duration = Duration::from_millis(100);
const TICKS_PER_SECOND: u64 = 10;
/// How often the server is asked for its reconfigurations; it remembers 32.
const ASK_EVERY_S: u64 = 3;

/// Runs a plan on this thread until all requests have ended; `observe` is called once a second.
///
/// # Errors
/// When the plan does not fit the server: unreachable, unknown tenant, samples of another shape, no SLO.
pub fn run_plan(plan: &LoadPlan, observe: impl FnMut(&Progress)) -> Result<LoadReport> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the load generator")?;
    LocalSet::new().block_on(&runtime, drive(plan, observe))
}

async fn drive(plan: &LoadPlan, mut observe: impl FnMut(&Progress)) -> Result<LoadReport> {
    let target = Target::new(&plan.url)?;
    let mut lanes = Vec::new();
    for (index, tenant) in plan.tenants.iter().enumerate() {
        lanes.push(Rc::new(Lane::new(plan, tenant, index as u64, &target).await?));
    }
    let start = Instant::now() + LEAD;
    let mut history = History::default();
    history.ask(&target, start).await;
    let (mut tasks, mut labels) = (Vec::new(), Vec::new());
    for (index, (lane, tenant)) in lanes.iter().zip(&plan.tenants).enumerate() {
        lane.start.set(start);
        let schedule = Schedule::new(tenant.arrivals.clone(), plan.seed, index as u64);
        tasks.push(spawn_local(dispatch(lane.clone(), schedule, plan.clone(), tenant.label_share)));
        let lane = lane.clone();
        labels.push(spawn_local(async move { lane.labels.run().await }));
    }
    let mut tick = interval(TICK);
    let mut ticks = 0;
    while !(tasks.iter().all(|task| task.is_finished()) && lanes.iter().all(|lane| lane.live.borrow().in_flight() == 0)) {
        tick.tick().await;
        ticks += 1;
        if ticks % TICKS_PER_SECOND != 0 {
            continue;
        }
        let tenants = lanes.iter().map(|lane| lane.live.borrow_mut().tick(&lane.tenant)).collect();
        observe(&Progress { elapsed_s: start.elapsed().as_secs_f64(), duration_s: plan.duration.as_secs_f64(), tenants });
        if ticks % (ASK_EVERY_S * TICKS_PER_SECOND) == 0 {
            history.ask(&target, start).await;
        }
    }
    lanes.iter().for_each(|lane| lane.labels.close());
    for task in labels {
        task.await.context("the sender of labelled samples broke")?;
    }
    history.ask(&target, start).await;
    let records = lanes.iter().map(|lane| lane.finish()).collect();
    Ok(LoadReport::new(plan, records, history.reconfigurations()))
}

/// One tenant.
struct Lane {
    tenant: String,
    slo_us: u64,
    timeout: Duration,
    start: Cell<Instant>,
    pool: Pool,
    supply: SharedSupply,
    labels: Labels,
    live: RefCell<Live>,
    records: RefCell<Vec<Record>>,
    /// The first answer that was neither taken nor shed: said once, so that errors are not only a number.
    trouble: RefCell<Option<String>>,
}

impl Lane {
    async fn new(plan: &LoadPlan, load: &TenantLoad, index: u64, target: &Target) -> Result<Self> {
        let tenant = load.tenant.clone();
        let input = target.input(&tenant).await?;
        let slo_ms = match load.slo_ms {
            Some(slo_ms) => slo_ms,
            None => target.slo_ms(&tenant).await?.with_context(|| format!("tenant {tenant}: the server names no SLO; give --slo-ms"))?,
        };
        let renderer = Renderer { host: target.host.clone(), tenant: tenant.clone(), input };
        let supply = Supply::new(renderer, &load.samples, plan.seed ^ (index << 32)).map_err(|what| anyhow!("tenant {tenant}: {what}"))?;
        let supply = Rc::new(RefCell::new(supply));
        Ok(Lane {
            tenant,
            slo_us: (slo_ms * 1e3) as u64,
            timeout: plan.timeout,
            start: Cell::new(Instant::now()),
            pool: Pool::new(target.address, plan.connections),
            labels: Labels::new(Pool::new(target.address, 1), supply.clone()),
            supply,
            live: RefCell::default(),
            records: RefCell::default(),
            trouble: RefCell::default(),
        })
    }

    /// Sends one request due at `due` and waits for what becomes of it.
    async fn send(self: Rc<Self>, due: Instant, label: bool) {
        let start = self.start.get();
        let sample = self.supply.borrow_mut().next(due.duration_since(start).as_secs_f64());
        if label {
            self.labels.push(due, sample.clone());
        }
        let lag = Cell::new(None);
        let read = |status: u16, body: &[u8]| (status, if status == 200 { argmax(body) } else { self.complain(status, body) });
        let work = self.pool.exchange(&sample.request, |at| lag.set(Some(at.duration_since(due))), read);
        let answer = timeout_at(due + self.timeout, work).await;
        let latency = due.elapsed();
        let (outcome, class) = self.classify(answer.ok(), latency);
        let record = Record {
            intended_us: due.duration_since(start).as_micros() as u64,
            latency_us: clamp_us(latency),
            lag_us: clamp_us(lag.get().unwrap_or(latency)),
            outcome,
            correct: class == Some(sample.label),
        };
        self.live.borrow_mut().ended(&record);
        self.records.borrow_mut().push(record);
    }

    fn classify(&self, answer: Option<Result<(u16, Option<u32>), ClientError>>, latency: Duration) -> (Outcome, Option<u32>) {
        match answer {
            Some(Ok((200, Some(class)))) if latency.as_micros() as u64 <= self.slo_us => (Outcome::Ok, Some(class)),
            Some(Ok((200, Some(class)))) => (Outcome::Late, Some(class)),
            Some(Ok((503 | 429, _))) => (Outcome::Shed, None),
            Some(Ok(_)) => (Outcome::Error, None),
            Some(Err(error)) => {
                self.trouble.borrow_mut().get_or_insert_with(|| error.to_string());
                (Outcome::Lost, None)
            }
            None => (Outcome::Lost, None),
        }
    }

    /// Keeps the first refusal that is not overload.
    fn complain(&self, status: u16, body: &[u8]) -> Option<u32> {
        if status != 503 && status != 429 {
            let text = || format!("status {status}: {}", String::from_utf8_lossy(&body[..body.len().min(300)]));
            self.trouble.borrow_mut().get_or_insert_with(text);
        }
        None
    }

    fn finish(&self) -> TenantRecords {
        let mut records = self.records.take();
        records.sort_unstable_by_key(|record| record.intended_us);
        TenantRecords {
            tenant: self.tenant.clone(),
            slo_ms: self.slo_us as f64 / 1e3,
            records,
            labels: self.labels.counts(),
            trouble: self.trouble.take(),
        }
    }
}

fn clamp_us(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// Starts every request of a tenant at its time.
async fn dispatch(lane: Rc<Lane>, mut schedule: Schedule, plan: LoadPlan, label_share: f64) {
    let start = lane.start.get();
    let end_us = plan.duration.as_micros() as u64;
    let mut rng = StdRng::seed_from_u64(plan.seed ^ 0x1abe1);
    for second in 0..plan.duration.as_secs_f64().ceil() as u64 {
        for due_us in schedule.second(second).into_iter().take_while(|&due| due < end_us) {
            let due = start + Duration::from_micros(due_us);
            sleep_until(due).await;
            if plan.stop.raised() {
                return;
            }
            lane.live.borrow_mut().sent();
            spawn_local(lane.clone().send(due, rng.random_bool(label_share)));
        }
        sleep_until(start + Duration::from_secs(second + 1).min(plan.duration)).await;
        if plan.stop.raised() {
            return;
        }
    }
}

/// The server's reconfigurations on the load's clock.
#[derive(Default)]
struct History {
    /// When the server started, on the load's clock. The server publishes its uptime once a second, so an answer is up to a second
    /// old and puts the start too late: the earliest is right.
    server_start_s: Option<f64>,
    seen: BTreeMap<u64, Reconfiguration>,
}

impl History {
    async fn ask(&mut self, target: &Target, start: Instant) {
        let Some((uptime_s, entries)) = target.history().await else { return };
        let now_s = Instant::now().duration_since(start).as_secs_f64() - start.duration_since(Instant::now()).as_secs_f64();
        self.server_start_s = Some(self.server_start_s.map_or(now_s - uptime_s, |earlier| earlier.min(now_s - uptime_s)));
        self.seen.extend(entries.into_iter().map(|entry| (entry.generation, entry)));
    }

    /// Those that ended after the load began.
    fn reconfigurations(self) -> Vec<Reconfiguration> {
        let offset = self.server_start_s.unwrap_or_default();
        let shifted = self.seen.into_values().map(|entry| Reconfiguration { at_s: entry.at_s + offset, ..entry });
        shifted.filter(|entry| entry.at_s + entry.took_s >= 0.0).collect()
    }
}
