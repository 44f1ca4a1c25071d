//! Who decides, behind one trait: the planner of this crate and those it is measured against.
//!
//! All are asked once a second with the same [`Problem`] and answer with the same [`Outcome`]; a rival that decides more seldom answers
//! with what is in force. What a rival's paper leaves open and how it was filled in stands with each of them and in `docs/policies.md`.

mod astraea;
mod demand;
mod ekya;
mod miso;
mod paris;
mod parvagpu;
mod rival;
mod room;
mod seat;
mod share;
mod static_best;
mod static_even;
#[cfg(test)]
mod tests;

use crate::check::ProblemError;
use crate::options::{PolicyName, SolveOptions};
use crate::plan::{Outcome, Plan};
use crate::problem::Problem;
use crate::solve::Planner;
use rival::Rival;

/// Somebody who decides what is to be on the GPUs.
pub trait Policy: Send {
    /// What to do now. `previous` is the last plan made; `elapsed` gives the seconds since the call, without it no clock ends a solve and
    /// equal inputs give equal outcomes.
    ///
    /// # Errors
    /// [`ProblemError`] when the problem contradicts itself.
    fn plan(
        &mut self,
        problem: &Problem,
        previous: Option<&Plan>,
        options: &SolveOptions,
        elapsed: Option<&mut dyn FnMut() -> f64>,
    ) -> Result<Outcome, ProblemError>;
}

impl Policy for Planner {
    fn plan(
        &mut self,
        problem: &Problem,
        previous: Option<&Plan>,
        options: &SolveOptions,
        elapsed: Option<&mut dyn FnMut() -> f64>,
    ) -> Result<Outcome, ProblemError> {
        Planner::plan(self, problem, previous, options, elapsed)
    }
}

/// How the tasks on one GPU are kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sharing {
    /// MIG instances: isolated, of few sizes, at fixed places.
    Mig,
    /// MPS processes with a share of the compute units each: of any size, and in each other's way.
    Mps,
}

impl PolicyName {
    /// How the policy shares a GPU where the device leaves it the choice.
    pub fn sharing(self) -> Sharing {
        match self {
            PolicyName::Ekya | PolicyName::Astraea => Sharing::Mps,
            _ => Sharing::Mig,
        }
    }
}

/// What some policies know of the tenants beyond the [`Problem`], measured beforehand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// By tenant.
    pub tenants: Vec<TenantFacts>,
    /// Length of the retraining window, seconds.
    pub window_s: f64,
}

/// What some policies know of one tenant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TenantFacts {
    /// SLO, milliseconds.
    pub slo_ms: f64,
    /// Milliseconds of a batch of so many rows, by GPU model, profile and ascending batch.
    pub latency_ms: Vec<Vec<Vec<(u32, f64)>>>,
    /// The arrivals to come, requests/s by second; empty where nobody knows them.
    pub future_rps: Vec<f64>,
    /// What retraining does for it in the long run; `None` where nobody knows or it is not retrained.
    pub training: Option<TrainingFacts>,
}

/// What retraining does for a tenant in the long run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrainingFacts {
    /// Seconds of one retraining, by GPU model and profile; infinite = does not fit.
    pub seconds: Vec<Vec<f64>>,
    /// Mean accuracy in service over all arrivals to come when it is retrained in every window, 0..1.
    pub trained: f64,
    /// The same when it is never retrained.
    pub untrained: f64,
}

/// Why a policy cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// It needs the arrivals to come.
    #[error("policy {0} needs to know the arrivals to come: it is for simulations only")]
    NeedsFuture(PolicyName),
    /// It is a bound, not a policy.
    #[error("policy {0} is an upper bound and makes no plans")]
    NoPlans(PolicyName),
}

/// The policy of this name.
///
/// # Errors
/// [`PolicyError`] for those that a live server cannot have.
pub fn policy(name: PolicyName, facts: &Facts) -> Result<Box<dyn Policy>, PolicyError> {
    let known = !facts.tenants.is_empty() && facts.tenants.iter().all(|tenant| !tenant.future_rps.is_empty());
    match name {
        PolicyName::Ekya => Ok(Box::new(Rival::new(ekya::Ekya))),
        PolicyName::Astraea => Ok(Box::new(Rival::new(astraea::Astraea::default()))),
        PolicyName::Paris => Ok(Box::new(Rival::new(paris::Paris::new(facts)))),
        PolicyName::StaticEven => Ok(Box::new(Rival::new(static_even::StaticEven))),
        PolicyName::StaticBest if known => Ok(Box::new(Rival::new(static_best::StaticBest::new(facts)))),
        PolicyName::StaticBest => Err(PolicyError::NeedsFuture(name)),
        PolicyName::Miso => Ok(Box::new(Rival::new(miso::Miso::default()))),
        PolicyName::Parvagpu => Ok(Box::new(Rival::new(parvagpu::ParvaGpu::new(facts)))),
        PolicyName::Oracle => Err(PolicyError::NoPlans(name)),
        PolicyName::Migrator | PolicyName::Greedy | PolicyName::Exhaustive | PolicyName::Monolith | PolicyName::Keep => {
            Ok(Box::new(Planner::default()))
        }
    }
}
