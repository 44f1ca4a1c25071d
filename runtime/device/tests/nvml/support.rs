//! A fake host in a folder of its own, and the device that is opened on it.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fake_nvml::{FakeHost, HostSpec};
use migrator_device::{Device, DeviceError, Instance, NvmlDevice, NvmlOptions};
use migrator_mig::{Placement, Site};
use tempfile::TempDir;

pub(crate) struct Bench {
    pub(crate) host: FakeHost,
    folder: TempDir,
}

impl Bench {
    /// GPUs of these boards, MIG on.
    pub(crate) fn new(boards: &[&str]) -> Bench {
        Bench::of(&HostSpec::of(boards))
    }

    pub(crate) fn of(spec: &HostSpec) -> Bench {
        let folder = tempfile::tempdir().unwrap();
        let host = FakeHost::create(&folder.path().join("host"), spec).unwrap();
        Bench { host, folder }
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.folder.path().join("nvml.json")
    }

    /// All GPUs, and little patience: what is in use is tried four times.
    pub(crate) fn options(&self) -> NvmlOptions {
        let gpus = (0..self.host.calls().map_or(0, |_| gpus(&self.host))).map(|gpu| gpu.to_string()).collect();
        let mut options = NvmlOptions::new(gpus, self.record());
        options.library = Some(self.host.library().unwrap());
        options.destroy_deadline = Duration::from_millis(100);
        options
    }

    pub(crate) fn open(&self) -> NvmlDevice {
        self.try_open().unwrap()
    }

    pub(crate) fn try_open(&self) -> Result<NvmlDevice, DeviceError> {
        NvmlDevice::open(self.options())
    }

    /// What the hardware holds on GPU 0, as (start, size, whether it has exactly one compute instance).
    pub(crate) fn holds(&self) -> Vec<(u8, u8, bool)> {
        let found = self.host.instances(0).unwrap();
        found.iter().map(|i| (i.placement.start, i.placement.size, i.computes.len() == 1)).collect()
    }

    /// The hardware holds nothing that it may not, and on GPU 0 exactly these, each complete and listed by the device once.
    pub(crate) fn settled(&self, device: &NvmlDevice, sites: &[Site]) {
        assert_eq!(self.host.audit().unwrap(), Vec::<String>::new());
        let expected: Vec<_> = sites.iter().map(|site| (site.placement.start, site.placement.size, true)).collect();
        assert_eq!(self.holds(), expected);
        let listed = device.instances().unwrap();
        assert_eq!(listed.iter().map(|instance| instance.site).collect::<Vec<_>>(), sites);
        assert!(listed.iter().all(|instance| !instance.foreign), "{listed:?}");
        let uuids: Vec<String> = self.host.instances(0).unwrap().iter().map(|instance| instance.computes[0].1.clone()).collect();
        assert_eq!(listed.iter().map(|instance| instance.uuid.clone().unwrap()).collect::<Vec<_>>(), uuids);
    }
}

fn gpus(host: &FakeHost) -> usize {
    (0..).take_while(|&gpu| host.mode(gpu).is_ok()).count()
}

/// The site of a profile by name (`3g`) at a start, on GPU 0.
pub(crate) fn site(device: &NvmlDevice, name: &str, start: u8) -> Site {
    let catalog = device.gpus()[0].catalog.clone();
    let profile = catalog.by_name(name).unwrap();
    Site { placement: Placement { start, size: catalog.profile(profile).memory_slices }, profile }
}

pub(crate) fn sites(instances: &[Instance]) -> Vec<Site> {
    instances.iter().map(|instance| instance.site).collect()
}

/// A process that does nothing until it is dropped.
pub(crate) struct Sleeper(Child);

impl Sleeper {
    pub(crate) fn start() -> Sleeper {
        Sleeper(Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}
