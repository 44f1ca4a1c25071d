//! Files for a closer look: one row per second, one row per request.

use std::fs::File;
use std::io::{BufWriter, Result, Write};
use std::path::Path;

use super::record::{Counts, Latency, Record};
use super::report::LoadReport;

/// Writes what became of the requests due in each second, per tenant.
///
/// # Errors
/// When the file cannot be written.
pub fn write_timeline(path: &Path, report: &LoadReport) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "second,tenant,requests,ok,late,shed,error,lost,correct,p50_ms,p99_ms,max_ms,reconfiguring")?;
    for (tenant, records) in report.tenants.iter().zip(&report.records) {
        for group in records.chunk_by(|a, b| second(a) == second(b)) {
            let (at, counts) = (second(&group[0]), group.iter().collect::<Counts>());
            let latency = Latency::of(group).unwrap_or_default();
            let Counts { requests, ok, late, shed, error, lost, correct, .. } = counts;
            let reconfiguring = report.reconfigurations.iter().any(|r| r.at_s < at as f64 + 1.0 && r.at_s + r.took_s > at as f64);
            write!(file, "{at},{},{requests},{ok},{late},{shed},{error},{lost},{correct},", tenant.tenant)?;
            writeln!(file, "{},{},{},{}", latency.p50_ms, latency.p99_ms, latency.max_ms, u8::from(reconfiguring))?;
        }
    }
    file.flush()
}

/// Writes every request.
///
/// # Errors
/// When the file cannot be written.
pub fn write_requests(path: &Path, report: &LoadReport) -> Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    writeln!(file, "tenant,intended_s,latency_ms,lag_ms,outcome,correct")?;
    for (tenant, records) in report.tenants.iter().zip(&report.records) {
        for record in records {
            let (at_s, latency_ms, lag_ms) =
                (us(record.intended_us, 1e6), us(record.latency_us.into(), 1e3), us(record.lag_us.into(), 1e3));
            let (outcome, correct) = (record.outcome.name(), u8::from(record.correct));
            writeln!(file, "{},{at_s:.6},{latency_ms:.3},{lag_ms:.3},{outcome},{correct}", tenant.tenant)?;
        }
    }
    file.flush()
}

fn second(record: &Record) -> u64 {
    record.intended_us / 1_000_000
}

fn us(value: u64, unit: f64) -> f64 {
    value as f64 / unit
}
