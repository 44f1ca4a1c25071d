//! Which instance counts the GPUs can hold: classes of alike GPUs, kinds of instances, rows over counts.

use std::collections::BTreeMap;

use migrator_mig::{Catalog, Geometry, Partition, ProfileId, Site};
use serde::{Deserialize, Serialize};

use crate::problem::Problem;

/// The rows (a)-(d) of `reference/ilp.md` section 1: coefficient of each profile of a 7-slice GPU, and the right side per GPU.
const SEVEN_SLICE_ROWS: [([u32; 5], u32); 4] = [
    // (a) N_4g + N_7g ≤ |G|
    ([0, 0, 0, 1, 1], 1),
    // (b) N_2g + N_3g + 2 N_4g + 3 N_7g ≤ 3 |G|
    ([0, 1, 1, 2, 3], 3),
    // (c) compute: N_1g + 2 N_2g + 3 N_3g + 4 N_4g + 7 N_7g ≤ 7 |G|
    ([1, 2, 3, 4, 7], 7),
    // (d) memory: N_1g + 2 N_2g + 4 N_3g + 4 N_4g + 8 N_7g ≤ 8 |G|
    ([1, 2, 4, 4, 8], 8),
];

/// Index of a [`Kind`] in [`Shape::kinds`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct KindId(pub u16);

impl KindId {
    /// The index, for tables that hold one entry per kind.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// A profile on the GPUs of a class: all that counts tell instances apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    /// Index in [`Shape::classes`].
    pub class: usize,
    /// Index of the GPU model.
    pub model: usize,
    /// The profile.
    pub profile: ProfileId,
}

/// Σ alpha · N ≤ most, over counts by kind that are not pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Coefficient by kind.
    pub alpha: Vec<u32>,
    /// Right side.
    pub most: u32,
}

/// GPUs of one model with the same pinned sites.
#[derive(Clone, Debug)]
pub(crate) struct Class {
    /// Index of the GPU model.
    pub model: usize,
    /// Sites that must stay.
    pub pinned: Vec<Site>,
    /// Indices of its GPUs.
    pub gpus: Vec<usize>,
    /// Legal partitions of one GPU that contain the pinned sites.
    pub partitions: Vec<Partition>,
    /// Counts by profile of those partitions, pinned sites left out, each once.
    pub geometries: Vec<Vec<u32>>,
    /// Kind of profile 0; the others follow.
    first: u16,
    exact: bool,
}

/// What the GPUs of a problem can be cut into.
pub(crate) struct Shape {
    classes: Vec<Class>,
    /// Class of each GPU.
    of: Vec<usize>,
    kinds: Vec<Kind>,
    rows: Vec<Row>,
}

impl Shape {
    pub fn new(problem: &Problem) -> Shape {
        let mut shape = Shape { classes: Vec::new(), of: Vec::new(), kinds: Vec::new(), rows: Vec::new() };
        for (gpu, state) in problem.gpus.iter().enumerate() {
            let mut pinned: Vec<Site> = state.instances.iter().filter(|old| old.pinned).map(|old| old.site).collect();
            pinned.sort();
            let known = shape.classes.iter().position(|class| class.model == state.model && class.pinned == pinned);
            let class = known.unwrap_or_else(|| shape.class(problem, state.model, pinned));
            shape.classes[class].gpus.push(gpu);
            shape.of.push(class);
        }
        shape.rows = shape.classes.iter().flat_map(|class| class_rows(problem, class, shape.kinds.len())).collect();
        shape
    }

    fn class(&mut self, problem: &Problem, model: usize, pinned: Vec<Site>) -> usize {
        let catalog = &problem.models[model].catalog;
        let partitions: Vec<Partition> =
            catalog.partitions().into_iter().filter(|partition| pinned.iter().all(|site| partition.sites().contains(site))).collect();
        let mut geometries: Vec<Vec<u32>> = partitions.iter().map(|partition| free_counts(catalog, partition, &pinned)).collect();
        geometries.sort();
        geometries.dedup();
        let (class, first) = (self.classes.len(), self.kinds.len() as u16);
        self.kinds.extend(catalog.profile_ids().map(|profile| Kind { class, model, profile }));
        let exact = pinned.is_empty() && has_seven_slices(catalog);
        self.classes.push(Class { model, pinned, gpus: Vec::new(), partitions, geometries, first, exact });
        class
    }

    /// Classes of alike GPUs.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The class of a GPU.
    pub fn class_of(&self, gpu: usize) -> usize {
        self.of[gpu]
    }

    /// All kinds of instances.
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Ids of all kinds.
    pub fn kind_ids(&self) -> impl Iterator<Item = KindId> + use<> {
        (0..self.kinds.len() as u16).map(KindId)
    }

    /// A kind.
    pub fn kind(&self, id: KindId) -> Kind {
        self.kinds[id.index()]
    }

    /// The kind of an instance of this profile on this GPU.
    pub fn kind_of(&self, gpu: usize, profile: ProfileId) -> KindId {
        KindId(self.classes[self.of[gpu]].first + u16::from(profile.0))
    }

    /// What any counts that fit obey.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether the rows alone decide what fits.
    #[allow(dead_code)]
    pub fn exact(&self) -> bool {
        self.classes.iter().all(|class| class.exact)
    }

    /// Whether these counts by kind, pinned instances left out, can be cut.
    pub fn fits(&self, counts: &[u32]) -> bool {
        let used = |row: &Row| row.alpha.iter().zip(counts).map(|(alpha, n)| alpha * n).sum::<u32>();
        self.rows.iter().all(|row| used(row) <= row.most)
            && self.classes.iter().filter(|class| !class.exact).all(|class| {
                let own = &counts[usize::from(class.first)..][..class.geometries[0].len()];
                split(&class.geometries, own, class.gpus.len(), &mut BTreeMap::new())
            })
    }
}

/// Counts by profile of a partition's sites that are not pinned.
pub(crate) fn free_counts(catalog: &Catalog, partition: &Partition, pinned: &[Site]) -> Vec<u32> {
    let mut counts = Geometry::of(catalog, partition).0;
    pinned.iter().for_each(|site| counts[site.profile.index()] -= 1);
    counts
}

fn class_rows(problem: &Problem, class: &Class, kinds: usize) -> Vec<Row> {
    let catalog = &problem.models[class.model].catalog;
    let gpus = class.gpus.len() as u32;
    let row = |alpha: &dyn Fn(usize) -> u32, per_gpu: u32| {
        let mut all = vec![0; kinds];
        (0..catalog.profiles.len()).for_each(|q| all[usize::from(class.first) + q] = alpha(q));
        let pinned: u32 = class.pinned.iter().map(|site| alpha(site.profile.index())).sum();
        Row { alpha: all, most: per_gpu.saturating_sub(pinned) * gpus }
    };
    if has_seven_slices(catalog) {
        return SEVEN_SLICE_ROWS.iter().map(|(alpha, most)| row(&|q| alpha[q], *most)).collect();
    }
    // What the geometries make of each profile, and of all slices: valid for every catalog, exact for none.
    let most = |alpha: &dyn Fn(usize) -> u32| {
        let sum = |counts: &Vec<u32>| counts.iter().enumerate().map(|(q, n)| alpha(q) * n).sum::<u32>();
        class.geometries.iter().map(sum).max().unwrap_or(0) + class.pinned.iter().map(|site| alpha(site.profile.index())).sum::<u32>()
    };
    let memory = |q: usize| u32::from(catalog.profiles[q].memory_slices);
    let compute = |q: usize| u32::from(catalog.profiles[q].compute_slices);
    vec![row(&memory, most(&memory)), row(&compute, most(&compute))]
}

fn split(geometries: &[Vec<u32>], counts: &[u32], gpus: usize, known: &mut BTreeMap<(usize, Vec<u32>), bool>) -> bool {
    if counts.iter().all(|&n| n == 0) {
        return true;
    }
    if gpus == 0 {
        return false;
    }
    let key = (gpus, counts.to_vec());
    if let Some(&fits) = known.get(&key) {
        return fits;
    }
    let rest = |one: &[u32]| counts.iter().zip(one).map(|(n, part)| n.saturating_sub(*part)).collect::<Vec<u32>>();
    let fits = geometries.iter().any(|one| rest(one) != counts && split(geometries, &rest(one), gpus - 1, known));
    known.insert(key, fits);
    fits
}

fn has_seven_slices(catalog: &Catalog) -> bool {
    let reference = Catalog::seven_slices("", 8);
    let same = |(a, b): (&migrator_mig::Profile, &migrator_mig::Profile)| {
        a.compute_slices == b.compute_slices && a.memory_slices == b.memory_slices && a.starts == b.starts
    };
    catalog.profiles.len() == reference.profiles.len() && catalog.profiles.iter().zip(&reference.profiles).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{instance, problem, tenant};

    #[test]
    fn the_four_inequalities_are_exact_for_one_and_two_gpus() {
        for gpus in 1..=2u32 {
            let mut host = problem(vec![tenant("vision", 40.0)]);
            host.gpus = vec![host.gpus[0].clone(); gpus as usize];
            let shape = Shape::new(&host);
            assert!(shape.exact());
            let mut feasible = 0;
            for index in 0..(7 * gpus + 2) * (3 * gpus + 2) * (2 * gpus + 2) * (gpus + 2) * (gpus + 2) {
                let mut left = index;
                let counts: Vec<u32> = [7 * gpus + 2, 3 * gpus + 2, 2 * gpus + 2, gpus + 2, gpus + 2]
                    .map(|limit| {
                        let n = left % limit;
                        left /= limit;
                        n
                    })
                    .to_vec();
                let cut = split(&shape.classes[0].geometries, &counts, gpus as usize, &mut BTreeMap::new());
                assert_eq!(shape.fits(&counts), cut, "{counts:?} on {gpus}");
                feasible += usize::from(cut);
            }
            assert_eq!(feasible, [38, 265][gpus as usize - 1]);
        }
    }

    #[test]
    fn what_is_pinned_leaves_less() {
        let mut host = problem(vec![tenant("vision", 40.0)]);
        host.gpus[0].instances = vec![instance(1, 2, 4, None)];
        host.gpus[0].instances[0].pinned = true;
        let shape = Shape::new(&host);
        assert!(
            shape.fits(&[0, 0, 0, 1, 0]) && shape.fits(&[4, 0, 0, 0, 0]) && !shape.fits(&[5, 0, 0, 0, 0]) && !shape.fits(&[0, 0, 2, 0, 0])
        );
    }

    #[test]
    fn gpus_of_two_models_are_two_classes() {
        let mut host = problem(vec![tenant("vision", 40.0)]);
        host.models.push(host.models[0].clone());
        host.models[1].catalog.profiles.truncate(2);
        host.gpus.push(host.gpus[0].clone());
        host.gpus[1].model = 1;
        let shape = Shape::new(&host);
        assert_eq!((shape.classes().len(), shape.kinds().len()), (2, 7));
        assert!(shape.fits(&[0, 0, 0, 0, 1, 1, 3]) && !shape.fits(&[0, 0, 0, 0, 1, 2, 3]));
    }
}
