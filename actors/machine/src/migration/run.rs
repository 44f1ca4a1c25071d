//! One transition under way.

use std::collections::VecDeque;

use migrator_solver::{Generation, InstanceId, Plan, PlannedStep, Problem, Step, Target, Transition};

use super::ground::Ground;
use super::loss::Loss;
use super::types::{Failure, MigrationConfig, MigrationReport, MigrationWish, StepError, StepOk, StepTook};
use crate::Time;
use crate::invariant::{Invariant, Violation, demand};

/// How far a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Waiting,
    Running { first: Time, attempt: u32, deadline: Time },
    Again { first: Time, attempt: u32, at: Time, deadline: Time },
    Done,
    Failed,
    Abandoned,
}

impl Phase {
    fn over(self) -> bool {
        matches!(self, Phase::Done | Phase::Failed | Phase::Abandoned)
    }

    fn lost(self) -> bool {
        matches!(self, Phase::Failed | Phase::Abandoned)
    }
}

#[derive(Debug)]
pub(super) struct Run {
    /// The transition's, then re-admissions.
    steps: Vec<PlannedStep>,
    phases: Vec<Phase>,
    ground: Ground,
    loss: Loss,
    began: Time,
    report: MigrationReport,
    outbox: VecDeque<MigrationWish>,
    /// Preloads whose worker was stopped and drains whose task was admitted again: each once.
    undone: Vec<usize>,
    violations: Vec<Violation>,
}

impl Run {
    pub fn new(now: Time, problem: &Problem, plan: &Plan, transition: Transition) -> Run {
        let report = MigrationReport {
            generation: transition.generation,
            began_s: now.as_secs(),
            took_s: 0.0,
            lost_s: 0.0,
            idle_slice_s: 0.0,
            steps: Vec::new(),
            failed: Vec::new(),
            abandoned: Vec::new(),
            forced: Vec::new(),
            created: Vec::new(),
        };
        Run {
            phases: vec![Phase::Waiting; transition.steps.len()],
            steps: transition.steps,
            ground: Ground::new(problem),
            loss: Loss::new(now, problem, plan),
            began: now,
            report,
            outbox: VecDeque::new(),
            undone: Vec::new(),
            violations: Vec::new(),
        }
    }

    pub fn generation(&self) -> Generation {
        self.report.generation
    }

    pub fn progress(&self) -> (usize, usize) {
        (self.phases.iter().filter(|phase| phase.over()).count(), self.phases.len())
    }

    pub fn done(&mut self, now: Time, id: usize, result: Result<StepOk, StepError>, config: &MigrationConfig) {
        let Some(&Phase::Running { first, attempt, deadline }) = self.phases.get(id) else { return };
        let step = self.steps[id].step;
        match result {
            Ok(StepOk { instance: None }) if matches!(step, Step::Create { .. }) => {
                self.fail(id, "the create reported no instance".to_owned());
            }
            Ok(StepOk { instance }) => self.finish(now, id, first, instance),
            Err(_) if matches!(step, Step::Drain { .. }) => self.force(now, id, first),
            Err(StepError::InUse) if matches!(step, Step::Destroy { .. }) && now + config.retry < deadline => {
                self.phases[id] = Phase::Again { first, attempt: attempt + 1, at: now + config.retry, deadline };
            }
            Err(StepError::Failed(_)) if attempt == 0 => {
                let at = now + config.retry;
                self.phases[id] = Phase::Again { first, attempt: 1, at, deadline: at + config.longest(&step) };
            }
            Err(error) => {
                self.ground.fail(&step);
                self.fail(id, error.to_string());
            }
        }
    }

    pub fn instance_lost(&mut self, now: Time, instance: InstanceId) {
        self.loss.close(now, instance);
    }

    pub fn poll(&mut self, now: Time, config: &MigrationConfig) -> Option<MigrationWish> {
        loop {
            if let Some(wish) = self.outbox.pop_front() {
                return Some(wish);
            }
            let Some(id) = (0..self.steps.len()).find(|&id| self.startable(now, id)) else { break };
            if let Some(wish) = self.start(now, id, config) {
                return Some(wish);
            }
        }
        self.phases.iter().all(|phase| phase.over()).then(|| self.finished(now))
    }

    pub fn timeout(&self) -> Option<Time> {
        let due = |(id, phase): (usize, &Phase)| match *phase {
            Phase::Running { deadline, .. } => Some(deadline),
            // A busy device is free again when its call is reported or times out.
            Phase::Again { at, .. } if !self.device_busy(id) => Some(at),
            _ => None,
        };
        self.phases.iter().enumerate().filter_map(due).min()
    }

    pub fn handle_timeout(&mut self, now: Time) {
        for id in 0..self.steps.len() {
            let Phase::Running { first, deadline, .. } = self.phases[id] else { continue };
            if deadline > now {
                continue;
            }
            if matches!(self.steps[id].step, Step::Drain { .. }) {
                self.force(now, id, first);
            } else {
                // Whether it happened is unknown: what it claimed stays claimed.
                self.fail(id, format!("no answer within {:.1} s", now.since(first).as_secs_f64()));
            }
        }
    }

    /// What is not as it must be (M1 to M4).
    pub fn check(&self) -> Vec<Violation> {
        let mut found = self.violations.clone();
        self.ground.check(&mut found);
        for step in &self.steps {
            let begun = matches!(self.phases[step.id], Phase::Running { .. } | Phase::Again { .. } | Phase::Done);
            let over = step.follows.iter().all(|&before| self.phases[before].over());
            let ordered = !begun || over && step.after.iter().all(|&before| self.phases[before] == Phase::Done);
            demand(&mut found, Invariant::StepOrder, ordered, || format!("step {} begun too early", step.id));
        }
        let moving = self.timeout().is_some() || (0..self.steps.len()).any(|id| self.ready(id));
        let over = self.phases.iter().all(|phase| phase.over());
        demand(&mut found, Invariant::StepWakeUp, over || moving, || format!("{:?}", self.phases));
        found
    }
}

impl Run {
    fn ready(&self, id: usize) -> bool {
        let PlannedStep { after, follows, .. } = &self.steps[id];
        let waits =
            after.iter().any(|&before| self.phases[before] != Phase::Done) || follows.iter().any(|&before| !self.phases[before].over());
        self.phases[id] == Phase::Waiting && !waits
    }

    fn startable(&self, now: Time, id: usize) -> bool {
        (self.ready(id) || matches!(self.phases[id], Phase::Again { at, .. } if at <= now)) && !self.device_busy(id)
    }

    /// Whether another device call is under way on the GPU of this one: they take each other's time, and which comes first matters.
    fn device_busy(&self, id: usize) -> bool {
        let device = |step: &Step| match *step {
            Step::Create { key } => Some(key.gpu),
            Step::Destroy { gpu, .. } => Some(gpu),
            _ => None,
        };
        let gpu = device(&self.steps[id].step);
        let calls = |other: &PlannedStep| device(&other.step) == gpu && matches!(self.phases[other.id], Phase::Running { .. });
        gpu.is_some() && self.steps.iter().any(calls)
    }

    fn start(&mut self, now: Time, id: usize, config: &MigrationConfig) -> Option<MigrationWish> {
        let step = self.steps[id].step;
        let (first, attempt, deadline) = match self.phases[id] {
            Phase::Again { first, attempt, deadline, .. } => (first, attempt, deadline),
            _ => (now, 0, now + config.longest(&step)),
        };
        if attempt == 0
            && let Err(violation) = self.ground.start(&step)
        {
            let reason = format!("refused: {}", violation.detail);
            self.violations.push(violation);
            self.fail(id, reason);
            return None;
        }
        if let Step::Drain { instance, task } = step {
            self.loss.drain(now, instance, task);
        }
        self.phases[id] = Phase::Running { first, attempt, deadline };
        Some(MigrationWish::Do { id, step, instance: self.subject(&step), attempt })
    }

    fn subject(&self, step: &Step) -> Option<InstanceId> {
        match *step {
            Step::Drain { instance, .. } | Step::Release { instance, .. } | Step::Destroy { instance, .. } => Some(instance),
            Step::Preload { target, .. } | Step::Bind { target, .. } | Step::Admit { target, .. } => self.ground.resolve(target),
            Step::Create { .. } => None,
        }
    }

    fn finish(&mut self, now: Time, id: usize, first: Time, made: Option<InstanceId>) {
        let step = self.steps[id].step;
        self.ground.finish(&step, made);
        if let Step::Drain { instance, .. } = step {
            self.loss.close(now, instance);
        }
        if let Step::Admit { target, task } = step
            && let Some(instance) = self.ground.resolve(target)
            && let Some((gpu, site)) = self.ground.site(instance)
        {
            self.loss.admit(now, instance, gpu, site, task);
        }
        self.phases[id] = Phase::Done;
        self.report.steps.push(StepTook { step, seconds: now.since(first).as_secs_f64() });
        self.undo();
    }

    /// A drain that does not end is taken as ended: the release that follows stops the worker anyway.
    fn force(&mut self, now: Time, id: usize, first: Time) {
        self.report.forced.push(id);
        self.finish(now, id, first, None);
    }

    fn fail(&mut self, id: usize, reason: String) {
        self.phases[id] = Phase::Failed;
        self.report.failed.push(Failure { id, step: self.steps[id].step, reason });
        self.abandon();
        self.undo();
    }

    /// Gives up what waits for a lost step, and what is of use only to lost steps.
    fn abandon(&mut self) {
        for id in 0..self.steps.len() {
            if self.phases[id] == Phase::Waiting && self.steps[id].after.iter().any(|&before| self.phases[before].lost()) {
                self.give_up(id);
            }
        }
        for id in (0..self.steps.len()).rev() {
            let mut users = self.steps.iter().filter(|step| step.after.contains(&id)).peekable();
            if self.phases[id] == Phase::Waiting && users.peek().is_some() && users.all(|step| self.phases[step.id].lost()) {
                self.give_up(id);
            }
        }
    }

    fn give_up(&mut self, id: usize) {
        self.phases[id] = Phase::Abandoned;
        self.report.abandoned.push(id);
    }

    /// Admits again what was drained for a release that will not come; stops workers staged for a bind that will not come.
    fn undo(&mut self) {
        for id in 0..self.steps.len() {
            if self.phases[id] != Phase::Done || self.undone.contains(&id) {
                continue;
            }
            match self.steps[id].step {
                Step::Drain { instance, task } if self.never_comes(&Step::Release { instance, task }, true) => {
                    self.undone.push(id);
                    if self.ground.holds(instance, task) {
                        self.readmit(Step::Admit { target: Target::Existing(instance), task });
                    }
                }
                Step::Preload { target, task } if self.never_comes(&Step::Bind { target, task }, false) => {
                    self.undone.push(id);
                    self.outbox.push_back(MigrationWish::Unstage { target, task });
                }
                _ => {}
            }
        }
    }

    /// Whether the transition has this step and it was given up, or (unless `untried`) failed.
    fn never_comes(&self, wanted: &Step, untried: bool) -> bool {
        let phase = self.steps.iter().find(|step| step.step == *wanted).map(|step| self.phases[step.id]);
        phase == Some(Phase::Abandoned) || !untried && phase == Some(Phase::Failed)
    }

    fn readmit(&mut self, step: Step) {
        let id = self.steps.len();
        self.steps.push(PlannedStep { id, step, after: Vec::new(), follows: Vec::new() });
        self.phases.push(Phase::Waiting);
    }

    fn finished(&mut self, now: Time) -> MigrationWish {
        self.report.took_s = now.since(self.began).as_secs_f64();
        (self.report.lost_s, self.report.idle_slice_s) = self.loss.until(now);
        self.report.created = self.ground.created();
        self.report.abandoned.sort_unstable();
        MigrationWish::Finished(self.report.clone())
    }
}
