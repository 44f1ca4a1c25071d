//! What the device tells without being asked, and how busy its instances are.

use std::time::Duration;

use crossbeam_channel::Receiver;
use migrator_device::{Device, DeviceError, DeviceEvent};

use crate::support::{Bench, Sleeper, site};

/// Long enough for a machine that is busy; nothing is measured by it.
const PATIENCE: Duration = Duration::from_secs(20);

fn next(events: &Receiver<DeviceEvent>) -> DeviceEvent {
    events.recv_timeout(PATIENCE).unwrap()
}

/// Everything that was told up to an Xid that is sent now: what comes before it has been dealt with.
fn before_xid(bench: &Bench, events: &Receiver<DeviceEvent>) -> Vec<DeviceEvent> {
    let mark = DeviceEvent::Xid { gpu: 0, instance: None, code: 4711 };
    let mut told = Vec::new();
    loop {
        // The thread may not listen yet.
        bench.host.xid(0, None, 4711);
        while let Ok(event) = events.recv_timeout(Duration::from_millis(300)) {
            if event == mark {
                return told;
            }
            told.push(event);
        }
    }
}

#[test]
fn an_xid_error_is_told_with_the_instance_it_happened_on() {
    let bench = Bench::new(&["a100"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "2g", 2)).unwrap();
    let events = device.events().unwrap();
    before_xid(&bench, &events);
    let gi = bench.host.instances(0).unwrap()[0].id;
    bench.host.xid(0, Some(gi), 94);
    let mut told = next(&events);
    while told == (DeviceEvent::Xid { gpu: 0, instance: None, code: 4711 }) {
        told = next(&events);
    }
    assert_eq!(told, DeviceEvent::Xid { gpu: 0, instance: Some(made.id), code: 94 });
}

#[test]
fn what_we_do_ourselves_is_no_change_and_what_others_do_is_one() {
    let bench = Bench::new(&["a100"]);
    let device = bench.open();
    let events = device.events().unwrap();
    before_xid(&bench, &events);
    let made = device.create(0, site(&device, "2g", 2)).unwrap();
    let other = device.create(0, site(&device, "1g", 0)).unwrap();
    device.destroy(made.id).unwrap();
    assert_eq!(before_xid(&bench, &events), []);
    bench.host.create_foreign(0, 9, 4).unwrap();
    let of_ours = bench.host.instances(0).unwrap()[0].id;
    assert!(before_xid(&bench, &events).contains(&DeviceEvent::Changed { gpu: 0 }));
    bench.host.destroy_foreign(0, of_ours).unwrap();
    assert!(before_xid(&bench, &events).contains(&DeviceEvent::Changed { gpu: 0 }));
    assert!(matches!(device.destroy(other.id), Err(DeviceError::UnknownInstance(_))));
    // Whoever looked first does not take the news from who listens.
    bench.host.create_foreign(0, 19, 1).unwrap();
    assert_eq!(device.instances().unwrap().len(), 2);
    assert!(before_xid(&bench, &events).contains(&DeviceEvent::Changed { gpu: 0 }));
}

#[test]
fn a_lost_gpu_is_told_once_and_comes_back_empty() {
    let bench = Bench::new(&["h200", "h200"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "3g", 4)).unwrap();
    let kept = device.create(1, site(&device, "3g", 4)).unwrap();
    let events = device.events().unwrap();
    before_xid(&bench, &events);
    bench.host.lose(0).unwrap();
    let mut told = next(&events);
    while matches!(told, DeviceEvent::Xid { .. }) {
        told = next(&events);
    }
    assert_eq!(told, DeviceEvent::Lost { gpu: 0 });
    assert!(matches!(device.bind(made.id, std::process::id()), Err(DeviceError::Lost { gpu: 0 })));
    assert_eq!(device.instances().unwrap(), std::slice::from_ref(&kept));
    assert_eq!(device.usage().unwrap().len(), 1);
    // The other GPU is still heard of.
    bench.host.create_foreign(1, 19, 0).unwrap();
    assert_eq!(next(&events), DeviceEvent::Changed { gpu: 1 });
    bench.host.restore(0).unwrap();
    assert_eq!(next(&events), DeviceEvent::Back { gpu: 0 });
    assert!(matches!(device.destroy(made.id), Err(DeviceError::UnknownInstance(_)) | Ok(())));
    device.create(0, made.site).unwrap();
    assert_eq!(device.instances().unwrap().len(), 3);
}

#[test]
fn usage_tells_memory_processes_and_the_busy_share() {
    let bench = Bench::new(&["h200"]);
    let device = bench.open();
    let (first, second) = (device.create(0, site(&device, "3g", 4)).unwrap(), device.create(0, site(&device, "1g", 0)).unwrap());
    let user = Sleeper::start();
    bench.host.claim_memory(user.pid(), first.uuid.as_deref().unwrap(), 3000).unwrap();
    let gi = bench.host.instances(0).unwrap()[1].id;
    bench.host.set_busy(0, gi, 0.25).unwrap();
    let usage = |id: u64| device.usage().unwrap().into_iter().find(|usage| usage.instance == id).unwrap();
    let now = usage(first.id);
    assert_eq!((now.memory_mib, now.processes.as_slice(), now.busy), (3000, &[user.pid()][..], None));
    // Two samples are at least 100 ms apart; until then there is none to compare with.
    let busy = std::iter::repeat_with(|| usage(first.id).busy).find_map(|busy| busy).unwrap();
    assert!((busy - 0.25).abs() < 1e-9, "{busy}");
    // Its samples are taken a moment after the other's.
    let idle = std::iter::repeat_with(|| usage(second.id)).find(|usage| usage.busy.is_some()).unwrap();
    assert_eq!((idle.memory_mib, idle.processes.len(), idle.busy), (0, 0, Some(0.0)));
}

#[test]
fn before_hopper_nobody_knows_how_busy_an_instance_is() {
    let bench = Bench::new(&["a100"]);
    let device = bench.open();
    let made = device.create(0, site(&device, "3g", 4)).unwrap();
    let usage = device.usage().unwrap();
    assert_eq!((usage.len(), usage[0].instance, usage[0].busy), (1, made.id, None));
}
