//! Reads the server's requests and gives each to the thread that does it; itself it never waits for any of them, so that the end
//! of the server is noticed at once.

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread::JoinHandle;

use migrator_wire::frame::blocking::{FrameReader, Payload};
use migrator_wire::message::PROTOCOL;
use migrator_wire::{FrameError, FromWorker, ToWorker};
use tracing::info;

use crate::answer::{Answers, Failure, caught};
use crate::attach::{Attaching, Errand};
use crate::executor::{Batch, Executors, STACK_BYTES};
use crate::registry::{Load, Registry};
use crate::sys;
use crate::training::{Training, Work};

/// Bytes read ahead: header and head by one system call; a payload of tensors is read past this buffer.
const READ_AHEAD: usize = 4096;

/// Loads at the same time, a thread each.
const MAX_LOADS: usize = 16;

/// Serves until the server is gone.
///
/// # Errors
/// What the server sends is no frame, or of another protocol.
pub(crate) fn run(socket: UnixStream) -> Result<(), FrameError> {
    let answers = Arc::new(Answers::new(socket.try_clone().map_err(FrameError::Io)?));
    let mut reader = FrameReader::new(BufReader::with_capacity(READ_AHEAD, socket));
    let mut service = Some(Service::new(Arc::clone(&answers)));
    loop {
        match reader.read() {
            Ok(Some((_, ToWorker::Shutdown, _))) => service.take().into_iter().for_each(Service::finish),
            Ok(Some((id, message, payload))) => {
                let result = match &mut service {
                    Some(service) => service.handle(id, message, payload),
                    None => Err(Failure::internal("the worker is shutting down")),
                };
                match result {
                    Ok(Some(answer)) => answers.send(id, &answer, &[]),
                    Ok(None) => {}
                    Err(failure) => answers.send_result(id, Err(failure)),
                }
            }
            // A server that was killed leaves a cut frame or a reset socket; that is its end, not ours to complain about.
            Ok(None) | Err(FrameError::Truncated | FrameError::Io(_)) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

struct Service {
    answers: Arc<Answers>,
    registry: Arc<Registry>,
    executors: Executors,
    training: Training,
    attaching: Attaching,
    loads: Vec<JoinHandle<()>>,
}

impl Service {
    fn new(answers: Arc<Answers>) -> Service {
        let registry = Arc::new(Registry::new(Arc::clone(&answers)));
        Service {
            attaching: Attaching::new(Arc::clone(&answers), Arc::clone(&registry)),
            registry,
            executors: Executors::start(Arc::clone(&answers)),
            training: Training::new(Arc::clone(&answers)),
            loads: Vec::new(),
            answers,
        }
    }

    /// Starts what the message asks for; gives the answer when there is one already.
    fn handle(&mut self, id: u64, message: ToWorker, payload: Payload) -> Result<Option<FromWorker>, Failure> {
        match message {
            ToWorker::Hello { .. } => {
                let torch = migrator_torch::torch_version().to_owned();
                info!(torch, "worker is up");
                return Ok(Some(FromWorker::Hello { protocol: PROTOCOL, pid: std::process::id(), torch }));
            }
            ToWorker::Limit { executors } => {
                self.executors.resize(executors);
                return Ok(Some(FromWorker::Done));
            }
            ToWorker::Pause { train } => {
                self.training.pause(train);
                return Ok(Some(FromWorker::Done));
            }
            ToWorker::Load { key, spec, folder, warm } => self.load(Load { id, key, spec, folder, warm })?,
            ToWorker::Unload { key } => self.registry.unload(id, key)?,
            ToWorker::Infer { key, rows, inputs } => {
                let model = self.registry.find(key)?;
                self.executors.submit(Batch { id, model, rows, inputs, payload })?;
            }
            ToWorker::Train(job) => {
                self.settled()?;
                self.training.start(id, Work::Train(job))?;
            }
            ToWorker::Microprofile(job) => {
                self.settled()?;
                self.training.start(id, Work::Microprofile(job))?;
            }
            ToWorker::Prepare => self.attaching.start(id, Errand::Prepare)?,
            ToWorker::Attach { visible, share } => {
                if self.training.is_busy() {
                    return Err(Failure::internal("a worker that trains cannot attach itself"));
                }
                self.attaching.start(id, Errand::Attach { visible, share })?;
            }
            // Taken by `run`.
            ToWorker::Shutdown => {}
        }
        Ok(None)
    }

    fn settled(&self) -> Result<(), Failure> {
        if self.attaching.is_busy() { Err(Failure::internal("this worker is attaching itself to its instance")) } else { Ok(()) }
    }

    fn load(&mut self, load: Load) -> Result<(), Failure> {
        self.settled()?;
        self.loads.retain(|thread| !thread.is_finished());
        if self.loads.len() >= MAX_LOADS {
            return Err(Failure::internal(format!("{MAX_LOADS} models are loading already")));
        }
        let (registry, answers) = (Arc::clone(&self.registry), Arc::clone(&self.answers));
        registry.announce(&load);
        let work = move || {
            let result = caught(|| registry.load(&load));
            answers.send_result(load.id, result);
        };
        let thread = std::thread::Builder::new().name("load".into()).stack_size(STACK_BYTES).spawn(work);
        self.loads.push(thread.map_err(|error| Failure::internal(format!("cannot start a thread: {error}")))?);
        Ok(())
    }

    /// Ends the process once all that was asked is answered; a retraining is paused, for it may take minutes more.
    fn finish(self) {
        let mut threads = self.loads;
        threads.extend(self.training.finish());
        threads.extend(self.attaching.finish());
        threads.extend(self.executors.finish());
        let wait = move || {
            for thread in threads {
                // A panic has been printed, and the shutdown goes on all the same.
                let _ = thread.join();
            }
            sys::exit_now(0);
        };
        if let Err(error) = std::thread::Builder::new().name("shutdown".into()).spawn(wait) {
            tracing::error!(%error, "cannot wait for what is in flight");
            sys::exit_now(1);
        }
    }
}
