//! The thread that waits for what happens to the GPUs without being asked for.

use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvTimeoutError};
use nvml_wrapper_sys::bindings as raw;

use std::time::Duration;

use super::Inner;
use super::card::{Identity, is_cut_up};
use super::fault::Fault;
use super::record::Stage;
use super::state::State;
use super::sys::{EventHandle, RawEvent, Session};
use crate::DeviceEvent;

/// How long one wait takes at most, and with it how long it takes to stop.
const WAIT: Duration = Duration::from_millis(100);
/// Waits without an event after which the GPUs are asked whether they are still there: twice a second.
const WAITS_PER_PROBE: u32 = 5;
/// How often in a row a GPU must not answer to be lost, when it does not say that it is.
const STRIKES: u32 = 3;
const XID: u64 = raw::nvmlEventTypeXidCriticalError as u64;
const MIG: u64 = raw::nvmlEventMigConfigChange as u64;

/// Waits until `stop` is closed.
pub(crate) fn run(inner: &Arc<Inner>, stop: &Receiver<()>) {
    let mut set = None;
    let mut waits = 0;
    loop {
        if set.is_none() {
            set = register(inner);
            // What happened before was not told.
            inner.look_at_all();
        }
        let waited = set.map(|set| inner.session.wait(set, WAIT.as_millis() as u32));
        // A wait that fails returns at once; the next one must not.
        let pause = match &waited {
            Some(Ok(_)) => Duration::ZERO,
            Some(Err(fault)) if fault.is_timeout() => Duration::ZERO,
            Some(Err(_)) | None => WAIT,
        };
        if stop.recv_timeout(pause) != Err(RecvTimeoutError::Timeout) {
            break;
        }
        waits += 1;
        let mut look = waits % WAITS_PER_PROBE == 0;
        match waited {
            Some(Ok(event)) => look |= inner.happened(event),
            Some(Err(fault)) => look |= !fault.is_timeout(),
            None => {}
        }
        if look && inner.probe() {
            // A GPU that came back is new to the set, and one that is lost makes every wait for the set fail.
            release(&inner.session, set.take());
        }
    }
    release(&inner.session, set);
}

fn release(session: &Session, set: Option<EventHandle>) {
    if let Some(Err(fault)) = set.map(|set| session.free_events(set)) {
        tracing::warn!(%fault, "a set of events stays allocated");
    }
}

fn register(inner: &Inner) -> Option<EventHandle> {
    let state = inner.state();
    let set = match inner.session.events() {
        Ok(set) => set,
        Err(fault) => {
            tracing::debug!(%fault, "no events of NVIDIA devices");
            return None;
        }
    };
    for card in state.cards.iter().filter(|card| !card.lost) {
        let kinds = if card.mig { XID | MIG } else { XID };
        let gpu = card.identity.handle;
        if let Err(fault) = inner.session.register(gpu, kinds, set).or_else(|_| inner.session.register(gpu, XID, set)) {
            tracing::warn!(gpu = card.index(), %fault, "no events of this GPU");
        }
    }
    Some(set)
}

impl Inner {
    /// Deals with one event; whether the GPUs should be looked after.
    fn happened(&self, event: RawEvent) -> bool {
        let _operation = self.operation();
        let mut state = self.state();
        let Some(at) = state.cards.iter().position(|card| card.identity.handle == event.device) else { return true };
        let gpu = state.cards[at].index();
        if event.kind == XID {
            let instance = state.instance_of(at, event.gi);
            state.tell(DeviceEvent::Xid { gpu, instance, code: event.data });
            return true;
        }
        state.look(at);
        false
    }

    fn look_at_all(&self) {
        let _operation = self.operation();
        let mut state = self.state();
        (0..state.cards.len()).for_each(|at| state.look(at));
    }

    /// Asks every GPU whether it is there; whether one that was is not any more, or the other way round.
    fn probe(&self) -> bool {
        let _operation = self.operation();
        let mut state = self.state();
        let mut turned = false;
        for at in 0..state.cards.len() {
            turned |= if state.cards[at].lost { state.come_back(at) } else { state.check(at) };
        }
        turned
    }
}

impl State {
    /// Tells of changes that are not ours. Since what we do is in the table by now, what is not in it is another's doing.
    fn look(&mut self, at: usize) {
        if let Err(error) = self.refresh(at) {
            tracing::debug!(%error, "a changed GPU could not be looked at");
        }
        if std::mem::take(&mut self.cards[at].changed) {
            self.tell(DeviceEvent::Changed { gpu: self.cards[at].index() });
        }
    }

    fn instance_of(&self, at: usize, gi: u32) -> Option<u64> {
        let card = &self.cards[at];
        let ours = self.own.iter().find(|(_, own)| own.card == at && (!card.mig || own.entry.gi == Some(gi)));
        let theirs = || card.foreign.iter().find(|foreign| foreign.info.id == gi).map(|foreign| foreign.id);
        ours.map(|(id, _)| *id).or_else(theirs)
    }

    /// Whether it is lost.
    fn check(&mut self, at: usize) -> bool {
        let card = &mut self.cards[at];
        match self.session.memory(card.identity.handle) {
            Ok(_) => card.strikes = 0,
            Err(fault) => {
                card.strikes += 1;
                tracing::warn!(gpu = card.index(), %fault, "the GPU does not answer");
                if fault.is_lost() || card.strikes >= STRIKES {
                    self.lose(at);
                }
            }
        }
        self.cards[at].lost
    }

    /// Whether a lost GPU answers again; what is left on it of ours is removed, so that it is empty.
    pub(crate) fn come_back(&mut self, at: usize) -> bool {
        if !self.cards[at].lost {
            return false;
        }
        let Some(identity) = self.find_again(at) else { return false };
        let card = &mut self.cards[at];
        match is_cut_up(&self.session, &identity) {
            Ok(mig) if mig == card.mig => {}
            Ok(_) => {
                tracing::warn!(gpu = card.index(), "the GPU answers again, but its MIG mode is another; switch it back, or start anew");
                return false;
            }
            Err(error) => {
                tracing::warn!(%error, "the GPU answers again, but not for long");
                return false;
            }
        }
        card.identity = Identity { index: card.identity.index, ..identity };
        (card.lost, card.strikes) = (false, 0);
        for own in self.own.values_mut().filter(|own| own.card == at) {
            own.entry.stage = Stage::Unmaking;
        }
        self.sweep(at);
        if self.cards[at].lost || self.refresh(at).is_err() {
            self.cards[at].lost = true;
            return false;
        }
        self.cards[at].changed = false;
        self.tell(DeviceEvent::Back { gpu: self.cards[at].index() });
        true
    }

    /// The GPU may have another index while it, or another one, is away.
    fn find_again(&self, at: usize) -> Option<Identity> {
        let uuid = &self.cards[at].identity.uuid;
        let answered = |fault: &Fault| tracing::debug!(gpu = self.cards[at].index(), %fault, "the GPU stays lost");
        let count = self.session.gpu_count().inspect_err(answered).ok()?;
        let mut found = (0..count).filter_map(|index| Identity::read(&self.session, index).inspect_err(answered).ok());
        let identity = found.find(|identity| identity.uuid == *uuid)?;
        self.session.memory(identity.handle).inspect_err(answered).ok().map(|_| identity)
    }
}
