//! What is odd about a problem that can be solved all the same.

use migrator_solver::{Problem, TenantId, TenantState};

/// More lines than this of one sort are counted, not listed.
const MOST_LINES: usize = 5;

/// What an operator should know about a problem before believing its plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// Whether no tenant fits any profile of the GPUs there are: nothing can be served, whatever the plan.
    pub hopeless: bool,
    /// One line each.
    pub warnings: Vec<String>,
}

/// Looks at a problem that the solver accepts.
pub fn advice(problem: &Problem) -> Advice {
    let ids = (0..problem.tenants.len() as u16).map(TenantId);
    let tenants: Vec<(TenantId, &TenantState)> = ids.zip(&problem.tenants).collect();
    let mut warnings = Vec::new();
    let fits = |id: TenantId| problem.gpus.iter().any(|gpu| !rates(problem, id, gpu.model).is_empty());
    let unfit: Vec<&str> = tenants.iter().filter(|(id, _)| !fits(*id)).map(|(_, tenant)| tenant.name.as_str()).collect();
    let hopeless = unfit.len() == tenants.len();
    if hopeless {
        warnings.push("no tenant fits any profile of the GPUs: nothing can be served".to_owned());
    } else {
        listed(
            &mut warnings,
            unfit.iter().map(|name| format!("{name} fits no profile of the GPUs: none of its requests can be answered in time")),
        );
    }
    if tenants.iter().all(|(_, tenant)| peak(tenant) <= 0.0 && tenant.backlog <= 0.0) {
        warnings.push("no tenant has any demand: there is nothing to answer".to_owned());
    }
    listed(&mut warnings, tenants.iter().filter_map(|(id, tenant)| falling(problem, *id, tenant)));
    listed(&mut warnings, tenants.iter().filter_map(|(id, tenant)| homeless(problem, *id, tenant)));
    Advice { hopeless, warnings }
}

fn listed(warnings: &mut Vec<String>, lines: impl Iterator<Item = String>) {
    let mut lines: Vec<String> = lines.collect();
    let more = lines.len().saturating_sub(MOST_LINES);
    lines.truncate(MOST_LINES);
    if let (true, Some(last)) = (more > 0, lines.last_mut()) {
        *last += &format!(" (and {more} more tenants like it)");
    }
    warnings.append(&mut lines);
}

fn peak(tenant: &TenantState) -> f64 {
    tenant.demand.iter().flat_map(|scenario| &scenario.rps).copied().fold(0.0, f64::max)
}

/// Profiles by size on which the tenant fits, and what it answers on each.
fn rates(problem: &Problem, id: TenantId, model: usize) -> Vec<(String, f64)> {
    let Some(of) = problem.models.get(model) else { return Vec::new() };
    let rates = of.catalog.profile_ids().map(|profile| (of.catalog.short_name(profile), problem.rate(id, model, profile)));
    rates.filter(|(_, rps)| *rps > 0.0).collect()
}

/// A larger profile that gives less is possible, but more often a mistake in measuring.
fn falling(problem: &Problem, id: TenantId, tenant: &TenantState) -> Option<String> {
    let falls = |model: usize| {
        let rates = rates(problem, id, model);
        let pair = rates.windows(2).find(|pair| pair[1].1 < pair[0].1)?;
        let [(small, more), (large, less)] = pair else { return None };
        let name = &tenant.name;
        Some(format!("{name} answers {less} requests/s on {large} but {more} on {small}: is its curve right? It is planned with as it is"))
    };
    (0..problem.models.len()).find_map(falls)
}

fn homeless(problem: &Problem, id: TenantId, tenant: &TenantState) -> Option<String> {
    tenant.retraining.as_ref()?;
    let fits = |gpu: &migrator_solver::GpuState| {
        let profiles = problem.models.get(gpu.model).map(|of| of.catalog.profile_ids());
        profiles.into_iter().flatten().any(|profile| problem.work_s(id, gpu.model, profile).is_some())
    };
    (!problem.gpus.iter().any(fits)).then(|| format!("the retraining of {} fits no profile of the GPUs", tenant.name))
}
