//! One GPU of the host: who it is, whether it is cut up by MIG, and how users name it.

use super::fault::Fault;
use super::layout::Layout;
use super::observe::MigDevice;
use super::sys::{DeviceHandle, GiInfo, Session};
use crate::{DeviceError, Gpu};

/// An instance that somebody else made.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    pub(crate) id: u64,
    pub(crate) info: GiInfo,
    /// Ids of its compute instances.
    pub(crate) cis: Vec<u32>,
    pub(crate) mig: Option<MigDevice>,
}

/// Who a GPU is.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    pub(crate) index: u32,
    pub(crate) handle: DeviceHandle,
    pub(crate) uuid: String,
    pub(crate) bus_id: String,
    pub(crate) product: String,
}

impl Identity {
    pub(crate) fn read(session: &Session, index: u32) -> Result<Identity, Fault> {
        let handle = session.gpu(index)?;
        let (uuid, bus_id, product) = (session.uuid(handle)?, session.bus_id(handle)?, session.name(handle)?);
        Ok(Identity { index, handle, uuid, bus_id, product })
    }

    /// Whether a user who says this means this GPU.
    pub(crate) fn is_called(&self, name: &str) -> bool {
        let bus = |text: &str| parse_bus(text).is_some_and(|bus| Some(bus) == parse_bus(&self.bus_id));
        name.parse() == Ok(self.index) || name.eq_ignore_ascii_case(&self.uuid) || bus(name)
    }
}

/// Domain, bus, device and function of `00000000:65:00.0`; drivers and users write 4 or 8 digits of the domain, or none.
fn parse_bus(text: &str) -> Option<[u32; 4]> {
    let (rest, function) = text.rsplit_once('.')?;
    let (rest, device) = rest.rsplit_once(':')?;
    let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0", rest));
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    Some([hex(domain)?, hex(bus)?, hex(device)?, hex(function)?])
}

/// The GPUs of the host that answer, in index order.
pub(crate) fn all(session: &Session) -> Result<Vec<Identity>, DeviceError> {
    let count = session.gpu_count().map_err(Fault::alone)?;
    let mut found = Vec::new();
    for index in 0..count {
        match Identity::read(session, index) {
            Ok(identity) => found.push(identity),
            Err(fault) => tracing::warn!(gpu = index, %fault, "a GPU does not tell who it is and is left out"),
        }
    }
    Ok(found)
}

/// The GPUs of these names, each once, in index order.
pub(crate) fn named(session: &Session, names: &[String]) -> Result<Vec<Identity>, DeviceError> {
    let all = all(session)?;
    let list = || match all.as_slice() {
        [] => "there are none".to_owned(),
        all => {
            all.iter().map(|gpu| format!("{} = {} ({}, {})", gpu.index, gpu.product, gpu.uuid, gpu.bus_id)).collect::<Vec<_>>().join("; ")
        }
    };
    if names.is_empty() {
        return Err(DeviceError::Options(format!("name the GPUs that may be managed; {}", list())));
    }
    for name in names {
        if !all.iter().any(|gpu| gpu.is_called(name)) {
            return Err(DeviceError::Options(format!("no GPU is called {name:?}; {}", list())));
        }
    }
    Ok(all.iter().filter(|gpu| names.iter().any(|name| gpu.is_called(name))).cloned().collect())
}

/// Whether MIG is on; an error when that is about to change.
pub(crate) fn is_cut_up(session: &Session, gpu: &Identity) -> Result<bool, DeviceError> {
    let index = gpu.index;
    match session.mig_mode(gpu.handle) {
        Ok((current, pending)) if current == pending => Ok(current == 1),
        Ok((current, _)) => {
            let (is, will) = if current == 1 { ("on", "off") } else { ("off", "on") };
            let why = format!("MIG is {is} and will be {will} after a reset of the GPU; reset it, or switch the mode back");
            Err(DeviceError::Mode { gpu: index, why })
        }
        Err(fault) if fault.is_not_supported() || fault.is_old_driver() => Ok(false),
        Err(fault) => Err(fault.on(index)),
    }
}

/// A GPU that we manage.
#[derive(Debug)]
pub(crate) struct Card {
    pub(crate) identity: Identity,
    /// Whether MIG is on; the GPU is one instance otherwise.
    pub(crate) mig: bool,
    pub(crate) layout: Layout,
    /// Whether NVML reads its performance counters.
    pub(crate) counters: bool,
    pub(crate) lost: bool,
    /// How often in a row it did not answer.
    pub(crate) strikes: u32,
    /// Something was found that we did not do, and nobody was told yet.
    pub(crate) changed: bool,
    pub(crate) foreign: Vec<Foreign>,
}

impl Card {
    pub(crate) fn open(session: &Session, identity: Identity) -> Result<Card, DeviceError> {
        let index = identity.index;
        let mig = is_cut_up(session, &identity)?;
        let (total, _) = session.memory(identity.handle).map_err(|fault| fault.on(index))?;
        let memory_mib = total >> 20;
        let layout = if mig {
            Layout::read(session, identity.handle, &identity.product, memory_mib).map_err(|fault| fault.on(index))?
        } else {
            Layout::whole(&identity.product, memory_mib)
        };
        if let Err(error) = layout.catalog.check() {
            return Err(DeviceError::Mode { gpu: index, why: format!("its profiles make no sense: {error}") });
        }
        let counters = session.has_counters(identity.handle).unwrap_or(false);
        let card = Card { identity, mig, layout, counters, lost: false, strikes: 0, changed: false, foreign: Vec::new() };
        Ok(card)
    }

    pub(crate) fn index(&self) -> u32 {
        self.identity.index
    }

    pub(crate) fn gpu(&self) -> Gpu {
        Gpu { index: self.index(), uuid: self.identity.uuid.clone(), catalog: self.layout.catalog.clone(), cores_per_slice: 1.0 }
    }

    /// `GPU 0 NVIDIA A30, MIG: 5 profiles`.
    pub(crate) fn describe(&self) -> String {
        let how = match (self.mig, self.layout.differences.len()) {
            (false, _) => {
                "MIG is off or there is none, so it is one instance, and creating and destroying it is bookkeeping only".to_owned()
            }
            (true, 0) => "cut up by MIG, as its shipped board says".to_owned(),
            (true, n) => format!("cut up by MIG, in {n} points unlike its shipped board"),
        };
        format!("GPU {} {} ({}): {how}", self.index(), self.identity.product, self.identity.uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_id_is_the_same_with_and_without_its_domain() {
        assert_eq!(parse_bus("00000000:65:00.0"), parse_bus("65:00.0"));
        assert_eq!(parse_bus("0000:C3:1f.1"), Some([0, 0xc3, 0x1f, 1]));
        assert_ne!(parse_bus("0001:65:00.0"), parse_bus("0000:65:00.0"));
        assert_eq!(parse_bus("GPU-1"), None);
        assert_eq!(parse_bus("3"), None);
    }
}
