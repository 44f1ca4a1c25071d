//! How this process comes to its instance: once, and for good.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use migrator_wire::{FailCode, FromWorker};

use crate::answer::{Answers, Failure, caught};
use crate::cuda::{self, Driver};
use crate::executor::STACK_BYTES;
use crate::memory;
use crate::registry::Registry;
use crate::sys;

/// Does what takes seconds and must not hold up the reading of requests.
#[derive(Debug)]
pub(crate) struct Attaching {
    answers: Arc<Answers>,
    registry: Arc<Registry>,
    busy: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Errand {
    /// Load CUDA's libraries.
    Prepare,
    /// Attach to the device of this UUID, of so many compute slices.
    Attach { visible: String, share: f64 },
}

impl Attaching {
    pub(crate) fn new(answers: Arc<Answers>, registry: Arc<Registry>) -> Attaching {
        Attaching { answers, registry, busy: Arc::default(), thread: None }
    }

    /// Whether something is under way: what is loaded or trained meanwhile would not know where.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Acquire)
    }

    /// Starts an errand; its answer goes to `id`.
    pub(crate) fn start(&mut self, id: u64, errand: Errand) -> Result<(), Failure> {
        if self.is_busy() {
            return Err(Failure::internal("this worker is preparing or attaching itself already"));
        }
        if matches!(errand, Errand::Attach { .. }) && self.registry.is_loading() {
            return Err(Failure::internal("a worker that is loading a model cannot attach itself"));
        }
        let (answers, registry) = (Arc::clone(&self.answers), Arc::clone(&self.registry));
        let busy = Arc::clone(&self.busy);
        let work = move || {
            let result = caught(|| match &errand {
                Errand::Prepare => cuda::load_backend().map(|()| FromWorker::Done),
                Errand::Attach { visible, share } => attach(visible, *share, &registry),
            });
            // Before the answer: what follows it must not find this still under way.
            busy.store(false, Ordering::Release);
            answers.send_result(id, result);
        };
        let thread = std::thread::Builder::new().name("attach".into()).stack_size(STACK_BYTES);
        self.busy.store(true, Ordering::Release);
        match thread.spawn(work) {
            Ok(thread) => self.thread = Some(thread),
            Err(error) => {
                self.busy.store(false, Ordering::Release);
                return Err(Failure::internal(format!("cannot start a thread: {error}")));
            }
        }
        Ok(())
    }

    pub(crate) fn finish(self) -> Option<JoinHandle<()>> {
        self.thread
    }
}

fn attach(visible: &str, share: f64, registry: &Registry) -> Result<FromWorker, Failure> {
    static TRIED: AtomicBool = AtomicBool::new(false);
    if !["MIG-", "GPU-"].iter().any(|kind| visible.starts_with(kind)) {
        return Err(Failure::new(FailCode::NoDevice, format!("{visible:?} is the UUID of no GPU and of no MIG instance")));
    }
    if TRIED.swap(true, Ordering::Relaxed) {
        return Err(Failure::internal("a process attaches itself once; this one has tried"));
    }
    let start = Instant::now();
    cuda::load_backend()?;
    let libraries_ms = start.elapsed().as_secs_f64() * 1e3;
    let start = Instant::now();
    if !sys::show(visible) {
        return Err(Failure::internal(format!("{visible:?} does not fit the environment")));
    }
    let driver = Driver::start(visible)?;
    let device = driver.name()?;
    migrator_torch::adopt_gpu(share)?;
    let context_ms = start.elapsed().as_secs_f64() * 1e3;
    memory::count_on(driver);
    let models = registry.move_all()?;
    Ok(FromWorker::Attached { device, libraries_ms, context_ms, models, memory_mib: memory::in_use_mib() })
}
