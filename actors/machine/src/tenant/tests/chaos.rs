//! Random events; the invariants hold after every one.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Copy, Debug)]
enum Event {
    Request { rows: u32, timeout: u64 },
    Up(u64, u8),
    Drain(u64),
    Lose(u64),
    Finish(usize),
    Fail(usize),
    Evaluate(u32),
    Wait(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (1u32..5, 1u64..200).prop_map(|(rows, timeout)| Event::Request { rows, timeout }),
        2 => (1u64..4, 1u8..5).prop_map(|(lane, share)| Event::Up(lane, share)),
        1 => (1u64..4).prop_map(Event::Drain),
        1 => (1u64..4).prop_map(Event::Lose),
        5 => (0usize..4).prop_map(Event::Finish),
        1 => (0usize..4).prop_map(Event::Fail),
        1 => (1u32..16).prop_map(Event::Evaluate),
        6 => (0u64..40_000).prop_map(Event::Wait),
    ]
}

/// The machine, the batches its shell has, and how often each request was answered.
struct World {
    machine: TenantMachine,
    now: Time,
    batches: Vec<BatchId>,
    answered: BTreeMap<u64, u32>,
    asked: u64,
}

impl World {
    fn apply(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::Request { rows, timeout } => {
                let id = RequestId(self.asked);
                self.asked += 1;
                self.machine.request(now, Request { id, rows, arrived: now, timeout: Some(span(timeout)), priority: 0 });
            }
            Event::Up(lane, share) => self.machine.lane_up(now, InstanceId(lane), LaneSpec::cores(f64::from(share) / 2.0)),
            Event::Drain(lane) => self.machine.drain(now, InstanceId(lane)),
            Event::Lose(lane) => self.machine.lane_lost(now, InstanceId(lane)),
            Event::Finish(index) if index < self.batches.len() => {
                let batch = self.batches.swap_remove(index);
                self.machine.finished(now, batch, span(11));
            }
            Event::Fail(index) if index < self.batches.len() => {
                let batch = self.batches.swap_remove(index);
                self.machine.failed(now, batch);
            }
            Event::Evaluate(rows) => self.machine.evaluate(now, EvalId(0), rows),
            Event::Wait(us) => self.wait(now + Duration::from_micros(us)),
            Event::Finish(_) | Event::Fail(_) => {}
        }
        self.settle();
    }

    fn wait(&mut self, until: Time) {
        while let Some(timer) = self.machine.timeout().filter(|&t| t <= until) {
            assert!(timer > self.now, "a timer in the past");
            self.now = timer;
            self.machine.handle_timeout(timer);
            self.settle();
        }
        self.now = until;
    }

    fn settle(&mut self) {
        while let Some(wish) = self.machine.poll(self.now) {
            match wish {
                TenantWish::Dispatch { batch, .. } => self.batches.push(batch),
                TenantWish::Answer { request, .. } => *self.answered.entry(request.0).or_default() += 1,
                _ => {}
            }
            assert_eq!(self.machine.check(), []);
        }
        assert_eq!(self.machine.check(), []);
        assert!(self.machine.timeout().is_none_or(|t| t > self.now), "{:?} at {:?}", self.machine.timeout(), self.now);
    }
}

proptest! {
    #[test]
    fn invariants_hold_after_every_event_and_every_request_is_answered_once(
        events in prop::collection::vec(event(), 1..200),
        elsa in any::<bool>(),
        hedge in prop_oneof![Just(0.0), Just(1.0)],
    ) {
        let dispatch = if elsa { Dispatch::Elsa { alpha: 1.0, beta: 1.0 } } else { Dispatch::Soonest };
        let machine = TenantMachine::new(TenantConfig { queue_limit: 20, dispatch, hedge, ..config() });
        let mut world = World { machine, now: Time(0), batches: Vec::new(), answered: BTreeMap::new(), asked: 0 };
        for event in events {
            world.apply(event);
        }
        let end = world.now + Duration::from_secs(60);
        world.wait(end);
        prop_assert_eq!(world.answered.len() as u64, world.asked);
        prop_assert!(world.answered.values().all(|&n| n == 1));
    }
}
