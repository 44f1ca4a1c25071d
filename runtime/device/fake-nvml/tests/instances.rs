//! Instances come and go through the C interface.

mod support;

use fake_nvml::HostSpec;
use migrator_mig::board::find;
use nvml_wrapper::error::NvmlError;
use support::{Client, nonsense};

const INVALID_ARGUMENT: u32 = 2;
const NOT_SUPPORTED: u32 = 3;
const NOT_FOUND: u32 = 6;
const IN_USE: u32 = 19;
const INSUFFICIENT_RESOURCES: u32 = 23;

#[test]
fn every_board_tells_its_profiles_and_placements() {
    for name in ["a30", "a100", "h200", "rtx-pro-6000"] {
        let (client, board) = (Client::on(name), find(name).unwrap());
        for profile in &board.profiles {
            let sized: Vec<(u32, u32)> = profile.starts.iter().map(|&start| (u32::from(start), u32::from(profile.memory_slices))).collect();
            assert_eq!(client.placements(profile.id), Ok(sized), "{name} {}", profile.name);
            assert_eq!(client.remaining(profile.id), Ok(u32::from(profile.count)), "{name} {}", profile.name);
        }
        assert_eq!(client.placements(4711), Err(INVALID_ARGUMENT));
    }
}

#[test]
fn every_maximal_partition_is_accepted_where_the_catalog_says() {
    for name in ["a30", "a100", "h200", "rtx-pro-6000"] {
        let (client, board) = (Client::on(name), find(name).unwrap());
        let catalog = board.catalog();
        for partition in catalog.maximal_partitions() {
            let create = |site: &migrator_mig::Site| {
                let profile = board.profiles.iter().find(|known| known.name == catalog.profile(site.profile).name).unwrap();
                client.create(profile.id, u32::from(site.placement.start), u32::from(site.placement.size))
            };
            let made: Vec<_> = partition.sites().iter().map(|site| create(site).unwrap()).collect();
            assert_eq!(client.host.audit().unwrap(), Vec::<String>::new());
            assert_eq!(create(&partition.sites()[0]), Err(INSUFFICIENT_RESOURCES));
            made.into_iter().for_each(|instance| client.destroy(instance).unwrap());
        }
        assert_eq!(client.host.instances(0).unwrap(), []);
    }
}

#[test]
fn a_mig_device_appears_with_its_compute_instance_and_goes_with_it() {
    let client = Client::on("h200");
    let gi = client.create(9, 4, 4).unwrap();
    assert_eq!(client.mig(0).err(), Some(NOT_FOUND));
    let ci = client.create_compute(gi, 2).unwrap();
    let (device, gi_id, ci_id, uuid) = client.mig(0).unwrap();
    assert_eq!((gi_id, ci_id), (client.info(gi).unwrap().id, 0));
    assert_eq!(client.host.instances(0).unwrap()[0].computes, [(0, uuid.clone())]);
    let found = client.nvml.device_by_uuid(uuid.as_str()).unwrap();
    assert_eq!(found.uuid().unwrap(), uuid);
    let attributes = found.attributes().unwrap();
    assert_eq!((attributes.multiprocessor_count, attributes.memory_size_mb), (60, 71_168));
    assert_eq!(found.memory_info().unwrap().total, 71_168 * 1024 * 1024);
    assert_eq!(client.compute_info(ci).unwrap().device, client.gpu(), "the parent, not the MIG device {device:?}");
    assert_eq!(client.destroy(gi), Err(IN_USE));
    client.destroy_compute(ci).unwrap();
    assert!(matches!(client.nvml.device_by_uuid(uuid.as_str()), Err(NvmlError::NotFound)));
    client.destroy(gi).unwrap();
    assert_eq!(client.destroy(gi), Err(INVALID_ARGUMENT));
    assert_eq!(client.info(nonsense()).err(), Some(INVALID_ARGUMENT));
}

#[test]
fn a_board_without_mig_has_none() {
    let client = Client::on("l40s");
    let gpu = client.nvml.device_by_index(0).unwrap();
    assert!(matches!(gpu.mig_mode(), Err(NvmlError::NotSupported)));
    assert_eq!(gpu.mig_device_count().unwrap(), 0);
    assert_eq!(client.create(19, 0, 1), Err(NOT_SUPPORTED));
    assert_eq!(client.placements(19), Err(NOT_SUPPORTED));
    assert_eq!(client.set_mode(true), Err(NOT_SUPPORTED));
    assert_eq!(gpu.utilization_rates().unwrap().gpu, 0);
}

#[test]
fn two_clients_of_one_host_see_the_same_instances() {
    let first = Client::on("a100");
    let folder = first.host.folder().to_owned();
    first.create(5, 0, 4).unwrap();
    let again = fake_nvml::FakeHost::open(&folder).unwrap();
    assert_eq!(again.instances(0).unwrap(), first.host.instances(0).unwrap());
    let foreign = again.create_foreign(0, 9, 4).unwrap();
    assert!(foreign.foreign);
    assert_eq!(first.instances(9).unwrap().len(), 1);
    assert_eq!(first.create(9, 4, 4), Err(INSUFFICIENT_RESOURCES));
    assert_eq!(Client::of(&HostSpec::of(&["a100"])).instances(9), Ok(Vec::new()));
}
