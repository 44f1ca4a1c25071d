//! What the tenant machine costs per request; see `README.md` beside this file.

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use migrator_machine::tenant::{LaneSpec, Request, RequestId, TenantConfig, TenantMachine, TenantWish};
use migrator_machine::time::Time;
use migrator_models::Curve;
use migrator_models::curve::CurvePoint;
use migrator_solver::InstanceId;

/// Rows in a batch, and requests per round.
const BATCH: u64 = 16;
/// Time of a round, and of the batch in it.
const ROUND: Duration = Duration::from_millis(25);

struct Rounds {
    machine: TenantMachine,
    now: Time,
    next: u64,
}

impl Rounds {
    fn new() -> Rounds {
        let points = [(1, 10.0), (4, 13.0), (16, 25.0)].map(|(batch, core_ms)| CurvePoint { batch, core_ms }).to_vec();
        let config =
            TenantConfig { slo: Duration::from_secs(10), max_batch: BATCH as u32, curve: Curve { points }, ..TenantConfig::default() };
        let mut machine = TenantMachine::new(config);
        machine.lane_up(Time::ZERO, InstanceId(1), LaneSpec::cores(1.0));
        Rounds { machine, now: Time::ZERO, next: 0 }
    }

    /// Requests arrive together, leave as a batch, and are answered when the next round begins; gives the rows dispatched.
    fn round(&mut self) -> u32 {
        for _ in 0..BATCH {
            self.machine.request(self.now, Request { id: RequestId(self.next), rows: 1, arrived: self.now, timeout: None, priority: 0 });
            self.next += 1;
        }
        let mut dispatched = 0;
        while let Some(wish) = self.machine.poll(self.now) {
            if let TenantWish::Dispatch { batch, rows, .. } = wish {
                dispatched += rows;
                self.now = self.now + ROUND;
                self.machine.finished(self.now, batch, ROUND);
            }
            black_box(&wish);
        }
        black_box(self.machine.timeout());
        dispatched
    }
}

fn requests(criterion: &mut Criterion) {
    let mut first = Rounds::new();
    assert_eq!(first.round(), BATCH as u32, "a round must be one full batch, or the number means something else");
    assert_eq!(first.machine.totals().batches, 1);
    let mut group = criterion.benchmark_group("machine");
    group.throughput(Throughput::Elements(BATCH));
    let mut rounds = Rounds::new();
    group.bench_function("requests/16-row batches", |bencher| bencher.iter(|| rounds.round()));
    group.finish();
}

criterion_group!(benches, requests);
criterion_main!(benches);
