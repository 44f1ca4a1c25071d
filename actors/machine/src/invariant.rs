//! What must always be true: one numbered list for tests, the simulator and `invariant_violations_total{id}`.

use serde::Serialize;

/// One thing that must always be true of a machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Invariant {
    /// T1.
    Accounting,
    /// T2.
    QueueBound,
    /// T3.
    QueueOrder,
    /// T4.
    LaneBound,
    /// T5.
    DrainedIsEmpty,
    /// T6.
    WakeUp,
    /// M1.
    OneOwnerPerSlice,
    /// M2.
    OneTaskPerInstance,
    /// M3.
    StepOrder,
    /// M4.
    StepWakeUp,
    /// R1.
    RunsOnItsInstance,
    /// R2.
    PublishesOnlyBetter,
    /// R3.
    RetrainingWakeUp,
    /// C1.
    OneDecisionAtATime,
    /// C2.
    GenerationsIncrease,
    /// C3.
    WindowsIncrease,
}

impl Invariant {
    /// Every invariant, in the order of its number.
    pub const ALL: [Invariant; 16] = [
        Invariant::Accounting,
        Invariant::QueueBound,
        Invariant::QueueOrder,
        Invariant::LaneBound,
        Invariant::DrainedIsEmpty,
        Invariant::WakeUp,
        Invariant::OneOwnerPerSlice,
        Invariant::OneTaskPerInstance,
        Invariant::StepOrder,
        Invariant::StepWakeUp,
        Invariant::RunsOnItsInstance,
        Invariant::PublishesOnlyBetter,
        Invariant::RetrainingWakeUp,
        Invariant::OneDecisionAtATime,
        Invariant::GenerationsIncrease,
        Invariant::WindowsIncrease,
    ];

    /// Its number, the label of the metric.
    pub fn id(self) -> &'static str {
        self.entry().0
    }

    /// What must be true, in one line.
    pub fn text(self) -> &'static str {
        self.entry().1
    }

    fn entry(self) -> (&'static str, &'static str) {
        match self {
            Invariant::Accounting => ("T1", "arrived = on time + late + shed + error + queued + in flight"),
            Invariant::QueueBound => ("T2", "no queue is longer than its limit, requests that lost their worker aside"),
            Invariant::QueueOrder => ("T3", "the queue is in the order of deadlines"),
            Invariant::LaneBound => ("T4", "no lane has more batches in flight than executors and one ahead"),
            Invariant::DrainedIsEmpty => ("T5", "a lane reported as drained has nothing in flight"),
            Invariant::WakeUp => ("T6", "whatever waits or is in flight has a wake-up in the future"),
            Invariant::OneOwnerPerSlice => ("M1", "no memory slice belongs to two instances"),
            Invariant::OneTaskPerInstance => ("M2", "no instance is bound to two tasks"),
            Invariant::StepOrder => ("M3", "no step begins before its predecessors are done"),
            Invariant::StepWakeUp => ("M4", "a migration that is not over has a step running or a wake-up"),
            Invariant::RunsOnItsInstance => ("R1", "a retraining runs only on an instance it was placed on"),
            Invariant::PublishesOnlyBetter => ("R2", "a version is published only when it is measurably better"),
            Invariant::RetrainingWakeUp => ("R3", "exporting, training, pausing, publishing and swapping have a deadline"),
            Invariant::OneDecisionAtATime => ("C1", "no solve is under way while a migration is"),
            Invariant::GenerationsIncrease => ("C2", "the generation in force is never above the last one handed out"),
            Invariant::WindowsIncrease => ("C3", "retraining windows start in order, each once"),
        }
    }
}

/// An invariant that does not hold: a bug.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was found instead.
    pub detail: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}; found {}", self.invariant.id(), self.invariant.text(), self.detail)
    }
}

/// Notes a violation when `holds` is false.
pub(crate) fn demand(found: &mut Vec<Violation>, invariant: Invariant, holds: bool, detail: impl FnOnce() -> String) {
    if !holds {
        found.push(Violation { invariant, detail: detail() });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_invariant_has_its_own_number() {
        let ids: BTreeSet<&str> = Invariant::ALL.iter().map(|i| i.id()).collect();
        assert_eq!(ids.len(), Invariant::ALL.len());
    }

    #[test]
    fn a_violation_names_number_text_and_finding() {
        let mut found = Vec::new();
        demand(&mut found, Invariant::QueueBound, false, || "9 of 8".to_owned());
        assert!(found[0].to_string().starts_with("T2: no queue is longer") && found[0].to_string().ends_with("found 9 of 8"));
    }
}
