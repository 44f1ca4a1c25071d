//! Who owns what while a transition runs: instances, their sites and the task bound to each.

use std::collections::BTreeMap;

use migrator_mig::Site;
use migrator_solver::{InstanceId, Problem, SiteKey, Step, Target, Task};

use crate::invariant::{Invariant, Violation, demand};

#[derive(Clone, Copy, Debug)]
struct Held {
    gpu: usize,
    site: Site,
    task: Option<Task>,
}

/// What exists, as far as the steps carried out tell.
#[derive(Debug, Default)]
pub(super) struct Ground {
    instances: BTreeMap<InstanceId, Held>,
    created: BTreeMap<SiteKey, InstanceId>,
    /// Creates under way.
    claimed: Vec<SiteKey>,
}

impl Ground {
    pub fn new(problem: &Problem) -> Ground {
        let mut ground = Ground::default();
        for (gpu, state) in problem.gpus.iter().enumerate() {
            for instance in &state.instances {
                ground.instances.insert(instance.id, Held { gpu, site: instance.site, task: instance.task });
            }
        }
        ground
    }

    /// The instance that a step's target is, once it exists.
    pub fn resolve(&self, target: Target) -> Option<InstanceId> {
        match target {
            Target::Existing(instance) => Some(instance),
            Target::New(key) => self.created.get(&key).copied(),
        }
    }

    pub fn created(&self) -> Vec<(SiteKey, InstanceId)> {
        self.created.iter().map(|(&key, &instance)| (key, instance)).collect()
    }

    pub fn site(&self, instance: InstanceId) -> Option<(usize, Site)> {
        self.instances.get(&instance).map(|held| (held.gpu, held.site))
    }

    /// Whether the task is still bound to the instance.
    pub fn holds(&self, instance: InstanceId, task: Task) -> bool {
        self.instances.get(&instance).is_some_and(|held| held.task == Some(task))
    }

    /// Claims what a step needs; a violation means that the step must not be carried out.
    pub fn start(&mut self, step: &Step) -> Result<(), Violation> {
        match *step {
            Step::Create { key } => {
                if let Some(other) = self.taken().find(|&(gpu, site)| gpu == key.gpu && site.placement.overlaps(key.site.placement)) {
                    let detail = format!("a create at {:?} on GPU {} over {:?}", key.site, key.gpu, other.1);
                    return Err(Violation { invariant: Invariant::OneOwnerPerSlice, detail });
                }
                self.claimed.push(key);
            }
            Step::Bind { target, task } => {
                let Some(held) = self.resolve(target).and_then(|id| self.instances.get_mut(&id)) else { return Ok(()) };
                if held.task.is_some_and(|other| other != task) {
                    let detail = format!("{task:?} to be bound to {target:?} beside {:?}", held.task);
                    return Err(Violation { invariant: Invariant::OneTaskPerInstance, detail });
                }
                held.task = Some(task);
            }
            _ => {}
        }
        Ok(())
    }

    /// A step is carried out; `made` is the instance of a create.
    pub fn finish(&mut self, step: &Step, made: Option<InstanceId>) {
        match *step {
            Step::Create { key } => {
                self.claimed.retain(|&claim| claim != key);
                if let Some(instance) = made {
                    self.instances.insert(instance, Held { gpu: key.gpu, site: key.site, task: None });
                    self.created.insert(key, instance);
                }
            }
            Step::Destroy { instance, .. } => {
                self.instances.remove(&instance);
            }
            Step::Release { instance, .. } => self.unbind(instance),
            _ => {}
        }
    }

    /// A step failed for good, and is known not to have happened.
    pub fn fail(&mut self, step: &Step) {
        match *step {
            Step::Create { key } => self.claimed.retain(|&claim| claim != key),
            Step::Bind { target, .. } => {
                if let Some(instance) = self.resolve(target) {
                    self.unbind(instance);
                }
            }
            _ => {}
        }
    }

    /// Overlaps among what exists and what is being made.
    pub fn check(&self, found: &mut Vec<Violation>) {
        let taken: Vec<(usize, Site)> = self.taken().collect();
        for (index, (gpu, site)) in taken.iter().enumerate() {
            let clash = taken[..index].iter().find(|(other, s)| other == gpu && s.placement.overlaps(site.placement));
            demand(found, Invariant::OneOwnerPerSlice, clash.is_none(), || format!("{site:?} and {clash:?} on GPU {gpu}"));
        }
    }

    fn unbind(&mut self, instance: InstanceId) {
        if let Some(held) = self.instances.get_mut(&instance) {
            held.task = None;
        }
    }

    fn taken(&self) -> impl Iterator<Item = (usize, Site)> + '_ {
        let held = self.instances.values().map(|held| (held.gpu, held.site));
        held.chain(self.claimed.iter().map(|key| (key.gpu, key.site)))
    }
}
