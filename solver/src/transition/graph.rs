//! From an order of jobs to steps and what each waits for.

use super::job::{Job, Jobs, What};
use super::{PlannedStep, Step, Target};
use crate::problem::{InstanceId, Problem, Task};

/// Preloads first, for they wait for nothing; then the steps of each job in the order.
pub(super) fn steps(problem: &Problem, jobs: &Jobs, order: &[usize]) -> Vec<PlannedStep> {
    let mut graph = Graph {
        jobs,
        steps: Vec::new(),
        last: vec![None; jobs.all.len()],
        staged: vec![None; jobs.all.len()],
        bound: vec![None; jobs.all.len()],
    };
    if problem.costs.preload {
        graph.preload();
    }
    let mut earlier: Vec<usize> = Vec::new();
    for &index in order {
        graph.add(index, &earlier);
        earlier.push(index);
    }
    graph.steps
}

struct Graph<'a> {
    jobs: &'a Jobs,
    steps: Vec<PlannedStep>,
    /// Last step of each job so far: its slices are clear, or its task is admitted.
    last: Vec<Option<usize>>,
    /// Preload of each job.
    staged: Vec<Option<usize>>,
    /// Bind of each job so far.
    bound: Vec<Option<usize>>,
}

impl Graph<'_> {
    fn push(&mut self, step: Step, mut after: Vec<usize>, mut follows: Vec<usize>) -> usize {
        for ids in [&mut after, &mut follows] {
            ids.sort_unstable();
            ids.dedup();
        }
        self.steps.push(PlannedStep { id: self.steps.len(), step, after, follows });
        self.steps.len() - 1
    }

    fn find(&self, wanted: impl Fn(&Step) -> bool) -> Option<usize> {
        self.steps.iter().find(|planned| wanted(&planned.step)).map(|planned| planned.id)
    }

    fn preload(&mut self) {
        for (index, job) in self.jobs.all.iter().enumerate() {
            if let (What::Arrive { target, .. }, Some(task)) = (job.what, job.task) {
                self.staged[index] = Some(self.push(Step::Preload { target, task }, Vec::new(), Vec::new()));
            }
        }
    }

    fn add(&mut self, index: usize, earlier: &[usize]) {
        let job = &self.jobs.all[index];
        self.last[index] = match job.what {
            What::Leave { instance, destroyed, .. } => self.leave(index, job, instance, destroyed, earlier),
            What::Arrive { target, .. } => self.arrive(index, job, target),
        };
    }

    fn leave(&mut self, index: usize, job: &Job, instance: InstanceId, destroyed: bool, earlier: &[usize]) -> Option<usize> {
        let mut last = None;
        if let Some(task) = job.task {
            let drain = self.push(Step::Drain { instance, task }, self.make_before_break(index, earlier), self.creates(job, earlier));
            last = Some(self.push(Step::Release { instance, task }, vec![drain], Vec::new()));
        }
        if destroyed {
            last = Some(self.push(Step::Destroy { gpu: job.gpu, instance, site: job.site }, last.into_iter().collect(), Vec::new()));
        }
        if let Some(twin) = job.twin {
            self.admit(twin);
        }
        last
    }

    /// What must be ready before a task may be taken off its instance: the heirs' workers, and what replaces it and comes earlier: its
    /// tenant's instances, or the worker of a retraining that moves.
    fn make_before_break(&self, index: usize, earlier: &[usize]) -> Vec<usize> {
        let job = &self.jobs.all[index];
        let heirs = (0..self.jobs.all.len()).filter(|&heir| self.jobs.all[heir].overlaps(job)).filter_map(|heir| self.staged[heir]);
        let own = |other: &&usize| {
            let other = &self.jobs.all[**other];
            !other.leaves() && other.serves().is_some() && other.serves() == job.serves()
        };
        let twin = job.twin.and_then(|twin| self.bound[twin]);
        heirs.chain(twin).chain(earlier.iter().filter(own).filter_map(|&other| self.last[other])).collect()
    }

    fn creates(&self, job: &Job, earlier: &[usize]) -> Vec<usize> {
        let here = earlier.iter().map(|&other| &self.jobs.all[other]).filter(|other| other.gpu == job.gpu && other.creates());
        here.filter_map(|other| self.find(|step| matches!(*step, Step::Create { key } if key.gpu == other.gpu && key.site == other.site)))
            .collect()
    }

    fn arrive(&mut self, index: usize, job: &Job, target: Target) -> Option<usize> {
        let mut ready: Vec<usize> = job.needs.iter().filter_map(|&old| self.last[old]).collect();
        if let Target::New(key) = target {
            ready = vec![self.push(Step::Create { key }, ready, Vec::new())];
        }
        let Some(task) = job.task else { return ready.first().copied() };
        ready.extend(self.staged[index]);
        self.bound[index] = Some(self.push(Step::Bind { target, task }, ready, Vec::new()));
        self.admit(index)
    }

    /// Admits what is bound; a retraining that moves only once it is released where it ran.
    fn admit(&mut self, index: usize) -> Option<usize> {
        let job = &self.jobs.all[index];
        let (What::Arrive { target, .. }, Some(task), Some(bound)) = (job.what, job.task, self.bound[index]) else { return None };
        let released = job.twin.map(|_| self.released(task));
        if released == Some(None) {
            return None;
        }
        Some(self.push(Step::Admit { target, task }, [bound].into_iter().chain(released.flatten()).collect(), Vec::new()))
    }

    fn released(&self, task: Task) -> Option<usize> {
        self.find(|step| matches!(*step, Step::Release { task: old, .. } if old == task))
    }
}
