//! Events: each process reads the host's log of them from where it began to listen.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings as sys;

use super::{Driver, held};
use crate::Code;
use crate::handle::Handle;
use crate::host::Event;

/// The host's log of events.
const LOG: &str = "events.jsonl";

/// How often the log is looked at while somebody waits.
const LOOK: Duration = Duration::from_millis(5);

/// An Xid error.
pub(crate) const XID: u64 = sys::nvmlEventTypeXidCriticalError as u64;

/// Instances came or went, or the mode changed (`nvmlEventMigConfigChange` of `nvml.h`).
pub(crate) const MIG_CONFIG_CHANGE: u64 = 0x100;

/// What a set of events listens to.
#[derive(Clone, Debug, Default)]
pub(super) struct Set {
    /// GPU and kinds.
    registered: Vec<(usize, u64)>,
    /// Byte of the log up to which this set has read.
    read: u64,
    waiting: VecDeque<Event>,
}

impl Driver {
    /// A new, empty set.
    pub(crate) fn create_set(&self) -> usize {
        let number = self.fresh();
        let read = self.host.length(LOG);
        held(&self.sets).insert(number, Set { read, ..Set::default() });
        Handle::Set(number).encode()
    }

    /// Frees a set.
    pub(crate) fn free_set(&self, raw: usize) -> Result<(), Code> {
        let Handle::Set(number) = Handle::decode(raw)? else { return Err(Code::INVALID_ARGUMENT) };
        held(&self.sets).remove(&number).map(|_| ()).ok_or(Code::INVALID_ARGUMENT)
    }

    /// Kinds of events that a GPU has.
    pub(crate) fn event_kinds(&self, device: usize) -> Result<u64, Code> {
        let view = self.device(device)?;
        if view.mig.is_some() {
            return Err(Code::NOT_SUPPORTED);
        }
        Ok(if view.board.instances > 0 { XID | MIG_CONFIG_CHANGE } else { XID })
    }

    /// Listens to these kinds of events of a GPU; MIG devices have none of their own (`reference/nvml-mig.md` section 4.5).
    pub(crate) fn register(&self, device: usize, kinds: u64, set: usize) -> Result<(), Code> {
        let supported = self.event_kinds(device)?;
        let view = self.whole(device)?;
        let Handle::Set(number) = Handle::decode(set)? else { return Err(Code::INVALID_ARGUMENT) };
        if kinds & !supported != 0 {
            return Err(Code::NOT_SUPPORTED);
        }
        let mut sets = held(&self.sets);
        let set = sets.get_mut(&number).ok_or(Code::INVALID_ARGUMENT)?;
        // What is in the log by now happened before.
        self.read_on(set)?;
        set.registered.push((view.index, kinds));
        Ok(())
    }

    /// The next event of a set. With none waiting and one of its GPUs lost: [`Code::GPU_IS_LOST`], at once.
    pub(crate) fn wait(&self, raw: usize, timeout: Duration) -> Result<Event, Code> {
        let Handle::Set(number) = Handle::decode(raw)? else { return Err(Code::INVALID_ARGUMENT) };
        let until = Instant::now().checked_add(timeout);
        loop {
            if let Some(event) = self.next_event(number)? {
                return Ok(event);
            }
            self.none_lost(number)?;
            if until.is_some_and(|until| Instant::now() >= until) {
                return Err(Code::TIMEOUT);
            }
            #[allow(clippy::disallowed_methods, reason = "other processes write the log, and nothing here says when")]
            std::thread::sleep(LOOK);
        }
    }

    /// Writes down what happened; a host whose folder cannot be written to any more has nobody left to tell.
    pub(crate) fn emit(&self, event: Event) {
        let _ = self.host.append(LOG, &event);
    }

    fn next_event(&self, number: u64) -> Result<Option<Event>, Code> {
        let mut sets = held(&self.sets);
        let set = sets.get_mut(&number).ok_or(Code::INVALID_ARGUMENT)?;
        if set.waiting.is_empty() {
            self.read_on(set)?;
        }
        Ok(set.waiting.pop_front())
    }

    /// Takes over what the log has got since the last look.
    fn read_on(&self, set: &mut Set) -> Result<(), Code> {
        if self.host.length(LOG) > set.read {
            let (events, read) = self.host.lines::<Event>(LOG, set.read).map_err(|_| Code::UNKNOWN)?;
            set.read = read;
            let heard = |event: &Event| set.registered.iter().any(|(gpu, kinds)| *gpu == event.gpu && kinds & event.kind != 0);
            set.waiting.extend(events.into_iter().filter(heard).collect::<Vec<_>>());
        }
        Ok(())
    }

    fn none_lost(&self, number: u64) -> Result<(), Code> {
        let gpus: Vec<usize> = held(&self.sets).get(&number).ok_or(Code::INVALID_ARGUMENT)?.registered.iter().map(|one| one.0).collect();
        let state = self.host.state().map_err(|_| Code::UNKNOWN)?;
        let lost = gpus.iter().any(|&gpu| state.gpus.get(gpu).is_some_and(|gpu| gpu.lost));
        if lost { Err(Code::GPU_IS_LOST) } else { Ok(()) }
    }
}
