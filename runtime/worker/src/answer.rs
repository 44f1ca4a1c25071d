//! Answers to the server, and failures as answers.

use std::any::Any;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use migrator_torch::TorchError;
use migrator_wire::frame::blocking::FrameWriter;
use migrator_wire::{FailCode, FrameError, FromWorker};

use crate::sys;

/// Longest message of a failure, bytes.
const MESSAGE_LEN: usize = 500;

/// The way back to the server, shared by all threads.
#[derive(Debug)]
pub(crate) struct Answers {
    writer: Mutex<FrameWriter<UnixStream>>,
}

impl Answers {
    pub(crate) fn new(socket: UnixStream) -> Answers {
        Answers { writer: Mutex::new(FrameWriter::new(socket)) }
    }

    /// Answers frame `id`. Without a server to answer to, the process ends.
    pub(crate) fn send(&self, id: u64, message: &FromWorker, payload: &[u8]) {
        match self.write(id, message, payload) {
            Ok(()) => {}
            Err(FrameError::Io(_)) => sys::exit_now(0),
            Err(error) => {
                let failed = FromWorker::Failed { code: FailCode::Internal, message: format!("the answer does not fit a frame: {error}") };
                if self.write(id, &failed, &[]).is_err() {
                    sys::exit_now(3);
                }
            }
        }
    }

    /// Answers with a message that has no payload, or with the failure. A fatal one ends the process: the server starts another.
    pub(crate) fn send_result(&self, id: u64, result: Result<FromWorker, Failure>) {
        let fatal = result.as_ref().err().is_some_and(|failure| failure.fatal);
        self.send(id, &result.unwrap_or_else(FromWorker::from), &[]);
        if fatal {
            tracing::error!("the GPU failed under this process, which is of no use any more");
            sys::exit_now(4);
        }
    }

    fn write(&self, id: u64, message: &FromWorker, payload: &[u8]) -> Result<(), FrameError> {
        // A panic while writing could only come from the allocator; the frame would be cut, which the server notices.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner).write(id, message, &[payload])
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: FailCode,
    message: String,
    /// Nothing that this process does from now on can succeed.
    fatal: bool,
}

impl Failure {
    pub(crate) fn new(code: FailCode, message: impl Into<String>) -> Failure {
        Failure { code, message: message.into(), fatal: false }
    }

    pub(crate) fn internal(message: impl Into<String>) -> Failure {
        Failure::new(FailCode::Internal, message)
    }
}

impl From<TorchError> for Failure {
    fn from(error: TorchError) -> Failure {
        let code = match &error {
            TorchError::BadModel(_) => FailCode::BadModel,
            TorchError::BadInput(_) => FailCode::BadInput,
            TorchError::BadData(_) => FailCode::BadData,
            TorchError::Diverged(_) => FailCode::Diverged,
            TorchError::OutOfMemory(_) => FailCode::OutOfMemory,
            TorchError::NoDevice(_) | TorchError::DeviceLost(_) => FailCode::NoDevice,
            TorchError::Torch(_) => FailCode::Torch,
            TorchError::Io(_) => FailCode::Internal,
        };
        Failure { fatal: matches!(error, TorchError::DeviceLost(_)), ..Failure::new(code, error.to_string()) }
    }
}

impl From<Failure> for FromWorker {
    fn from(Failure { code, message, .. }: Failure) -> FromWorker {
        FromWorker::Failed { code, message: one_line(&message) }
    }
}

/// Runs `work`; a panic in it is a failure like any other, for the worker lives on.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    // Nothing that `work` leaves half done is seen again: models are replaced, never changed, and buffers are cleared before use.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Failure::internal(format!("panic: {}", words(&*panic)))))
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words")
}

fn one_line(message: &str) -> String {
    let line = message.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
    let end = (0..=line.len().min(MESSAGE_LEN)).rev().find(|&end| line.is_char_boundary(end)).unwrap_or(0);
    line[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_internal_failure() {
        let failure = caught::<()>(|| panic!("at {}", 1)).unwrap_err();
        assert_eq!(failure, Failure::internal("panic: at 1"));
    }

    #[test]
    fn a_message_is_one_short_line() {
        let message = |text: &str| match FromWorker::from(Failure::internal(text)) {
            FromWorker::Failed { message, .. } => message,
            other => panic!("{other:?}"),
        };
        assert_eq!(message("\n first \nframe #0: c10::Error"), "first");
        assert_eq!(message(&"ü".repeat(400)).len(), MESSAGE_LEN);
        assert_eq!(message(""), "no reason given");
    }
}
