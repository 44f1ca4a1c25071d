//! What a GPU can be cut into, whether it has a few profiles or may be shared at will.

use std::collections::BTreeMap;

use migrator_mig::{Geometry, Site};

use crate::problem::Problem;

/// What one GPU can hold around what is pinned.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Room {
    /// Geometries that no other contains.
    Cut(Vec<Vec<u32>>),
    /// So many compute slices, in any portions (profile q has q + 1 of them).
    Free(u32),
}

/// The rooms of all GPUs.
pub(super) fn rooms(problem: &Problem) -> Vec<Room> {
    let mut known: BTreeMap<(usize, Vec<Site>), Room> = BTreeMap::new();
    let room = |gpu: usize| {
        let state = &problem.gpus[gpu];
        let pinned = pinned(problem, gpu);
        known.entry((state.model, pinned)).or_insert_with_key(|(_, pinned)| Room::around(problem, gpu, pinned)).clone()
    };
    (0..problem.gpus.len()).map(room).collect()
}

/// Sites on a GPU that must stay.
pub(super) fn pinned(problem: &Problem, gpu: usize) -> Vec<Site> {
    problem.gpus[gpu].instances.iter().filter(|old| old.pinned).map(|old| old.site).collect()
}

impl Room {
    fn around(problem: &Problem, gpu: usize, pinned: &[Site]) -> Room {
        let catalog = problem.catalog(gpu);
        if !catalog.is_shares() {
            return Room::Cut(catalog.maximal_geometries(pinned).into_iter().map(|Geometry(counts)| counts).collect());
        }
        let taken: u32 = pinned.iter().map(|site| u32::from(catalog.profile(site.profile).compute_slices)).sum();
        Room::Free(u32::from(catalog.compute_slices).saturating_sub(taken))
    }

    /// Whether these counts by profile fit.
    pub fn holds(&self, counts: &[u32]) -> bool {
        match self {
            Room::Cut(maximal) => maximal.iter().any(|most| counts.iter().zip(most).all(|(n, most)| n <= most)),
            Room::Free(slices) => counts.iter().zip(1..).map(|(n, size)| n * size).sum::<u32>() <= *slices,
        }
    }
}

/// Which GPU gets how many of these counts by profile, or `None` when they do not fit; all GPUs of one model.
pub(super) fn split(rooms: &[Room], counts: &[u32]) -> Option<Vec<Vec<u32>>> {
    let mut dead = std::collections::BTreeSet::new();
    let mut parts = Vec::new();
    split_from(rooms, counts.to_vec(), &mut dead, &mut parts).then_some(parts)
}

fn split_from(rooms: &[Room], left: Vec<u32>, dead: &mut std::collections::BTreeSet<(usize, Vec<u32>)>, parts: &mut Vec<Vec<u32>>) -> bool {
    let Some((room, rest)) = rooms.split_first() else { return left.iter().all(|&n| n == 0) };
    let key = (rooms.len(), left);
    if dead.contains(&key) {
        return false;
    }
    let left = &key.1;
    for part in room.parts(left) {
        let remaining = left.iter().zip(&part).map(|(n, taken)| n - taken).collect();
        parts.push(part);
        if split_from(rest, remaining, dead, parts) {
            return true;
        }
        parts.pop();
    }
    // Looking further than this finds little: what is not found counts as not fitting.
    if dead.len() < MOST_DEAD {
        dead.insert(key);
    }
    false
}

/// Dead ends remembered by [`split`].
const MOST_DEAD: usize = 100_000;

impl Room {
    /// What one GPU may take of `left`: as much as each of its largest geometries holds, the fullest first.
    fn parts(&self, left: &[u32]) -> Vec<Vec<u32>> {
        match self {
            Room::Cut(maximal) => {
                let part = |most: &Vec<u32>| -> Vec<u32> { left.iter().zip(most).map(|(n, most)| *n.min(most)).collect() };
                let mut parts: Vec<Vec<u32>> = maximal.iter().map(part).collect();
                parts.sort_by_key(|part| std::cmp::Reverse(part.iter().zip(1..).map(|(n, size)| n * size).sum::<u32>()));
                parts.dedup();
                parts
            }
            Room::Free(slices) => {
                let (mut part, mut room) = (vec![0; left.len()], *slices);
                for (index, &n) in left.iter().enumerate().rev() {
                    let size = index as u32 + 1;
                    part[index] = n.min(room / size);
                    room -= part[index] * size;
                }
                vec![part]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use migrator_mig::Catalog;

    use super::*;
    use crate::testing::{instance, problem, tenant};

    #[test]
    fn a_gpu_holds_what_its_geometries_hold_and_a_shared_one_any_portions() {
        let mut host = problem(vec![tenant("vision", 10.0)]);
        host.gpus[0].instances = vec![instance(1, 2, 4, None)];
        let whole = rooms(&host).remove(0);
        assert!(whole.holds(&[0, 0, 1, 1, 0]) && whole.holds(&[1, 3, 0, 0, 0]) && !whole.holds(&[2, 3, 0, 0, 0]));
        host.gpus[0].instances[0].pinned = true;
        let rest = rooms(&host).remove(0);
        assert!(rest.holds(&[0, 0, 0, 1, 0]) && !rest.holds(&[5, 0, 0, 0, 0]));
        host.models[0].catalog = Catalog::shares("A100 under MPS", 5, 8);
        host.gpus[0].instances.clear();
        assert_eq!(rooms(&host), [Room::Free(5)]);
        assert!(Room::Free(5).holds(&[1, 2, 0, 0, 0]) && !Room::Free(5).holds(&[2, 2, 0, 0, 0]));
    }

    #[test]
    fn counts_are_split_over_gpus_when_they_fit_at_all() {
        let mut host = problem(vec![tenant("vision", 10.0)]);
        host.gpus = vec![host.gpus[0].clone(); 3];
        let rooms = rooms(&host);
        let parts = split(&rooms, &[1, 2, 2, 2, 0]).unwrap();
        assert!(parts.iter().zip(&rooms).all(|(part, room)| room.holds(part)), "{parts:?}");
        let sum = |q: usize| parts.iter().map(|part| part[q]).sum::<u32>();
        assert_eq!((0..5).map(sum).collect::<Vec<_>>(), [1, 2, 2, 2, 0]);
        assert_eq!(split(&rooms, &[0, 0, 3, 3, 1]), None);
    }
}
