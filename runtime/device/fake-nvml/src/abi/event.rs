//! Events and performance counters.

use std::time::Duration;

use nvml_wrapper_sys::bindings as sys;

use super::pointer::Out;
use super::{Raw, export};
use crate::Code;

/// What stands where an id does not apply (`nvml.h`).
const NO_ID: u32 = u32::MAX;

/// Metrics that are told; the others are not supported.
const TOLD: [u32; 2] = [sys::nvmlGpmMetricId_t_NVML_GPM_METRIC_GRAPHICS_UTIL, sys::nvmlGpmMetricId_t_NVML_GPM_METRIC_SM_UTIL];

export! {
    nvmlEventSetCreate(driver, set: Out<Raw>) {
        set.put(Raw(driver.create_set()))?;
    }

    nvmlEventSetFree(driver, set: Raw) {
        driver.free_set(set.0)?;
    }

    nvmlDeviceGetSupportedEventTypes(driver, device: Raw, kinds: Out<u64>) {
        kinds.put(driver.event_kinds(device.0)?)?;
    }

    nvmlDeviceRegisterEvents(driver, device: Raw, kinds: u64, set: Raw) {
        driver.register(device.0, kinds, set.0)?;
    }

    nvmlEventSetWait_v2(driver, set: Raw, data: Out<sys::nvmlEventData_t>, timeout_ms: u32) {
        let event = driver.wait(set.0, Duration::from_millis(u64::from(timeout_ms)))?;
        // A GPU that is lost by now was there when the event happened: its handle is told without a look at it.
        let device = crate::handle::Handle::Gpu(event.gpu).encode();
        data.put(sys::nvmlEventData_t {
            device: std::ptr::without_provenance_mut(device),
            eventType: event.kind,
            eventData: event.data,
            gpuInstanceId: event.instance.unwrap_or(NO_ID),
            computeInstanceId: event.compute.unwrap_or(NO_ID),
        })?;
    }

    nvmlGpmQueryDeviceSupport(driver, device: Raw, support: Out<sys::nvmlGpmSupport_t>) {
        let version = support.get()?.version;
        let isSupportedDevice = u32::from(driver.has_gpm(device.0)?);
        support.put(sys::nvmlGpmSupport_t { version, isSupportedDevice })?;
    }

    nvmlGpmSampleAlloc(driver, sample: Out<Raw>) {
        sample.put(Raw(driver.create_sample()))?;
    }

    nvmlGpmSampleFree(driver, sample: Raw) {
        driver.free_sample(sample.0)?;
    }

    nvmlGpmSampleGet(driver, device: Raw, sample: Raw) {
        driver.sample(device.0, None, sample.0)?;
    }

    nvmlGpmMigSampleGet(driver, device: Raw, instance: u32, sample: Raw) {
        driver.sample(device.0, Some(instance), sample.0)?;
    }

    nvmlGpmMetricsGet(driver, metrics: Out<sys::nvmlGpmMetricsGet_t>) {
        let mut asked = metrics.get()?;
        if asked.version != sys::NVML_GPM_METRICS_GET_VERSION {
            return Err(Code::VERSION_MISMATCH);
        }
        let count = asked.numMetrics as usize;
        let measure = driver.measure(asked.sample1.addr(), asked.sample2.addr())?;
        for metric in asked.metrics.get_mut(..count).ok_or(Code::INVALID_ARGUMENT)? {
            let told = TOLD.contains(&metric.metricId);
            metric.nvmlReturn = if told { 0 } else { Code::NOT_SUPPORTED.0 };
            metric.value = if told { measure.busy } else { 0.0 };
        }
        metrics.put(asked)?;
    }
}
