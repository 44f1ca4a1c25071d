use migrator_mig::board::{find, shipped};
use proptest::prelude::*;

use super::*;

fn with_mig() -> impl Iterator<Item = &'static Board> {
    shipped().iter().filter(|board| board.instances > 0)
}

fn plain(board: &Board, name: &str) -> u32 {
    board.profiles.iter().find(|profile| profile.name == name).unwrap().id
}

fn place(start: u8, size: u8) -> Option<Placement> {
    Some(Placement { start, size })
}

#[test]
fn every_partition_of_the_catalog_can_be_created_and_nothing_can_be_laid_over_it() {
    for board in with_mig() {
        let catalog = board.catalog();
        for partition in catalog.partitions() {
            let mut gpu = Gpu::new(true);
            for site in partition.sites() {
                let id = plain(board, &catalog.profile(site.profile).name);
                let made = gpu.create(board, id, Some(site.placement)).map(|instance| instance.placement);
                assert_eq!(made, Ok(site.placement), "{}: {}", board.name, partition.describe(&catalog));
            }
            for site in catalog.sites().iter().filter(|site| partition.sites().iter().any(|s| s.placement.overlaps(site.placement))) {
                let id = plain(board, &catalog.profile(site.profile).name);
                assert_eq!(gpu.create(board, id, Some(site.placement)).err(), Some(Code::INSUFFICIENT_RESOURCES));
            }
        }
    }
}

#[test]
fn every_id_and_number_is_taken_once_and_ids_are_used_again() {
    let board = find("a100").unwrap();
    let mut gpu = Gpu::new(true);
    let ids: Vec<u32> = (0..7).map(|start| gpu.create(board, 19, place(start, 1)).unwrap().id).collect();
    assert_eq!(ids, [14, 13, 12, 11, 10, 9, 8]);
    let number = gpu.instances[3].number;
    gpu.destroy(number, 0).unwrap();
    let again = gpu.create(board, 19, place(3, 1)).unwrap();
    assert_eq!(again.id, 11);
    assert_ne!(again.number, number);
    assert_eq!(gpu.instance(number).err(), Some(Code::INVALID_ARGUMENT));
}

#[test]
fn ids_depend_on_what_came_before_and_not_on_the_placement() {
    let board = find("a100").unwrap();
    let (mut first, mut second) = (Gpu::new(true), Gpu::new(true));
    assert_eq!(first.create(board, 19, place(2, 1)).unwrap().id, 14);
    second.create(board, 19, place(0, 1)).unwrap();
    assert_eq!(second.create(board, 19, place(2, 1)).unwrap().id, 13);
}

#[test]
fn the_driver_chooses_the_highest_start_and_so_runs_out_as_the_guide_says() {
    let board = find("a100").unwrap();
    let first = |profile| Gpu::new(true).create(board, profile, None).map(|instance| instance.placement.start);
    assert_eq!([first(9), first(19), first(14)], [Ok(4), Ok(6), Ok(4)]);
    // `-cgi 19,19,14,9`
    let mut gpu = Gpu::new(true);
    for profile in [19, 19, 14] {
        gpu.create(board, profile, None).unwrap();
    }
    assert_eq!(gpu.create(board, 9, None).err(), Some(Code::INSUFFICIENT_RESOURCES));
}

#[test]
fn what_the_board_does_not_have_is_an_invalid_argument() {
    let board = find("a30").unwrap();
    let mut gpu = Gpu::new(true);
    assert_eq!(gpu.create(board, 19, place(0, 1)).err(), Some(Code::INVALID_ARGUMENT));
    assert_eq!(gpu.create(board, 5, place(1, 2)).err(), Some(Code::INVALID_ARGUMENT));
    assert_eq!(gpu.create(board, 5, place(0, 1)).err(), Some(Code::INVALID_ARGUMENT));
    assert_eq!(Gpu::new(false).create(board, 14, None).err(), Some(Code::NOT_SUPPORTED));
}

#[test]
fn media_extensions_are_had_once_and_all_of_them_exclude_the_rest() {
    let h200 = find("h200").unwrap();
    let mut gpu = Gpu::new(true);
    gpu.create(h200, 20, None).unwrap();
    assert_eq!(gpu.create(h200, 20, None).err(), Some(Code::INSUFFICIENT_RESOURCES));
    assert!(gpu.create(h200, 19, None).is_ok());
    let pro = find("rtx-pro-6000").unwrap();
    let mut gpu = Gpu::new(true);
    gpu.create(pro, 65, None).unwrap();
    assert_eq!(gpu.create(pro, 14, None).err(), Some(Code::INSUFFICIENT_RESOURCES));
    assert_eq!(gpu.remaining(pro, 67), Ok(3));
    assert!(gpu.create(pro, 66, place(6, 6)).is_err() && gpu.create(pro, 66, place(0, 6)).is_ok());
}

#[test]
fn an_instance_goes_after_its_compute_instances_and_a_while() {
    let board = find("a100").unwrap();
    let mut gpu = Gpu::new(true);
    let number = gpu.create(board, 9, None).unwrap().number;
    assert_eq!(gpu.create_compute(board, number, 2, None), Ok(0));
    assert_eq!(gpu.create_compute(board, number, 0, None), Err(Code::INSUFFICIENT_RESOURCES));
    assert_eq!(gpu.destroy(number, 0), Err(Code::IN_USE));
    let compute = gpu.instances[0].computes[0].number;
    assert_eq!(gpu.destroy_compute(compute, 300), Ok(()));
    assert_eq!(gpu.destroy_compute(compute, 300), Err(Code::INVALID_ARGUMENT));
    assert_eq!(gpu.destroy(number, 299), Err(Code::IN_USE));
    assert_eq!(gpu.destroy(number, 300), Ok(()));
    assert_eq!(gpu.destroy(number, 300), Err(Code::INVALID_ARGUMENT));
}

#[test]
fn the_places_of_mig_devices_stay_where_they_are() {
    let board = find("a100").unwrap();
    let mut gpu = Gpu::new(true);
    for _ in 0..3 {
        let number = gpu.create(board, 19, None).unwrap().number;
        gpu.create_compute(board, number, 0, None).unwrap();
    }
    let middle = gpu.instances[1].computes[0].number;
    gpu.destroy_compute(middle, 0).unwrap();
    let left: Vec<u32> = gpu.computes().map(|(_, compute)| compute.device).collect();
    assert_eq!(left, [0, 2]);
}

#[test]
fn the_mode_waits_for_clients_and_on_ampere_for_a_reset() {
    let (a100, h200, l40s) = (find("a100").unwrap(), find("h200").unwrap(), find("l40s").unwrap());
    let mut gpu = Gpu::new(false);
    assert_eq!(gpu.set_mode(h200, true, true), Ok(Some(Code::IN_USE)));
    assert_eq!((gpu.mig, gpu.pending), (false, true));
    assert_eq!(gpu.set_mode(h200, true, false), Ok(None));
    gpu.create(h200, 0, None).unwrap();
    assert_eq!(gpu.set_mode(h200, false, false), Ok(None));
    assert!(!gpu.mig && gpu.instances.is_empty());
    let mut gpu = Gpu::new(false);
    assert_eq!(gpu.set_mode(a100, true, false), Ok(Some(Code::RESET_REQUIRED)));
    assert!(!gpu.mig);
    gpu.reset();
    assert!(gpu.mig);
    assert_eq!(gpu.set_mode(l40s, true, false), Err(Code::NOT_SUPPORTED));
}

proptest! {
    #[test]
    fn whatever_is_asked_the_gpu_stays_legal(board in 0..8_usize, asks in prop::collection::vec((any::<prop::sample::Index>(), 0..14_u8, any::<bool>()), 0..40)) {
        let board = with_mig().nth(board).unwrap();
        let mut gpu = Gpu::new(true);
        for (choice, start, destroy) in asks {
            if destroy && !gpu.instances.is_empty() {
                let number = gpu.instances[choice.index(gpu.instances.len())].number;
                prop_assert_eq!(gpu.destroy(number, 0), Ok(()));
            } else {
                let profile = choice.get(&board.profiles);
                let before = gpu.clone();
                let wanted = (start < 13).then_some(Placement { start, size: profile.memory_slices });
                if gpu.create(board, profile.id, wanted).is_err() {
                    prop_assert_eq!(&gpu, &before);
                }
            }
            prop_assert_eq!(crate::audit::defects(board, &gpu), Vec::<String>::new());
        }
    }
}
