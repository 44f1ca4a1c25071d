//! Whether a problem can be planned for at all.

use migrator_mig::{CatalogError, PartitionError};

use crate::plan::Generation;
use crate::problem::InstanceId;

/// Why a problem is refused; names the tenant or GPU and the field.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProblemError {
    /// There is nothing to plan on.
    #[error("the problem has no GPUs")]
    NoGpus,
    /// A number that must be finite and not negative is not.
    #[error("{field} is {value}; it must be a number, finite and not negative")]
    Number {
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
    },
    /// A tenant's number is out of its range.
    #[error("tenant {tenant:?}: {field} is {value}, expected {expected}")]
    TenantNumber {
        /// The tenant's name.
        tenant: String,
        /// The field.
        field: &'static str,
        /// Its value.
        value: f64,
        /// What is allowed.
        expected: &'static str,
    },
    /// A table by profile has another length than the catalog.
    #[error("{owner}: {field} has {found} entries, the catalog {expected} profiles")]
    Length {
        /// The tenant's name in quotes, or `costs`.
        owner: String,
        /// The field.
        field: &'static str,
        /// Profiles of the catalog.
        expected: usize,
        /// Entries of the table.
        found: usize,
    },
    /// Tables by profile mean nothing when GPUs disagree about the profiles.
    #[error("GPU {gpu} has catalog {found:?}, GPU 0 {expected:?}; GPUs of one problem share one catalog")]
    MixedCatalogs {
        /// Index of the GPU.
        gpu: usize,
        /// Name of GPU 0's catalog.
        expected: String,
        /// Name of this GPU's catalog.
        found: String,
    },
    /// A catalog contradicts itself.
    #[error("GPU {gpu}: unusable catalog")]
    Catalog {
        /// Index of the GPU.
        gpu: usize,
        /// Why.
        source: CatalogError,
    },
    /// The instances that exist do not form a partition.
    #[error("GPU {gpu}: its instances are no partition")]
    Instances {
        /// Index of the GPU.
        gpu: usize,
        /// Why.
        source: PartitionError,
    },
    /// An identity is used twice.
    #[error("GPU {gpu}: instance {instance:?} is listed twice")]
    InstanceTwice {
        /// Index of the GPU.
        gpu: usize,
        /// The instance.
        instance: InstanceId,
    },
    /// An instance runs a task of a tenant that is not in the problem.
    #[error("GPU {gpu}: instance {instance:?} runs a task of unknown tenant {tenant}")]
    UnknownTenant {
        /// Index of the GPU.
        gpu: usize,
        /// The instance.
        instance: InstanceId,
        /// The tenant's index.
        tenant: u16,
    },
    /// The plan to be made would be refused by every executor.
    #[error("generation {found:?} is not above {previous:?}")]
    Generation {
        /// The previous plan's.
        previous: Generation,
        /// The one asked for.
        found: Generation,
    },
}
