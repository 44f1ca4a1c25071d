//! Which instance counts the GPUs can hold: classes of alike GPUs, kinds of instances, rows over counts.

use std::collections::BTreeMap;

use migrator_mig::{Catalog, Facet, Geometry, Partition, ProfileId, Site, decomposes, facets};
use serde::{Deserialize, Serialize};

use crate::problem::{GpuState, Problem};

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
    /// Number of profiles.
    pub profiles: usize,
    /// Sites that overlap nothing pinned, by start.
    pub sites: Vec<Site>,
    /// Legal partitions of one GPU that contain the pinned sites.
    pub partitions: Vec<Partition>,
    /// Counts by profile of each of those partitions, pinned sites left out.
    pub counts: Vec<Vec<u32>>,
    /// How many instances of each profile fit beside each of those partitions.
    pub beside: Vec<Vec<u32>>,
    /// Most instances of each profile in any of those partitions.
    most: Vec<u32>,
    /// What one GPU's counts obey; n GPUs together, n times as much.
    pub facets: Vec<Facet>,
    /// Whether the facets alone decide what the class holds.
    pub exact: bool,
    /// Counts that no other contains.
    maximal: Vec<Geometry>,
    /// Kind of profile 0; the others follow.
    first: u16,
}

/// What the GPUs of a problem can be cut into.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// What it follows from: the catalogs, and each GPU's model and pinned sites.
    catalogs: Vec<Catalog>,
    gpus: Vec<(usize, Vec<Site>)>,
    classes: Vec<Class>,
    /// Class of each GPU.
    of: Vec<usize>,
    kinds: Vec<Kind>,
    rows: Vec<Row>,
}

impl Shape {
    pub fn new(problem: &Problem) -> Shape {
        let catalogs = problem.models.iter().map(|model| model.catalog.clone()).collect();
        let mut shape = Shape { catalogs, gpus: gpus(problem), classes: Vec::new(), of: Vec::new(), kinds: Vec::new(), rows: Vec::new() };
        for (gpu, (model, pinned)) in shape.gpus.clone().into_iter().enumerate() {
            let known = shape.classes.iter().position(|class| class.model == model && class.pinned == pinned);
            let class = known.unwrap_or_else(|| shape.add(problem, model, pinned));
            shape.classes[class].gpus.push(gpu);
            shape.of.push(class);
        }
        for class in &mut shape.classes {
            class.exact = class.decomposes(&problem.models[class.model].catalog);
        }
        shape.rows = shape.classes.iter().flat_map(|class| class.rows(shape.kinds.len())).collect();
        shape
    }

    /// The kinds alone, for valuing plans: what fits is not known, so nothing does. No partition is listed, of which some catalogs have too many.
    pub fn kinds_of(problem: &Problem) -> Shape {
        let mut shape =
            Shape { catalogs: Vec::new(), gpus: Vec::new(), classes: Vec::new(), of: Vec::new(), kinds: Vec::new(), rows: Vec::new() };
        for (gpu, state) in problem.gpus.iter().enumerate() {
            let known = shape.classes.iter().position(|class| class.model == state.model);
            let class = known.unwrap_or_else(|| {
                let catalog = &problem.models[state.model].catalog;
                let (class, first) = (shape.classes.len(), shape.kinds.len() as u16);
                shape.kinds.extend(catalog.profile_ids().map(|profile| Kind { class, model: state.model, profile }));
                shape.classes.push(Class::unknown(catalog, state.model, first));
                class
            });
            shape.classes[class].gpus.push(gpu);
            shape.of.push(class);
        }
        shape
    }

    /// Whether it is this problem's as well: it holds whatever the tenants do.
    pub fn suits(&self, problem: &Problem) -> bool {
        self.gpus == gpus(problem) && self.catalogs.iter().eq(problem.models.iter().map(|model| &model.catalog))
    }

    fn add(&mut self, problem: &Problem, model: usize, pinned: Vec<Site>) -> usize {
        let catalog = &problem.models[model].catalog;
        let (class, first) = (self.classes.len(), self.kinds.len() as u16);
        self.kinds.extend(catalog.profile_ids().map(|profile| Kind { class, model, profile }));
        self.classes.push(Class::new(catalog, model, pinned, first));
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
        self.classes[self.of[gpu]].kind(profile)
    }

    /// What any counts that fit obey: all facets of all classes, each times the number of its GPUs.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether the rows alone decide what fits.
    #[cfg(test)]
    pub fn exact(&self) -> bool {
        self.classes.iter().all(|class| class.exact)
    }

    /// Whether these counts by kind, pinned instances left out, can be cut.
    pub fn fits(&self, counts: &[u32]) -> bool {
        self.classes.iter().all(|class| class.fits(&counts[usize::from(class.first)..][..class.profiles]))
    }
}

/// Model and pinned sites of every GPU.
fn gpus(problem: &Problem) -> Vec<(usize, Vec<Site>)> {
    let gpu = |state: &GpuState| {
        let mut pinned: Vec<Site> = state.instances.iter().filter(|old| old.pinned).map(|old| old.site).collect();
        pinned.sort();
        (state.model, pinned)
    };
    problem.gpus.iter().map(gpu).collect()
}

/// How many instances of a profile fit beside a partition, of these free sites by start.
fn fit_beside(sites: &[Site], partition: &Partition, profile: ProfileId) -> u32 {
    let (mut end, mut count) = (0, 0);
    for site in sites.iter().filter(|site| site.profile == profile) {
        let clear = site.placement.start >= end && !partition.sites().iter().any(|other| other.placement.overlaps(site.placement));
        if clear {
            (end, count) = (site.placement.end(), count + 1);
        }
    }
    count
}

impl Class {
    fn new(catalog: &Catalog, model: usize, pinned: Vec<Site>, first: u16) -> Class {
        let free = catalog.partitions_around(&pinned);
        let counts: Vec<Vec<u32>> = free.iter().map(|partition| Geometry::of(catalog, partition).0).collect();
        let known = known_facets(catalog).filter(|_| pinned.is_empty());
        let maximal = if known.is_some() { Vec::new() } else { catalog.maximal_geometries(&pinned) };
        let facets = known.or_else(|| facets(catalog.profiles.len(), &maximal)).unwrap_or_else(|| slices(catalog, &counts));
        let whole = |partition: &Partition| Partition::new(catalog, [partition.sites(), &pinned].concat()).ok();
        let partitions = if pinned.is_empty() { free } else { free.iter().filter_map(whole).collect() };
        let sites = catalog.sites_around(&pinned);
        let profiles = catalog.profiles.len();
        let fit = |partition: &Partition| catalog.profile_ids().map(|profile| fit_beside(&sites, partition, profile)).collect();
        let beside = partitions.iter().map(fit).collect();
        let most = (0..profiles).map(|profile| counts.iter().map(|counts: &Vec<u32>| counts[profile]).max().unwrap_or(0)).collect();
        Class { model, pinned, gpus: Vec::new(), profiles, sites, partitions, counts, beside, most, facets, exact: false, maximal, first }
    }

    /// A class of which only the kinds are known.
    fn unknown(catalog: &Catalog, model: usize, first: u16) -> Class {
        let none = Facet { most: 0, alpha: vec![1; catalog.profiles.len()] };
        Class {
            model,
            pinned: Vec::new(),
            gpus: Vec::new(),
            profiles: catalog.profiles.len(),
            sites: Vec::new(),
            partitions: Vec::new(),
            counts: Vec::new(),
            beside: Vec::new(),
            most: vec![0; catalog.profiles.len()],
            facets: vec![none],
            exact: true,
            maximal: Vec::new(),
            first,
        }
    }

    /// The kind of a profile on a GPU of this class.
    pub fn kind(&self, profile: ProfileId) -> KindId {
        KindId(self.first + u16::from(profile.0))
    }

    /// Most instances of a profile on one GPU.
    pub fn most(&self, profile: ProfileId) -> u32 {
        self.most[profile.index()]
    }

    /// Whether the facets say it all: proven for the catalogs whose facets are known, else by looking.
    fn decomposes(&self, catalog: &Catalog) -> bool {
        let known = self.pinned.is_empty() && known_facets(catalog).is_some();
        let small = self.gpus.len() <= MOST_LOOKED_AT && self.profiles <= MOST_PROFILES;
        known || small && decomposes(&self.facets, &self.maximal, self.gpus.len() as u32)
    }

    fn rows(&self, kinds: usize) -> impl Iterator<Item = Row> + '_ {
        let gpus = self.gpus.len() as u32;
        self.facets.iter().map(move |facet| {
            let mut alpha = vec![0; kinds];
            alpha[usize::from(self.first)..][..self.profiles].copy_from_slice(&facet.alpha);
            Row { alpha, most: facet.most * gpus }
        })
    }

    /// Whether the GPUs of this class can have these counts by profile, pinned instances left out.
    pub fn fits(&self, counts: &[u32]) -> bool {
        let gpus = self.gpus.len() as u32;
        self.facets.iter().all(|facet| facet.allows(counts, gpus)) && (self.exact || self.split(counts, gpus, &mut BTreeMap::new()))
    }

    fn split(&self, counts: &[u32], gpus: u32, known: &mut BTreeMap<(u32, Vec<u32>), bool>) -> bool {
        if counts.iter().all(|&n| n == 0) {
            return true;
        }
        if !self.facets.iter().all(|facet| facet.allows(counts, gpus)) {
            return false;
        }
        let key = (gpus, counts.to_vec());
        if let Some(&fits) = known.get(&key) {
            return fits;
        }
        let rest = |one: &Geometry| counts.iter().zip(&one.0).map(|(n, part)| n.saturating_sub(*part)).collect::<Vec<u32>>();
        let fits = gpus > 0 && self.maximal.iter().any(|one| rest(one) != counts && self.split(&rest(one), gpus - 1, known));
        known.insert(key, fits);
        fits
    }
}

/// Largest classes for which it is looked whether the facets say it all; beyond, counts are tried GPU by GPU.
const MOST_LOOKED_AT: usize = 2;
const MOST_PROFILES: usize = 7;

/// The facets of the geometries that boards have: with them alone, the integer points of n times the hull are what n GPUs hold, for all n
/// (`reference/ilp.md` section 1; the tests compare them with what is computed, and look at every point).
fn known_facets(catalog: &Catalog) -> Option<Vec<Facet>> {
    let same = |reference: &[(u8, &[u8])]| {
        let pairs = catalog.profiles.iter().zip(reference);
        catalog.profiles.len() == reference.len()
            && pairs.into_iter().all(|(p, (size, starts))| p.memory_slices == *size && p.starts == *starts)
    };
    let rows = |rows: &[(u32, &[u32])]| Some(rows.iter().map(|(most, alpha)| Facet { most: *most, alpha: alpha.to_vec() }).collect());
    if same(&[(1, &[0, 1, 2, 3, 4, 5, 6]), (2, &[0, 2, 4]), (4, &[0, 4]), (4, &[0]), (8, &[0])]) {
        return rows(&[
            // (a) N_4g + N_7g ≤ |G|
            (1, &[0, 0, 0, 1, 1]),
            // (b) N_2g + N_3g + 2 N_4g + 3 N_7g ≤ 3 |G|
            (3, &[0, 1, 1, 2, 3]),
            // (c) compute: N_1g + 2 N_2g + 3 N_3g + 4 N_4g + 7 N_7g ≤ 7 |G|
            (7, &[1, 2, 3, 4, 7]),
            // (d) memory: N_1g + 2 N_2g + 4 N_3g + 4 N_4g + 8 N_7g ≤ 8 |G|
            (8, &[1, 2, 4, 4, 8]),
        ]);
    }
    if same(&[(1, &[0, 1, 2, 3, 4, 5, 6]), (2, &[0, 2, 4, 6]), (2, &[0, 2, 4]), (4, &[0, 4]), (4, &[0]), (8, &[0])]) {
        // The same, and for the 1g of double memory: 1 in (c), 2 in (d).
        return rows(&[(1, &[0, 0, 0, 0, 1, 1]), (3, &[0, 0, 1, 1, 2, 3]), (7, &[1, 1, 2, 3, 4, 7]), (8, &[1, 2, 2, 4, 4, 8])]);
    }
    // N_1g + 2 N_2g + 4 N_4g ≤ 4 |G|
    let four = same(&[(1, &[0, 1, 2, 3]), (2, &[0, 2]), (4, &[0])]) || same(&[(3, &[0, 3, 6, 9]), (6, &[0, 6]), (12, &[0])]);
    if four { rows(&[(4, &[1, 2, 4])]) } else { None }
}

/// What any catalog obeys, should it be too large for its facets: compute and memory slices, as many as the fullest partition has.
fn slices(catalog: &Catalog, counts: &[Vec<u32>]) -> Vec<Facet> {
    let row = |of: &dyn Fn(&migrator_mig::Profile) -> u8| {
        let alpha: Vec<u32> = catalog.profiles.iter().map(|profile| u32::from(of(profile))).collect();
        let used = |counts: &Vec<u32>| counts.iter().zip(&alpha).map(|(n, alpha)| n * alpha).sum();
        Facet { most: counts.iter().map(used).max().unwrap_or(0), alpha }
    };
    vec![row(&|profile| profile.compute_slices), row(&|profile| profile.memory_slices)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{instance, problem, tenant};

    fn catalogs() -> [Catalog; 4] {
        [
            Catalog::seven_slices("A100", 8),
            Catalog::seven_slices_and_double("H100", 8),
            Catalog::four_slices("A30", 4),
            Catalog::twelve_units("RTX PRO 6000", 12),
        ]
    }

    fn host(catalog: &Catalog, gpus: usize) -> Problem {
        let mut host = problem(vec![tenant("vision", 40.0)]);
        host.models[0].catalog = catalog.clone();
        host.gpus = vec![host.gpus[0].clone(); gpus];
        host
    }

    #[test]
    fn the_facets_that_are_known_are_those_that_are_found_and_say_it_all() {
        for catalog in catalogs() {
            let known = known_facets(&catalog).unwrap();
            let maximal = catalog.maximal_geometries(&[]);
            assert_eq!(Some(&known), facets(catalog.profiles.len(), &maximal).as_ref());
            assert!(decomposes(&known, &maximal, u32::MAX));
        }
    }

    #[test]
    fn seven_slices_have_exactly_the_four_rows_times_the_gpus() {
        let shape = Shape::new(&host(&catalogs()[0], 3));
        let rows: Vec<(&[u32], u32)> = shape.rows().iter().map(|row| (&row.alpha[..], row.most)).collect();
        assert!(shape.exact());
        assert_eq!(rows, [(&[0, 0, 0, 1, 1][..], 3), (&[0, 1, 1, 2, 3], 9), (&[1, 2, 3, 4, 7], 21), (&[1, 2, 4, 4, 8], 24)]);
    }

    /// Every vector of counts up to one beyond what the GPUs can have of each profile.
    fn every(class: &Class, gpus: u32) -> Vec<Vec<u32>> {
        let mut all = vec![Vec::new()];
        for profile in 0..class.profiles {
            let most = class.most(ProfileId(profile as u8)) * gpus + 1;
            all = all.into_iter().flat_map(|counts| (0..=most).map(move |n| [&counts[..], &[n]].concat())).collect();
        }
        all
    }

    #[test]
    fn the_rows_are_exact_for_one_and_two_gpus_whatever_is_pinned() {
        for catalog in [&catalogs()[0], &catalogs()[2]] {
            let pins = catalog.partitions().into_iter().filter(|partition| partition.sites().len() <= 1);
            for (pin, gpus) in pins.flat_map(|pin| [(pin.clone(), 1), (pin, 2)]) {
                let mut problem = host(catalog, gpus as usize);
                for gpu in &mut problem.gpus {
                    let pinned = |site: &Site| crate::InstanceState { site: *site, pinned: true, ..instance(1, 0, 0, None) };
                    gpu.instances = pin.sites().iter().map(pinned).collect();
                }
                let shape = Shape::new(&problem);
                let mut class = shape.classes[0].clone();
                class.maximal = catalog.maximal_geometries(pin.sites());
                for counts in every(&class, gpus) {
                    assert_eq!(
                        shape.fits(&counts),
                        class.split(&counts, gpus, &mut BTreeMap::new()),
                        "{counts:?} around {pin:?} on {gpus}"
                    );
                }
            }
        }
    }

    #[test]
    fn another_catalog_is_as_exact_as_it_can_be() {
        let mut catalog = Catalog::seven_slices("A100", 80 * 1024);
        catalog.profiles.truncate(2);
        let shape = Shape::new(&host(&catalog, 1));
        assert!(shape.exact() && shape.fits(&[1, 3]) && !shape.fits(&[2, 3]));
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
