//! Shares enforced without privileges: a thread measures each instance's CPU time every few ms and pauses its processes
//! (SIGSTOP) until their share has caught up (SIGCONT).
//!
//! A server killed by SIGKILL leaves its workers paused; the next one finds them in the state folder and kills them.

use std::collections::BTreeMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Resource, Signal, getrlimit};

use crate::cpu::bucket::{Bucket, Verdict};
use crate::cpu::enforcer::{Enforcer, os};
use crate::cpu::process::Process;
use crate::{DeviceError, Instance};

/// Time between two looks: one scheduler tick at 250 Hz; CPU times of running threads are no finer.
const TICK: Duration = Duration::from_millis(4);

/// Nice value of the workers, so that the server outside the instances is scheduled first.
const WORKER_NICE: i32 = 5;

/// Nice value in the staging area.
const STAGED_NICE: i32 = 19;

/// Cores that the staging area gets even when the instances leave none, so that preloading ends.
const STAGING_FLOOR: f64 = 0.05;

/// The bucket of the staging area; ids of instances start at 1.
const STAGING: u64 = 0;

/// The governor.
#[derive(Debug)]
pub(crate) struct Duty {
    groups: Arc<Mutex<Groups>>,
    thread: Mutex<Option<(Sender<()>, JoinHandle<()>)>>,
}

#[derive(Debug)]
struct Groups {
    carved: f64,
    by_id: BTreeMap<u64, Group>,
}

#[derive(Debug, Default)]
struct Group {
    share: f64,
    bucket: Bucket,
    members: Vec<Member>,
}

#[derive(Debug)]
struct Member {
    process: Process,
    cpu_ns: BTreeMap<u32, u64>,
}

impl Duty {
    /// Starts the governor for `carved` cores.
    pub(crate) fn start(carved: f64) -> Result<Duty, DeviceError> {
        let by_id = BTreeMap::from([(STAGING, Group::default())]);
        let groups = Arc::new(Mutex::new(Groups { carved, by_id }));
        let (stop, stopped) = channel::<()>();
        let shared = Arc::clone(&groups);
        let govern = move || {
            // It decides when others run, so it should itself run on time; only root is allowed to.
            let _ = rustix::process::setpriority_process(None, -20);
            let mut last = Instant::now();
            while stopped.recv_timeout(TICK) == Err(RecvTimeoutError::Timeout) {
                let now = Instant::now();
                lock(&shared).tick(now.duration_since(last));
                last = now;
            }
        };
        let thread = std::thread::Builder::new().name("duty-governor".to_owned()).spawn(govern);
        let thread = thread.map_err(os("starting the duty governor"))?;
        Ok(Duty { groups, thread: Mutex::new(Some((stop, thread))) })
    }

    fn put(&self, id: u64, process: Process) {
        let mut groups = lock(&self.groups);
        groups.take_out(process);
        let Some(group) = groups.by_id.get_mut(&id) else { return };
        if group.bucket.is_paused() {
            process.signal(Signal::STOP);
        }
        group.members.push(Member { process, cpu_ns: process.cpu_ns_by_thread() });
    }
}

impl Groups {
    fn tick(&mut self, elapsed: Duration) {
        let elapsed_ns = elapsed.as_nanos() as f64;
        let mut used_ns = 0.0;
        for (_, group) in self.by_id.iter_mut().filter(|(id, _)| **id != STAGING) {
            used_ns += group.tick(elapsed_ns);
        }
        let left_over = self.carved - used_ns / elapsed_ns.max(1.0);
        if let Some(staging) = self.by_id.get_mut(&STAGING) {
            staging.share = left_over.max(STAGING_FLOOR);
            staging.tick(elapsed_ns);
        }
    }

    fn take_out(&mut self, process: Process) {
        for group in self.by_id.values_mut() {
            let before = group.members.len();
            group.members.retain(|member| member.process != process);
            if group.members.len() < before && group.bucket.is_paused() {
                process.signal(Signal::CONT);
            }
        }
    }
}

impl Group {
    /// Returns the CPU time used, ns.
    fn tick(&mut self, elapsed_ns: f64) -> f64 {
        self.members.retain(|member| member.process.is_alive());
        let used_ns = self.members.iter_mut().map(Member::used_ns).sum();
        match self.bucket.tick(self.share, elapsed_ns, used_ns) {
            Verdict::Keep => {}
            Verdict::Pause => self.signal(Signal::STOP),
            Verdict::Resume => self.signal(Signal::CONT),
        }
        used_ns
    }

    fn signal(&self, signal: Signal) {
        self.members.iter().for_each(|member| member.process.signal(signal));
    }
}

impl Member {
    /// CPU time since the last call, ns; what a thread used between the last look and its end is lost.
    fn used_ns(&mut self) -> f64 {
        let now = self.process.cpu_ns_by_thread();
        let used = |(tid, ns): (&u32, &u64)| ns.saturating_sub(self.cpu_ns.get(tid).copied().unwrap_or(0));
        let sum: u64 = now.iter().map(used).sum();
        self.cpu_ns = now;
        sum as f64
    }
}

impl Enforcer for Duty {
    fn create(&self, instance: &Instance) -> Result<(), DeviceError> {
        let group = Group { share: instance.share, ..Group::default() };
        lock(&self.groups).by_id.insert(instance.id, group);
        Ok(())
    }

    fn destroy(&self, id: u64) -> Result<(), DeviceError> {
        if let Some(group) = lock(&self.groups).by_id.remove(&id) {
            group.signal(Signal::CONT);
        }
        Ok(())
    }

    fn enter(&self, instance: &Instance, process: Process) -> Result<(), DeviceError> {
        process.limit_data(Some(instance.memory_mib)).map_err(os(format!("bounding the memory of process {}", process.pid)))?;
        // Fails where a process is nicer already and this user may not raise it again: then it stays as it is.
        let _ = process.renice(WORKER_NICE);
        self.put(instance.id, process);
        Ok(())
    }

    fn stage(&self, process: Process) -> Result<(), DeviceError> {
        process.limit_data(None).map_err(os(format!("lifting the memory bound of process {}", process.pid)))?;
        let _ = process.renice(if may_raise_priority() { STAGED_NICE } else { WORKER_NICE });
        self.put(STAGING, process);
        Ok(())
    }

    fn members(&self, id: u64) -> Result<Vec<u32>, DeviceError> {
        let groups = lock(&self.groups);
        let members = groups.by_id.get(&id).map_or(&[][..], |group| &group.members);
        Ok(members.iter().filter(|member| member.process.is_alive()).map(|member| member.process.pid).collect())
    }

    fn describe(&self) -> String {
        format!("duty governor, tick {} ms, memory by RLIMIT_DATA", TICK.as_millis())
    }
}

impl Drop for Duty {
    fn drop(&mut self) {
        if let Some((stop, thread)) = lock(&self.thread).take() {
            drop(stop);
            // It panicked; its workers are let go all the same.
            let _ = thread.join();
        }
        for group in std::mem::take(&mut lock(&self.groups).by_id).into_values() {
            group.signal(Signal::CONT);
            for member in &group.members {
                let _ = member.process.limit_data(None);
            }
        }
    }
}

/// Whether a staged worker can be made less nice again when it is bound (setpriority(2)).
fn may_raise_priority() -> bool {
    let bound = getrlimit(Resource::Nice).current.unwrap_or(u64::MAX);
    rustix::process::geteuid().is_root() || bound >= (20 - WORKER_NICE) as u64
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
