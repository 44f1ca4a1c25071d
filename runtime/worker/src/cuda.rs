//! NVIDIA's driver and libtorch's CUDA libraries, found at run time: this program starts without either.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_uint};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use migrator_wire::FailCode;

use crate::answer::Failure;

/// Holds libtorch's CUDA backend; loading it registers the backend with the libtorch that is linked.
const BACKEND: &str = "libtorch_cuda.so";

/// TorchScript's compiler of kernels, and linear algebra.
const LATE: [&str; 2] = ["libcaffe2_nvrtc.so", "libtorch_cuda_linalg.so"];

/// Where `setup/libtorch.py --cuda` puts it, seen from the folder of the linked libtorch.
const BESIDE: &str = "../cuda/torch/lib";

/// Loads libtorch's CUDA libraries, once. No GPU is touched, and none needs to be there.
pub(crate) fn load_backend() -> Result<(), Failure> {
    static LOADED: OnceLock<Result<(), String>> = OnceLock::new();
    LOADED.get_or_init(try_backend).clone().map_err(none)
}

fn try_backend() -> Result<(), String> {
    let mut reasons = Vec::new();
    for path in places() {
        // SAFETY: its initialisers register operators and set up tables; they start no thread and read nothing that is being written.
        match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                // Operators are registered for good: it must never be unloaded.
                std::mem::forget(library);
                load_late_ones(path.parent());
                return Ok(());
            }
            Err(error) => reasons.push(said(&error)),
        }
    }
    // The first place is where the setup puts it; when it is there and does not load, that is the reason to tell.
    let reason = reasons.iter().find(|reason| !reason.contains(BACKEND)).or(reasons.first());
    let reason = reason.map_or("no reason given", String::as_str);
    Err(format!("no CUDA libraries for libtorch (`make setup CUDA=1` brings them): {reason}"))
}

/// Loads what libtorch looks for by its bare name when it first needs it, and would not find beside the backend.
fn load_late_ones(folder: Option<&Path>) {
    for name in LATE {
        // SAFETY: as for the backend.
        let library = unsafe { Library::open(folder.map(|folder| folder.join(name)), RTLD_NOW) };
        match library {
            Ok(library) => std::mem::forget(library),
            // The first asks for the driver, and its lack is for `Driver::start` to tell.
            Err(error) => tracing::debug!(name, error = said(&error), "not loaded"),
        }
    }
}

/// Beside the linked libtorch, then wherever the dynamic linker looks.
fn places() -> Vec<PathBuf> {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let path = |line: &str| line.find('/').map(|at| PathBuf::from(&line[at..])).filter(|path| path.ends_with("libtorch_cpu.so"));
    let folder = maps.lines().find_map(path).and_then(|path| path.parent().map(PathBuf::from));
    let beside = folder.iter().flat_map(|folder| [folder.join(BESIDE).join(BACKEND), folder.join(BACKEND)]);
    beside.filter(|path| path.exists()).chain([PathBuf::from(BACKEND)]).collect()
}

/// Results of driver calls, `cuda.h`.
type Status = c_int;

/// The driver, initialised with one GPU in sight.
pub(crate) struct Driver {
    library: Library,
    device: c_int,
}

impl Driver {
    /// Initialises CUDA. What it sees is decided by the environment at this moment, for the rest of the process's life.
    pub(crate) fn start(visible: &str) -> Result<Driver, Failure> {
        // SAFETY: the driver's initialisers are made to run in any process.
        let library = unsafe { Library::open(Some(OsStr::new("libcuda.so.1")), RTLD_NOW) };
        let library = library.map_err(|error| none(format!("no NVIDIA driver: {}", said(&error))))?;
        let mut driver = Driver { library, device: 0 };
        driver.call::<unsafe extern "C" fn(c_uint) -> Status>(c"cuInit", |init| {
            // SAFETY: `cuInit(unsigned int flags)`, flags must be 0.
            unsafe { init(0) }
        })?;
        let mut count = 0;
        driver.call::<unsafe extern "C" fn(*mut c_int) -> Status>(c"cuDeviceGetCount", |ask| {
            // SAFETY: writes one int.
            unsafe { ask(&mut count) }
        })?;
        if count != 1 {
            return Err(none(format!("CUDA sees {count} devices as {visible}, and should see one")));
        }
        let mut device = 0;
        driver.call::<unsafe extern "C" fn(*mut c_int, c_int) -> Status>(c"cuDeviceGet", |ask| {
            // SAFETY: writes one int; device 0 exists.
            unsafe { ask(&mut device, 0) }
        })?;
        driver.device = device;
        let found = driver.uuid()?;
        let wanted = visible.split_once('-').map_or(visible, |(_, uuid)| uuid);
        if !found.eq_ignore_ascii_case(wanted) {
            return Err(none(format!("CUDA sees {found} and should see {visible}")));
        }
        Ok(driver)
    }

    /// The device's name.
    pub(crate) fn name(&self) -> Result<String, Failure> {
        const LEN: usize = 256;
        let mut name: [c_char; LEN] = [0; LEN];
        self.call::<unsafe extern "C" fn(*mut c_char, c_int, c_int) -> Status>(c"cuDeviceGetName", |ask| {
            // SAFETY: writes at most LEN bytes, terminated; one less leaves the last one zero whatever it does.
            unsafe { ask(name.as_mut_ptr(), LEN as c_int - 1, self.device) }
        })?;
        // SAFETY: the array ends with a zero that nobody wrote over.
        Ok(unsafe { CStr::from_ptr(name.as_ptr()) }.to_string_lossy().into_owned())
    }

    /// Memory of the device in use, MiB, by whomever; `None` on a thread that has not used the device yet.
    pub(crate) fn used_mib(&self) -> Option<u64> {
        let (mut free, mut total) = (0usize, 0usize);
        let asked = self.call::<unsafe extern "C" fn(*mut usize, *mut usize) -> Status>(c"cuMemGetInfo_v2", |ask| {
            // SAFETY: writes two sizes.
            unsafe { ask(&mut free, &mut total) }
        });
        asked.ok().map(|()| (total.saturating_sub(free) >> 20) as u64)
    }

    /// Of the MIG instance where there is MIG, else of the GPU.
    fn uuid(&self) -> Result<String, Failure> {
        let mut bytes = [0u8; 16];
        self.call::<unsafe extern "C" fn(*mut [u8; 16], c_int) -> Status>(c"cuDeviceGetUuid_v2", |ask| {
            // SAFETY: `CUuuid` is 16 bytes.
            unsafe { ask(&mut bytes, self.device) }
        })?;
        Ok(text_of(bytes))
    }

    /// Calls a function of the driver, of the type `F` that `cuda.h` gives it.
    fn call<F: Copy>(&self, name: &CStr, call: impl FnOnce(F) -> Status) -> Result<(), Failure> {
        let text = name.to_string_lossy();
        // SAFETY: the callers name the type that `cuda.h` declares, and the library lives as long as `self`.
        let function = unsafe { self.library.get::<F>(name.to_bytes_with_nul()) };
        let function = *function.map_err(|_| none(format!("the NVIDIA driver is too old: it has no {text}")))?;
        match call(function) {
            0 => Ok(()),
            // CUDA_ERROR_OUT_OF_MEMORY
            2 => Err(Failure::new(FailCode::OutOfMemory, format!("{text}: the device is out of memory"))),
            status => Err(none(format!("{text} failed with CUDA error {status}{}", meaning(status)))),
        }
    }
}

/// What the errors mean that an operator can do something about, `cuda.h`.
fn meaning(status: Status) -> &'static str {
    match status {
        3 => ": CUDA is not initialised",
        35 => ": the driver is too old",
        46 | 101 => ": the device is not available to this process",
        100 => ": no such device",
        802 => ": the fabric manager is not running",
        803 => ": driver and its library are of different versions",
        804 => ": the driver does not support this GPU with forward compatibility",
        999 => ": unknown; see the kernel's log",
        _ => "",
    }
}

/// 16 bytes as a UUID is written.
fn text_of(bytes: [u8; 16]) -> String {
    let mut text = String::new();
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

fn none(reason: String) -> Failure {
    Failure::new(FailCode::NoDevice, reason)
}

/// The dynamic linker's own words.
fn said(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_written_as_the_driver_writes_it() {
        let bytes = [0x41, 0xb3, 0x64, 0x13, 0x6e, 0x2f, 0x5b, 0x0a, 0x9c, 0x01, 0xff, 0x00, 0x12, 0x34, 0x56, 0x78];
        assert_eq!(text_of(bytes), "41b36413-6e2f-5b0a-9c01-ff0012345678");
    }
}
