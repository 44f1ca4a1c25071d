//! Creating, binding, destroying where nothing goes wrong but what hardware always refuses.

use fake_nvml::{GpuSpec, HostSpec};
use migrator_device::{Binding, Device, DeviceError, NvmlDevice};
use migrator_mig::board;

use crate::support::{Bench, Sleeper, site};

/// Every legal partition of the board is created and destroyed.
fn every_partition(short: &str) {
    let bench = Bench::new(&[short]);
    let device = bench.open();
    assert_eq!(device.differences(), Vec::<String>::new());
    let catalog = device.gpus()[0].catalog.clone();
    assert_eq!(catalog, board::find(short).unwrap().catalog());
    // Those that nothing can be added to have all others as states on the way, and small ones need no time to themselves.
    for partition in catalog.maximal_partitions() {
        let made: Vec<_> = partition.sites().iter().map(|&site| device.create(0, site).unwrap()).collect();
        bench.settled(&device, partition.sites());
        for (gone, instance) in made.iter().enumerate() {
            device.destroy(instance.id).unwrap();
            bench.settled(&device, &partition.sites()[gone + 1..]);
        }
    }
}

#[test]
fn every_partition_of_an_a30() {
    every_partition("a30");
}

#[test]
fn every_partition_of_an_a100() {
    every_partition("a100");
}

#[test]
fn every_partition_of_an_h200() {
    every_partition("h200");
}

#[test]
fn every_partition_of_an_rtx_pro_6000() {
    every_partition("rtx-pro-6000");
}

#[test]
fn an_instance_is_what_its_profile_says() {
    let bench = Bench::new(&["a100"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "3g", 4)).unwrap();
    let profile = board::find("a100").unwrap().by_id(9).unwrap();
    assert_eq!((made.gpu, made.memory_mib, made.share, made.foreign), (0, profile.memory_mib, 3.0, false));
    assert!(made.uuid.as_deref().unwrap().starts_with("MIG-"));
    assert_eq!(device.instances().unwrap(), [made]);
}

#[test]
fn what_is_not_there_and_what_is_taken_is_refused_before_the_hardware_is_asked() {
    let bench = Bench::new(&["a100"]);
    let device = bench.open();
    let first = device.create(0, site(&device, "3g", 0)).unwrap();
    let calls = bench.host.calls().unwrap().len();
    assert!(matches!(device.create(1, site(&device, "1g", 0)), Err(DeviceError::UnknownGpu(1))));
    assert!(matches!(device.create(0, site(&device, "2g", 1)), Err(DeviceError::UnknownSite { .. })));
    let overlap = device.create(0, site(&device, "1g", 3));
    assert!(matches!(overlap, Err(DeviceError::Overlap { start: 3, size: 1, other, .. }) if other == first.id), "{overlap:?}");
    assert!(matches!(device.destroy(99), Err(DeviceError::UnknownInstance(99))));
    let created = |name: &str| bench.host.calls().unwrap()[calls..].iter().filter(|call| call.call.contains(name)).count();
    assert_eq!((created("Create"), created("Destroy")), (0, 0));
}

#[test]
fn ids_are_not_used_again() {
    let bench = Bench::new(&["a30"]);
    let device = bench.open();
    let mut last = 0;
    for _ in 0..3 {
        let made = device.create(0, site(&device, "1g", 0)).unwrap();
        assert!(made.id > last);
        last = made.id;
        device.destroy(made.id).unwrap();
        assert!(matches!(device.destroy(made.id), Err(DeviceError::UnknownInstance(_))));
    }
}

#[test]
fn holes_in_the_list_of_mig_devices_are_stepped_over() {
    let bench = Bench::new(&["a100"]);
    let device = bench.open();
    let made: Vec<_> = (0..7).map(|start| device.create(0, site(&device, "1g", start)).unwrap()).collect();
    for index in [0, 2, 5] {
        device.destroy(made[index].id).unwrap();
    }
    let again = device.create(0, site(&device, "1g", 5)).unwrap();
    let left = [&made[1], &made[3], &made[4], &again, &made[6]];
    bench.settled(&device, &left.map(|instance| instance.site));
}

#[test]
fn an_instance_in_use_stays_and_can_be_destroyed_later() {
    let bench = Bench::new(&["h200"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "2g", 2)).unwrap();
    let user = Sleeper::start();
    // Not bound through us, so that it is the hardware that refuses.
    bench.host.claim(user.pid(), made.uuid.as_deref().unwrap()).unwrap();
    let refused = device.destroy(made.id);
    assert!(matches!(refused, Err(DeviceError::InUse { id, pid }) if (id, pid) == (made.id, user.pid())), "{refused:?}");
    bench.settled(&device, &[made.site]);
    drop(user);
    device.destroy(made.id).unwrap();
    bench.settled(&device, &[]);
}

#[test]
fn a_bound_process_attaches_itself_and_stays_until_it_ends() {
    let bench = Bench::new(&["a30"]);
    let device = bench.open();
    let (first, second) = (device.create(0, site(&device, "1g", 0)).unwrap(), device.create(0, site(&device, "1g", 1)).unwrap());
    let worker = Sleeper::start();
    let pid = worker.pid();
    device.stage(pid).unwrap();
    let binding = device.bind(first.id, pid).unwrap();
    assert_eq!(binding, Binding::Attach { visible: first.uuid.clone().unwrap() });
    assert_eq!(device.bind(first.id, pid).unwrap(), binding);
    assert!(matches!(device.bind(second.id, pid), Err(DeviceError::InUse { id, .. }) if id == first.id));
    assert!(matches!(device.stage(pid), Err(DeviceError::InUse { id, .. }) if id == first.id));
    assert!(matches!(device.destroy(first.id), Err(DeviceError::InUse { pid: user, .. }) if user == pid));
    drop(worker);
    assert!(matches!(device.bind(first.id, pid), Err(DeviceError::Os { .. })));
    device.destroy(first.id).unwrap();
    assert!(matches!(device.bind(first.id, std::process::id()), Err(DeviceError::UnknownInstance(_))));
    bench.settled(&device, &[second.site]);
}

#[test]
fn a_gpu_without_mig_is_one_instance() {
    let off = GpuSpec { board: "a100".to_owned(), uuid: None, mig: false };
    for spec in [HostSpec::of(&["l40s"]), HostSpec { gpus: vec![off], ..HostSpec::of(&[]) }] {
        let bench = Bench::of(&spec);
        let device = bench.open();
        assert!(device.describe().contains("bookkeeping only"), "{}", device.describe());
        let gpu = device.gpus().remove(0);
        let whole = gpu.catalog.sites();
        assert_eq!((whole.len(), gpu.catalog.profiles[0].name.as_str(), whole[0].placement.start), (1, "whole", 0));
        let made = device.create(0, whole[0]).unwrap();
        assert_eq!(
            (made.memory_mib, made.uuid.as_deref()),
            (board::find(&spec.gpus[0].board).unwrap().memory_mib, Some(gpu.uuid.as_str()))
        );
        assert!(matches!(device.create(0, whole[0]), Err(DeviceError::Overlap { .. })));
        let worker = Sleeper::start();
        assert_eq!(device.bind(made.id, worker.pid()).unwrap(), Binding::Attach { visible: gpu.uuid });
        assert!(matches!(device.destroy(made.id), Err(DeviceError::InUse { .. })));
        drop(worker);
        device.destroy(made.id).unwrap();
        assert_eq!(device.instances().unwrap(), []);
        assert!(bench.host.calls().unwrap().iter().all(|call| !call.call.contains("Create") || call.call.contains("EventSet")));
    }
}

#[test]
fn only_named_gpus_are_managed_and_touched() {
    let bench = Bench::new(&["a30", "a30", "a30"]);
    bench.host.create_foreign(2, 14, 0).unwrap();
    let mut options = bench.options();
    options.gpus = vec![bench.host.uuid(1).to_owned(), "0000:01:00.0".to_owned(), "0".to_owned()];
    options.take_over = true;
    let device = NvmlDevice::open(options).unwrap();
    assert_eq!(device.gpus().iter().map(|gpu| gpu.index).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(device.instances().unwrap(), []);
    assert_eq!(bench.host.instances(2).unwrap().len(), 1);
    let made = device.create(1, site(&device, "4g", 0)).unwrap();
    assert_eq!((made.gpu, bench.host.instances(1).unwrap().len(), bench.holds().len()), (1, 1, 0));
    assert!(matches!(device.create(2, site(&device, "1g", 1)), Err(DeviceError::UnknownGpu(2))));
}

#[test]
fn gpus_that_are_not_named_or_not_there_are_an_error_that_lists_them() {
    let bench = Bench::new(&["a30"]);
    for names in [vec![], vec!["7".to_owned()]] {
        let mut options = bench.options();
        options.gpus = names;
        let error = NvmlDevice::open(options).err().unwrap();
        assert!(error.to_string().contains(bench.host.uuid(0)), "{error}");
    }
}
