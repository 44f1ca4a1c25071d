//! Creating, destroying, binding and cleaning up, with both enforcers.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use migrator_device::cpu::option::{A100_CREATE_S, A100_DESTROY_S};
use migrator_device::{CpuDevice, CpuOptions, Device, DeviceError, Enforcement};
use migrator_mig::Partition;
use support::{Job, affinity, create, device};

const BOTH: [Enforcement; 2] = [Enforcement::Cgroup, Enforcement::Duty];

#[test]
#[ignore = "the body of child processes"]
fn child() {
    support::child();
}

/// A server that is killed while a worker is staged and bound.
#[test]
#[ignore = "the body of a server that dies"]
fn server() {
    let Ok(state) = std::env::var("STATE") else { return };
    let enforcement = if std::env::var("DUTY").is_ok() { Enforcement::Duty } else { Enforcement::Cgroup };
    let options = CpuOptions { enforcement, state_dir: Some(state.into()), ..CpuOptions::default() };
    let device = CpuDevice::new(options).unwrap();
    let instance = create(&device, 1, 0);
    let workers: Vec<u32> =
        (0..2).map(|_| Command::new("sleep").arg("60").stdout(Stdio::null()).stdin(Stdio::null()).spawn().unwrap().id()).collect();
    device.bind(instance.id, workers[0]).unwrap();
    device.stage(workers[1]).unwrap();
    println!("@workers {} {}", workers[0], workers[1]);
    let _ = std::io::stdin().read_line(&mut String::new());
}

#[test]
fn destroy_is_refused_while_a_process_is_bound() {
    for enforcement in BOTH {
        let Some((device, _state)) = device(enforcement, |_| {}) else { continue };
        let instance = create(&device, 1, 6);
        let mut job = Job::start("burn 1");
        device.bind(instance.id, job.pid()).unwrap();
        let pid = job.pid();
        assert!(matches!(device.destroy(instance.id), Err(DeviceError::InUse { pid: p, .. }) if p == pid));
        assert_eq!(device.instances().unwrap(), vec![instance.clone()]);
        job.kill();
        device.destroy(instance.id).unwrap();
        assert!(matches!(device.destroy(instance.id), Err(DeviceError::UnknownInstance(_))));
        assert!(device.instances().unwrap().is_empty());
    }
}

#[test]
fn binding_needs_an_instance_and_a_process() {
    for enforcement in BOTH {
        let Some((device, _state)) = device(enforcement, |_| {}) else { continue };
        assert!(matches!(device.bind(7, std::process::id()), Err(DeviceError::UnknownInstance(7))));
        let instance = create(&device, 1, 0);
        assert!(matches!(device.bind(instance.id, u32::MAX), Err(DeviceError::Os { .. })));
        assert!(matches!(device.stage(u32::MAX), Err(DeviceError::Os { .. })));
        assert!(device.destroy(instance.id).is_ok(), "a failed bind leaves nothing behind");
    }
}

#[test]
fn a_process_moves_from_the_staging_area_to_an_instance_and_on_to_another() {
    for enforcement in BOTH {
        let Some((device, _state)) = device(enforcement, |_| {}) else { continue };
        let (one, other) = (create(&device, 1, 0), create(&device, 3, 4));
        let job = Job::start("burn 1");
        let everywhere = affinity(job.pid());
        device.stage(job.pid()).unwrap();
        assert_eq!(affinity(job.pid()), everywhere);
        device.bind(one.id, job.pid()).unwrap();
        device.bind(other.id, job.pid()).unwrap();
        device.destroy(one.id).unwrap();
        assert!(matches!(device.destroy(other.id), Err(DeviceError::InUse { .. })));
        device.stage(job.pid()).unwrap();
        device.destroy(other.id).unwrap();
        assert_eq!(affinity(job.pid()), everywhere);
    }
}

#[test]
fn a_process_that_holds_more_memory_than_the_instance_has_is_refused() {
    for enforcement in BOTH {
        let Some((device, _state)) = device(enforcement, |o| o.memory_mib = Some(8 * 32)) else { continue };
        let mut hog = Job::start("hog 64");
        hog.go();
        while hog.read_line("held").is_some_and(|mib| mib != "64") {}
        let (small, large) = (create(&device, 1, 0), create(&device, 3, 4));
        let refused = device.bind(small.id, hog.pid());
        assert!(matches!(refused, Err(DeviceError::Os { source, .. }) if source.raw_os_error() == Some(12)));
        device.bind(large.id, hog.pid()).unwrap();
    }
}

#[test]
fn the_knob_adds_the_time_a_gpu_takes() {
    let Some((device, _state)) = device(Enforcement::Duty, |options| {
        options.create_s = Some(A100_CREATE_S);
        options.destroy_s = Some(A100_DESTROY_S);
    }) else {
        return;
    };
    let began = Instant::now();
    let instance = create(&device, 4, 0);
    assert!(began.elapsed() >= Duration::from_millis(210));
    device.destroy(instance.id).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(210 + 210));
}

#[test]
fn many_threads_create_and_destroy_and_the_partition_stays_legal() {
    for enforcement in BOTH {
        let Some((device, _state)) = device(enforcement, |_| {}) else { continue };
        let ids = Mutex::new(BTreeSet::new());
        std::thread::scope(|scope| {
            for seed in 0..4_usize {
                let (device, ids) = (&device, &ids);
                scope.spawn(move || churn(device, seed, ids));
            }
        });
        device.instances().unwrap().iter().for_each(|i| device.destroy(i.id).unwrap());
        assert!(device.instances().unwrap().is_empty());
    }
}

/// Creates and destroys at sites that look random, and checks after each step.
fn churn(device: &CpuDevice, seed: usize, ids: &Mutex<BTreeSet<u64>>) {
    let catalog = &device.gpus()[0].catalog;
    let sites = catalog.sites();
    for step in 0..60 {
        let site = sites[(seed * 31 + step * 17 + step * step) % sites.len()];
        match device.create(0, site) {
            Ok(instance) => assert!(ids.lock().unwrap().insert(instance.id), "id {} is used twice", instance.id),
            Err(DeviceError::Overlap { other, .. }) => match device.destroy(other) {
                Ok(()) | Err(DeviceError::UnknownInstance(_)) => {}
                Err(error) => panic!("{error}"),
            },
            Err(error) => panic!("{error}"),
        }
        let sites = device.instances().unwrap().iter().map(|i| i.site).collect();
        assert!(Partition::new(catalog, sites).is_ok());
    }
}

#[test]
fn dropping_the_device_lets_its_processes_go() {
    for enforcement in BOTH {
        let Some((device, state)) = device(enforcement, |o| o.prefix = "mdrop".to_owned()) else { continue };
        let instance = create(&device, 1, 0);
        let mut job = Job::start("burn 2");
        device.bind(instance.id, job.pid()).unwrap();
        job.go();
        drop(device);
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
        assert_eq!(cgroups_of(job.pid(), "mdrop"), 0, "it is in no folder of the device");
        assert!(affinity(job.pid()).len() >= affinity(std::process::id()).len());
        assert!(job.finish().is_some(), "it runs and answers");
    }
}

/// Cgroups of the process whose path names the prefix.
fn cgroups_of(pid: u32, prefix: &str) -> usize {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    text.lines().filter(|line| line.contains(prefix)).count()
}

#[test]
fn what_a_killed_server_left_is_removed_and_a_living_one_is_left_alone() {
    for enforcement in BOTH {
        let Some((living, state)) = device(enforcement, |_| {}) else { continue };
        let kept = create(&living, 1, 0);
        let workers = killed_server(state.path(), enforcement);
        assert!(workers.iter().all(|pid| is_running(*pid)), "the workers outlive their server");
        let options = CpuOptions { enforcement, state_dir: Some(state.path().to_owned()), ..CpuOptions::default() };
        let _next = CpuDevice::new(options).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        while workers.iter().any(|pid| is_running(*pid)) {
            assert!(Instant::now() < deadline, "the workers were killed");
            std::thread::yield_now();
        }
        assert_eq!(fs::read_dir(state.path()).unwrap().count(), 2, "the records of the two that live");
        let mut job = Job::start("burn 1");
        living.bind(kept.id, job.pid()).unwrap();
        job.kill();
    }
}

/// The workers of a server that was killed.
fn killed_server(state: &Path, enforcement: Enforcement) -> Vec<u32> {
    use std::io::{BufRead, BufReader};
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["server", "--exact", "--ignored", "--nocapture"]).env("STATE", state);
    if enforcement == Enforcement::Duty {
        command.env("DUTY", "1");
    }
    let mut server = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let line = lines.map_while(Result::ok).find(|line| line.contains("@workers ")).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    line.split("@workers ").nth(1).unwrap().split(' ').map(|pid| pid.parse().unwrap()).collect()
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !stat.is_empty() && !rest.starts_with(['Z', 'X']))
}

#[test]
fn the_device_says_how_it_enforces_and_what_it_carved_up() {
    let Some((device, _state)) = device(Enforcement::Auto, |o| o.cores = Some(0.7)) else { return };
    let text = device.describe();
    println!("{text}");
    assert!(text.contains("0.70 cores in 7 slices of 0.10"), "{text}");
}
