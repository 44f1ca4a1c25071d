//! From what is on the GPUs to what a plan wants: steps and what each must wait for.

use migrator_mig::Site;
use serde::{Deserialize, Serialize};

use crate::name;
use crate::plan::{Generation, Plan};
use crate::problem::{InstanceId, Problem, Task, TaskKind};

/// Name of an instance that does not exist yet: the GPU's index and the site; unique within a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SiteKey {
    /// Index of the GPU in [`Problem::gpus`].
    pub gpu: usize,
    /// Where on it.
    pub site: Site,
}

/// The instance that a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// It exists since before the transition.
    Existing(InstanceId),
    /// The transition's [`Step::Create`] of this key makes it.
    New(SiteKey),
}

/// One thing an executor does; it makes no choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Give `instance` no new work of `task` and finish what is in flight; a retraining writes a checkpoint and pauses.
    Drain {
        /// The instance.
        instance: InstanceId,
        /// The task on it.
        task: Task,
    },
    /// Stop the worker of `task` on `instance`; the instance stays.
    Release {
        /// The instance.
        instance: InstanceId,
        /// The task on it.
        task: Task,
    },
    /// Remove the instance from the device.
    Destroy {
        /// Index of the GPU.
        gpu: usize,
        /// The instance.
        instance: InstanceId,
        /// Where it was.
        site: Site,
    },
    /// Make an instance at this site.
    Create {
        /// Where.
        key: SiteKey,
    },
    /// Start a worker in the staging area (outside any instance) with the task's model loaded and warmed. Waits for nothing;
    /// the old owner serves meanwhile. Only with `TransitionCosts::preload`.
    Preload {
        /// The instance it is meant for.
        target: Target,
        /// The task.
        task: Task,
    },
    /// Put the staged worker onto the instance; without preloading: start a worker on it and load the model.
    Bind {
        /// The instance.
        target: Target,
        /// The task.
        task: Task,
    },
    /// Open it for requests (inference), or start or resume it (retraining).
    Admit {
        /// The instance.
        target: Target,
        /// The task.
        task: Task,
    },
}

/// A step, its number and the numbers of the steps that must be done before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// Its index in [`Transition::steps`].
    pub id: usize,
    /// What to do.
    pub step: Step,
    /// Ids of its predecessors, ascending, each below `id`: the list is in an order that may be executed one by one.
    pub after: Vec<usize>,
}

/// Ordered steps from one partition to the next: a directed acyclic graph, topologically sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// The plan it leads to.
    pub generation: Generation,
    /// The steps.
    pub steps: Vec<PlannedStep>,
}

impl Transition {
    /// Whether the plan is in force already.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// The steps as text, a line each: `3 drain vision inference from #7 3g@4 (after 1, 2)`.
    pub fn describe(&self, problem: &Problem) -> String {
        let mut text = String::new();
        for PlannedStep { id, step, after } in &self.steps {
            text += &format!("{id} {}", step.describe(problem));
            if !after.is_empty() {
                let after: Vec<String> = after.iter().map(usize::to_string).collect();
                text += &format!(" (after {})", after.join(", "));
            }
            text.push('\n');
        }
        text
    }
}

impl Step {
    /// The step as an operator reads it: `create 3g@4 on GPU 0`.
    pub fn describe(&self, problem: &Problem) -> String {
        let task = |task| name::task(problem, task);
        match *self {
            Step::Drain { instance, task: old } => format!("drain {} from {}", task(old), name::instance(problem, instance)),
            Step::Release { instance, task: old } => format!("release {} from {}", task(old), name::instance(problem, instance)),
            Step::Destroy { instance, .. } => format!("destroy {}", name::instance(problem, instance)),
            Step::Create { key } => format!("create {}", name::site(problem, key.gpu, key.site)),
            Step::Preload { target, task: new } => format!("preload {} for {}", task(new), name::target(problem, target)),
            Step::Bind { target, task: new } => format!("bind {} to {}", task(new), name::target(problem, target)),
            Step::Admit { target, task: new } => format!("admit {} on {}", task(new), name::target(problem, target)),
        }
    }
}

/// The steps that lead from `problem`'s instances to `plan`, so ordered that the least service is lost.
///
/// A drain waits for the preloads of whoever gets its memory slices (make before break), and a drain of inference also for its
/// tenant's new instances on free slices. A retraining that moves is resumed only after it was released where it ran.
///
/// `plan` must have passed [`audit`](crate::audit): for one that has not, steps may be missing, but nothing panics.
pub fn transition(problem: &Problem, plan: &Plan) -> Transition {
    let mut builder = Builder::new(problem, plan);
    builder.preload();
    // Free slices first: nothing has to yield for them, and drains wait for what they bring.
    builder.occupy(true);
    builder.vacate();
    builder.occupy(false);
    Transition { generation: plan.generation, steps: builder.steps }
}

/// An instance that loses its task, its existence or both.
struct Leaving {
    gpu: usize,
    instance: InstanceId,
    site: Site,
    task: Option<Task>,
    destroyed: bool,
}

/// An instance that gets a task, its existence or both.
struct Arriving {
    gpu: usize,
    site: Site,
    target: Target,
    task: Option<Task>,
    /// Whether nothing has to yield for it.
    free: bool,
}

struct Builder {
    steps: Vec<PlannedStep>,
    leaving: Vec<Leaving>,
    arriving: Vec<Arriving>,
    preload: bool,
}

impl Builder {
    fn new(problem: &Problem, plan: &Plan) -> Builder {
        let (mut leaving, mut arriving): (Vec<Leaving>, Vec<Arriving>) = (Vec::new(), Vec::new());
        for (gpu, (state, target)) in problem.gpus.iter().zip(&plan.gpus).enumerate() {
            let after = |id: InstanceId| target.allocations.iter().find(|allocation| allocation.instance == Some(id));
            for old in &state.instances {
                let new = after(old.id);
                if new.is_none_or(|new| new.task != old.task && old.task.is_some()) {
                    leaving.push(Leaving { gpu, instance: old.id, site: old.site, task: old.task, destroyed: new.is_none() });
                }
            }
            for new in &target.allocations {
                let old = state.instances.iter().find(|old| Some(old.id) == new.instance);
                if old.is_some_and(|old| old.task == new.task || new.task.is_none()) {
                    continue;
                }
                let key = Target::New(SiteKey { gpu, site: new.site });
                let target = new.instance.map_or(key, Target::Existing);
                let free = !leaving.iter().any(|old| old.gpu == gpu && old.site.placement.overlaps(new.site.placement));
                arriving.push(Arriving { gpu, site: new.site, target, task: new.task, free });
            }
        }
        // A retraining that moves waits for its release, even onto free slices.
        for new in arriving.iter_mut().filter(|new| new.task.is_some_and(|task| task.kind == TaskKind::Retraining)) {
            new.free &= !leaving.iter().any(|old| old.task == new.task);
        }
        Builder { steps: Vec::new(), leaving, arriving, preload: problem.costs.preload }
    }

    fn push(&mut self, step: Step, mut after: Vec<usize>) -> usize {
        after.sort_unstable();
        after.dedup();
        self.steps.push(PlannedStep { id: self.steps.len(), step, after });
        self.steps.len() - 1
    }

    fn ids(&self, wanted: impl Fn(&Step) -> bool) -> Vec<usize> {
        self.steps.iter().filter(|planned| wanted(&planned.step)).map(|planned| planned.id).collect()
    }

    fn preload(&mut self) {
        if !self.preload {
            return;
        }
        for (target, task) in self.arriving.iter().filter_map(|new| Some((new.target, new.task?))).collect::<Vec<_>>() {
            self.push(Step::Preload { target, task }, Vec::new());
        }
    }

    fn vacate(&mut self) {
        for Leaving { gpu, instance, site, task, destroyed } in std::mem::take(&mut self.leaving) {
            let mut last = None;
            if let Some(task) = task {
                let waits = self.make_before_break(gpu, site, task);
                let drain = self.push(Step::Drain { instance, task }, waits);
                last = Some(self.push(Step::Release { instance, task }, vec![drain]));
            }
            if destroyed {
                self.push(Step::Destroy { gpu, instance, site }, last.into_iter().collect());
            }
        }
    }

    /// What must be ready before `task` may be taken off `site`.
    fn make_before_break(&self, gpu: usize, site: Site, task: Task) -> Vec<usize> {
        let heirs = self.arriving.iter().filter(|new| new.gpu == gpu && new.site.placement.overlaps(site.placement));
        let heirs: Vec<Target> = heirs.map(|new| new.target).collect();
        self.ids(|step| match *step {
            Step::Preload { target, .. } => heirs.contains(&target),
            // Only admissions on free slices exist by now, so this can close no circle.
            Step::Admit { task: new, .. } => new == task && task.kind == TaskKind::Inference,
            _ => false,
        })
    }

    fn occupy(&mut self, free: bool) {
        let (now, later) = std::mem::take(&mut self.arriving).into_iter().partition(|new| new.free == free);
        let now: Vec<Arriving> = now;
        for new in &now {
            self.settle(new);
        }
        self.arriving = later;
    }

    fn settle(&mut self, new: &Arriving) {
        let Arriving { gpu, site, target, task, .. } = *new;
        let mut ready = Vec::new();
        if let Target::New(key) = target {
            let cleared = |step: &Step| match *step {
                Step::Destroy { gpu: of, site: old, .. } => of == gpu && old.placement.overlaps(site.placement),
                _ => false,
            };
            let cleared = self.ids(cleared);
            ready.push(self.push(Step::Create { key }, cleared));
        }
        let Some(task) = task else { return };
        ready.extend(self.ids(|step| match *step {
            Step::Preload { target: staged, .. } => staged == target,
            Step::Release { instance, .. } => target == Target::Existing(instance),
            _ => false,
        }));
        let bound = self.push(Step::Bind { target, task }, ready);
        let mut admitted = vec![bound];
        if task.kind == TaskKind::Retraining {
            admitted.extend(self.ids(|step| matches!(*step, Step::Release { task: old, .. } if old == task)));
        }
        self.push(Step::Admit { target, task }, admitted);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::prelude::*;

    use super::*;
    use crate::problem::TenantId;
    use crate::solve_test::{any_problem, legal_plan};
    use crate::testing::{due, instance, problem, site, tenant};
    use crate::{Allocation, GpuPlan, audit, keep};

    const A: Task = Task { tenant: TenantId(0), kind: TaskKind::Inference };
    const B: Task = Task { tenant: TenantId(1), kind: TaskKind::Inference };
    const A_RETRAINS: Task = Task { tenant: TenantId(0), kind: TaskKind::Retraining };

    fn host() -> Problem {
        let mut problem = problem(vec![tenant("vision", 40.0), tenant("speech", 10.0)]);
        problem.tenants[0].retraining = due(60.0, 0.9);
        problem.gpus[0].instances = vec![instance(1, 2, 0, Some(A)), instance(2, 1, 4, Some(B))];
        problem
    }

    fn steps(problem: &Problem, allocations: Vec<Allocation>) -> String {
        let plan = Plan { generation: Generation(2), gpus: vec![GpuPlan { allocations }] };
        assert_eq!(audit(problem, &plan), Vec::new());
        transition(problem, &plan).describe(problem)
    }

    fn at(profile: u8, start: u8, instance: Option<u64>, task: Task) -> Allocation {
        Allocation { site: site(profile, start), instance: instance.map(InstanceId), task: Some(task) }
    }

    #[test]
    fn keeping_everything_takes_no_steps() {
        assert!(transition(&host(), &keep(&host(), Generation(2))).is_empty());
    }

    #[test]
    fn a_hand_over_preloads_while_the_old_task_serves() {
        let text = steps(&host(), vec![at(2, 0, Some(1), A), at(1, 4, Some(2), A)]);
        assert_eq!(
            text,
            "0 preload vision inference for #2 2g@4\n1 drain speech inference from #2 2g@4 (after 0)\n\
             2 release speech inference from #2 2g@4 (after 1)\n3 bind vision inference to #2 2g@4 (after 0, 2)\n\
             4 admit vision inference on #2 2g@4 (after 3)\n"
        );
    }

    #[test]
    fn without_preloading_the_load_comes_after_the_release() {
        let mut problem = host();
        problem.costs.preload = false;
        let text = steps(&problem, vec![at(2, 0, Some(1), A), at(1, 4, Some(2), A)]);
        assert!(!text.contains("preload") && text.contains("2 bind vision inference to #2 2g@4 (after 1)"), "{text}");
    }

    #[test]
    fn new_capacity_on_free_slices_is_admitted_before_the_old_is_drained() {
        // speech moves from 2g@4 to the free 1g@6, and vision gets 2g@4.
        let text = steps(&host(), vec![at(2, 0, Some(1), A), at(1, 4, Some(2), A), at(0, 6, None, B)]);
        let admitted = text.lines().find(|line| line.contains("admit speech")).unwrap().split(' ').next().unwrap().to_owned();
        let drain = text.lines().find(|line| line.contains("drain speech")).unwrap();
        assert!(drain.contains(&format!(", {admitted})")), "{text}");
    }

    #[test]
    fn a_retraining_that_moves_resumes_after_its_release_even_on_free_slices() {
        let mut problem = host();
        problem.gpus[0].instances = vec![instance(1, 2, 0, Some(A_RETRAINS))];
        let text = steps(&problem, vec![at(2, 0, Some(1), A), at(1, 4, None, A_RETRAINS)]);
        let id = |what: &str| text.lines().position(|line| line.contains(what)).unwrap();
        let admit = text.lines().nth(id("admit vision retraining")).unwrap();
        assert!(admit.contains(&format!("(after {}", id("release vision retraining"))), "{text}");
    }

    #[derive(Clone, Debug, PartialEq)]
    struct Slot {
        site: Site,
        bound: Option<Task>,
        admitted: bool,
    }

    /// The device and the workers as the steps leave them; refuses what hardware refuses.
    #[derive(Default)]
    struct Host {
        slots: BTreeMap<(usize, Target), Slot>,
        staged: BTreeSet<(Target, Task)>,
        preload: bool,
    }

    impl Host {
        fn new(problem: &Problem) -> Host {
            let mut host = Host { preload: problem.costs.preload, ..Host::default() };
            for (gpu, state) in problem.gpus.iter().enumerate() {
                for old in &state.instances {
                    let slot = Slot { site: old.site, bound: old.task, admitted: old.task.is_some() };
                    host.slots.insert((gpu, Target::Existing(old.id)), slot);
                }
            }
            host
        }

        fn slot(&mut self, target: Target) -> &mut Slot {
            self.slots.iter_mut().find(|((_, of), _)| *of == target).map(|(_, slot)| slot).expect("the instance exists")
        }

        fn apply(&mut self, step: &Step) {
            match *step {
                Step::Preload { target, task } => assert!(self.staged.insert((target, task))),
                Step::Drain { instance, task } => {
                    let slot = self.slot(Target::Existing(instance));
                    assert!(slot.bound == Some(task) && slot.admitted);
                    slot.admitted = false;
                }
                Step::Release { instance, task } => {
                    let slot = self.slot(Target::Existing(instance));
                    assert!(slot.bound == Some(task) && !slot.admitted, "drained before it is released");
                    slot.bound = None;
                }
                Step::Destroy { gpu, instance, site } => {
                    let slot = self.slots.remove(&(gpu, Target::Existing(instance))).expect("the instance exists");
                    assert!(slot.bound.is_none() && slot.site == site);
                }
                Step::Create { key } => {
                    let clash = self.slots.iter().any(|((gpu, _), s)| *gpu == key.gpu && s.site.placement.overlaps(key.site.placement));
                    assert!(!clash, "two owners of a memory slice");
                    self.slots.insert((key.gpu, Target::New(key)), Slot { site: key.site, bound: None, admitted: false });
                }
                Step::Bind { target, task } => {
                    assert!(!self.preload || self.staged.contains(&(target, task)));
                    let slot = self.slot(target);
                    assert_eq!(slot.bound.replace(task), None);
                }
                Step::Admit { target, task } => {
                    let twice = self.slots.values().any(|slot| slot.admitted && slot.bound == Some(task));
                    assert!(task.kind == TaskKind::Inference || !twice, "a retraining runs once");
                    let slot = self.slot(target);
                    assert!(slot.bound == Some(task) && !slot.admitted);
                    slot.admitted = true;
                }
            }
        }
    }

    fn replay(problem: &Problem, plan: &Plan, picks: &[prop::sample::Index]) {
        let mut left = transition(problem, plan).steps;
        assert!(left.iter().enumerate().all(|(id, step)| step.id == id && step.after.iter().all(|&before| before < id)));
        let (mut host, mut done) = (Host::new(problem), BTreeSet::new());
        let mut picks = picks.iter().cycle();
        while !left.is_empty() {
            let ready: Vec<usize> = (0..left.len()).filter(|&index| left[index].after.iter().all(|before| done.contains(before))).collect();
            let next = left.remove(*picks.next().expect("some picks").get(&ready));
            host.apply(&next.step);
            done.insert(next.id);
        }
        for (gpu, target) in plan.gpus.iter().enumerate() {
            let count = host.slots.keys().filter(|(of, _)| *of == gpu).count();
            assert_eq!(count, target.allocations.len());
            for new in &target.allocations {
                let key = new.instance.map_or(Target::New(SiteKey { gpu, site: new.site }), Target::Existing);
                assert_eq!(host.slots[&(gpu, key)], Slot { site: new.site, bound: new.task, admitted: new.task.is_some() });
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn any_order_that_the_graph_allows_ends_in_the_plan(
            problem in any_problem(3, true),
            wish in any::<prop::sample::Index>(),
            owners in prop::collection::vec(any::<prop::sample::Index>(), 7),
            picks in prop::collection::vec(any::<prop::sample::Index>(), 40),
        ) {
            let plan = legal_plan(&problem, &wish, &owners);
            prop_assert_eq!(audit(&problem, &plan), Vec::new());
            replay(&problem, &plan, &picks);
        }
    }
}
