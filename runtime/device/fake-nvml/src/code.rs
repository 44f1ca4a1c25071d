//! What NVML says no with.

use nvml_wrapper_sys::bindings as sys;

/// An error of NVML (`nvmlReturn_t`), the ones that this library gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("NVML error {0}")]
pub struct Code(pub u32);

impl Code {
    /// `nvmlInit` was not called.
    pub const UNINITIALIZED: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_UNINITIALIZED);
    /// Unknown index, id, placement or handle, or a null pointer.
    pub const INVALID_ARGUMENT: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_INVALID_ARGUMENT);
    /// The board cannot do it, or MIG is off.
    pub const NOT_SUPPORTED: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_NOT_SUPPORTED);
    /// The caller may not.
    pub const NO_PERMISSION: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_NO_PERMISSION);
    /// Nothing there, e.g. a hole in the list of MIG devices.
    pub const NOT_FOUND: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_NOT_FOUND);
    /// The caller's array is too short.
    pub const INSUFFICIENT_SIZE: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_SIZE);
    /// There is no host to play.
    pub const DRIVER_NOT_LOADED: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_DRIVER_NOT_LOADED);
    /// No event came in time.
    pub const TIMEOUT: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_TIMEOUT);
    /// The GPU fell off the bus.
    pub const GPU_IS_LOST: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_GPU_IS_LOST);
    /// Takes effect with the next reset of the GPU.
    pub const RESET_REQUIRED: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_RESET_REQUIRED);
    /// A process or a compute instance is in the way.
    pub const IN_USE: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_IN_USE);
    /// Memory slices, engines or instances are exhausted.
    pub const INSUFFICIENT_RESOURCES: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_INSUFFICIENT_RESOURCES);
    /// The version word of a struct is unknown.
    pub const VERSION_MISMATCH: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_ARGUMENT_VERSION_MISMATCH);
    /// The host's files cannot be read or written.
    pub const UNKNOWN: Code = Code(sys::nvmlReturn_enum_NVML_ERROR_UNKNOWN);
}
