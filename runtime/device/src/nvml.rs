//! NVIDIA GPUs, cut up by MIG where that is on, and one instance each where it is not.
//!
//! Follows `reference/nvml-mig.md`. Read in the order [`option`], `sys` (the calls), `fault`, `layout`, `observe`, `card`, `record`, `state`,
//! `make`, `adopt`, `counter`, `usage`, `event`, then [`inspect`], which manages nothing.

mod adopt;
mod card;
mod counter;
mod data;
mod event;
mod fault;
pub mod inspect;
mod layout;
mod make;
mod observe;
pub mod option;
mod record;
mod state;
mod sys;
mod usage;

pub use inspect::{Found, FoundInstance, ModeChange, inspect, set_mode};

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use migrator_mig::Site;

use crate::cpu::process::Process;
use crate::{Binding, Device, DeviceError, DeviceEvent, Gpu, Instance, Usage};
use card::Card;
use fault::Fault;
use option::NvmlOptions;
use record::{Record, Stage};
use state::State;
use sys::Session;

/// Events that wait for somebody to take them; more are dropped.
const EVENTS: usize = 256;
/// Longest that undoing a failed creation goes on; what is left then is removed later.
const UNDO_DEADLINE: Duration = Duration::from_secs(1);
/// Between the first tries; doubles up to the other.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);
/// How often in a row something but "in use" may go wrong. "In use" is tried as often at least, and until the deadline.
const TRIES: u32 = 4;

/// NVIDIA GPUs of this host.
///
/// Instances outlive the device: they stay when it is dropped, and the next one that is opened with the same record adopts them. What it
/// made half and could not undo is listed as foreign until it can be removed. Every call of NVML is made under one lock, except for
/// waiting for events.
pub struct NvmlDevice {
    inner: Arc<Inner>,
    receiver: Receiver<DeviceEvent>,
    /// Runs from the first time that somebody wants to hear events.
    listener: Mutex<Option<Listener>>,
    driver: String,
}

/// The thread that waits for events.
struct Listener {
    /// Dropping it ends the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

/// What the device shares with its thread.
pub(crate) struct Inner {
    session: Arc<Session>,
    /// Held while creating or destroying, pauses between tries included; taken before the state.
    operation: Mutex<()>,
    state: Mutex<State>,
    destroy_deadline: Duration,
}

impl NvmlDevice {
    /// Opens the named GPUs, adopts what is ours on them, and removes what was left half made.
    ///
    /// # Errors
    /// [`DeviceError::Library`] when there is no usable driver, [`DeviceError::Options`] for GPUs that there are not or a record that another
    /// server uses, [`DeviceError::Mode`] for a GPU whose MIG mode is about to change, or what the driver says.
    pub fn open(options: NvmlOptions) -> Result<NvmlDevice, DeviceError> {
        let session = Arc::new(Session::open(options.library.as_deref())?);
        let cards = card::named(&session, &options.gpus)?.into_iter().map(|identity| Card::open(&session, identity));
        let cards: Vec<Card> = cards.collect::<Result<_, _>>()?;
        let (record, entries) = Record::open(&options.record)?;
        let (sender, receiver) = crossbeam_channel::bounded(EVENTS);
        let state = State {
            session: Arc::clone(&session),
            cards,
            own: BTreeMap::new(),
            others: Vec::new(),
            record,
            next_id: 1,
            in_progress: None,
            finished: BTreeSet::new(),
            bound: BTreeMap::new(),
            counters: counter::Counters::default(),
            events: sender,
        };
        let driver = session.driver_version().unwrap_or_else(|fault| {
            tracing::debug!(%fault, "the driver does not tell its version");
            "of unknown version".to_owned()
        });
        let destroy_deadline = options.destroy_deadline;
        let inner = Arc::new(Inner { session, operation: Mutex::new(()), state: Mutex::new(state), destroy_deadline });
        inner.adopt(entries)?;
        if options.take_over {
            inner.take_over()?;
        }
        let device = NvmlDevice { inner, receiver, listener: Mutex::new(None), driver };
        tracing::info!(device = %device.describe(), "NVIDIA GPUs are ready");
        Ok(device)
    }

    /// The driver, and how each GPU is used; one line.
    pub fn describe(&self) -> String {
        let cards: Vec<String> = self.inner.state().cards.iter().map(Card::describe).collect();
        format!("driver {}; {}", self.driver, cards.join("; "))
    }

    /// Where GPUs and the shipped boards disagree, one line each; the GPUs' answers are used.
    pub fn differences(&self) -> Vec<String> {
        let state = self.inner.state();
        let lines = |card: &Card| {
            let index = card.index();
            card.layout.differences.iter().map(move |line| format!("GPU {index}: {line}")).collect::<Vec<_>>()
        };
        state.cards.iter().flat_map(lines).collect()
    }
}

impl Device for NvmlDevice {
    fn gpus(&self) -> Vec<Gpu> {
        self.inner.state().cards.iter().map(Card::gpu).collect()
    }

    /// Looks at the GPUs. Left-overs are removed if nothing is being created or destroyed. Lost GPUs have no instances.
    fn instances(&self) -> Result<Vec<Instance>, DeviceError> {
        let operation = self.inner.operation.try_lock();
        let mut state = self.inner.state();
        for at in 0..state.cards.len() {
            if operation.is_ok() {
                state.come_back(at);
                state.sweep(at);
            }
            match state.refresh(at) {
                Err(DeviceError::Lost { .. }) => {}
                other => other?,
            }
        }
        Ok(state.list())
    }

    fn create(&self, gpu: u32, site: Site) -> Result<Instance, DeviceError> {
        let _operation = self.inner.operation();
        let made = {
            let mut state = self.inner.state();
            let at = state.card(gpu)?;
            state.sweep(at);
            let id = state.reserve(gpu, site)?;
            state.in_progress = Some(id);
            let made = state.make(id);
            if made.is_ok() {
                state.in_progress = None;
            }
            made
        };
        made.map_err(|unmade| {
            let undone = self.inner.remove(unmade.id, UNDO_DEADLINE);
            let mut state = self.inner.state();
            state.in_progress = None;
            if let Err(error) = undone {
                tracing::warn!(%error, "what was half created stays for now");
                state.set_stage(unmade.id, Stage::Unmaking);
            }
            unmade.error
        })
    }

    fn destroy(&self, id: u64) -> Result<(), DeviceError> {
        let _operation = self.inner.operation();
        let card = {
            let mut state = self.inner.state();
            if state.finished.remove(&id) {
                return Ok(());
            }
            let card = state.closing(id)?;
            state.sweep_but(card, id);
            state.in_progress = Some(id);
            card
        };
        let removed = self.inner.remove(id, self.inner.destroy_deadline);
        let mut state = self.inner.state();
        state.in_progress = None;
        removed.map_err(|why| state.not_destroyed(id, card, why))
    }

    /// Only remembers it: the process attaches itself.
    fn bind(&self, id: u64, pid: u32) -> Result<Binding, DeviceError> {
        let process = find(pid)?;
        let mut state = self.inner.state();
        let own = state.usable(id)?;
        let visible = state.describe_own(id, own).uuid;
        let visible = visible.ok_or(DeviceError::UnknownInstance(id))?;
        match state.bound.get(&process) {
            Some(&other) if other != id => Err(DeviceError::InUse { id: other, pid }),
            _ => {
                state.bound.insert(process, id);
                Ok(Binding::Attach { visible })
            }
        }
    }

    /// A process that has attached itself cannot leave: CUDA reads what it may see once.
    fn stage(&self, pid: u32) -> Result<(), DeviceError> {
        let process = find(pid)?;
        let mut state = self.inner.state();
        state.bound.retain(|process, _| process.is_alive());
        match state.bound.get(&process) {
            Some(&id) => Err(DeviceError::InUse { id, pid }),
            None => Ok(()),
        }
    }

    fn events(&self) -> Option<Receiver<DeviceEvent>> {
        let mut listener = lock(&self.listener);
        if listener.is_none() {
            match Listener::start(&self.inner) {
                Ok(started) => *listener = Some(started),
                Err(error) => {
                    tracing::error!(%error, "no thread for the events of NVIDIA devices");
                    return None;
                }
            }
        }
        Some(self.receiver.clone())
    }

    fn usage(&self) -> Result<Vec<Usage>, DeviceError> {
        self.inner.state().usage()
    }
}

impl Drop for NvmlDevice {
    fn drop(&mut self) {
        if let Some(Listener { stop, thread }) = lock(&self.listener).take() {
            drop(stop);
            if thread.join().is_err() {
                tracing::error!("the thread for events of NVIDIA devices panicked");
            }
        }
        let mut state = self.inner.state();
        let session = Arc::clone(&state.session);
        state.counters.keep(&session, |_| false);
    }
}

impl Listener {
    fn start(inner: &Arc<Inner>) -> std::io::Result<Listener> {
        let (stop, stopped) = crossbeam_channel::bounded(0);
        let inner = Arc::clone(inner);
        let thread = std::thread::Builder::new().name("nvml-events".to_owned()).spawn(move || event::run(&inner, &stopped))?;
        Ok(Listener { stop, thread })
    }
}

/// Why an instance is still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Stays {
    #[error("it stays: {0}")]
    Refused(Fault),
    #[error("the driver says it is destroyed, and it is there")]
    Remnant,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn operation(&self) -> MutexGuard<'_, ()> {
        lock(&self.operation)
    }

    /// Removes an instance, however much there is of it; tries again while it is in use. Others may use the device between two tries.
    fn remove(&self, id: u64, deadline: Duration) -> Result<(), Stays> {
        let begin = Instant::now();
        let (mut pause, mut tries, mut faults) = (FIRST_PAUSE, 0, 0);
        loop {
            tries += 1;
            let tried = self.state().remove(id);
            let why = match tried {
                Ok(true) => return Ok(()),
                Ok(false) => Stays::Remnant,
                Err(fault) => {
                    faults = if fault.is_in_use() { 0 } else { faults + 1 };
                    if !fault.may_pass() || faults >= TRIES {
                        return Err(Stays::Refused(fault));
                    }
                    Stays::Refused(fault)
                }
            };
            // On a machine that is busy, one try can take as long as the deadline is.
            if tries >= TRIES && begin.elapsed() + pause > deadline {
                return Err(why);
            }
            tracing::debug!(instance = id, %why, "tries again to remove an instance");
            wait(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

impl State {
    /// Marks an instance as about to be destroyed, unless a process of ours is attached to it; where its GPU is.
    fn closing(&mut self, id: u64) -> Result<usize, DeviceError> {
        let half = self.own.get(&id).filter(|own| own.entry.stage == Stage::Unmaking).map(|own| own.card);
        if let Some(card) = half.filter(|&card| !self.cards[card].lost) {
            return Ok(card);
        }
        let card = self.usable(id)?.card;
        if let Some(process) = self.attached(id) {
            return Err(DeviceError::InUse { id, pid: process.pid });
        }
        self.set_stage(id, Stage::Unmaking);
        if let Err(error) = self.persist() {
            self.set_stage(id, Stage::Made);
            return Err(error);
        }
        Ok(card)
    }

    /// Sweeps the GPU, but leaves the instance that is about to be destroyed.
    fn sweep_but(&mut self, card: usize, id: u64) {
        self.in_progress = Some(id);
        self.sweep(card);
    }

    fn not_destroyed(&mut self, id: u64, card: usize, why: Stays) -> DeviceError {
        let gpu = self.cards[card].index();
        let user = self.user_of(id);
        self.give_up(id);
        match (why, user) {
            (Stays::Refused(fault), Some(pid)) if fault.is_in_use() => DeviceError::InUse { id, pid },
            (Stays::Refused(fault), _) => self.error(card, fault),
            (Stays::Remnant, _) => {
                DeviceError::Driver { what: format!("destroying instance {id} on GPU {gpu}"), code: 0, text: Stays::Remnant.to_string() }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn find(pid: u32) -> Result<Process, DeviceError> {
    Process::find(pid).map_err(|source| DeviceError::Os { what: format!("finding process {pid}"), source })
}

/// NVML does not tell when an instance is not in use any more.
#[allow(clippy::disallowed_methods, reason = "there is nothing to wait for but time")]
fn wait(pause: Duration) {
    std::thread::sleep(pause);
}
