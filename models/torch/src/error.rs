//! What can go wrong, each as one line a user can act on.

use std::path::Path;

use tch::TchError;

/// A failed load, inference or retraining. The messages are one line, without C++ frames and tensor contents; libtorch's full
/// text goes to the log at debug level.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TorchError {
    /// The model's files are missing, corrupt, too old or not of the specified architecture.
    #[error("{0}")]
    BadModel(String),
    /// The inputs of an inference do not fit the model.
    #[error("{0}")]
    BadInput(String),
    /// The data set is missing or corrupt, or holds too little.
    #[error("{0}")]
    BadData(String),
    /// Training gave NaN or infinite loss or weights; nothing was written.
    #[error("{0}")]
    Diverged(String),
    /// Memory ran out.
    #[error("{0}")]
    OutOfMemory(String),
    /// There is no GPU to compute on.
    #[error("{0}")]
    NoDevice(String),
    /// The GPU failed, and with it everything that this process may still ask of it.
    #[error("{0}")]
    DeviceLost(String),
    /// libtorch failed otherwise.
    #[error("{0}")]
    Torch(String),
    /// A file of ours (checkpoint, new weights) could not be written or read.
    #[error("{0}")]
    Io(String),
}

impl TorchError {
    /// An error at a file that is ours to write or read.
    pub(crate) fn io(path: &Path, error: &std::io::Error) -> TorchError {
        TorchError::Io(format!("{}: {error}", path.display()))
    }
}

impl From<TchError> for TorchError {
    fn from(error: TchError) -> TorchError {
        of_libtorch(&error.to_string())
    }
}

/// What texts say when memory ran out: of the host, of the GPU, and of the GPU's libraries.
const MEMORY: [&str; 7] = [
    "not enough memory",
    "can't allocate memory",
    "out of memory",
    "bad_alloc",
    "bad allocation",
    "cublas_status_alloc_failed",
    "cudnn_status_alloc_failed",
];

/// Errors after which every further call of the process fails (`driver_types.h`: "the only way to continue is to restart").
const STICKY: [&str; 8] = [
    "illegal memory access",
    "misaligned address",
    "illegal instruction",
    "invalid program counter",
    "hardware stack error",
    "unspecified launch failure",
    "device-side assert",
    "uncorrectable ecc error",
];

/// Turns a panic of tch's convenience functions, of which some have no other form, into an error.
pub(crate) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, TorchError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).map_err(|payload| {
        let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
        let text = text.unwrap_or("libtorch panicked").replace("\\n", "\n");
        of_libtorch(text.split_once("Torch(\"").map_or(text.as_str(), |(_, reason)| reason))
    })
}

/// The error behind a text of libtorch: its first line, the rest to the log.
pub(crate) fn of_libtorch(text: &str) -> TorchError {
    tracing::debug!(error = text, "libtorch failed");
    let line = first_line(text);
    let lower = text.to_ascii_lowercase();
    if MEMORY.iter().any(|what| lower.contains(what)) {
        return TorchError::OutOfMemory(format!("memory ran out: {line}"));
    }
    if lower.contains("cuda error") && STICKY.iter().any(|what| lower.contains(what)) {
        return TorchError::DeviceLost(format!("the GPU failed: {line}"));
    }
    TorchError::Torch(line)
}

/// The first meaningful line of libtorch's text: the innermost reason, at most 240 bytes, without the source position.
pub(crate) fn first_line(text: &str) -> String {
    let text = text.strip_prefix("Internal torch error: ").unwrap_or(text);
    let lines = || text.lines().map(str::trim).filter(|line| !line.is_empty());
    // TorchScript's interpreter puts its own traceback first; the reason follows it as `RuntimeError: …`.
    let reason = lines().find_map(|line| line.strip_prefix("RuntimeError: ")).or_else(|| lines().next()).unwrap_or("no reason given");
    let reason = reason.split("Exception raised from").next().unwrap_or(reason).trim();
    let mut end = reason.len().min(240);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_reason_is_shown() {
        let text = "Internal torch error: \nThe following operation failed in the TorchScript interpreter.\nTraceback of TorchScript \
                    (most recent call last):\n  File \"x.py\", line 3\nRuntimeError: mat1 and mat2 shapes cannot be multiplied\nframe #0: c10::Error";
        assert_eq!(of_libtorch(text), TorchError::Torch("mat1 and mat2 shapes cannot be multiplied".into()));
        let text =
            "Internal torch error: [enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried";
        assert!(matches!(of_libtorch(text), TorchError::OutOfMemory(line) if !line.contains('\n')));
    }

    #[test]
    fn a_gpu_that_is_full_is_told_from_one_that_failed() {
        let full = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 9.75 GiB\nException raised from malloc";
        assert!(matches!(of_libtorch(full), TorchError::OutOfMemory(_)));
        assert!(matches!(of_libtorch("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `x`"), TorchError::OutOfMemory(_)));
        let failed = "CUDA error: an illegal memory access was encountered\nCUDA kernel errors might be asynchronously reported";
        assert!(matches!(of_libtorch(failed), TorchError::DeviceLost(line) if line.lines().count() == 1));
        assert!(matches!(of_libtorch("CUDA error: invalid argument"), TorchError::Torch(_)));
    }

    #[test]
    fn a_long_line_is_cut_at_a_character() {
        assert!(first_line(&"ü".repeat(400)).len() <= 240);
    }
}
