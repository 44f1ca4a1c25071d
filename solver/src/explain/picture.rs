//! The slices of a GPU as a picture of one line for now and one for the plan.

use migrator_mig::{Catalog, Site};

use crate::plan::{Allocation, Plan};
use crate::problem::{InstanceState, Problem, Task, TaskKind};

/// Characters of a memory slice, at least and at most.
const CELL: std::ops::RangeInclusive<usize> = 4..=13;

/// What fills some slices.
struct Block {
    start: usize,
    size: usize,
    label: String,
}

/// One GPU, now and planned.
pub(super) fn gpu(problem: &Problem, plan: &Plan, gpu: usize) -> String {
    let (catalog, state) = (problem.catalog(gpu), &problem.gpus[gpu]);
    let planned = plan.gpus.get(gpu).map_or(&[][..], |gpu| &gpu.allocations);
    let stays = |new: &Allocation| state.instances.iter().any(|old| Some(old.id) == new.instance && old.task == new.task);
    let mark = |old: &InstanceState| if old.pinned { " (pinned)" } else { "" };
    let now: Vec<Block> = state.instances.iter().map(|old| block(problem, catalog, old.site, old.task, mark(old))).collect();
    let new: Vec<Block> =
        planned.iter().map(|new| block(problem, catalog, new.site, new.task, if stays(new) { "" } else { "*" })).collect();
    let cell = now.iter().chain(&new).map(|block| (block.label.chars().count() + 3).div_ceil(block.size.max(1))).max().unwrap_or(0);
    let cell = cell.clamp(*CELL.start(), *CELL.end());
    let slices = usize::from(catalog.memory_slices);
    let head: String = (0..slices).map(|slice| format!("{slice:<cell$}")).collect();
    let note = if planned.iter().all(stays) { "" } else { "; * is new here" };
    format!(
        "GPU {gpu} ({}), by memory slice{note}\n  slice     {}\n  now     {}\n  planned {}\n",
        catalog.name,
        head.trim_end(),
        row(now, slices, cell),
        row(new, slices, cell)
    )
}

fn block(problem: &Problem, catalog: &Catalog, site: Site, task: Option<Task>, mark: &str) -> Block {
    let who = match task {
        Some(Task { tenant, kind }) => {
            let name = problem.tenants.get(tenant.index()).map_or("?", |tenant| tenant.name.as_str());
            let kind = if kind == TaskKind::Retraining { " retrains" } else { "" };
            format!("{name}{kind}")
        }
        None => "idle".to_owned(),
    };
    let shape = catalog.short_name(site.profile);
    let label = if mark == "*" { format!("*{shape} {who}") } else { format!("{shape} {who}{mark}") };
    Block { start: usize::from(site.placement.start), size: usize::from(site.placement.size), label }
}

/// `| 3g vision     | 2g text | . | . |`
fn row(mut blocks: Vec<Block>, slices: usize, cell: usize) -> String {
    blocks.sort_by_key(|block| block.start);
    let mut row = String::new();
    let mut at = 0;
    for block in blocks {
        free(&mut row, at, block.start, cell);
        let width = block.size * cell - 2;
        row += &format!("| {:<width$}", fitted(&block.label, width - 1));
        at = block.start + block.size;
    }
    free(&mut row, at, slices, cell);
    row + "|"
}

fn free(row: &mut String, from: usize, to: usize, cell: usize) {
    for _ in from..to {
        let width = cell - 2;
        *row += &format!("| {:<width$}", ".");
    }
}

fn fitted(label: &str, width: usize) -> String {
    if label.chars().count() <= width {
        return label.to_owned();
    }
    label.chars().take(width.saturating_sub(1)).chain(['~']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Generation;
    use crate::problem::TenantId;
    use crate::testing::{instance, problem, tenant};

    #[test]
    fn every_slice_is_as_wide_as_it_is_large_and_what_is_new_is_marked() {
        let mut problem = problem(vec![tenant("vision", 40.0), tenant("a-tenant-with-a-very-long-name", 10.0)]);
        let (vision, other) = (Task::inference(TenantId(0)), Task::retraining(TenantId(1)));
        problem.gpus[0].instances = vec![instance(1, 2, 0, Some(vision)), instance(2, 0, 4, None)];
        let mut plan = crate::keep(&problem, Generation(2));
        plan.gpus[0].allocations[1].task = Some(other);
        let text = gpu(&problem, &plan, 0);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "GPU 0 (A100-SXM4-80GB), by memory slice; * is new here");
        assert!(lines[2].starts_with("  now     | 3g vision ") && lines[2].contains("| 1g idle"), "{text}");
        assert!(lines[3].contains("| *1g a-ten~ | ."), "{text}");
        assert_eq!(lines[2].chars().count(), lines[3].chars().count());
        assert_eq!(lines[2].len(), 10 + 8 * 13 + 1);
    }
}
