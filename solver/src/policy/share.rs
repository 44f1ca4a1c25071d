//! From "so much of a GPU per task" to instances: exactly where GPUs are shared at will, to the nearest partition where they are cut.

use migrator_mig::ProfileId;

use super::room::{Room, rooms};
use super::seat::{Layout, Use, Wanted};
use crate::problem::{Problem, Task};

/// What a use is to have, in GPUs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Want {
    pub to: Use,
    pub gpus: f64,
}

/// Less than this of a GPU is nothing.
const NOTHING: f64 = 1e-6;

/// The instances that come nearest to what is wanted; the sum of what is wanted should not exceed the GPUs.
pub(super) fn realise(problem: &Problem, wants: &[Want]) -> Layout {
    let rooms = rooms(problem);
    let packed = pack(problem, &rooms, wants);
    packed.into_iter().enumerate().map(|(gpu, wants)| on_gpu(problem, gpu, &rooms[gpu], wants)).collect()
}

/// Whether an instance of this profile is of any use.
pub(super) fn fits(problem: &Problem, gpu: usize, profile: ProfileId, to: Use) -> bool {
    let model = problem.gpus[gpu].model;
    match to {
        Use::Serve(tenant) => problem.rate(tenant, model, profile) > 0.0,
        Use::Train { first: Some(tenant), .. } => problem.work_s(tenant, model, profile).is_some(),
        Use::Train { .. } => true,
    }
}

/// What of each want goes onto which GPU: whole GPUs first, the rest where the task is already, else where most is free.
fn pack(problem: &Problem, rooms: &[Room], wants: &[Want]) -> Vec<Vec<Want>> {
    let mut free: Vec<f64> = rooms.iter().enumerate().map(|(gpu, room)| whole(problem, gpu, room)).collect();
    let mut packed: Vec<Vec<Want>> = vec![Vec::new(); rooms.len()];
    let mut order: Vec<Want> = wants.iter().copied().filter(|want| want.gpus > NOTHING).collect();
    order.sort_by(|a, b| b.gpus.total_cmp(&a.gpus).then(a.to.cmp(&b.to)));
    for mut want in order {
        while want.gpus > NOTHING {
            let Some(gpu) = best_gpu(problem, &free, &packed, want) else { break };
            let part = want.gpus.min(free[gpu]);
            free[gpu] -= part;
            packed[gpu].push(Want { gpus: part, ..want });
            // A tenant retrains on one instance.
            want.gpus = if matches!(want.to, Use::Train { .. }) { 0.0 } else { want.gpus - part };
        }
    }
    packed
}

/// The part of a GPU that is not pinned.
fn whole(problem: &Problem, gpu: usize, room: &Room) -> f64 {
    let slices = f64::from(problem.catalog(gpu).compute_slices.max(1));
    match room {
        Room::Free(free) => f64::from(*free) / slices,
        Room::Cut(_) => {
            let pinned = super::room::pinned(problem, gpu);
            let taken: f64 = pinned.iter().map(|site| f64::from(problem.catalog(gpu).profile(site.profile).compute_slices)).sum();
            (1.0 - taken / slices).max(0.0)
        }
    }
}

fn best_gpu(problem: &Problem, free: &[f64], packed: &[Vec<Want>], want: Want) -> Option<usize> {
    let task = match want.to {
        Use::Serve(tenant) => Some(Task::inference(tenant)),
        Use::Train { first, .. } => first.map(Task::retraining),
    };
    let open = (0..free.len()).filter(|&gpu| free[gpu] > NOTHING && !packed[gpu].iter().any(|other| other.to == want.to));
    let key = |gpu: usize| {
        let enough = free[gpu] + NOTHING >= want.gpus;
        let there = problem.gpus[gpu].instances.iter().any(|old| old.task.is_some() && old.task == task);
        (enough, enough && there, free[gpu])
    };
    open.rev().max_by(|&a, &b| {
        let (a, b) = (key(a), key(b));
        a.0.cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.total_cmp(&b.2))
    })
}

fn on_gpu(problem: &Problem, gpu: usize, room: &Room, wants: Vec<Want>) -> Vec<Wanted> {
    match room {
        Room::Free(slices) => portions(problem, gpu, *slices, &wants),
        Room::Cut(maximal) => nearest(problem, gpu, maximal, &wants),
    }
}

/// As many compute slices as wanted, what rounding leaves to the largest remainders.
fn portions(problem: &Problem, gpu: usize, slices: u32, wants: &[Want]) -> Vec<Wanted> {
    let all = f64::from(problem.catalog(gpu).compute_slices);
    let mut given: Vec<u32> = wants.iter().map(|want| (want.gpus * all + 1e-6).floor() as u32).collect();
    let wanted: f64 = wants.iter().map(|want| want.gpus * all).sum();
    let mut left = slices.min((wanted + 0.5) as u32).saturating_sub(given.iter().sum());
    let mut order: Vec<usize> = (0..wants.len()).collect();
    let rest = |index: usize, given: &[u32]| wants[index].gpus * all - f64::from(given[index]);
    order.sort_by(|&a, &b| rest(b, &given).total_cmp(&rest(a, &given)).then(a.cmp(&b)));
    for index in order {
        if left > 0 && rest(index, &given) > 1e-6 {
            (given[index], left) = (given[index] + 1, left - 1);
        }
    }
    let portion = |(want, n): (&Want, u32)| {
        let profile = ProfileId(u8::try_from(n).ok()?.checked_sub(1)?);
        fits(problem, gpu, profile, want.to).then_some((profile, want.to))
    };
    wants.iter().zip(given).filter_map(portion).collect()
}

/// The partition and owners that come nearest: nobody's inference is left without, then the squares of what each gets too little are least.
fn nearest(problem: &Problem, gpu: usize, maximal: &[Vec<u32>], wants: &[Want]) -> Vec<Wanted> {
    let mut best: Option<((usize, f64), Vec<Wanted>)> = None;
    for counts in maximal {
        let given = hand_out(problem, gpu, counts, wants);
        let off = miss(problem, gpu, wants, &given);
        let closer = |(left_out, square): (usize, f64)| off.0 < left_out || off.0 == left_out && off.1 < square - 1e-9;
        if best.as_ref().is_none_or(|(known, _)| closer(*known)) {
            best = Some((off, given));
        }
    }
    best.map(|(_, given)| given).unwrap_or_default()
}

/// Instances, the largest first, to whoever lacks most; the last ones to who would have nothing.
fn hand_out(problem: &Problem, gpu: usize, counts: &[u32], wants: &[Want]) -> Vec<Wanted> {
    let catalog = problem.catalog(gpu);
    let slices = |profile: ProfileId| f64::from(catalog.profile(profile).compute_slices);
    let all = f64::from(catalog.compute_slices);
    let each = catalog.profile_ids().flat_map(|profile| std::iter::repeat_n(profile, counts[profile.index()] as usize));
    let mut instances: Vec<ProfileId> = each.collect();
    instances.sort_by(|a, b| slices(*b).total_cmp(&slices(*a)).then(b.cmp(a)));
    let mut lacks: Vec<f64> = wants.iter().map(|want| want.gpus * all).collect();
    let mut has = vec![false; wants.len()];
    let mut given = Vec::new();
    for (index, &profile) in instances.iter().enumerate() {
        let left = instances.len() - index;
        let without = (0..wants.len()).filter(|&w| !has[w] && matches!(wants[w].to, Use::Serve(_))).count();
        let takes = |w: &usize| {
            let once = matches!(wants[*w].to, Use::Train { .. }) && has[*w];
            let saved = without >= left && (has[*w] || matches!(wants[*w].to, Use::Train { .. }));
            fits(problem, gpu, profile, wants[*w].to) && !once && !saved
        };
        let most = (0..wants.len()).filter(takes).rev().max_by(|&a, &b| lacks[a].total_cmp(&lacks[b]));
        let Some(most) = most else { continue };
        lacks[most] -= slices(profile);
        has[most] = true;
        given.push((profile, wants[most].to));
    }
    given
}

fn miss(problem: &Problem, gpu: usize, wants: &[Want], given: &[Wanted]) -> (usize, f64) {
    let catalog = problem.catalog(gpu);
    let slices = |profile: ProfileId| f64::from(catalog.profile(profile).compute_slices);
    let (mut left_out, mut square) = (0, 0.0);
    for want in wants {
        let got: f64 = given.iter().filter(|(_, to)| *to == want.to).map(|(profile, _)| slices(*profile)).sum();
        left_out += usize::from(got <= 0.0 && matches!(want.to, Use::Serve(_)));
        square += (want.gpus * f64::from(catalog.compute_slices) - got).max(0.0).powi(2);
    }
    (left_out, square)
}

#[cfg(test)]
mod tests {
    use migrator_mig::Catalog;

    use super::*;
    use crate::problem::TenantId;
    use crate::testing::{due, problem, tenant};

    fn serve(tenant: u16, gpus: f64) -> Want {
        Want { to: Use::Serve(TenantId(tenant)), gpus }
    }

    fn train(tenant: u16, gpus: f64) -> Want {
        Want { to: Use::Train { first: Some(TenantId(tenant)), then: None }, gpus }
    }

    fn host(gpus: usize) -> Problem {
        let mut host = problem((0..4).map(|_| tenant("t", 10.0)).collect());
        host.tenants.iter_mut().for_each(|tenant| tenant.retraining = due(100.0, 0.9));
        host.gpus = vec![host.gpus[0].clone(); gpus];
        host
    }

    #[test]
    fn shares_are_given_as_wanted_where_a_gpu_is_shared() {
        let mut host = host(1);
        host.models[0].catalog = Catalog::shares("A100 under MPS", 5, 80 * 1024);
        let layout = realise(&host, &[serve(0, 0.4), serve(1, 0.2), train(0, 0.4)]);
        let mut sizes: Vec<(u8, Use)> = layout[0].iter().map(|(profile, to)| (profile.0 + 1, *to)).collect();
        sizes.sort();
        assert_eq!(sizes, [(1, serve(1, 0.0).to), (2, serve(0, 0.0).to), (2, train(0, 0.0).to)]);
    }

    #[test]
    fn shares_become_the_nearest_partition() {
        let layout = realise(&host(1), &[serve(0, 0.5), serve(1, 0.3), train(0, 0.2)]);
        let mut sizes: Vec<(u8, Use)> = layout[0].iter().map(|(profile, to)| (profile.0, *to)).collect();
        sizes.sort();
        assert_eq!(sizes, [(0, train(0, 0.0).to), (1, serve(1, 0.0).to), (3, serve(0, 0.0).to)]);
    }

    #[test]
    fn nobodys_inference_is_left_without_for_a_retraining() {
        let wants = [serve(0, 0.02), serve(1, 0.02), serve(2, 0.02), train(0, 0.47), train(1, 0.47)];
        let layout = realise(&host(1), &wants);
        for tenant in 0..3 {
            assert!(layout[0].iter().any(|(_, to)| *to == Use::Serve(TenantId(tenant))), "{layout:?}");
        }
    }

    #[test]
    fn what_needs_more_than_a_gpu_gets_instances_on_several() {
        let layout = realise(&host(2), &[serve(0, 1.3), serve(1, 0.4), train(2, 0.3)]);
        let on = |gpu: usize| layout[gpu].iter().any(|(_, to)| *to == Use::Serve(TenantId(0)));
        assert!(on(0) && on(1), "{layout:?}");
    }
}
