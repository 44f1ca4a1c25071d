//! Looking at hosts, switching the mode, and what is said where nothing works.

use std::fs;
use std::path::Path;

use fake_nvml::{GpuSpec, HostSpec, Permission, Rule};
use migrator_device::nvml::{ModeChange, inspect, set_mode};
use migrator_device::{Device, DeviceError, NvmlDevice, NvmlOptions};
use migrator_mig::board;

use crate::support::{Bench, Sleeper, site};

#[test]
fn every_gpu_of_a_host_is_described() {
    let bench = Bench::new(&["a100", "h200", "rtx-pro-6000", "l40s"]);
    bench.host.create_foreign(1, 9, 4).unwrap();
    let found = inspect(Some(&bench.host.library().unwrap())).unwrap();
    for (gpu, short) in found.iter().zip(["a100", "h200", "rtx-pro-6000", "l40s"]) {
        let board = board::find(short).unwrap();
        assert_eq!((gpu.board.as_deref(), gpu.memory_mib), (Some(board.name.as_str()), board.memory_mib));
        assert_eq!(gpu.compute_capability, board.compute_capability);
        assert_eq!(gpu.catalog, (board.instances > 0).then(|| board.catalog()));
        assert_eq!((gpu.differences.as_slice(), gpu.troubles.as_slice()), (&[][..], &[][..]));
        assert_eq!(gpu.mig.is_some(), board.instances > 0);
    }
    let [instance] = found[1].instances.as_slice() else { panic!("{:?}", found[1].instances) };
    assert_eq!((instance.profile.as_str(), instance.placement.start, instance.compute.len()), ("3g.71gb", 4, 1));
    assert!(found[1].bus_id.ends_with(":00.0") && found[1].driver.starts_with("580") && found[1].cuda.contains('.'), "{:?}", found[1]);
}

#[test]
fn half_made_instances_and_processes_are_seen() {
    let bench = Bench::new(&["a30"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "1g", 0)).unwrap();
    let half = device.create(0, site(&device, "1g", 2)).unwrap();
    bench.host.inject(Rule::every("nvmlGpuInstanceDestroy", 999)).unwrap();
    device.destroy(half.id).unwrap_err();
    let user = Sleeper::start();
    bench.host.claim(user.pid(), made.uuid.as_deref().unwrap()).unwrap();
    let found = &inspect(Some(&bench.host.library().unwrap())).unwrap()[0].instances;
    assert_eq!(found[0].compute[0].processes, [user.pid()]);
    assert_eq!(found[1].compute, []);
}

#[test]
fn without_permission_the_error_says_what_to_do_and_looking_goes_as_far_as_it_can() {
    let bench = Bench::of(&HostSpec { permission: Permission::None, ..HostSpec::of(&["a30"]) });
    let error = bench.try_open().err().unwrap();
    assert!(matches!(&error, DeviceError::NoPermission { .. }) && error.to_string().contains("nvidia-caps"), "{error}");
    let found = inspect(Some(&bench.host.library().unwrap())).unwrap();
    assert_eq!((found[0].troubles.len(), found[0].catalog.is_some()), (1, true), "{:?}", found[0].troubles);
}

fn off(board: &str) -> Bench {
    let gpu = GpuSpec { board: board.to_owned(), uuid: None, mig: false };
    Bench::of(&HostSpec { gpus: vec![gpu], ..HostSpec::of(&[]) })
}

#[test]
fn the_mode_is_switched_at_once_on_hopper_and_by_a_reset_before() {
    let library = |bench: &Bench| bench.host.library().unwrap();
    let hopper = off("h200");
    assert_eq!(set_mode(Some(&library(&hopper)), "0", true).unwrap(), ModeChange::Done);
    assert_eq!(set_mode(Some(&library(&hopper)), hopper.host.uuid(0), true).unwrap(), ModeChange::Unchanged);
    assert_eq!(hopper.host.mode(0).unwrap(), (true, true));
    let ampere = off("a100");
    assert_eq!(set_mode(Some(&library(&ampere)), "0", true).unwrap(), ModeChange::NeedsReset);
    assert_eq!(ampere.host.mode(0).unwrap(), (false, true));
    let error = ampere.try_open().err().unwrap();
    assert!(matches!(&error, DeviceError::Mode { gpu: 0, why } if why.contains("reset")), "{error}");
    ampere.host.reset(0).unwrap();
    assert_eq!(ampere.open().gpus()[0].catalog, board::find("a100").unwrap().catalog());
}

#[test]
fn who_keeps_the_mode_from_being_switched_is_named() {
    let bench = off("h200");
    let user = Sleeper::start();
    bench.host.claim(user.pid(), bench.host.uuid(0)).unwrap();
    let changed = set_mode(Some(&bench.host.library().unwrap()), "0", true).unwrap();
    assert_eq!(changed, ModeChange::InUse { processes: vec![user.pid()] });
}

#[test]
fn a_gpu_without_mig_has_no_mode() {
    let bench = Bench::new(&["l40s"]);
    let error = set_mode(Some(&bench.host.library().unwrap()), "0", true).unwrap_err();
    assert!(matches!(error, DeviceError::Mode { gpu: 0, .. }), "{error}");
}

#[test]
fn a_library_that_is_missing_or_none_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let (missing, text) = (dir.path().join("none.so"), dir.path().join("text.so"));
    fs::write(&text, "no library").unwrap();
    for path in [missing.as_path(), text.as_path(), Path::new("libc.so.6")] {
        let options = NvmlOptions { library: Some(path.to_owned()), ..NvmlOptions::new(vec!["0".to_owned()], dir.path().join("r.json")) };
        let error = NvmlDevice::open(options).err().unwrap();
        let line = error.to_string();
        assert!(matches!(error, DeviceError::Library { .. }) && !line.contains('\n') && line.contains(path.to_str().unwrap()), "{line}");
    }
}

#[test]
fn a_driver_that_does_not_start_is_one_clear_line() {
    // Driver not loaded, no permission, library and module of different versions.
    for (code, word) in [(9, "module"), (4, "permission"), (18, "versions")] {
        let bench = Bench::new(&["a30"]);
        bench.host.inject(Rule::every("nvmlInit_v2", code)).unwrap();
        let error = bench.try_open().err().unwrap();
        assert!(matches!(error, DeviceError::Library { .. }) && error.to_string().contains(word), "{error}");
    }
}

#[test]
fn a_host_without_gpus_says_so() {
    let bench = Bench::new(&[]);
    let mut options = bench.options();
    options.gpus = vec!["0".to_owned()];
    let error = NvmlDevice::open(options).err().unwrap();
    assert!(error.to_string().contains("there are none"), "{error}");
    assert_eq!(inspect(Some(&bench.host.library().unwrap())).unwrap(), []);
}
