//! Which instance counts the GPUs can hold.

use std::collections::BTreeMap;

use migrator_mig::{Catalog, Geometry, Partition};

/// The rows (a)-(d) of `reference/ilp.md` section 1: coefficient of each profile of a 7-slice GPU, and the right side per GPU.
pub(crate) const SEVEN_SLICE_ROWS: [([u32; 5], u32); 4] = [
    // (a) N_4g + N_7g ≤ |G|
    ([0, 0, 0, 1, 1], 1),
    // (b) N_2g + N_3g + 2 N_4g + 3 N_7g ≤ 3 |G|
    ([0, 1, 1, 2, 3], 3),
    // (c) compute: N_1g + 2 N_2g + 3 N_3g + 4 N_4g + 7 N_7g ≤ 7 |G|
    ([1, 2, 3, 4, 7], 7),
    // (d) memory: N_1g + 2 N_2g + 4 N_3g + 4 N_4g + 8 N_7g ≤ 8 |G|
    ([1, 2, 4, 4, 8], 8),
];

/// What the GPUs of a problem, all of one catalog, can be cut into.
pub(crate) struct Shape {
    /// Legal partitions of one GPU, partial ones included.
    pub partitions: Vec<Partition>,
    /// The geometries of those partitions, each once.
    pub geometries: Vec<Vec<u32>>,
    /// How many GPUs there are.
    pub gpus: u32,
    /// Geometries of all GPUs together, where there are at most [`MOST_SUMMED`]; else empty.
    pub together: Vec<Vec<u32>>,
    /// Whether [`SEVEN_SLICE_ROWS`] say exactly what fits.
    pub seven_slices: bool,
}

impl Shape {
    pub fn new(catalog: &Catalog, gpus: usize) -> Shape {
        let partitions = catalog.partitions();
        let mut geometries: Vec<Vec<u32>> = partitions.iter().map(|partition| Geometry::of(catalog, partition).0).collect();
        geometries.sort();
        geometries.dedup();
        let together = together(&geometries, gpus);
        Shape { partitions, geometries, gpus: gpus as u32, together, seven_slices: has_seven_slices(catalog) }
    }

    /// Geometries that no other contains: the columns for catalogs without known rows.
    pub fn maximal(&self) -> Vec<&Vec<u32>> {
        let within = |small: &[u32], large: &[u32]| small != large && small.iter().zip(large).all(|(a, b)| a <= b);
        self.geometries.iter().filter(|small| !self.geometries.iter().any(|large| within(small, large))).collect()
    }

    /// Whether these counts by profile can be cut.
    pub fn fits(&self, counts: &[u32]) -> bool {
        if self.seven_slices {
            let used = |row: &[u32; 5]| row.iter().zip(counts).map(|(alpha, n)| alpha * n).sum::<u32>();
            return SEVEN_SLICE_ROWS.iter().all(|(row, most)| used(row) <= most * self.gpus);
        }
        self.split(counts, self.gpus, &mut BTreeMap::new())
    }

    fn split(&self, counts: &[u32], gpus: u32, known: &mut BTreeMap<(u32, Vec<u32>), bool>) -> bool {
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
        let fits = self.geometries.iter().any(|one| rest(one) != counts && self.split(&rest(one), gpus - 1, known));
        known.insert(key, fits);
        fits
    }
}

/// 38, 265, 1047 sums for 1, 2, 3 GPUs of seven slices: beyond two, picking the undominated takes longer than it saves.
const MOST_SUMMED: usize = 2;

fn together(geometries: &[Vec<u32>], gpus: usize) -> Vec<Vec<u32>> {
    if gpus > MOST_SUMMED {
        return Vec::new();
    }
    let mut sums = geometries.to_vec();
    for _ in 1..gpus {
        let sum = |a: &Vec<u32>, b: &Vec<u32>| a.iter().zip(b).map(|(x, y)| x + y).collect::<Vec<u32>>();
        sums = sums.iter().flat_map(|a| geometries.iter().map(move |b| sum(a, b))).collect();
        sums.sort();
        sums.dedup();
    }
    sums
}

pub(crate) fn has_seven_slices(catalog: &Catalog) -> bool {
    let reference = Catalog::seven_slices("", 8);
    let same = |(a, b): (&migrator_mig::Profile, &migrator_mig::Profile)| {
        a.compute_slices == b.compute_slices && a.memory_slices == b.memory_slices && a.starts == b.starts
    };
    catalog.profiles.len() == reference.profiles.len() && catalog.profiles.iter().zip(&reference.profiles).all(same)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every(limits: [u32; 5]) -> Vec<[u32; 5]> {
        let mut all = vec![[0; 5]];
        for (profile, limit) in limits.into_iter().enumerate() {
            all = all
                .into_iter()
                .flat_map(|counts| {
                    (0..=limit).map(move |n| {
                        let mut c = counts;
                        c[profile] = n;
                        c
                    })
                })
                .collect();
        }
        all
    }

    #[test]
    fn the_four_inequalities_are_exact_for_one_and_two_gpus() {
        let catalog = Catalog::seven_slices("A100", 80 * 1024);
        for gpus in 1..=2 {
            let shape = Shape::new(&catalog, gpus);
            assert!(shape.seven_slices);
            let limit = gpus as u32;
            let mut feasible = 0;
            for counts in every([7 * limit + 1, 3 * limit + 1, 2 * limit + 1, limit + 1, limit + 1]) {
                let cut = shape.split(&counts, limit, &mut BTreeMap::new());
                assert_eq!(shape.fits(&counts), cut, "{counts:?} on {gpus}");
                feasible += usize::from(cut);
            }
            assert_eq!(feasible, [38, 265][gpus - 1]);
        }
    }

    #[test]
    fn another_catalog_is_split_by_its_geometries() {
        let mut catalog = Catalog::seven_slices("A100", 80 * 1024);
        catalog.profiles.truncate(2);
        let shape = Shape::new(&catalog, 1);
        assert!(!shape.seven_slices);
        assert!(shape.fits(&[1, 3]));
        assert!(!shape.fits(&[2, 3]));
        assert!(shape.maximal().contains(&&vec![1, 3]));
    }
}
