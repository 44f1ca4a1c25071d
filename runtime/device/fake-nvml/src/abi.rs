//! The C interface, `nvml.h`: pointers in, pointers out, and what the driver says in between.
//!
//! The only files with `unsafe` code: [`pointer`] dereferences what callers pass, and `no_mangle` promises that nothing else in the
//! process is called like this. A test that links the rlib calls none of these: it loads the library, whose symbols are its own.
#![allow(unsafe_code)]
#![allow(non_snake_case, reason = "the names are NVML's")]

mod compute;
mod device;
mod event;
mod instance;
mod pointer;
mod system;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};

use crate::Code;
use crate::driver::Driver;
use crate::fault::Effect;
use crate::handle::Handle;
use crate::host::{Call, now_ms};

/// How often `nvmlInit` was called, and the host.
static SESSION: Mutex<Option<(u32, Arc<Driver>)>> = Mutex::new(None);

/// Functions whose success is written down too.
const CHANGES: [&str; 7] = [
    "nvmlDeviceSetMigMode",
    "nvmlDeviceCreateGpuInstance",
    "nvmlDeviceCreateGpuInstanceWithPlacement",
    "nvmlGpuInstanceDestroy",
    "nvmlGpuInstanceCreateComputeInstance",
    "nvmlGpuInstanceCreateComputeInstanceWithPlacement",
    "nvmlComputeInstanceDestroy",
];

/// An argument as the log of calls tells it; `None` for where to put an answer.
trait Argument {
    fn told(&self) -> Option<Value>;
    fn gpu(&self) -> Option<usize> {
        None
    }
}

impl Argument for u32 {
    fn told(&self) -> Option<Value> {
        Some(Value::from(*self))
    }
}

impl Argument for i32 {
    fn told(&self) -> Option<Value> {
        Some(Value::from(*self))
    }
}

impl Argument for u64 {
    fn told(&self) -> Option<Value> {
        Some(Value::from(*self))
    }
}

/// A handle, as the caller gives it back.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Raw(usize);

impl Argument for Raw {
    fn told(&self) -> Option<Value> {
        Some(Value::from(Handle::decode(self.0).map_or_else(|_| format!("{:#x}", self.0), |handle| handle.to_string())))
    }
    fn gpu(&self) -> Option<usize> {
        Handle::decode(self.0).ok().and_then(Handle::gpu)
    }
}

/// Defines exported functions; each gets the driver and may end with `?`.
macro_rules! export {
    ($($name:ident($driver:ident $(, $arg:ident: $type:ty)* $(,)?) $body:block)*) => {$(
        #[doc = concat!("`", stringify!($name), "` of `nvml.h`.")]
        // SAFETY: the name is NVML's own, and nothing else in the process has it.
        #[unsafe(no_mangle)]
        pub extern "C" fn $name($($arg: $type),*) -> nvml_wrapper_sys::bindings::nvmlReturn_t {
            #[allow(unused_mut)]
            let mut told = $crate::abi::Told::default();
            $(told.add(stringify!($arg), &$arg);)*
            $crate::abi::call(stringify!($name), told, |$driver| {
                $body
                #[allow(unreachable_code)]
                Ok(())
            })
        }
    )*};
}
use export;

/// The arguments of a call.
#[derive(Default)]
struct Told {
    args: Map<String, Value>,
    gpu: Option<usize>,
}

impl Told {
    fn add(&mut self, name: &str, argument: &impl Argument) {
        self.gpu = self.gpu.or(argument.gpu());
        if let Some(value) = argument.told() {
            self.args.insert(name.to_owned(), value);
        }
    }
}

/// What every function does around its body: faults and the log.
fn call(name: &'static str, told: Told, body: impl FnOnce(&Driver) -> Result<(), Code>) -> u32 {
    let session = SESSION.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some((_, driver)) = session else { return Code::UNINITIALIZED.0 };
    let result = match driver.host.fault(name) {
        None => body(&driver),
        Some(fault) => match fault.effect {
            Effect::Refuse => Err(Code(fault.code)),
            Effect::Pretend => Ok(()),
            Effect::After => body(&driver).and(Err(Code(fault.code))),
            // A call that names no GPU of ours can lose none.
            Effect::Lose => told.gpu.map_or(Err(Code(fault.code)), |gpu| driver.lose(gpu).and(Err(Code::GPU_IS_LOST))),
        },
    };
    log(&driver, name, told.args, result);
    result.err().map_or(0, |code| code.0)
}

fn log(driver: &Driver, name: &str, args: Map<String, Value>, result: Result<(), Code>) {
    let (call, code) = (name.to_owned(), result.err().map_or(0, |code| code.0));
    if CHANGES.contains(&name) || result.is_err_and(|code| !is_answer(name, code)) {
        let line = Call { time_ms: now_ms(), pid: std::process::id(), call, args, code };
        // The log is for tests to read; a call does not fail for want of it.
        let _ = driver.host.append("calls.jsonl", &line);
    }
}

/// Codes that are answers: no event yet, how many there are, a hole in a list, no such profile on this board.
fn is_answer(name: &str, code: Code) -> bool {
    match code {
        Code::TIMEOUT | Code::INSUFFICIENT_SIZE => true,
        Code::NOT_FOUND => name == "nvmlDeviceGetMigDeviceHandleByIndex",
        Code::NOT_SUPPORTED | Code::INVALID_ARGUMENT => name.contains("ProfileInfo"),
        _ => false,
    }
}

/// Where the host is: what `MIGRATOR_FAKE_NVML` says, or where the library itself lies beside a `host.toml`.
///
/// The latter lets tests of one process have a host each, with a copy of the library in it: environments are the process's.
fn folder() -> Option<PathBuf> {
    let beside = library().and_then(|path| Some(path.parent()?.to_owned())).filter(|folder| folder.join("host.toml").exists());
    beside.or_else(|| std::env::var_os("MIGRATOR_FAKE_NVML").map(PathBuf::from))
}

/// The file that this code was loaded from (proc(5), maps).
fn library() -> Option<PathBuf> {
    let here = library as *const () as usize;
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    let holds = |line: &&str| {
        let ends = line.split_whitespace().next().and_then(|range| range.split_once('-'));
        let [from, to] = ends.map(|(from, to)| [from, to].map(|end| usize::from_str_radix(end, 16).unwrap_or(0))).unwrap_or_default();
        (from..to).contains(&here)
    };
    let line = maps.lines().find(holds)?;
    Some(PathBuf::from(&line[line.find('/')?..]))
}

/// `nvmlInit`: the first one opens the host.
fn init() -> Result<(), Code> {
    let mut session = SESSION.lock().unwrap_or_else(PoisonError::into_inner);
    if session.is_none() {
        let driver = folder().and_then(|folder| Driver::open(&folder).ok()).ok_or(Code::DRIVER_NOT_LOADED)?;
        *session = Some((0, Arc::new(driver)));
    }
    let Some((count, driver)) = session.as_mut() else { return Err(Code::UNKNOWN) };
    let fault = driver.host.fault("nvmlInit_v2").map(|fault| Code(fault.code));
    *count += u32::from(fault.is_none());
    if *count == 0 {
        *session = None;
    }
    fault.map_or(Ok(()), Err)
}

/// `nvmlShutdown`: the last one forgets the host.
fn shutdown() -> Result<(), Code> {
    let mut session = SESSION.lock().unwrap_or_else(PoisonError::into_inner);
    let (count, _) = session.as_mut().ok_or(Code::UNINITIALIZED)?;
    *count -= 1;
    if *count == 0 {
        *session = None;
    }
    Ok(())
}
