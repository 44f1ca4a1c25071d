//! What a device finds when it is opened: what is ours, what was left half made, what is another's.

use std::fs;

use fake_nvml::{Code, Rule};
use migrator_device::{Device, DeviceError, NvmlDevice};

use crate::support::{Bench, Sleeper, site, sites};

const UNKNOWN: u32 = 999;

#[test]
fn instances_outlive_the_device_and_are_adopted() {
    let bench = Bench::new(&["a100"]);
    let device = bench.open();
    let made: Vec<_> = [("4g", 0), ("1g", 4)].iter().map(|(name, start)| device.create(0, site(&device, name, *start)).unwrap()).collect();
    drop(device);
    let device = bench.open();
    bench.settled(&device, &sites(&made));
    for instance in device.instances().unwrap() {
        device.destroy(instance.id).unwrap();
    }
    bench.settled(&device, &[]);
}

/// A server that dies at the n-th call, for every n: from then on it cannot do anything to the GPU any more.
fn died_at_every_call(destroys: bool) {
    let mut deaths = 0;
    for n in 1.. {
        let bench = Bench::new(&["a30"]);
        let device = bench.open();
        let neighbour = device.create(0, site(&device, "1g", 3)).unwrap();
        let wanted = site(&device, "2g", 0);
        let first = destroys.then(|| device.create(0, wanted).unwrap());
        bench.host.inject(Rule::every("*", UNKNOWN).on(&(n..n + 400).collect::<Vec<_>>())).unwrap();
        let outcome = match &first {
            Some(instance) => device.destroy(instance.id),
            None => device.create(0, wanted).map(drop),
        };
        drop(device);
        bench.host.clear_faults().unwrap();
        let device = bench.open();
        let listed = device.instances().unwrap();
        assert!(listed.iter().all(|instance| !instance.foreign), "call {n}: {listed:?}");
        let both = [wanted, neighbour.site];
        // The intention to destroy is written down before the first call, so that is what the next server completes.
        let there = !destroys && outcome.is_ok();
        bench.settled(&device, if there { &both } else { &both[1..] });
        if outcome.is_ok() {
            break;
        }
        deaths += 1;
        device.create(0, wanted).unwrap();
        bench.settled(&device, &both);
    }
    assert!(deaths >= 12, "{deaths}");
}

#[test]
fn a_server_that_dies_while_creating_leaves_all_or_nothing() {
    died_at_every_call(false);
}

#[test]
fn a_server_that_dies_while_destroying_leaves_all_or_nothing() {
    died_at_every_call(true);
}

/// The record as a server that was killed leaves it, which a failing call cannot show: every version of the file, with every state of the
/// GPU that it can go with.
#[test]
fn every_version_of_the_record_makes_sense_of_the_gpu() {
    let half = |stage: &str, gi: Option<u32>| (stage.to_owned(), gi);
    for (stage, knows) in [half("making", None), half("making", Some(0)), half("made", Some(0)), half("unmaking", Some(0))] {
        for compute in [false, true] {
            if stage == "making" && knows.is_none() && compute {
                // The id is written down before there is a compute instance, so this is another's.
                continue;
            }
            let bench = Bench::new(&["a30"]);
            let device = bench.open();
            let made = device.create(0, site(&device, "2g", 0)).unwrap();
            drop(device);
            let hardware = &bench.host.instances(0).unwrap()[0];
            if !compute {
                remove_compute_instance(&bench);
            }
            let mut record: serde_json::Value = serde_json::from_slice(&fs::read(bench.record()).unwrap()).unwrap();
            record["instances"][0]["stage"] = stage.as_str().into();
            record["instances"][0]["gi"] = knows.map(|_| hardware.id).into();
            fs::write(bench.record(), record.to_string()).unwrap();
            let device = bench.open();
            let adopted = stage == "made" && compute;
            bench.settled(&device, if adopted { std::slice::from_ref(&made.site) } else { &[] });
        }
    }
}

/// Leaves a GPU instance without a compute instance, as a destruction does that is stopped half way.
fn remove_compute_instance(bench: &Bench) {
    let copy = fs::read(bench.record()).unwrap();
    let device = bench.open();
    let id = device.instances().unwrap()[0].id;
    bench.host.inject(Rule::every("nvmlGpuInstanceDestroy", UNKNOWN)).unwrap();
    device.destroy(id).unwrap_err();
    bench.host.clear_faults().unwrap();
    drop(device);
    fs::write(bench.record(), copy).unwrap();
    assert_eq!(bench.holds(), [(0, 2, false)]);
}

#[test]
fn an_instance_that_another_made_where_we_were_about_to_is_not_ours() {
    let bench = Bench::new(&["a30"]);
    drop(bench.open());
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(bench.record()).unwrap()).unwrap();
    record["instances"] = serde_json::json!([{
        "gpu": bench.host.uuid(0), "gi": null, "profile": 5, "start": 0, "size": 2, "stage": "making"
    }]);
    fs::write(bench.record(), record.to_string()).unwrap();
    bench.host.create_foreign(0, 5, 0).unwrap();
    let device = bench.open();
    let listed = device.instances().unwrap();
    assert!(listed.len() == 1 && listed[0].foreign, "{listed:?}");
    assert_eq!(bench.holds(), [(0, 2, true)]);
}

#[test]
fn foreign_instances_are_listed_planned_around_and_never_touched() {
    let bench = Bench::new(&["a100"]);
    let theirs = bench.host.create_foreign(0, 9, 4).unwrap();
    let device = bench.open();
    let listed = device.instances().unwrap();
    assert!(listed[0].foreign && listed[0].uuid.as_deref() == Some(&theirs.computes[0].1), "{listed:?}");
    assert_eq!(listed[0].site, site(&device, "3g", 4));
    assert!(matches!(device.destroy(listed[0].id), Err(DeviceError::Foreign(_))));
    assert!(matches!(device.bind(listed[0].id, std::process::id()), Err(DeviceError::Foreign(_))));
    let overlap = device.create(0, site(&device, "1g", 6));
    assert!(matches!(overlap, Err(DeviceError::Overlap { other, .. }) if other == listed[0].id), "{overlap:?}");
    device.create(0, site(&device, "4g", 0)).unwrap();
    drop(device);
    assert_eq!(bench.open().instances().unwrap().iter().map(|instance| instance.foreign).collect::<Vec<_>>(), [false, true]);
}

#[test]
fn a_foreign_instance_of_a_kind_that_is_not_planned_with_is_in_the_way_where_it_lies() {
    let bench = Bench::new(&["a100"]);
    // 1g of double memory: one compute slice on two memory slices.
    bench.host.create_foreign(0, 15, 2).unwrap();
    let device = bench.open();
    let listed = device.instances().unwrap();
    assert_eq!((listed[0].site.placement.start, listed[0].site.placement.size, listed[0].share), (2, 2, 1.0));
    assert!(matches!(device.create(0, site(&device, "1g", 3)), Err(DeviceError::Overlap { .. })));
    device.create(0, site(&device, "2g", 0)).unwrap();
}

#[test]
fn what_appears_and_vanishes_while_the_device_is_open_is_noticed() {
    let bench = Bench::new(&["a30"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "1g", 0)).unwrap();
    let theirs = bench.host.create_foreign(0, 14, 2).unwrap();
    assert_eq!(device.instances().unwrap().len(), 2);
    let ours = bench.host.instances(0).unwrap()[0].id;
    bench.host.destroy_foreign(0, ours).unwrap();
    bench.host.destroy_foreign(0, theirs.id).unwrap();
    assert_eq!(device.instances().unwrap(), []);
    assert!(matches!(device.destroy(made.id), Err(DeviceError::UnknownInstance(_))));
    device.create(0, site(&device, "4g", 0)).unwrap();
    bench.settled(&device, &[site(&device, "4g", 0)]);
}

#[test]
fn unused_foreign_instances_are_taken_over_on_demand() {
    let bench = Bench::new(&["a100"]);
    bench.host.create_foreign(0, 19, 0).unwrap();
    let used = bench.host.create_foreign(0, 9, 4).unwrap();
    let user = Sleeper::start();
    bench.host.claim(user.pid(), &used.computes[0].1).unwrap();
    let mut options = bench.options();
    options.take_over = true;
    let device = NvmlDevice::open(options.clone()).unwrap();
    assert_eq!(bench.holds(), [(4, 4, true)]);
    let listed = device.instances().unwrap();
    assert!(listed.len() == 1 && listed[0].foreign, "{listed:?}");
    drop((device, user));
    let device = NvmlDevice::open(options).unwrap();
    bench.settled(&device, &[]);
}

#[test]
fn after_a_reset_nothing_is_ours() {
    let bench = Bench::new(&["a30"]);
    let device = bench.open();
    device.create(0, site(&device, "2g", 0)).unwrap();
    drop(device);
    bench.host.reset(0).unwrap();
    let theirs = bench.host.create_foreign(0, 14, 1).unwrap();
    let device = bench.open();
    let listed = device.instances().unwrap();
    assert!(listed.len() == 1 && listed[0].foreign && listed[0].uuid.as_deref() == Some(&theirs.computes[0].1), "{listed:?}");
}

#[test]
fn a_device_that_cannot_look_does_not_forget() {
    let bench = Bench::new(&["a30"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "2g", 0)).unwrap();
    drop(device);
    for call in ["nvmlDeviceGetGpuInstances", "nvmlGpuInstanceGetInfo", "nvmlGpuInstanceGetComputeInstances", "nvmlDeviceGetGpuInstanceId"]
    {
        for code in [Code::INVALID_ARGUMENT.0, Code::NO_PERMISSION.0, UNKNOWN] {
            bench.host.inject(Rule::every(call, code)).unwrap();
            assert!(bench.try_open().is_err(), "{call} {code}");
            bench.host.clear_faults().unwrap();
        }
    }
    bench.settled(&bench.open(), &[made.site]);
}

#[test]
fn two_devices_do_not_share_a_record() {
    let bench = Bench::new(&["a30"]);
    let _first = bench.open();
    assert!(matches!(bench.try_open(), Err(DeviceError::Options(why)) if why.contains("another server")));
}
