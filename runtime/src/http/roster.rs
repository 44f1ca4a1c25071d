//! The tenants that are served: looked up by every request, changed by a reload.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::{ArcSwap, Guard};
use metrics::Histogram;
use migrator_models::TensorSpec;

use super::TenantFront;
use super::error::ApiError;
use super::limit::{Gate, Quota};
use super::recent::{Recent, Remember};

/// A tenant and its inputs, resolved once.
pub(crate) struct Tenant {
    /// Its name.
    pub name: String,
    pub front: Arc<dyn TenantFront>,
    pub inputs: Vec<TensorSpec>,
    pub output: String,
    /// Whether its requests are refused by a client's wish.
    pub unloaded: AtomicBool,
    /// Its quota.
    pub gate: Gate,
    /// Requests whose labels may still come, where the tenant wants that; set before the first comes.
    pub recent: OnceLock<Recent>,
    /// Seconds that a request took beyond the computation of its batch.
    pub added: Histogram,
    /// Whether the server was ready without it once: the server does not stop being so while its first instance is made.
    pub late: bool,
}

impl Tenant {
    fn new(name: String, front: Arc<dyn TenantFront>, late: bool) -> Tenant {
        let (inputs, output) = (front.spec().inputs(), front.spec().output().name);
        let added = metrics::histogram!("migrator_added_seconds", "tenant" => name.clone());
        let (unloaded, gate, recent) = (AtomicBool::new(false), Gate::default(), OnceLock::new());
        Tenant { name, inputs, output, front, unloaded, gate, recent, added, late }
    }
}

/// Tenants by name.
pub(crate) type Tenants = BTreeMap<String, Arc<Tenant>>;

/// The tenants that are served now.
pub(crate) struct Roster {
    tenants: ArcSwap<Tenants>,
    /// Names of those that have left: their series are shown no longer.
    gone: ArcSwap<BTreeSet<String>>,
    /// One change at a time.
    changing: Mutex<()>,
}

impl Roster {
    pub fn new(fronts: BTreeMap<String, Arc<dyn TenantFront>>) -> Roster {
        let tenants = fronts.into_iter().map(|(name, front)| (name.clone(), Arc::new(Tenant::new(name, front, false))));
        Roster { tenants: ArcSwap::from_pointee(tenants.collect()), gone: ArcSwap::default(), changing: Mutex::default() }
    }

    /// All of them.
    pub fn all(&self) -> Guard<Arc<Tenants>> {
        self.tenants.load()
    }

    /// One by its name.
    pub fn get(&self, name: &str) -> Option<Arc<Tenant>> {
        self.tenants.load().get(name).cloned()
    }

    /// Names of those that have left.
    pub fn gone(&self) -> Arc<BTreeSet<String>> {
        self.gone.load_full()
    }

    /// One that comes while the server runs.
    pub fn join(&self, name: &str, front: Arc<dyn TenantFront>, quota: Quota, labels: Option<Remember>) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let tenant = Tenant::new(name.to_owned(), front, true);
        tenant.gate.set(quota);
        if let Some(how) = labels {
            let _ = tenant.recent.set(Recent::new(how));
        }
        let (mut tenants, mut gone) = ((**self.tenants.load()).clone(), (**self.gone.load()).clone());
        tenants.insert(name.to_owned(), Arc::new(tenant));
        gone.remove(name);
        self.gone.store(Arc::new(gone));
        self.tenants.store(Arc::new(tenants));
    }

    /// Lets no request of a tenant in any more; gives it, to wait for those that are in.
    pub fn leave(&self, name: &str) -> Option<Arc<Tenant>> {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut tenants = (**self.tenants.load()).clone();
        let tenant = tenants.remove(name)?;
        self.tenants.store(Arc::new(tenants));
        Some(tenant)
    }

    /// Shows the series of a tenant that has left no longer.
    pub fn forget(&self, name: &str) {
        let _one = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.tenants.load().contains_key(name) {
            let mut gone = (**self.gone.load()).clone();
            gone.insert(name.to_owned());
            self.gone.store(Arc::new(gone));
        }
    }

    /// The tenant that a name in a URL means: a tenant's name, or the name of a model that one tenant only serves.
    pub fn meant(&self, name: &str) -> Result<Arc<Tenant>, ApiError> {
        let tenants = self.tenants.load();
        if let Some(tenant) = tenants.get(name) {
            return Ok(Arc::clone(tenant));
        }
        let serving: Vec<&Arc<Tenant>> = tenants.values().filter(|tenant| tenant.front.spec().name == name).collect();
        match serving[..] {
            [tenant] => Ok(Arc::clone(tenant)),
            [] => Err(ApiError::not_found(format!("unknown model: {name:?} is not among {}", list(tenants.keys())))),
            _ => {
                let names = list(serving.iter().map(|tenant| &tenant.name));
                Err(ApiError::not_found(format!("model {name:?} is served for several tenants: ask for one of {names}")))
            }
        }
    }
}

pub(super) fn list<'n>(names: impl Iterator<Item = &'n String>) -> String {
    names.map(String::as_str).collect::<Vec<_>>().join(", ")
}
