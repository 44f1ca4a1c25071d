//! MISO (SoCC'22): one instance per task, cut for the least mean slowdown.
//!
//! Known of it (`reference/migrator-and-baselines.md` section 4.5, from its code): jobs come first in, first out; over all partitions with as many
//! instances as jobs and all ways to give them out, those that do not fit left out, the mean slowdown against the whole GPU is made least; done
//! again when a job starts or ends.
//!
//! Inferred:
//! - The tasks are every tenant's inference, which never ends, and the retrainings that are due. Slowdown of inference: requests/s within the SLO on the
//!   largest profile ÷ those on its own.
//! - A task goes to the GPU with the fewest tasks on which it fits and stays there; what fits nowhere waits until a task has ended.
//! - MISO learns the speeds of a new job in 30 s under MPS; here curves are known, so it is spared that.
//! - A retraining that has been given up by its window counts as a task that ends.

use std::collections::BTreeMap;

use migrator_mig::{Geometry, ProfileId};

use super::demand::servable;
use super::rival::{Scheme, Seen};
use super::room::pinned;
use super::seat::{Layout, Order, Use, Wanted};
use super::share::{Want, realise};
use crate::problem::{Problem, Task, TaskKind, TenantId};

/// The least mean slowdown.
#[derive(Debug, Default)]
pub(super) struct Miso {
    /// Tasks in the order they came, and the GPU of those that run.
    tasks: Vec<(Task, Option<usize>)>,
}

impl Scheme for Miso {
    const WHEN: &'static str = "miso decides when a task starts or ends";
    const ORDER: Order = Order::Shortest;

    fn due(&mut self, _: Seen, problem: &Problem) -> bool {
        let now = tasks(problem);
        self.tasks.len() != now.len() || !self.tasks.iter().all(|(task, _)| now.contains(task))
    }

    fn decide(&mut self, problem: &Problem) -> Layout {
        if (0..problem.gpus.len()).any(|gpu| problem.catalog(gpu).is_shares()) {
            return alike(problem);
        }
        let now = tasks(problem);
        self.tasks.retain(|(task, gpu)| now.contains(task) && gpu.is_none_or(|gpu| gpu < problem.gpus.len()));
        for task in now {
            if !self.tasks.iter().any(|(known, _)| *known == task) {
                self.tasks.push((task, None));
            }
        }
        self.admit(problem);
        let on = |gpu: usize| least_slowdown(problem, gpu, &self.on(gpu)).map(|(_, given)| given).unwrap_or_default();
        (0..problem.gpus.len()).map(on).collect()
    }
}

/// Tasks that an instance is to be found for.
fn tasks(problem: &Problem) -> Vec<Task> {
    let ids = || (0..problem.tenants.len() as u16).map(TenantId);
    let fixed = |task: Task| problem.gpus.iter().flat_map(|gpu| &gpu.instances).any(|old| old.pinned && old.task == Some(task));
    let due = |id: &TenantId| problem.tenants[id.index()].retraining.is_some() && !fixed(Task::retraining(*id));
    servable(problem).into_iter().map(Task::inference).chain(ids().filter(due).map(Task::retraining)).collect()
}

/// Where GPUs are shared at will: the same for every task.
fn alike(problem: &Problem) -> Layout {
    let tasks = tasks(problem);
    let gpus = problem.gpus.len() as f64 / tasks.len().max(1) as f64;
    realise(problem, &tasks.into_iter().map(|task| Want { to: wanted(task), gpus: gpus.min(1.0) }).collect::<Vec<Want>>())
}

fn wanted(task: Task) -> Use {
    match task.kind {
        TaskKind::Inference => Use::Serve(task.tenant),
        TaskKind::Retraining => Use::Train { first: Some(task.tenant), then: None },
    }
}

impl Miso {
    fn on(&self, gpu: usize) -> Vec<Task> {
        self.tasks.iter().filter(|(_, on)| *on == Some(gpu)).map(|(task, _)| *task).collect()
    }

    /// First in, first out: what waits goes to the GPU with the fewest tasks on which all of them fit.
    fn admit(&mut self, problem: &Problem) {
        for index in 0..self.tasks.len() {
            let (task, None) = self.tasks[index] else { continue };
            let there = |gpu: usize| problem.gpus[gpu].instances.iter().any(|old| old.task == Some(task) && !old.pinned);
            let mut gpus: Vec<usize> = (0..problem.gpus.len()).collect();
            gpus.sort_by_key(|&gpu| (!there(gpu), self.on(gpu).len(), gpu));
            let fits = |gpu: &usize| least_slowdown(problem, *gpu, &[self.on(*gpu), vec![task]].concat()).is_some();
            self.tasks[index].1 = gpus.into_iter().find(fits);
        }
    }
}

/// Most tasks on one GPU.
const MOST: usize = 12;

/// The mean slowdown of these tasks on one GPU at its least, and the instances; `None` when they do not all fit.
fn least_slowdown(problem: &Problem, gpu: usize, tasks: &[Task]) -> Option<(f64, Vec<Wanted>)> {
    if tasks.is_empty() || tasks.len() > MOST {
        return tasks.is_empty().then(|| (0.0, Vec::new()));
    }
    let catalog = problem.catalog(gpu);
    let table: Vec<Vec<Option<f64>>> =
        tasks.iter().map(|&task| catalog.profile_ids().map(|profile| slowdown(problem, gpu, task, profile)).collect()).collect();
    let mut best: Option<(f64, Vec<Wanted>)> = None;
    for Geometry(counts) in catalog.geometries(&pinned(problem, gpu)) {
        if counts.iter().sum::<u32>() as usize != tasks.len() {
            continue;
        }
        let each = counts.iter().enumerate().flat_map(|(q, &n)| std::iter::repeat_n(ProfileId(q as u8), n as usize));
        let instances: Vec<ProfileId> = each.collect();
        let Some((sum, order)) = assign(&table, &instances) else { continue };
        let mean = sum / tasks.len() as f64;
        if best.as_ref().is_none_or(|(least, _)| mean < least - 1e-9) {
            best = Some((mean, order.iter().zip(tasks).map(|(&index, &task)| (instances[index], wanted(task))).collect()));
        }
    }
    best
}

/// How many times as slow a task is on a profile as on the best; `None` = does not fit.
fn slowdown(problem: &Problem, gpu: usize, task: Task, profile: ProfileId) -> Option<f64> {
    let model = problem.gpus[gpu].model;
    let speed = |profile: ProfileId| match task.kind {
        TaskKind::Inference => Some(problem.rate(task.tenant, model, profile)).filter(|rps| *rps > 0.0),
        TaskKind::Retraining => problem.work_s(task.tenant, model, profile).map(|seconds| 1.0 / seconds.max(1e-3)),
    };
    let best = problem.catalog(gpu).profile_ids().filter_map(speed).fold(0.0, f64::max);
    speed(profile).map(|own| best / own)
}

/// The cheapest way to give each task one of as many instances, by subsets of the instances: cost, and the instance of each task.
fn assign(table: &[Vec<Option<f64>>], instances: &[ProfileId]) -> Option<(f64, Vec<usize>)> {
    let full = (1usize << instances.len()) - 1;
    // By the instances given to the first tasks: the least cost, and the instance that the last of them got.
    let mut least: BTreeMap<usize, (f64, usize)> = BTreeMap::from([(0, (0.0, 0))]);
    for given in 0..full {
        let Some(&(cost, _)) = least.get(&given) else { continue };
        let task = given.count_ones() as usize;
        for (index, profile) in instances.iter().enumerate().filter(|(index, _)| given >> index & 1 == 0) {
            let Some(more) = table[task][profile.index()] else { continue };
            let entry = least.entry(given | 1 << index).or_insert((f64::INFINITY, index));
            if cost + more < entry.0 - 1e-12 {
                *entry = (cost + more, index);
            }
        }
    }
    let &(cost, _) = least.get(&full)?;
    let (mut given, mut order) = (full, Vec::new());
    while given != 0 {
        let &(_, index) = least.get(&given)?;
        order.push(index);
        given &= !(1 << index);
    }
    order.reverse();
    Some((cost, order))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{due, problem, tenant};

    fn sizes(layout: &Layout, gpu: usize) -> Vec<(Use, u8)> {
        let mut sizes: Vec<(Use, u8)> = layout[gpu].iter().map(|(profile, to)| (*to, profile.0)).collect();
        sizes.sort();
        sizes
    }

    /// By hand: rates 10, 19, 27, 35, 58 by profile. Two tasks: 4g + 3g gives (58/35 + 58/27) / 2 = 1.90; 3g + 3g 2.15.
    #[test]
    fn two_tasks_get_the_halves_and_who_scales_worse_the_smaller() {
        let mut host = problem(vec![tenant("flat", 5.0), tenant("steep", 5.0)]);
        let (mean, given) = least_slowdown(&host, 0, &[Task::inference(TenantId(0)), Task::inference(TenantId(1))]).unwrap();
        assert!((mean - (58.0 / 35.0 + 58.0 / 27.0) / 2.0).abs() < 1e-9, "{mean} {given:?}");
        host.tenants[0].capacity_rps[0] = vec![50.0, 54.0, 56.0, 57.0, 58.0];
        let layout = Miso::default().decide(&host);
        assert_eq!(sizes(&layout, 0), [(Use::Serve(TenantId(0)), 2), (Use::Serve(TenantId(1)), 3)]);
    }

    #[test]
    fn what_does_not_fit_is_left_out_and_waits() {
        let mut host = problem((0..7).map(|_| tenant("t", 5.0)).collect());
        for tenant in &mut host.tenants[..2] {
            tenant.retraining = due(60.0, 0.9);
        }
        let mut miso = Miso::default();
        assert_eq!(miso.decide(&host)[0].len(), 7);
        assert!(!miso.due(Seen::default(), &host));
        // 1g is too small for the first: 2g for it and five others leave nothing for the seventh.
        host.tenants[0].capacity_rps[0][0] = 0.0;
        let layout = Miso::default().decide(&host);
        assert_eq!(layout[0].len(), 6);
        assert!(layout[0].iter().all(|(_, to)| matches!(to, Use::Serve(_))));
        host.tenants.truncate(5);
        assert!(miso.due(Seen::default(), &host));
        let retrains = |layout: &Layout| layout[0].iter().any(|(_, to)| *to == wanted(Task::retraining(TenantId(0))));
        assert!(retrains(&Miso::default().decide(&host)));
    }

    #[test]
    fn tasks_are_spread_over_gpus_and_stay_where_they_are() {
        let mut host = problem((0..4).map(|_| tenant("t", 5.0)).collect());
        host.gpus = vec![host.gpus[0].clone(); 2];
        let mut miso = Miso::default();
        let first = miso.decide(&host);
        assert_eq!((first[0].len(), first[1].len()), (2, 2));
        host.tenants[3].retraining = due(60.0, 0.9);
        assert!(miso.due(Seen::default(), &host));
        let second = miso.decide(&host);
        assert_eq!((second[0].len(), second[1].len()), (3, 2));
        assert_eq!(first[1], second[1]);
    }
}
