//! The exact inequalities of what GPUs can hold: facets of the hull of one GPU's geometries, and whether they say it all.
//!
//! The geometries of a GPU are down-closed (take an instance away and what is left is legal), so the facets other than N ≥ 0 are
//! the maximal vertices of the anti-blocking polyhedron {a ≥ 0 : a·v ≤ 1 for every geometry v} (Fulkerson 1971). Those are found
//! by the double description method in integers: nothing here rounds.

use serde::{Deserialize, Serialize};

use crate::Geometry;

/// One inequality Σ_q alpha_q · N_q ≤ most per GPU, in lowest terms.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Facet {
    /// Right side for one GPU; n GPUs have n times as much.
    pub most: u32,
    /// Coefficient of each profile.
    pub alpha: Vec<u32>,
}

impl Facet {
    /// How much these counts take of the right side.
    pub fn used(&self, counts: &[u32]) -> u64 {
        self.alpha.iter().zip(counts).map(|(&alpha, &n)| u64::from(alpha) * u64::from(n)).sum()
    }

    /// Whether `gpus` GPUs can have these counts, as far as this facet tells.
    pub fn allows(&self, counts: &[u32], gpus: u32) -> bool {
        self.used(counts) <= u64::from(self.most) * u64::from(gpus)
    }
}

/// Limits of [`facets`]: constraints are bits of a word, and rays are compared in pairs.
const MOST_CONSTRAINTS: usize = 128;
const MOST_RAYS: usize = 2000;

/// A ray of the cone {(a, t) : a ≥ 0, t ≥ v·a}, in lowest terms, and the constraints that it meets with equality.
#[derive(Clone, Debug)]
struct Ray {
    /// a, then t.
    at: Vec<i128>,
    tight: u128,
}

/// All facets of the hull of everything below one of `maximal`, except N_q ≥ 0, by right side: four on a 7-slice GPU.
///
/// `None` when there are too many geometries or facets to be of use to a planner; then only [`Facet`]s known otherwise hold.
pub fn facets(profiles: usize, maximal: &[Geometry]) -> Option<Vec<Facet>> {
    if profiles + maximal.len() > MOST_CONSTRAINTS {
        return None;
    }
    // The cone {a ≥ 0, t ≥ 0} has the unit vectors as rays; t ≥ 0 follows from any v, so it is not counted as a constraint.
    let all = |but: usize| (0..profiles).filter(|&q| q != but).fold(0u128, |bits, q| bits | 1 << q);
    let unit = |q: usize| Ray { at: (0..=profiles).map(|i| i128::from(i == q)).collect(), tight: all(q) };
    let mut rays: Vec<Ray> = (0..=profiles).map(unit).collect();
    for (index, geometry) in maximal.iter().enumerate() {
        rays = cut(rays, geometry, 1 << (profiles + index))?;
    }
    let mut found: Vec<Facet> = rays.iter().filter(|ray| is_maximal(ray, profiles, maximal)).filter_map(facet).collect();
    found.sort();
    Some(found)
}

/// The rays of the cone with t ≥ v·a added.
fn cut(rays: Vec<Ray>, geometry: &Geometry, bit: u128) -> Option<Vec<Ray>> {
    let slack = |ray: &Ray| {
        let (t, a) = ray.at.split_last()?;
        Some(t - a.iter().zip(&geometry.0).map(|(a, &n)| a * i128::from(n)).sum::<i128>())
    };
    let slacks: Vec<i128> = rays.iter().map(slack).collect::<Option<_>>()?;
    let mut next: Vec<Ray> = Vec::new();
    for (ray, &s) in rays.iter().zip(&slacks).filter(|(_, s)| **s >= 0) {
        next.push(Ray { at: ray.at.clone(), tight: ray.tight | if s == 0 { bit } else { 0 } });
    }
    for (inside, &above) in rays.iter().zip(&slacks).filter(|(_, s)| **s > 0) {
        for (outside, &below) in rays.iter().zip(&slacks).filter(|(_, s)| **s < 0) {
            let common = inside.tight & outside.tight;
            // Two rays span a face of two dimensions iff no third one meets all that both meet.
            let third = |other: &&Ray| other.tight & common == common && !std::ptr::eq(*other, inside) && !std::ptr::eq(*other, outside);
            if rays.iter().any(|other| third(&other)) {
                continue;
            }
            let at = inside.at.iter().zip(&outside.at).map(|(i, o)| o * above - i * below).collect();
            next.push(Ray { at: lowest_terms(at), tight: common | bit });
        }
    }
    (next.len() <= MOST_RAYS).then_some(next)
}

/// Whether no coefficient could be larger: each is held down by a geometry that the inequality meets. A profile that fits nowhere has
/// no such geometry and is held down by its own ray (t = 0).
fn is_maximal(ray: &Ray, profiles: usize, maximal: &[Geometry]) -> bool {
    let t = ray.at[profiles];
    let met = |index: usize| ray.tight >> (profiles + index) & 1 == 1;
    let held = |q: usize| {
        let mut with = maximal.iter().enumerate().filter(|(_, geometry)| geometry.0[q] > 0).peekable();
        with.peek().is_none() || with.any(|(index, _)| met(index))
    };
    ray.at[..profiles].iter().any(|&a| a > 0) && (t == 0 || (0..profiles).all(held))
}

fn facet(ray: &Ray) -> Option<Facet> {
    let (&most, alpha) = ray.at.split_last()?;
    let alpha = alpha.iter().map(|&a| u32::try_from(a).ok()).collect::<Option<_>>()?;
    Some(Facet { most: u32::try_from(most).ok()?, alpha })
}

fn lowest_terms(mut at: Vec<i128>) -> Vec<i128> {
    let divisor = at.iter().fold(0, |divisor, &value| gcd(divisor, value.abs()));
    if divisor > 1 {
        at.iter_mut().for_each(|value| *value /= divisor);
    }
    at
}

fn gcd(a: i128, b: i128) -> i128 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// Whether every integer point of n times the hull is the sum of n geometries, for all n up to `gpus`: then the facets alone decide
/// what `gpus` GPUs can hold.
///
/// Looks at n up to the number of profiles less one, which is enough for every n: the cone over a lattice polytope of d dimensions is
/// generated in degrees below d (`reference/ilp.md` section 1).
pub fn decomposes(facets: &[Facet], maximal: &[Geometry], gpus: u32) -> bool {
    let profiles = maximal.first().map_or(0, |geometry| geometry.0.len());
    let enough = gpus.min(profiles.saturating_sub(1).max(1) as u32);
    (1..=enough).all(|n| walk(facets, maximal, n, &mut vec![0; profiles], profiles))
}

/// Whether all points of `gpus` times the hull with these counts from `open` on can be split. Of profile 0 as many as fit: fewer are easier.
fn walk(facets: &[Facet], maximal: &[Geometry], gpus: u32, counts: &mut [u32], open: usize) -> bool {
    let allowed = |counts: &[u32]| facets.iter().all(|facet| facet.allows(counts, gpus));
    let Some(profile) = open.checked_sub(1) else { return splits(facets, maximal, gpus, counts) };
    // A profile without any facet that limits it would go on for ever; there is none in the facets of a catalog.
    if !facets.iter().any(|facet| facet.alpha.get(profile).is_some_and(|&alpha| alpha > 0)) {
        return false;
    }
    let mut fine = true;
    for n in 0.. {
        counts[profile] = n;
        if !fine || !allowed(counts) {
            break;
        }
        counts[profile] = n + 1;
        let most = !allowed(counts);
        counts[profile] = n;
        if profile > 0 || most {
            fine = walk(facets, maximal, gpus, counts, profile);
        }
    }
    counts[profile] = 0;
    fine
}

/// Whether a GPU can be taken off so that the rest is in n - 1 times the hull.
fn splits(facets: &[Facet], maximal: &[Geometry], n: u32, counts: &[u32]) -> bool {
    maximal.iter().any(|geometry| {
        let rest: Vec<u32> = counts.iter().zip(&geometry.0).map(|(n, part)| n.saturating_sub(*part)).collect();
        facets.iter().all(|facet| facet.allows(&rest, n - 1)) && (n > 1 || rest.iter().all(|&n| n == 0))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::Catalog;

    fn of(catalog: &Catalog) -> Vec<Facet> {
        facets(catalog.profiles.len(), &catalog.maximal_geometries(&[])).unwrap()
    }

    fn facet(most: u32, alpha: &[u32]) -> Facet {
        Facet { most, alpha: alpha.to_vec() }
    }

    #[test]
    fn seven_slices_have_exactly_the_four_inequalities() {
        let expected = [facet(1, &[0, 0, 0, 1, 1]), facet(3, &[0, 1, 1, 2, 3]), facet(7, &[1, 2, 3, 4, 7]), facet(8, &[1, 2, 4, 4, 8])];
        assert_eq!(of(&Catalog::seven_slices("A100", 80 * 1024)), expected);
    }

    #[test]
    fn the_double_memory_1g_adds_a_column_and_no_row() {
        let catalog = Catalog::seven_slices_and_double("H100", 80 * 1024);
        let expected =
            [facet(1, &[0, 0, 0, 0, 1, 1]), facet(3, &[0, 0, 1, 1, 2, 3]), facet(7, &[1, 1, 2, 3, 4, 7]), facet(8, &[1, 2, 2, 4, 4, 8])];
        assert_eq!(of(&catalog), expected);
    }

    #[test]
    fn four_slices_need_one_row_however_many_memory_units_they_have() {
        assert_eq!(of(&Catalog::four_slices("A30", 24 * 1024)), [facet(4, &[1, 2, 4])]);
        assert_eq!(of(&Catalog::twelve_units("RTX PRO 6000", 96 * 1024)), [facet(4, &[1, 2, 4])]);
    }

    #[test]
    fn a_profile_that_fits_nowhere_is_limited_to_none() {
        let mut catalog = Catalog::four_slices("A30", 24 * 1024);
        catalog.profiles[1].starts.clear();
        assert_eq!(of(&catalog), [facet(0, &[0, 1, 0]), facet(4, &[1, 0, 4])]);
    }

    #[test]
    fn whatever_is_pinned_the_facets_hold_for_every_geometry_and_are_met() {
        for catalog in [Catalog::seven_slices("A100", 8), Catalog::seven_slices_and_double("H100", 8)] {
            for pinned in catalog.partitions().iter().filter(|partition| partition.sites().len() <= 2) {
                let maximal = catalog.maximal_geometries(pinned.sites());
                let found = facets(catalog.profiles.len(), &maximal).unwrap();
                assert!(found.iter().all(|facet| maximal.iter().all(|g| facet.allows(&g.0, 1))), "{pinned:?}");
                let met = |facet: &Facet| maximal.iter().any(|g| facet.used(&g.0) == u64::from(facet.most));
                assert!(found.iter().all(met), "{pinned:?} {found:?}");
                assert!(decomposes(&found, &maximal, 1), "{pinned:?} {found:?}");
            }
        }
    }

    #[test]
    fn every_integer_point_of_n_hulls_splits_into_n_gpus() {
        let catalogs = [
            Catalog::seven_slices("A100", 8),
            Catalog::seven_slices_and_double("H100", 8),
            Catalog::four_slices("A30", 4),
            Catalog::twelve_units("RTX PRO 6000", 12),
        ];
        for catalog in catalogs {
            assert!(decomposes(&of(&catalog), &catalog.maximal_geometries(&[]), 8), "{}", catalog.name);
        }
    }

    #[test]
    fn a_hull_with_a_hole_is_noticed() {
        // {0, 2} without 1 is not down-closed, so take two profiles: (2,0) and (0,2) without (1,1), which lies between them.
        let maximal = [Geometry(vec![2, 0]), Geometry(vec![0, 2])];
        let found = facets(2, &maximal).unwrap();
        assert_eq!(found, [facet(2, &[1, 1])]);
        assert!(!decomposes(&found, &maximal, 1));
    }

    /// The sums of n geometries, the slow way: as many as the points of n hulls (38, 265, 1047 in `reference/ilp.md` section 1).
    #[test]
    fn the_points_of_n_hulls_are_the_sums_of_n_geometries() {
        let catalog = Catalog::seven_slices("A100", 8);
        let single: BTreeSet<Vec<u32>> = catalog.partitions().iter().map(|p| Geometry::of(&catalog, p).0).collect();
        let (rows, mut sums) = (of(&catalog), single.clone());
        for (gpus, expected) in [(1, 38), (2, 265), (3, 1047)] {
            if gpus > 1 {
                let sum = |a: &Vec<u32>, b: &Vec<u32>| a.iter().zip(b).map(|(x, y)| x + y).collect::<Vec<u32>>();
                sums = sums.iter().flat_map(|a| single.iter().map(move |b| sum(a, b))).collect();
            }
            let mut points = 0;
            for code in 0..(7 * gpus + 1) * (3 * gpus + 1) * (2 * gpus + 1) * (gpus + 1) * (gpus + 1) {
                let (mut code, mut counts) = (code, Vec::new());
                for most in [7 * gpus, 3 * gpus, 2 * gpus, gpus, gpus] {
                    counts.push(code % (most + 1));
                    code /= most + 1;
                }
                if rows.iter().all(|row| row.allows(&counts, gpus)) {
                    assert!(sums.contains(&counts), "{counts:?}");
                    points += 1;
                }
            }
            assert_eq!((points, sums.len()), (expected, expected));
        }
    }
}
