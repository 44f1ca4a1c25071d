//! Series of the server as a whole: names, help texts, buckets.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use migrator_device::{DeviceEvent, Usage};
use migrator_machine::tenant::Totals;
use migrator_machine::{Invariant, MigrationReport, Violation};
use migrator_mig::Placement;
use migrator_solver::{Report, SolveStatus};

/// Buckets of `migrator_request_seconds`: 0.5 ms to 5 s, about 1.6-fold.
pub const LATENCY_BUCKETS_S: [f64; 20] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.008, 0.012, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.4, 0.65, 1.0, 1.6, 2.5, 5.0];

/// Buckets of `migrator_added_seconds`: 50 µs to 1 s, about 1.5-fold where the hot path lies.
pub const ADDED_BUCKETS_S: [f64; 20] = [
    0.00005, 0.000075, 0.0001, 0.00015, 0.0002, 0.0003, 0.00045, 0.0007, 0.001, 0.0015, 0.0025, 0.004, 0.006, 0.01, 0.02, 0.05, 0.1, 0.2,
    0.5, 1.0,
];

/// Buckets of solve times, milliseconds.
pub const SOLVE_BUCKETS_MS: [f64; 10] = [0.5, 1.0, 2.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1000.0];

/// Buckets of steps and reconfigurations, seconds.
pub const STEP_BUCKETS_S: [f64; 12] = [0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Share of requests answered within the SLO, shed ones counted as missed; 1 before the first.
pub fn attainment(totals: &Totals) -> f64 {
    let ended = totals.ok + totals.late + totals.shed + totals.error;
    if ended == 0 { 1.0 } else { totals.ok as f64 / ended as f64 }
}

/// Counts a broken invariant and logs it.
pub fn violation(violation: &Violation) {
    counter!("migrator_invariant_violations_total", "id" => violation.invariant.id()).increment(1);
    tracing::error!(id = violation.invariant.id(), detail = %violation.detail, "{}", violation.invariant.text());
}

/// A solve is over.
pub fn solved(report: &Report) {
    histogram!("migrator_plan_solve_milliseconds").record(report.solve_ms);
    gauge!("migrator_plan_gap").set(report.gap);
    gauge!("migrator_plan_objective").set(report.objective);
    let status = match report.status {
        SolveStatus::Optimal => "optimal",
        SolveStatus::TimeLimit => "time_limit",
        SolveStatus::Greedy => "greedy",
        SolveStatus::Rule => "rule",
        SolveStatus::Kept => "kept",
    };
    counter!("migrator_plan_solves_total", "status" => status).increment(1);
}

/// A solve failed or came too late.
pub fn unsolved() {
    counter!("migrator_plan_solves_total", "status" => "failed").increment(1);
}

/// A reconfiguration is over.
pub fn migrated(report: &MigrationReport) {
    let result = if report.complete() { "complete" } else { "partial" };
    counter!("migrator_reconfigurations_total", "result" => result).increment(1);
    histogram!("migrator_reconfiguration_seconds").record(report.took_s);
    histogram!("migrator_reconfiguration_lost_service_seconds").record(report.lost_s);
    histogram!("migrator_reconfiguration_idle_slice_seconds").record(report.idle_slice_s);
    for took in &report.steps {
        let kind = migrator_machine::migration::StepKind::of(&took.step).name();
        histogram!("migrator_step_seconds", "step" => kind).record(took.seconds);
    }
}

/// A worker died and was started again, or is being.
pub fn restarted(tenant: &str) {
    counter!("migrator_worker_restarts_total", "tenant" => tenant.to_owned()).increment(1);
}

/// Something happened to the device.
pub fn device_event(event: &DeviceEvent) {
    let (gpu, kind) = match event {
        DeviceEvent::Xid { gpu, code, .. } => {
            counter!("migrator_device_xid_total", "gpu" => gpu.to_string(), "xid" => code.to_string()).increment(1);
            (gpu, "xid")
        }
        DeviceEvent::Changed { gpu } => (gpu, "changed"),
        DeviceEvent::Lost { gpu } => (gpu, "lost"),
        DeviceEvent::Back { gpu } => (gpu, "back"),
    };
    counter!("migrator_device_events_total", "gpu" => gpu.to_string(), "event" => kind).increment(1);
}

/// What an instance is doing.
pub fn usage(gpu: u32, placement: Placement, usage: &Usage) {
    let labels = || [("gpu", gpu.to_string()), ("placement", format!("{}:{}", placement.start, placement.size))];
    gauge!("migrator_instance_memory_used_bytes", &labels()).set((usage.memory_mib << 20) as f64);
    gauge!("migrator_instance_processes", &labels()).set(usage.processes.len() as f64);
    if let Some(busy) = usage.busy {
        gauge!("migrator_instance_busy_ratio", &labels()).set(busy);
    }
}

/// Instances of a tenant for a task.
pub fn instances(tenant: &str, task: &'static str, count: f64, slices: f64) {
    gauge!("migrator_instances", "tenant" => tenant.to_owned(), "task" => task).set(count);
    gauge!("migrator_compute_slices", "tenant" => tenant.to_owned(), "task" => task).set(slices);
}

/// Makes the series that count rare events exist from the start, at 0: an alert on a rate needs a first value.
pub fn register(tenants: &[&str]) {
    for tenant in tenants {
        counter!("migrator_worker_restarts_total", "tenant" => (*tenant).to_owned()).increment(0);
        counter!("migrator_rollbacks_total", "tenant" => (*tenant).to_owned()).increment(0);
        counter!("migrator_microprofile_core_milliseconds_total", "tenant" => (*tenant).to_owned()).increment(0);
        for result in ["labelled", "unsure", "dropped", "failed"] {
            counter!("migrator_golden_requests_total", "tenant" => (*tenant).to_owned(), "result" => result).increment(0);
        }
        counter!("migrator_golden_compute_microseconds_total", "tenant" => (*tenant).to_owned()).increment(0);
        for result in ["accepted", "unknown", "duplicate", "rows", "features"] {
            counter!("migrator_late_labels_total", "tenant" => (*tenant).to_owned(), "result" => result).increment(0);
        }
        for result in ["published", "kept", "failed", "not_worth"] {
            counter!("migrator_retrainings_total", "tenant" => (*tenant).to_owned(), "result" => result).increment(0);
        }
    }
    for invariant in Invariant::ALL {
        counter!("migrator_invariant_violations_total", "id" => invariant.id()).increment(0);
    }
    for result in ["complete", "partial"] {
        counter!("migrator_reconfigurations_total", "result" => result).increment(0);
    }
}

/// Registers help texts; call once after the recorder is installed.
pub fn describe() {
    describe_counter!("migrator_requests_total", "requests by outcome: ok, late, shed (with reason), error");
    describe_histogram!("migrator_request_seconds", Unit::Seconds, "latency of answered requests, from arrival at the server");
    describe_histogram!("migrator_added_seconds", Unit::Seconds, "latency of answered requests beyond the computation of their batch");
    describe_gauge!("migrator_queue_depth", "requests waiting");
    describe_gauge!("migrator_arrival_rps", "arrivals in the last second, requests/s");
    describe_gauge!("migrator_slo_attainment", "requests answered within the SLO / requests, since the start");
    describe_gauge!("migrator_accuracy", "share of recent labelled samples the version in service got right");
    describe_gauge!("migrator_accuracy_low", "lower end of the 95 % interval of migrator_accuracy");
    describe_gauge!("migrator_accuracy_high", "upper end of the 95 % interval of migrator_accuracy");
    describe_gauge!("migrator_output_drift", "distance of the classes answered now from those that the version answered first, 0 to 1");
    describe_gauge!("migrator_confidence_change", "mean confidence of the answers now less that of the version's first answers");
    describe_gauge!("migrator_goodput_ratio", "SLO attainment x accuracy");
    describe_counter!("migrator_goodput_millirequests_total", "requests on time x accuracy, in thousandths");
    describe_gauge!("migrator_service_time_ratio", "service time observed / expected from the curve");
    describe_gauge!("migrator_batch_rows_mean", "mean rows per batch in the last second");
    describe_gauge!("migrator_model_version", "version in service");
    describe_histogram!("migrator_plan_solve_milliseconds", Unit::Milliseconds, "wall time of a solve");
    describe_gauge!("migrator_plan_gap", "relative gap of the last solve");
    describe_gauge!("migrator_plan_objective", "expected goodput of the last plan over its horizon, requests");
    describe_counter!("migrator_plan_solves_total", "solves by status");
    describe_counter!("migrator_reconfigurations_total", "reconfigurations carried out");
    describe_histogram!("migrator_reconfiguration_seconds", Unit::Seconds, "first step to last");
    describe_histogram!("migrator_reconfiguration_lost_service_seconds", Unit::Seconds, "service lost by a reconfiguration");
    describe_histogram!(
        "migrator_reconfiguration_idle_slice_seconds",
        Unit::Seconds,
        "slice-seconds that stood still in a reconfiguration"
    );
    describe_histogram!("migrator_step_seconds", Unit::Seconds, "duration of a step by kind");
    describe_counter!("migrator_device_events_total", "what happened to a GPU unasked: xid, changed, lost, back");
    describe_counter!("migrator_device_xid_total", "Xid errors that the driver reported, by number");
    describe_gauge!("migrator_instance_memory_used_bytes", Unit::Bytes, "memory in use on an instance");
    describe_gauge!("migrator_instance_processes", "processes on an instance");
    describe_gauge!("migrator_instance_busy_ratio", "share of an instance's multiprocessors that were busy, 0..1 (Hopper and later)");
    describe_counter!("migrator_worker_restarts_total", "workers started again after they died");
    describe_gauge!("migrator_instances", "instances by tenant and task");
    describe_gauge!("migrator_compute_slices", "compute slices by tenant and task");
    describe_gauge!("migrator_retraining_progress", "share of the current retraining that is done, 0..1");
    describe_gauge!("migrator_retraining_accuracy_before", "held-out accuracy of the version in service, last retraining");
    describe_gauge!("migrator_retraining_accuracy_foretold", "held-out accuracy that a microprofile foretold of the last retraining");
    describe_gauge!("migrator_retraining_core_seconds_foretold", "CPU seconds that a microprofile foretold of the last retraining");
    describe_gauge!("migrator_retraining_core_seconds", "CPU seconds that the last retraining took");
    describe_counter!("migrator_golden_requests_total", "requests drawn for the golden model by result: labelled, unsure, dropped, failed");
    describe_counter!("migrator_golden_compute_microseconds_total", "microseconds that the golden model computed");
    describe_counter!("migrator_late_labels_total", "labels of earlier requests by result: accepted, unknown, duplicate, rows, features");
    describe_counter!("migrator_rollbacks_total", "versions taken back because they did worse in service");
    describe_counter!("migrator_microprofile_core_milliseconds_total", "CPU milliseconds spent on microprofiles");
    describe_gauge!("migrator_retraining_accuracy_after", "held-out accuracy of the retrained version, last retraining");
    describe_counter!("migrator_retrainings_total", "retrainings by result: published, kept, failed, not_worth");
    describe_counter!("migrator_invariant_violations_total", "broken invariants by id; always 0 unless there is a bug");
}
