//! Samples of performance counters, two of which tell how busy an instance was between them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::fault::Fault;
use super::sys::{DeviceHandle, SampleHandle, Session};

/// NVML compares two samples of performance counters that are at least this far apart (nvml.h, `nvmlGpmMetricsGet`).
const APART: Duration = Duration::from_millis(100);

/// The last sample of each instance.
#[derive(Debug, Default)]
pub(crate) struct Counters(BTreeMap<u64, Kept>);

#[derive(Debug)]
struct Kept {
    at: Instant,
    sample: SampleHandle,
    /// What came of it and the one before.
    busy: Option<f64>,
}

impl Counters {
    /// Share of the multiprocessors that were busy since the last look, 0..1; `None` at the first.
    pub(crate) fn busy(&mut self, session: &Session, id: u64, gpu: DeviceHandle, gi: Option<u32>) -> Result<Option<f64>, Fault> {
        let before = self.0.get(&id);
        if let Some(kept) = before.filter(|kept| kept.at.elapsed() < APART) {
            return Ok(kept.busy);
        }
        let sample = session.sample(gpu, gi)?;
        let percent = before.map(|kept| session.busy_percent(kept.sample, sample)).transpose();
        let busy =
            percent.as_ref().ok().copied().flatten().filter(|percent| percent.is_finite()).map(|percent| (percent / 100.0).clamp(0.0, 1.0));
        if let Some(old) = self.0.insert(id, Kept { at: Instant::now(), sample, busy }) {
            session.free_sample(old.sample);
        }
        percent.map(|_| busy)
    }

    /// Gives back the samples of instances that are not there any more.
    pub(crate) fn keep(&mut self, session: &Session, lives: impl Fn(u64) -> bool) {
        let gone: Vec<u64> = self.0.keys().copied().filter(|&id| !lives(id)).collect();
        for kept in gone.iter().filter_map(|id| self.0.remove(id)) {
            session.free_sample(kept.sample);
        }
    }
}
