//! Every tenant as many slices as the others, for ever.
//!
//! Our own yardstick, of no paper: each tenant gets the same instances, the largest number of slices for which a place is left where the due
//! retrainings take turns (by hand-over: nothing is ever cut again); where no such place can be left, retrainings do not run.

use migrator_mig::ProfileId;

use super::demand::{servable, usual_model};
use super::rival::{Scheme, Seen};
use super::room::{Room, rooms, split};
use super::seat::{Layout, Order, Use};
use super::share::{Want, realise};
use crate::problem::Problem;

/// The even split.
#[derive(Debug, Default)]
pub(super) struct StaticEven;

impl Scheme for StaticEven {
    const WHEN: &'static str = "static-even has decided once for all";
    const ORDER: Order = Order::InTurn;

    fn due(&mut self, _: Seen, _: &Problem) -> bool {
        false
    }

    fn decide(&mut self, problem: &Problem) -> Layout {
        even(problem)
    }
}

/// Where retrainings take turns.
pub(super) const IN_TURN: Use = Use::Train { first: None, then: None };

/// The even split of this host.
pub(super) fn even(problem: &Problem) -> Layout {
    let rooms = rooms(problem);
    let alike = problem.gpus.windows(2).all(|pair| pair[0].model == pair[1].model);
    let best = if alike { best(problem, &rooms) } else { None };
    best.and_then(|share| spread(problem, &rooms, &share)).unwrap_or_else(|| by_shares(problem))
}

/// Instances of each tenant, and how many for retrainings, by profile.
struct Share {
    each: Vec<u32>,
    turns: Vec<u32>,
}

fn best(problem: &Problem, rooms: &[Room]) -> Option<Share> {
    let model = usual_model(problem);
    let profiles = problem.models[model].catalog.profiles.len();
    let tenants = servable(problem).len() as u32;
    let mut found: Option<((bool, u32, u32), Share)> = None;
    for each in combinations(problem, model) {
        let all: Vec<u32> = each.iter().map(|n| n * tenants).collect();
        if split(rooms, &all).is_none() {
            continue;
        }
        let turns = left_over(rooms, &all);
        let trains = turns.iter().any(|&n| n > 0);
        let size = |counts: &[u32]| counts.iter().enumerate().map(|(q, n)| n * slices(problem, model, q)).sum::<u32>();
        let key = (trains, size(&each), size(&turns));
        if found.as_ref().is_none_or(|(best, _)| key > *best) {
            found = Some((key, Share { each, turns }));
        }
    }
    debug_assert!(found.as_ref().is_none_or(|(_, share)| share.each.len() == profiles));
    found.map(|(_, share)| share)
}

fn slices(problem: &Problem, model: usize, profile: usize) -> u32 {
    u32::from(problem.models[model].catalog.profiles[profile].compute_slices)
}

/// What one tenant may have: up to [`MOST_EACH`] instances in which every tenant fits.
fn combinations(problem: &Problem, model: usize) -> Vec<Vec<u32>> {
    let catalog = &problem.models[model].catalog;
    let tenants = servable(problem);
    let serves = |profile: &ProfileId| tenants.iter().all(|id| problem.rate(*id, model, *profile) > 0.0);
    let usable: Vec<ProfileId> = catalog.profile_ids().filter(serves).collect();
    let mut all = vec![vec![0; catalog.profiles.len()]];
    let mut from = 0;
    for _ in 0..MOST_EACH {
        let to = all.len();
        for index in from..to {
            let last = all[index].iter().rposition(|&n| n > 0).unwrap_or(0);
            for profile in usable.iter().filter(|profile| profile.index() >= last) {
                let mut more = all[index].clone();
                more[profile.index()] += 1;
                all.push(more);
            }
        }
        from = to;
    }
    all.remove(0);
    all
}

/// Instances of one tenant that an even split looks at.
const MOST_EACH: usize = 3;

/// The largest instances that still fit beside `counts`.
fn left_over(rooms: &[Room], counts: &[u32]) -> Vec<u32> {
    let mut all = counts.to_vec();
    let mut turns = vec![0; counts.len()];
    for profile in (0..counts.len()).rev() {
        loop {
            all[profile] += 1;
            if split(rooms, &all).is_none() {
                all[profile] -= 1;
                break;
            }
            turns[profile] += 1;
        }
    }
    turns
}

fn spread(problem: &Problem, rooms: &[Room], share: &Share) -> Option<Layout> {
    let tenants = servable(problem);
    let all: Vec<u32> = share.each.iter().zip(&share.turns).map(|(each, turns)| each * tenants.len() as u32 + turns).collect();
    let parts = split(rooms, &all)?;
    // By profile: every tenant once for each of its instances, then the retrainings.
    let mut owners: Vec<Vec<Use>> = Vec::new();
    for (each, turns) in share.each.iter().zip(&share.turns) {
        let serve = tenants.iter().flat_map(|id| std::iter::repeat_n(Use::Serve(*id), *each as usize));
        owners.push(serve.chain(std::iter::repeat_n(IN_TURN, *turns as usize)).rev().collect());
    }
    let mut instances = |part: &Vec<u32>| {
        let each = part.iter().enumerate().flat_map(|(q, &n)| std::iter::repeat_n(q, n as usize));
        each.filter_map(|q| Some((ProfileId(q as u8), owners[q].pop()?))).collect()
    };
    Some(parts.iter().map(&mut instances).collect())
}

/// As even as the GPUs can be cut, for mixed hosts and for more tenants than slices; one share more is the retrainings'.
fn by_shares(problem: &Problem) -> Layout {
    let tenants = servable(problem);
    let share = problem.gpus.len() as f64 / (tenants.len() + 1) as f64;
    let uses = tenants.into_iter().map(Use::Serve).chain([IN_TURN]);
    realise(problem, &uses.map(|to| Want { to, gpus: share }).collect::<Vec<Want>>())
}
