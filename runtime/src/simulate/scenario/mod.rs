//! Scenarios: GPUs, tenants, arrivals and what changes over time, from a file; what a simulation is made of, by policy and seed.
//!
//! A file is either accepted whole or refused with every defect listed at once. Read in the order [`Scenario`], `file`, `read`, `setup`.

mod arrivals;
mod facts;
mod file;
pub mod gpu;
mod keys;
mod read;
mod setup;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use migrator_mig::Catalog;
use migrator_sim::setup::{Fault, Learning};

use self::arrivals::Arrivals;
use self::file::{Interfering, Planner, Steps, TenantEntry};
#[cfg(test)]
pub(crate) use self::read::data_folder;
use crate::config::ConfigErrors;
use crate::curve::{Inference, Instances, Training};

/// What the command line says otherwise than the file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overrides {
    /// GPU model and count; what `load` says stays a share of the file's own GPUs, so the demand is the same.
    pub gpu: Option<(String, u32)>,
    /// Tenants whose arrivals come from these traces, brought to the same load.
    pub traces: Vec<(String, PathBuf)>,
    /// Factor on all arrivals.
    pub scale: Option<f64>,
    /// Seeds; empty = the file's.
    pub seeds: Vec<u64>,
}

/// A scenario that was read and checked.
#[derive(Clone, Debug)]
pub struct Scenario {
    name: String,
    seeds: Vec<u64>,
    seconds: u64,
    window_s: f64,
    gpu: GpuPart,
    planner: Planner,
    steps: Steps,
    interference: Interfering,
    faults: Vec<Fault>,
    tenants: Vec<TenantPart>,
}

/// The GPUs: all of one model.
#[derive(Clone, Debug)]
struct GpuPart {
    catalog: Catalog,
    count: u32,
    /// How much faster than the figures.
    speed: f64,
    instances: Instances,
}

/// One tenant with its figures and its arrivals.
#[derive(Clone, Debug)]
struct TenantPart {
    entry: TenantEntry,
    inference: Inference,
    /// `None` where it is never retrained.
    training: Option<Training>,
    /// Retraining less what depends on the policy's catalog.
    learning: Learning,
    arrivals: Arrivals,
    /// On the arrivals' own rate or counts.
    factor: f64,
}

/// How much of the GPUs a scenario asks for, as shares of their whole.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Mean demand ÷ what the GPUs answer within the SLO when all of them serve one tenant, summed over tenants.
    pub inference: f64,
    /// Slice-seconds of one retraining per tenant and window, each on its most frugal profile, ÷ slice-seconds of a window.
    pub retraining: f64,
}

impl Scenario {
    /// Reads and checks a file, with what the command line says otherwise.
    ///
    /// # Errors
    /// Every defect, each with its file, line, key, value and what is allowed.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Scenario, ConfigErrors> {
        let text = std::fs::read_to_string(path).map_err(|e| ConfigErrors::unreadable(path, &e))?;
        Scenario::parse(path, &text, overrides)
    }

    /// Checks the text of a file at `path`, to which the paths in it are relative.
    ///
    /// # Errors
    /// As [`Scenario::load`].
    pub fn parse(path: &Path, text: &str, overrides: &Overrides) -> Result<Scenario, ConfigErrors> {
        read::read(path, text, overrides)
    }

    /// Its name in reports.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The seeds it is run with.
    pub fn seeds(&self) -> &[u64] {
        &self.seeds
    }
}
