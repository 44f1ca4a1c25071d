//! Who gets what nobody needs: idle instances and free slices.

use migrator_mig::Site;

use super::idle;
use super::worth::Worth;
use crate::plan::Allocation;
use crate::problem::{Task, TaskKind, TenantId};
use crate::shape::KindId;

/// Spare slices are filled until every tenant can answer this multiple of its peak; beyond, an idle slice is as good.
const AMPLE: f64 = 2.0;

/// First the inference that the next blocks will want anyway, which is then ready when they come; then the inference with the least headroom.
pub(super) fn fill(worth: &Worth, gpus: &mut [Vec<Allocation>]) {
    for next in worth.next {
        for (&(task, kind), &n) in next.iter().filter(|((task, _), _)| task.kind == TaskKind::Inference) {
            early(worth, gpus, task, kind, n);
        }
    }
    let view = worth.view;
    let mut served: Vec<f64> = view.tenants().map(|(id, _)| held(worth, gpus, id)).collect();
    let mut open: Vec<TenantId> = view.tenants().map(|(id, _)| id).filter(|&id| view.peak_demand(id) > 0.0).collect();
    let headroom = |served: &[f64], id: TenantId| served[id.index()] / view.peak_demand(id);
    while let Some(&thinnest) = open.iter().min_by(|&&a, &&b| headroom(&served, a).total_cmp(&headroom(&served, b))) {
        let room = if headroom(&served, thinnest) < AMPLE { best_room(worth, gpus, thinnest) } else { None };
        let Some((gpu, site)) = room else {
            open.retain(|&id| id != thinnest);
            continue;
        };
        served[thinnest.index()] += view.rate_on(thinnest, gpu, site.profile);
        give(gpus, gpu, site, Task::inference(thinnest));
    }
}

/// Gives a task what it lacks of `n` instances of a kind, as far as there is room.
fn early(worth: &Worth, gpus: &mut [Vec<Allocation>], task: Task, kind: KindId, n: u32) {
    if worth.view.kind_rate(worth.shape, task.tenant, kind) <= 0.0 {
        return;
    }
    let own = |gpu: usize, new: &Allocation| new.task == Some(task) && worth.shape.kind_of(gpu, new.site.profile) == kind;
    let has: usize = gpus.iter().enumerate().map(|(gpu, all)| all.iter().filter(|new| own(gpu, new)).count()).sum();
    for _ in has..n as usize {
        let room = |gpu: usize| rooms(worth, gpus, gpu).into_iter().find(|site| worth.shape.kind_of(gpu, site.profile) == kind);
        let Some((gpu, site)) = (0..gpus.len()).find_map(|gpu| Some((gpu, room(gpu)?))) else { return };
        give(gpus, gpu, site, task);
    }
}

fn give(gpus: &mut [Vec<Allocation>], gpu: usize, site: Site, task: Task) {
    let task = Some(task);
    match gpus[gpu].iter_mut().find(|new| new.site == site) {
        Some(idle) => idle.task = task,
        None => gpus[gpu].push(Allocation { site, instance: None, task }),
    }
}

fn held(worth: &Worth, gpus: &[Vec<Allocation>], id: TenantId) -> f64 {
    let all = gpus.iter().enumerate().flat_map(|(gpu, allocations)| allocations.iter().map(move |new| (gpu, new)));
    all.filter(|(_, new)| new.task == Some(Task::inference(id))).map(|(gpu, new)| worth.view.rate_on(id, gpu, new.site.profile)).sum()
}

/// Idle instances of a GPU, then sites where nothing is.
fn rooms(worth: &Worth, gpus: &[Vec<Allocation>], gpu: usize) -> Vec<Site> {
    let idle = gpus[gpu].iter().filter(|new| idle(worth.view, gpu, new)).map(|new| new.site);
    let clear = |site: &&Site| !gpus[gpu].iter().any(|new| new.site.placement.overlaps(site.placement));
    idle.chain(worth.shape.classes()[worth.shape.class_of(gpu)].sites.iter().filter(clear).copied()).collect()
}

/// The room that gives a tenant most, one of a kind that comes to be needed before others; the earliest of equals.
fn best_room(worth: &Worth, gpus: &[Vec<Allocation>], id: TenantId) -> Option<(usize, Site)> {
    let mut best: Option<(bool, f64, usize, Site)> = None;
    for gpu in 0..gpus.len() {
        for site in rooms(worth, gpus, gpu) {
            let (comes, rate) = (worth.comes(worth.shape.kind_of(gpu, site.profile)), worth.view.rate_on(id, gpu, site.profile));
            if rate > 0.0 && best.is_none_or(|(known, most, _, _)| (comes, rate) > (known, most)) {
                best = Some((comes, rate, gpu, site));
            }
        }
    }
    best.map(|(_, _, gpu, site)| (gpu, site))
}
