//! Whether a problem can be planned for at all.

use migrator_mig::{CatalogError, Partition, PartitionError, Site};

use crate::options::SolveOptions;
use crate::plan::Generation;
use crate::plan::Plan;
use crate::problem::{GpuModel, GpuState, InstanceId, Problem, RetrainingState, TenantState};

/// Why a problem is refused; names the tenant or GPU and the field.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ProblemError {
    /// There is nothing to plan on.
    #[error("the problem has no GPUs")]
    NoGpus,
    /// A number that must be finite and not negative is not.
    #[error("{field} is {value}, expected 0 to 1e9")]
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
        /// The tenant's name in quotes, or the catalog's.
        owner: String,
        /// The field.
        field: &'static str,
        /// Profiles of the catalog.
        expected: usize,
        /// Entries of the table.
        found: usize,
    },
    /// A GPU is of a model that the problem does not describe.
    #[error("GPU {gpu}: there is no model {model}; the problem describes {models}")]
    UnknownModel {
        /// Index of the GPU.
        gpu: usize,
        /// The model asked for.
        model: usize,
        /// How many there are.
        models: usize,
    },
    /// A table by GPU model has another length than there are models.
    #[error("tenant {tenant:?}: {field} has {found} rows, the problem {expected} GPU models")]
    Models {
        /// The tenant's name.
        tenant: String,
        /// The field.
        field: &'static str,
        /// GPU models of the problem.
        expected: usize,
        /// Rows of the table.
        found: usize,
    },
    /// Scenarios that do not add up mean nothing.
    #[error("tenant {tenant:?}: the probabilities of its demand sum to {sum}, expected 1")]
    Probabilities {
        /// The tenant's name.
        tenant: String,
        /// Their sum.
        sum: f64,
    },
    /// More than can be numbered.
    #[error("{found} tenants are more than {most}")]
    TooManyTenants {
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
    /// A catalog contradicts itself.
    #[error("GPU model {model}: unusable catalog")]
    Catalog {
        /// Index of the GPU model.
        model: usize,
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

/// Largest number taken, whatever its unit: beyond it the integer program loses its digits.
const LARGEST: f64 = 1e9;

/// Most tenants taken: far more than any GPU can hold, and few enough for their 16-bit numbers.
const MOST_TENANTS: usize = 10_000;

/// Checks everything that a solve relies on.
///
/// # Errors
/// The first contradiction found.
pub fn check(problem: &Problem, previous: Option<&Plan>, options: &SolveOptions) -> Result<(), ProblemError> {
    if let Some(previous) = previous.map(|plan| plan.generation).filter(|&previous| options.generation <= previous) {
        return Err(ProblemError::Generation { previous, found: options.generation });
    }
    if problem.gpus.is_empty() {
        return Err(ProblemError::NoGpus);
    }
    if problem.tenants.len() > MOST_TENANTS {
        return Err(ProblemError::TooManyTenants { found: problem.tenants.len(), most: MOST_TENANTS });
    }
    for (model, of) in problem.models.iter().enumerate() {
        of.catalog.check().map_err(|source| ProblemError::Catalog { model, source })?;
        check_model(of)?;
    }
    check_instances(problem)?;
    check_costs(problem, options)?;
    problem.tenants.iter().try_for_each(|tenant| check_tenant(&problem.models, tenant))
}

fn check_model(model: &GpuModel) -> Result<(), ProblemError> {
    for (field, table) in [("create_s", &model.create_s), ("destroy_s", &model.destroy_s)] {
        length(&model.catalog.name, field, model.catalog.profiles.len(), table.len())?;
        table.iter().try_for_each(|&value| number(field, value))?;
    }
    Ok(())
}

fn check_instances(problem: &Problem) -> Result<(), ProblemError> {
    let mut seen = std::collections::BTreeSet::new();
    for (gpu, &GpuState { model, ref instances }) in problem.gpus.iter().enumerate() {
        let sites: Vec<Site> = instances.iter().map(|instance| instance.site).collect();
        let models = problem.models.len();
        let of = problem.models.get(model).ok_or(ProblemError::UnknownModel { gpu, model, models })?;
        Partition::new(&of.catalog, sites).map_err(|source| ProblemError::Instances { gpu, source })?;
        for instance in instances {
            if !seen.insert(instance.id) {
                return Err(ProblemError::InstanceTwice { gpu, instance: instance.id });
            }
            if let Some(task) = instance.task.filter(|task| task.tenant.index() >= problem.tenants.len()) {
                return Err(ProblemError::UnknownTenant { gpu, instance: instance.id, tenant: task.tenant.0 });
            }
            number("ready_in_s", instance.ready_in_s)?;
        }
    }
    Ok(())
}

fn check_costs(problem: &Problem, options: &SolveOptions) -> Result<(), ProblemError> {
    let costs = &problem.costs;
    number("drain_s", costs.drain_s)?;
    number("handover_s", costs.handover_s)?;
    number("window_left_s", problem.window_left_s)?;
    number("beyond_window_s", problem.beyond_window_s)?;
    number("horizon_s", options.horizon_s)?;
    number("min_gain", options.min_gain)
}

fn check_tenant(models: &[GpuModel], tenant: &TenantState) -> Result<(), ProblemError> {
    by_profile(models, tenant, "capacity_rps", &tenant.capacity_rps)?;
    let single = [("weight", tenant.weight), ("backlog", tenant.backlog), ("load_s", tenant.load_s), ("floor_rps", tenant.floor_rps)];
    let demand = tenant.demand.iter().flat_map(|scenario| &scenario.rps).map(|&value| ("demand", value));
    let capacity = tenant.capacity_rps.iter().flatten().map(|&value| ("capacity_rps", value));
    for (field, value) in single.into_iter().chain(demand).chain(capacity) {
        within(tenant, field, value, LARGEST, "0 to 1e9")?;
    }
    within(tenant, "accuracy", tenant.accuracy, 1.0, "0 to 1")?;
    for scenario in &tenant.demand {
        within(tenant, "demand.probability", scenario.probability, 1.0, "0 to 1")?;
    }
    let sum: f64 = tenant.demand.iter().map(|scenario| scenario.probability).sum();
    if !tenant.demand.is_empty() && (sum - 1.0).abs() > 1e-6 {
        return Err(ProblemError::Probabilities { tenant: tenant.name.clone(), sum });
    }
    let Some(RetrainingState { seconds_left, accuracy_after, restore_s, .. }) = &tenant.retraining else { return Ok(()) };
    by_profile(models, tenant, "retraining.seconds_left", seconds_left)?;
    if let Some(&value) = seconds_left.iter().flatten().find(|seconds| seconds.is_nan()) {
        let field = "retraining.seconds_left";
        return Err(ProblemError::TenantNumber { tenant: tenant.name.clone(), field, value, expected: "a number" });
    }
    within(tenant, "retraining.accuracy_after", *accuracy_after, 1.0, "0 to 1")?;
    within(tenant, "retraining.restore_s", *restore_s, LARGEST, "0 to 1e9")
}

/// A table by GPU model and profile.
fn by_profile(models: &[GpuModel], tenant: &TenantState, field: &'static str, table: &[Vec<f64>]) -> Result<(), ProblemError> {
    if models.len() != table.len() {
        return Err(ProblemError::Models { tenant: tenant.name.clone(), field, expected: models.len(), found: table.len() });
    }
    let owner = format!("{:?}", tenant.name);
    models.iter().zip(table).try_for_each(|(model, row)| length(&owner, field, model.catalog.profiles.len(), row.len()))
}

fn within(tenant: &TenantState, field: &'static str, value: f64, most: f64, expected: &'static str) -> Result<(), ProblemError> {
    // A NaN is in no range.
    if (0.0..=most).contains(&value) {
        return Ok(());
    }
    Err(ProblemError::TenantNumber { tenant: tenant.name.clone(), field, value, expected })
}

fn number(field: &'static str, value: f64) -> Result<(), ProblemError> {
    if (0.0..=LARGEST).contains(&value) { Ok(()) } else { Err(ProblemError::Number { field, value }) }
}

fn length(owner: &str, field: &'static str, expected: usize, found: usize) -> Result<(), ProblemError> {
    if expected == found { Ok(()) } else { Err(ProblemError::Length { owner: owner.to_owned(), field, expected, found }) }
}

#[cfg(test)]
mod tests {
    use migrator_mig::ProfileId;

    use super::*;
    use crate::testing::{instance, problem, tenant};

    fn refused(change: impl FnOnce(&mut Problem)) -> String {
        let mut problem = problem(vec![tenant("vision", 40.0), tenant("speech", 10.0)]);
        problem.gpus[0].instances = vec![instance(1, 2, 0, None), instance(2, 2, 4, None)];
        assert_eq!(check(&problem, None, &SolveOptions::default()), Ok(()));
        change(&mut problem);
        check(&problem, None, &SolveOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_refusal_names_the_tenant_and_the_field() {
        assert!(refused(|p| p.tenants[1].demand[0].rps[3] = f64::NAN).contains("\"speech\": demand is NaN"));
        assert!(refused(|p| p.tenants[0].accuracy = 1.5).contains("\"vision\": accuracy is 1.5"));
        assert!(refused(|p| p.tenants[0].capacity_rps[0].truncate(3)).contains("\"vision\": capacity_rps has 3 entries, the catalog 5"));
        assert!(refused(|p| p.models[0].create_s[0] = -1.0).contains("create_s is -1"));
        assert!(refused(|p| p.models[0].destroy_s.clear()).contains("destroy_s has 0"));
        assert!(refused(|p| p.tenants[0].capacity_rps.clear()).contains("has 0 rows, the problem 1 GPU models"));
        assert!(refused(|p| p.tenants[0].demand[0].probability = 0.5).contains("sum to 0.5"));
        assert!(refused(|p| p.gpus[0].model = 3).contains("no model 3"));
        assert!(refused(|p| p.window_left_s = f64::INFINITY).contains("window_left_s"));
    }

    #[test]
    fn instances_that_cannot_exist_are_refused() {
        assert!(refused(|p| p.gpus[0].instances[0].site.profile = ProfileId(4)).contains("no partition"));
        assert!(refused(|p| p.gpus[0].instances[1].site = p.gpus[0].instances[0].site).contains("no partition"));
        assert!(refused(|p| p.gpus[0].instances[1].id = p.gpus[0].instances[0].id).contains("listed twice"));
        assert!(refused(|p| p.gpus.clear()).contains("no GPUs"));
    }

    #[test]
    fn a_generation_that_does_not_increase_is_refused() {
        let problem = problem(vec![tenant("vision", 40.0)]);
        let previous = Plan { generation: Generation(7), gpus: Vec::new() };
        let refused = check(&problem, Some(&previous), &SolveOptions::new(Generation(7)));
        assert!(matches!(refused, Err(ProblemError::Generation { .. })));
        assert_eq!(check(&problem, Some(&previous), &SolveOptions::new(Generation(8))), Ok(()));
    }
}
