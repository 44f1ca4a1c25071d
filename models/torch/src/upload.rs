//! Bytes to a GPU: through page-locked memory of the calling thread, on a stream of its own.
//!
//! A copy from other memory makes the driver copy twice and the thread wait; kernels of one stream wait for each other.
#![allow(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::ffi::c_int;

use tch::{Device, Kind, Tensor};

use crate::TorchError;

// SAFETY: `stream.cpp` defines it with these types; it takes no pointer and lets no exception out.
unsafe extern "C" {
    /// In `stream.cpp`: 0, or 1 when CUDA refused.
    safe fn migrator_own_stream() -> c_int;
}

thread_local! {
    static STREAM: Cell<bool> = const { Cell::new(false) };
    /// Page-locked bytes, by place of the input; they only grow.
    static STAGING: RefCell<Vec<Tensor>> = const { RefCell::new(Vec::new()) };
}

/// Gives the calling thread a stream of its own, once, so that its copies and kernels overlap those of other threads.
pub(crate) fn own_stream() {
    STREAM.with(|done| {
        if !done.replace(true) && migrator_own_stream() != 0 {
            tracing::warn!("this thread has no CUDA stream of its own; it shares the default one");
        }
    });
}

/// A tensor of these bytes on the device. The copy goes on while this returns; who uploads for the same `place` again must have
/// waited for something computed from the tensor, or given it up.
pub(crate) fn tensor(place: usize, bytes: &[u8], shape: &[i64], kind: Kind, device: Device) -> Result<Tensor, TorchError> {
    if bytes.is_empty() {
        return Ok(Tensor::f_empty(shape, (kind, device))?);
    }
    STAGING.with_borrow_mut(|staging| {
        while staging.len() <= place {
            staging.push(Tensor::new());
        }
        if staging[place].size().iter().product::<i64>() < bytes.len() as i64 {
            let size = bytes.len().next_power_of_two() as i64;
            staging[place] = Tensor::f_empty([size], (Kind::Uint8, Device::Cpu))?.f_pin_memory(device)?;
        }
        let pinned = staging[place].f_narrow(0, 0, bytes.len() as i64)?;
        // SAFETY: `pinned` is that many contiguous bytes on the host, which belong to this thread alone; a copy to the device that
        // still reads them is of a batch that was given up, whose tensor nobody looks at.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), pinned.data_ptr().cast::<u8>(), bytes.len()) };
        Ok(pinned.f_view_dtype(kind)?.f_view(shape)?.f_to_device_(device, kind, true, false)?)
    })
}
