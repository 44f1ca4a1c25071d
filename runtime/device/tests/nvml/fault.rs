//! Every call of creation and destruction fails once, at each place in turn: nothing leaks and no slice has two owners.

use fake_nvml::{Effect, Rule};
use migrator_device::{Device, DeviceError};

use crate::support::{Bench, site};

/// `NVML_ERROR_UNKNOWN`, which the fake gives for nothing of its own.
const UNKNOWN: u32 = 999;
const IN_USE: u32 = 19;
const GPU_IS_LOST: u32 = 15;

/// Runs `act` with the n-th call going wrong, for n from 1 until there is no n-th call. What `act` returns is whether there was one.
fn at_every_call(effect: Effect, mut act: impl FnMut(Rule) -> bool) {
    let mut struck = 0;
    let mut last = 0;
    for n in 1.. {
        if act(Rule { effect, ..Rule::every("*", UNKNOWN).on(&[n]) }) {
            (struck, last) = (struck + 1, n);
        } else if n > last + 60 {
            // Some effects are for some calls only, so one call that is not struck is not the end.
            break;
        }
    }
    // Fewer would mean that the calls of an operation were not counted.
    assert!((least(effect)..1000).contains(&struck), "{struck}");
}

/// Only calls that change something can fail after the deed: both creations, or both destructions.
fn least(effect: Effect) -> u64 {
    if effect == Effect::After { 2 } else { 12 }
}

/// Whether a fault that was injected struck since `from` calls.
fn struck(bench: &Bench, from: usize) -> bool {
    bench.host.calls().unwrap()[from..].iter().any(|call| call.code == UNKNOWN)
}

fn creation(effect: Effect) {
    at_every_call(effect, |rule| {
        let bench = Bench::new(&["a30"]);
        let device = bench.open();
        let neighbour = device.create(0, site(&device, "1g", 3)).unwrap();
        let wanted = site(&device, "2g", 0);
        let before = bench.host.calls().unwrap().len();
        let n = rule.calls[0];
        bench.host.inject(rule).unwrap();
        let made = device.create(0, wanted);
        let struck = struck(&bench, before);
        bench.host.clear_faults().unwrap();
        match made {
            Ok(_) => bench.settled(&device, &[wanted, neighbour.site]),
            Err(error) => {
                assert!(struck, "call {n}: {error}");
                bench.settled(&device, &[neighbour.site]);
                // Creation succeeds now: nothing is in the way.
                device.create(0, wanted).unwrap();
                bench.settled(&device, &[wanted, neighbour.site]);
            }
        }
        // And so it is to the next one that opens it.
        drop(device);
        bench.settled(&bench.open(), &[wanted, neighbour.site]);
        struck
    });
}

fn destruction(effect: Effect) {
    at_every_call(effect, |rule| {
        let bench = Bench::new(&["a30"]);
        let device = bench.open();
        let (first, neighbour) = (device.create(0, site(&device, "2g", 0)).unwrap(), device.create(0, site(&device, "1g", 3)).unwrap());
        let before = bench.host.calls().unwrap().len();
        bench.host.inject(rule).unwrap();
        let destroyed = device.destroy(first.id);
        let struck = struck(&bench, before);
        bench.host.clear_faults().unwrap();
        // One fault is overcome by trying again.
        destroyed.unwrap();
        bench.settled(&device, &[neighbour.site]);
        drop(device);
        bench.settled(&bench.open(), &[neighbour.site]);
        struck
    });
}

#[test]
fn creation_that_fails_at_any_call_leaves_nothing() {
    creation(Effect::Refuse);
}

#[test]
fn creation_whose_calls_fail_after_the_deed_leaves_nothing() {
    creation(Effect::After);
}

#[test]
fn destruction_gets_over_a_fault_at_any_call() {
    destruction(Effect::Refuse);
}

#[test]
fn destruction_gets_over_calls_that_fail_after_the_deed() {
    destruction(Effect::After);
}

#[test]
fn a_destruction_that_only_seems_to_succeed_is_tried_again() {
    let bench = Bench::new(&["h200"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "7g", 0)).unwrap();
    bench.host.inject(Rule { effect: Effect::Pretend, ..Rule::every("nvmlGpuInstanceDestroy", UNKNOWN).times(2) }).unwrap();
    device.destroy(made.id).unwrap();
    bench.settled(&device, &[]);
}

#[test]
fn in_use_for_a_while_is_waited_for() {
    let bench = Bench::new(&["h200"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "1g", 0)).unwrap();
    bench.host.inject(Rule::every("nvmlGpuInstanceDestroy", IN_USE).times(3)).unwrap();
    device.destroy(made.id).unwrap();
    bench.settled(&device, &[]);
}

#[test]
fn a_half_destroyed_instance_is_in_the_way_until_it_is_gone() {
    let bench = Bench::new(&["a100"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "3g", 0)).unwrap();
    bench.host.inject(Rule::every("nvmlGpuInstanceDestroy", IN_USE)).unwrap();
    assert!(matches!(device.destroy(made.id), Err(DeviceError::Driver { code: IN_USE, .. })));
    assert_eq!(bench.holds(), [(0, 4, false)]);
    let listed = device.instances().unwrap();
    assert!(listed.len() == 1 && listed[0].id == made.id && listed[0].foreign, "{listed:?}");
    assert!(matches!(device.bind(made.id, std::process::id()), Err(DeviceError::UnknownInstance(_))));
    assert!(matches!(device.create(0, site(&device, "1g", 0)), Err(DeviceError::Overlap { .. })));
    bench.host.clear_faults().unwrap();
    device.create(0, site(&device, "1g", 0)).unwrap();
    // It went when the other was created; whoever asks again is told that it is done.
    device.destroy(made.id).unwrap();
    bench.settled(&device, &[site(&device, "1g", 0)]);
}

#[test]
fn a_creation_that_cannot_be_undone_is_undone_later() {
    let bench = Bench::new(&["a100"]);
    let device = bench.open();
    bench.host.inject(Rule::every("nvmlGpuInstanceCreateComputeInstance", UNKNOWN)).unwrap();
    bench.host.inject(Rule::every("nvmlGpuInstanceDestroy", UNKNOWN)).unwrap();
    assert!(matches!(device.create(0, site(&device, "4g", 0)), Err(DeviceError::Driver { code: UNKNOWN, .. })));
    assert_eq!(bench.holds(), [(0, 4, false)]);
    assert!(device.instances().unwrap()[0].foreign);
    bench.host.clear_faults().unwrap();
    assert_eq!(device.instances().unwrap(), []);
    bench.settled(&device, &[]);
}

#[test]
fn a_gpu_that_is_lost_at_any_call_holds_nothing_and_comes_back_empty() {
    for n in 1..40 {
        let bench = Bench::new(&["a30"]);
        let device = bench.open();
        let made = device.create(0, site(&device, "1g", 3)).unwrap();
        bench.host.inject(Rule { effect: Effect::Lose, ..Rule::every("*", GPU_IS_LOST).on(&[n]) }).unwrap();
        let _ = device.create(0, site(&device, "2g", 0));
        bench.host.lose(0).unwrap();
        bench.host.clear_faults().unwrap();
        // The next call notices if the last did not.
        let _ = device.instances();
        assert_eq!(device.instances().unwrap(), []);
        assert!(matches!(device.create(0, made.site), Err(DeviceError::Lost { gpu: 0 })));
        assert!(matches!(device.destroy(made.id), Err(DeviceError::Lost { gpu: 0 })));
        bench.host.restore(0).unwrap();
        assert_eq!(device.instances().unwrap(), []);
        let again = device.create(0, made.site).unwrap();
        bench.settled(&device, &[again.site]);
    }
}
