//! What hardware refuses, delays, reports and breaks.

#![allow(clippy::unwrap_used, reason = "a test that cannot begin fails")]
#![allow(unsafe_code, reason = "the raw calls")]
#![allow(clippy::undocumented_unsafe_blocks, reason = "buffers of this file only")]

mod support;

use std::mem::zeroed;
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use fake_nvml::{Effect, FakeHost, HostSpec, Permission, Rule};
use nvml_wrapper::Nvml;
use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::gpm::GpmMetricId;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings as sys;
use support::{Client, Gi, answer, raw};

const NO_PERMISSION: u32 = 4;
const INVALID_ARGUMENT: u32 = 2;
const NOT_SUPPORTED: u32 = 3;
const NOT_FOUND: u32 = 6;
const INSUFFICIENT_SIZE: u32 = 7;
const TIMEOUT: u32 = 10;
const GPU_IS_LOST: u32 = 15;
const RESET_REQUIRED: u32 = 16;
const IN_USE: u32 = 19;
const INSUFFICIENT_RESOURCES: u32 = 23;
const VERSION_MISMATCH: u32 = 25;

/// A 3g at the end of an H200, whole.
fn with_worker() -> (Client, Gi, sys::nvmlComputeInstance_t, String) {
    let client = Client::on("h200");
    let gi = client.create(9, 4, 4).unwrap();
    let ci = client.create_compute(gi, 2).unwrap();
    let uuid = client.mig(0).unwrap().3;
    (client, gi, ci, uuid)
}

#[test]
fn an_instance_that_a_process_uses_is_in_use_until_it_lets_go() {
    let (client, gi, ci, uuid) = with_worker();
    let own = std::process::id();
    client.host.claim_memory(own, &uuid, 700).unwrap();
    assert_eq!(client.destroy_compute(ci), Err(IN_USE));
    assert_eq!(client.destroy(gi), Err(IN_USE));
    assert_eq!(client.set_mode(false), Ok(IN_USE));
    let device = client.nvml.device_by_uuid(uuid.as_str()).unwrap();
    assert_eq!(device.memory_info().unwrap().used, 700 * 1024 * 1024);
    client.host.release(own).unwrap();
    client.destroy_compute(ci).unwrap();
    client.destroy(gi).unwrap();
    let told = client.host.calls().unwrap();
    let last: Vec<(&str, u32)> = told.iter().rev().take(2).map(|call| (call.call.as_str(), call.code)).collect();
    assert_eq!(last, [("nvmlGpuInstanceDestroy", 0), ("nvmlComputeInstanceDestroy", 0)]);
}

#[test]
fn processes_are_listed_with_their_instance_and_counted_first() {
    let (client, gi, _, uuid) = with_worker();
    let own = std::process::id();
    client.host.claim(own, &uuid).unwrap();
    let mut count = 0;
    let code = raw!(client, nvmlDeviceGetComputeRunningProcesses_v3, client.gpu(), &mut count, null_mut());
    assert_eq!((code, count), (INSUFFICIENT_SIZE, 1));
    let gpu = client.nvml.device_by_index(0).unwrap();
    let all = gpu.running_compute_processes().unwrap();
    assert_eq!(all.iter().map(|process| process.pid).collect::<Vec<_>>(), [own]);
    assert_eq!((all[0].gpu_instance_id, all[0].compute_instance_id), (Some(client.info(gi).unwrap().id), Some(0)));
    let gi = client.create(19, 0, 1).unwrap();
    client.create_compute(gi, 0).unwrap();
    let other = client.mig(1).unwrap().3;
    assert!(client.nvml.device_by_uuid(other.as_str()).unwrap().running_compute_processes().unwrap().is_empty());
    assert_eq!(client.host.users(0).unwrap().len(), 1);
}

#[test]
fn an_instance_settles_after_its_compute_instance_went_and_creation_takes_its_time() {
    let spec = HostSpec { latency: 0.2, ..HostSpec::of(&["a100"]) };
    let client = Client::of(&spec);
    let begin = Instant::now();
    let gi = client.create(9, 4, 4).unwrap();
    let ci = client.create_compute(gi, 2).unwrap();
    // 0.20 s for a 3g of an A100, times 0.2; a lower bound, so a slow machine does not fail it.
    assert!(begin.elapsed() >= Duration::from_millis(40));
    client.destroy_compute(ci).unwrap();
    let mut refused = 0;
    while let Err(code) = client.destroy(gi) {
        assert_eq!(code, IN_USE);
        refused += 1;
    }
    assert!(refused > 0);
}

#[test]
fn the_mode_is_at_once_on_hopper_and_after_a_reset_on_ampere() {
    let off = |board: &str| {
        let mut spec = HostSpec::of(&[board]);
        spec.gpus[0].mig = false;
        Client::of(&spec)
    };
    let hopper = off("h200");
    assert_eq!(hopper.create(9, 4, 4), Err(NOT_SUPPORTED));
    assert_eq!(hopper.set_mode(true), Ok(0));
    hopper.create(9, 4, 4).unwrap();
    assert_eq!(hopper.set_mode(false), Ok(0));
    assert_eq!(hopper.host.instances(0).unwrap(), []);
    let ampere = off("a100");
    assert_eq!(ampere.set_mode(true), Ok(RESET_REQUIRED));
    let mode = ampere.nvml.device_by_index(0).unwrap().mig_mode().unwrap();
    assert_eq!((mode.current, mode.pending), (0, 1));
    ampere.host.reset(0).unwrap();
    assert!(ampere.create(9, 4, 4).is_ok());
}

#[test]
fn the_field_tells_boards_that_need_a_reset_from_those_that_do_not() {
    let resetless = |board: &str| {
        let client = Client::on(board);
        let mut value: sys::nvmlFieldValue_t = unsafe { zeroed() };
        value.fieldId = 184;
        assert_eq!(raw!(client, nvmlDeviceGetFieldValues, client.gpu(), 1, &mut value), 0);
        (value.nvmlReturn == 0).then_some(unsafe { value.value.uiVal })
    };
    assert_eq!([resetless("a100"), resetless("h200"), resetless("l40s")], [Some(0), Some(1), None]);
}

#[test]
fn who_may_not_change_anything_is_refused() {
    let client = Client::of(&HostSpec { permission: Permission::None, ..HostSpec::of(&["a100"]) });
    assert_eq!(client.create(9, 4, 4), Err(NO_PERMISSION));
    assert_eq!(client.instances(9), Err(NO_PERMISSION));
    assert_eq!(client.set_mode(false), Err(NO_PERMISSION));
    assert!(client.placements(9).is_ok());
}

#[test]
fn structs_are_told_apart_by_their_version_word() {
    let client = Client::on("rtx-pro-6000");
    let mut second: sys::nvmlGpuInstanceProfileInfo_v2_t = unsafe { zeroed() };
    assert_eq!(raw!(client, nvmlDeviceGetGpuInstanceProfileInfoV, client.gpu(), 10, &mut second), VERSION_MISMATCH);
    second.version = 0x0200_0098;
    assert_eq!(raw!(client, nvmlDeviceGetGpuInstanceProfileInfoV, client.gpu(), 10, &mut second), 0);
    assert_eq!((second.id, second.sliceCount, second.memorySizeMB), (47, 1, 24_192));
    let mut third: sys::nvmlGpuInstanceProfileInfo_v3_t = unsafe { zeroed() };
    third.version = 0x0300_0098;
    let place = (&raw mut third).cast();
    assert_eq!(raw!(client, nvmlDeviceGetGpuInstanceProfileInfoByIdV, client.gpu(), 47, place), 0);
    assert_eq!((third.id, third.capabilities), (47, 2));
    let name: String = third.name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8 as char).collect();
    assert_eq!(name, "MIG 1g.24gb+gfx");
    assert_eq!(raw!(client, nvmlDeviceGetGpuInstanceProfileInfoV, client.gpu(), 2, &mut second), NOT_SUPPORTED);
    assert_eq!(raw!(client, nvmlDeviceGetGpuInstanceProfileInfoV, client.gpu(), 17, &mut second), INVALID_ARGUMENT);
    assert_eq!(client.nvml.device_by_index(0).unwrap().profile_info(3).unwrap().id, 0);
}

#[test]
fn compute_instances_share_an_instance() {
    let (client, _, _, _) = with_worker();
    let gi = client.create(5, 0, 4).unwrap();
    let mut info: sys::nvmlComputeInstanceProfileInfo_v2_t = unsafe { zeroed() };
    info.version = 0x0200_0088;
    assert_eq!(raw!(client, nvmlGpuInstanceGetComputeInstanceProfileInfoV, gi, 1, 0, &mut info), 0);
    assert_eq!((info.sliceCount, info.instanceCount, info.multiprocessorCount), (2, 2, 32));
    let halves = [client.create_compute(gi, 1).unwrap(), client.create_compute(gi, 1).unwrap()];
    assert_eq!(client.create_compute(gi, 0), Err(INSUFFICIENT_RESOURCES));
    let starts = halves.map(|half| client.compute_info(half).unwrap().placement.start);
    assert_eq!(starts, [0, 2]);
    let ids: Vec<u32> = (1..3).map(|index| client.mig(index).unwrap().2).collect();
    assert_eq!(ids, [0, 1]);
    client.destroy_compute(halves[0]).unwrap();
    assert_eq!(client.mig(1).err(), Some(NOT_FOUND), "a hole");
    assert!(client.mig(2).is_ok());
    assert_eq!(client.host.audit().unwrap(), Vec::<String>::new());
}

#[test]
fn events_come_with_the_ids_of_the_instance() {
    let (client, gi, _, _) = with_worker();
    let gpu = client.nvml.device_by_index(0).unwrap();
    let set = client.nvml.create_event_set().unwrap();
    let set = gpu.register_events(EventTypes::CRITICAL_XID_ERROR | EventTypes::MIG_CONFIG_CHANGE, set).unwrap();
    let handle = unsafe { set.handle() };
    let wait = || {
        let mut data: sys::nvmlEventData_t = unsafe { zeroed() };
        answer(raw!(client, nvmlEventSetWait_v2, handle, &mut data, 0), data)
    };
    assert_eq!(wait().err(), Some(TIMEOUT), "what came before is not heard");
    let id = client.info(gi).unwrap().id;
    client.host.xid(0, Some(id), 43);
    client.host.create_foreign(0, 19, 0).unwrap();
    let xid = wait().unwrap();
    assert_eq!((xid.eventType, xid.eventData, xid.gpuInstanceId, xid.computeInstanceId), (8, 43, id, 0));
    let change = wait().unwrap();
    assert_eq!((change.eventType, change.gpuInstanceId), (0x100, u32::MAX));
    client.host.lose(0).unwrap();
    assert_eq!(wait().unwrap().eventData, 79);
    assert_eq!(wait().err(), Some(GPU_IS_LOST));
}

#[test]
fn a_lost_gpu_answers_nothing_and_comes_back_empty() {
    let (client, gi, _, uuid) = with_worker();
    client.host.lose(0).unwrap();
    assert!(matches!(client.nvml.device_by_index(0), Err(NvmlError::GpuLost)));
    assert_eq!(client.destroy(gi), Err(GPU_IS_LOST));
    assert_eq!(client.nvml.device_count().unwrap(), 1);
    client.host.restore(0).unwrap();
    assert_eq!(client.host.instances(0).unwrap(), []);
    assert_eq!(client.destroy(gi), Err(INVALID_ARGUMENT));
    assert!(matches!(client.nvml.device_by_uuid(uuid.as_str()), Err(NvmlError::NotFound)));
}

#[test]
fn faults_refuse_lie_and_break() {
    let client = Client::on("h200");
    client.host.inject(Rule::every("nvmlGpuInstanceCreateComputeInstance", 999).times(1)).unwrap();
    let gi = client.create(9, 4, 4).unwrap();
    assert_eq!(client.create_compute(gi, 2), Err(999), "between the two steps");
    client.create_compute(gi, 2).map(|ci| client.destroy_compute(ci)).unwrap().unwrap();
    client.host.inject(Rule::every("nvmlGpuInstanceDestroy", 0).times(1).with(Effect::Pretend)).unwrap();
    client.destroy(gi).unwrap();
    assert_eq!(client.host.instances(0).unwrap().len(), 1, "go-nvml#146");
    client.host.clear_faults().unwrap();
    client.host.inject(Rule::every("nvmlGpuInstanceDestroy", 999).with(Effect::After)).unwrap();
    assert_eq!(client.destroy(gi), Err(999));
    assert_eq!(client.host.instances(0).unwrap(), []);
    client.host.clear_faults().unwrap();
    client.host.inject(Rule::every("*", 999).on(&[2]).with(Effect::Lose)).unwrap();
    assert_eq!(client.create(9, 4, 4), Err(GPU_IS_LOST));
}

#[test]
fn counters_are_told_on_hopper_and_nothing_is_told_of_utilization_under_mig() {
    let (client, gi, _, _) = with_worker();
    let gpu = client.nvml.device_by_index(0).unwrap();
    assert!(matches!(gpu.utilization_rates(), Err(NvmlError::NotSupported)));
    let id = client.info(gi).unwrap().id;
    client.host.set_busy(0, id, 0.25).unwrap();
    let (first, second) = (gpu.gpm_mig_sample(id).unwrap(), gpu.gpm_mig_sample(id).unwrap());
    let told = nvml_wrapper::gpm::gpm_metrics_get(&client.nvml, &first, &second, &[GpmMetricId::SmUtil]).unwrap();
    assert_eq!(told[0].as_ref().unwrap().value, 25.0);
    let old = Client::on("a100");
    assert!(matches!(old.nvml.device_by_index(0).unwrap().gpm_sample(), Err(NvmlError::NotSupported)));
}

#[test]
fn without_a_host_there_is_no_driver() {
    let folder = tempfile::tempdir().unwrap();
    let host = FakeHost::create(folder.path(), &HostSpec::of(&["a30"])).unwrap();
    let library = host.library().unwrap();
    std::fs::remove_file(folder.path().join("host.toml")).unwrap();
    assert!(matches!(Nvml::builder().lib_path(library.as_os_str()).init(), Err(NvmlError::DriverNotLoaded)));
    assert!(FakeHost::create(folder.path(), &HostSpec::of(&["b300"])).is_err());
}
