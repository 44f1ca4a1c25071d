//! What NVML says no with, and what a user can do about it.

use std::path::Path;

use nvml_wrapper::error::NvmlError;
use nvml_wrapper_sys::bindings as raw;

use crate::DeviceError;

/// What it takes to create and destroy instances: `reference/nvml-mig.md` section 4.3.
const PERMISSION: &str = "run as root, or give this user read access to /proc/driver/nvidia/capabilities/mig/config and its node in \
                          /dev/nvidia-caps (docs/nvidia.md)";

/// A call that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{call}: {text} ({code})")]
pub(crate) struct Fault {
    /// The function's name.
    pub(crate) call: &'static str,
    /// `nvmlReturn_t`.
    pub(crate) code: u32,
    /// What NVML makes of the code.
    pub(crate) text: String,
}

impl Fault {
    pub(crate) fn missing(call: &'static str) -> Fault {
        let text = "the driver's library has no such function; a newer driver has".to_owned();
        Fault { call, code: raw::nvmlReturn_enum_NVML_ERROR_FUNCTION_NOT_FOUND, text }
    }

    /// Not there, or beyond the end of what is enumerated.
    pub(crate) fn is_invalid(&self) -> bool {
        self.code == raw::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT
    }

    pub(crate) fn is_not_supported(&self) -> bool {
        self.code == raw::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.code == raw::nvmlReturn_enum_NVML_ERROR_NOT_FOUND
    }

    pub(crate) fn is_in_use(&self) -> bool {
        self.code == raw::nvmlReturn_enum_NVML_ERROR_IN_USE
    }

    pub(crate) fn is_lost(&self) -> bool {
        self.code == raw::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST
    }

    pub(crate) fn is_timeout(&self) -> bool {
        self.code == raw::nvmlReturn_enum_NVML_ERROR_TIMEOUT
    }

    /// The driver is older than a call or a struct's version.
    pub(crate) fn is_old_driver(&self) -> bool {
        matches!(self.code, raw::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH | raw::nvmlReturn_enum_NVML_ERROR_FUNCTION_NOT_FOUND)
    }

    /// Whether another try can help.
    pub(crate) fn may_pass(&self) -> bool {
        let never = matches!(self.code, raw::nvmlReturn_enum_NVML_ERROR_NO_PERMISSION | raw::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED);
        !(never || self.is_lost() || self.is_old_driver())
    }

    /// The error of a device that tried something on a GPU.
    pub(crate) fn on(self, gpu: u32) -> DeviceError {
        match self.code {
            raw::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST => DeviceError::Lost { gpu },
            raw::nvmlReturn_enum_NVML_ERROR_NO_PERMISSION => {
                DeviceError::NoPermission { what: format!("{} on GPU {gpu}", self.call), remedy: PERMISSION }
            }
            code => DeviceError::Driver { what: format!("{} on GPU {gpu}", self.call), code, text: self.text },
        }
    }

    /// The error where no GPU is concerned.
    pub(crate) fn alone(self) -> DeviceError {
        DeviceError::Driver { what: self.call.to_owned(), code: self.code, text: self.text }
    }
}

/// Why the library could not be loaded or initialised.
pub(crate) fn unusable(library: Option<&Path>, error: &NvmlError) -> DeviceError {
    let name = name_of(library);
    let why = match error {
        NvmlError::LibloadingError(error) => format!("{error}; is the NVIDIA driver installed, or passed into this container?"),
        NvmlError::FailedToLoadSymbol(symbol) => format!("{symbol}; the driver is too old, or this is no NVML"),
        NvmlError::LibRmVersionMismatch => {
            "the library and the loaded kernel module are of different versions; reboot, or reload the module, \
                                            after an update of the driver"
                .to_owned()
        }
        NvmlError::DriverNotLoaded => "the kernel module is not loaded; see `dmesg` and `modprobe nvidia`".to_owned(),
        NvmlError::NoPermission => "no permission; this user needs access to /dev/nvidiactl and /dev/nvidia*".to_owned(),
        other => other.to_string(),
    };
    DeviceError::Library { name, why }
}

pub(crate) fn no_shutdown(library: Option<&Path>) -> DeviceError {
    DeviceError::Library { name: name_of(library), why: "it has no nvmlShutdown, so it is no NVML".to_owned() }
}

fn name_of(library: Option<&Path>) -> String {
    library.map_or_else(|| "libnvidia-ml.so.1".to_owned(), |path| path.display().to_string())
}
