//! Instances are held to their shares: measured on busy children. These tests measure the kernel or the governor, so their
//! bounds are wide, and what other processes used of the cores is accepted as missing.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::sync::Mutex;
use std::time::Duration;

use migrator_device::{CpuDevice, Device, Enforcement, Instance};
use support::{Job, affinity, create, device, usage};

/// One measurement at a time: instances of two tests would share cores.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
#[ignore = "the body of child processes"]
fn child() {
    support::child();
}

#[test]
fn cgroups_hold_every_profile_to_its_share() {
    every_profile_gets_its_share(Enforcement::Cgroup);
}

#[test]
fn the_governor_holds_every_profile_to_its_share() {
    every_profile_gets_its_share(Enforcement::Duty);
}

fn every_profile_gets_its_share(enforcement: Enforcement) {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    let Some((device, _state)) = device(enforcement, |_| {}) else { return };
    for slices in [1, 2, 3, 4, 7] {
        let instance = create(&device, slices, 0);
        let mut job = bound_burner(&device, &instance, instance.share.ceil() as u64 + 1);
        let cores = affinity(job.pid());
        let (used, idle) = usage(&job, &cores, Duration::from_millis(1200));
        println!("{slices}g: {used:.3} cores of {:.3}, {idle:.3} idle on {cores:?}", instance.share);
        assert!(used < instance.share * 1.15, "{slices}g used {used:.3} of {}", instance.share);
        let others = cores.len() as f64 - idle - used;
        assert!(used > instance.share * 0.85 - others.max(0.0), "{slices}g used {used:.3}, others {others:.3}");
        job.kill();
        device.destroy(instance.id).unwrap();
    }
}

fn bound_burner(device: &CpuDevice, instance: &Instance, threads: u64) -> Job {
    let mut job = Job::start(&format!("burn {threads}"));
    device.bind(instance.id, job.pid()).unwrap();
    job.go();
    job
}

#[test]
fn cgroups_stop_a_memory_hog_and_not_its_neighbour() {
    a_hog_stops_at_its_limit(Enforcement::Cgroup);
}

#[test]
fn the_governor_stops_a_memory_hog_and_not_its_neighbour() {
    a_hog_stops_at_its_limit(Enforcement::Duty);
}

fn a_hog_stops_at_its_limit(enforcement: Enforcement) {
    let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
    // 8 × 96 MiB: the child itself needs some, and its threads' stacks count for RLIMIT_DATA.
    let Some((device, _state)) = device(enforcement, |options| options.memory_mib = Some(8 * 96)) else { return };
    let (one, other) = (create(&device, 1, 0), create(&device, 1, 1));
    let (mut hog, mut neighbour) = (Job::start("hog 400"), Job::start("hog 48"));
    device.bind(one.id, hog.pid()).unwrap();
    device.bind(other.id, neighbour.pid()).unwrap();
    neighbour.go();
    while neighbour.read_line("held").is_some_and(|mib| mib != "48") {}
    hog.go();
    let mut held = 0;
    // Until it is killed (no line any more) or refused more (another line).
    while let Some(mib) = hog.read_line("").and_then(|line| line.strip_prefix("held ")?.parse::<u32>().ok()) {
        held = mib;
    }
    assert!((20..=96).contains(&held), "the hog held {held} MiB of 96");
    assert_eq!(neighbour.finish().as_deref(), Some("48"), "the neighbour lives");
}

#[test]
fn staged_workers_leave_the_instances_their_share_and_are_not_starved() {
    for enforcement in [Enforcement::Cgroup, Enforcement::Duty] {
        let _alone = ALONE.lock().unwrap_or_else(|e| e.into_inner());
        let Some((device, _state)) = device(enforcement, |_| {}) else { continue };
        let instance = create(&device, 4, 0);
        let worker = bound_burner(&device, &instance, 2);
        let mut staged = Job::start("burn 2");
        device.stage(staged.pid()).unwrap();
        staged.go();
        let before = staged.cpu_s();
        let all = affinity(staged.pid());
        let (used, idle) = usage(&worker, &all, Duration::from_millis(1500));
        let staged_used = (staged.cpu_s() - before) / 1.5;
        let others = (all.len() as f64 - idle - used - staged_used).max(0.0);
        println!("{enforcement:?}: 4g {used:.3} of {:.3}, staged {staged_used:.3}, others {others:.3}", instance.share);
        assert!(staged_used > 0.0, "the staged worker makes progress");
        assert!(used > 0.8 * instance.share - others, "the instance keeps its share");
    }
}
