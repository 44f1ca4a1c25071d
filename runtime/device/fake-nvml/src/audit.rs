//! What no GPU may ever hold, checked independently of how it came about.

use migrator_mig::Board;

use crate::gpu::{Gpu, GpuInstance};

/// What is wrong with what this GPU holds; empty when nothing is.
pub fn defects(board: &Board, gpu: &Gpu) -> Vec<String> {
    let mut found = Vec::new();
    if !gpu.mig && !gpu.instances.is_empty() {
        found.push("instances with MIG off".to_owned());
    }
    if gpu.instances.len() > usize::from(board.instances) {
        found.push(format!("{} instances, of at most {}", gpu.instances.len(), board.instances));
    }
    for (position, instance) in gpu.instances.iter().enumerate() {
        for other in &gpu.instances[..position] {
            if other.placement.overlaps(instance.placement) {
                found.push(format!("instances {} and {} overlap", other.id, instance.id));
            }
            if other.id == instance.id || other.number == instance.number {
                found.push(format!("instance {} is there twice", instance.id));
            }
        }
        of_instance(board, gpu, instance, &mut found);
    }
    let mut devices: Vec<u32> = gpu.computes().map(|(_, compute)| compute.device).collect();
    devices.sort_unstable();
    if devices.windows(2).any(|pair| pair[0] == pair[1]) {
        found.push("two MIG devices at one index".to_owned());
    }
    found
}

fn of_instance(board: &Board, gpu: &Gpu, instance: &GpuInstance, found: &mut Vec<String>) {
    let Some(profile) = board.by_id(instance.profile) else {
        return found.push(format!("instance {} is of unknown profile {}", instance.id, instance.profile));
    };
    let alike = gpu.instances.iter().filter(|other| other.profile == profile.id).count();
    if alike > usize::from(profile.count) {
        found.push(format!("{alike} of {}, of at most {}", profile.name, profile.count));
    }
    if instance.placement.size != profile.memory_slices || !profile.starts.contains(&instance.placement.start) {
        found.push(format!("instance {} lies at {:?}", instance.id, instance.placement));
    }
    for (position, compute) in instance.computes.iter().enumerate() {
        if compute.placement.end() > profile.compute_slices {
            found.push(format!("compute instance {} of {} reaches beyond it", compute.id, instance.id));
        }
        for other in &instance.computes[..position] {
            if other.placement.overlaps(compute.placement) || other.id == compute.id {
                found.push(format!("compute instances {} and {} of {} collide", other.id, compute.id, instance.id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use migrator_mig::board::find;

    use super::*;

    #[test]
    fn each_defect_is_found() {
        let board = find("a100").unwrap();
        let mut gpu = Gpu::new(true);
        for _ in 0..2 {
            let number = gpu.create(board, 9, None).unwrap().number;
            gpu.create_compute(board, number, 0, None).unwrap();
        }
        assert_eq!(defects(board, &gpu), Vec::<String>::new());
        let with = |change: fn(&mut Gpu)| {
            let mut gpu = gpu.clone();
            change(&mut gpu);
            defects(board, &gpu).join("; ")
        };
        assert_eq!(with(|gpu| gpu.mig = false), "instances with MIG off");
        assert!(with(|gpu| gpu.instances[0].placement.start = 0).contains("overlap"));
        assert!(with(|gpu| gpu.instances[0].id = 1).contains("twice"));
        assert!(with(|gpu| gpu.instances[0].profile = 5).contains("lies at"));
        assert!(with(|gpu| gpu.instances[0].profile = 4711).contains("unknown profile"));
        assert!(with(|gpu| gpu.instances[0].computes[0].device = 1).contains("one index"));
        assert!(with(|gpu| gpu.instances[0].computes[0].placement.size = 4).contains("beyond"));
        assert!(with(|gpu| gpu.instances.iter_mut().for_each(|instance| instance.profile = 0)).contains("of at most 1"));
    }
}
