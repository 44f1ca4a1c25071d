//! What things are called in reports and step lists.

use migrator_mig::Site;

use crate::problem::{InstanceId, Problem, Task, TaskKind};

/// `3g@4`: the profile's short name and the start.
pub(crate) fn shape(problem: &Problem, gpu: usize, site: Site) -> String {
    let catalog = problem.gpus.get(gpu).and_then(|gpu| Some(&problem.models.get(gpu.model)?.catalog));
    let known = catalog.filter(|catalog| site.profile.index() < catalog.profiles.len());
    format!("{}@{}", known.map_or_else(|| "?".to_owned(), |catalog| catalog.short_name(site.profile)), site.placement.start)
}

/// `3g@4`, with ` on GPU 1` where there are several.
pub(crate) fn site(problem: &Problem, gpu: usize, site: Site) -> String {
    let place = if problem.gpus.len() > 1 { format!(" on GPU {gpu}") } else { String::new() };
    shape(problem, gpu, site) + &place
}

/// `#7 3g@4`.
pub(crate) fn instance(problem: &Problem, id: InstanceId) -> String {
    let on = |(gpu, state): (usize, &crate::GpuState)| state.instances.iter().find(|i| i.id == id).map(|i| (gpu, i.site));
    let place = problem.gpus.iter().enumerate().find_map(on);
    place.map_or_else(|| format!("#{}", id.0), |(gpu, at)| format!("#{} {}", id.0, site(problem, gpu, at)))
}

/// `vision inference`.
pub(crate) fn task(problem: &Problem, task: Task) -> String {
    let kind = match task.kind {
        TaskKind::Inference => "inference",
        TaskKind::Retraining => "retraining",
    };
    let name = problem.tenants.get(task.tenant.index()).map_or("?", |tenant| tenant.name.as_str());
    format!("{name} {kind}")
}
