//! What callers pass by address. Everything here relies on the contract of `nvml.h`: a pointer is null, or good for what it is for.

use std::ffi::{CStr, c_char};

use serde_json::Value;

use super::Argument;
use crate::Code;

/// Where one answer goes, or stands to be read first.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Out<T>(*mut T);

/// Where several answers go.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Array<T>(*mut T);

/// Something to be read.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct In<T>(*const T);

/// A string to be read.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Name(*const c_char);

impl<T: Copy> Out<T> {
    /// Gives an answer.
    pub(crate) fn put(self, value: T) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: only a C caller makes one of these, and it is not null, so it is good for writing a `T`.
        unsafe { self.0.write_unaligned(value) };
        Ok(())
    }

    /// What stands there.
    pub(crate) fn get(self) -> Result<T, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: as in `put`; what callers must fill in before the call is read.
        Ok(unsafe { self.0.read_unaligned() })
    }

    /// The same place as another type, which its version word promised that it is large enough for.
    pub(crate) fn versioned<U>(self) -> Out<U> {
        Out(self.0.cast())
    }
}

impl<T: Copy> Array<T> {
    /// Whether only the number is asked for.
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// Gives answers; the caller has room for as many.
    pub(crate) fn put(self, values: &[T]) {
        if !self.0.is_null() {
            // SAFETY: the caller has room for all answers of this call, or has said how many and was refused (`nvml.h`).
            unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), self.0, values.len()) };
        }
    }

    /// The places of the first `count`, one by one.
    pub(crate) fn places(self, count: usize) -> Result<impl Iterator<Item = Out<T>>, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: the caller said that it has `count` of them.
        Ok((0..count).map(move |index| Out(unsafe { self.0.add(index) })))
    }

    /// The answers if there are few enough; otherwise how many there are.
    pub(crate) fn put_at_most(self, count: Out<u32>, values: &[T]) -> Result<(), Code> {
        let room = count.get()?;
        count.put(values.len() as u32)?;
        if values.len() > room as usize || (self.is_null() && !values.is_empty()) {
            return Err(Code::INSUFFICIENT_SIZE);
        }
        self.put(values);
        Ok(())
    }

    /// The answers and how many they are; only the latter when there is no array.
    pub(crate) fn put_all(self, count: Out<u32>, values: &[T]) -> Result<(), Code> {
        count.put(values.len() as u32)?;
        self.put(values);
        Ok(())
    }
}

impl Array<c_char> {
    /// Gives a string of at most `length` bytes, its end included.
    pub(crate) fn put_text(self, length: u32, text: &str) -> Result<(), Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        if text.len() >= length as usize {
            return Err(Code::INSUFFICIENT_SIZE);
        }
        let bytes: Vec<c_char> = text.bytes().chain([0]).map(|byte| byte as c_char).collect();
        self.put(&bytes);
        Ok(())
    }
}

impl<T: Copy> In<T> {
    /// What stands there.
    pub(crate) fn get(self) -> Result<T, Code> {
        Out(self.0.cast_mut()).get()
    }
}

impl Name {
    /// The string.
    pub(crate) fn get(self) -> Result<String, Code> {
        if self.0.is_null() {
            return Err(Code::INVALID_ARGUMENT);
        }
        // SAFETY: not null, so it is a string that ends (`nvml.h`).
        let text = unsafe { CStr::from_ptr(self.0) };
        Ok(text.to_string_lossy().into_owned())
    }
}

impl<T> Argument for Out<T> {
    fn told(&self) -> Option<Value> {
        None
    }
}

impl<T> Argument for Array<T> {
    fn told(&self) -> Option<Value> {
        None
    }
}

impl Argument for Name {
    fn told(&self) -> Option<Value> {
        self.get().ok().map(Value::from)
    }
}

impl Argument for In<nvml_wrapper_sys::bindings::nvmlGpuInstancePlacement_t> {
    fn told(&self) -> Option<Value> {
        self.get().ok().map(|place| Value::from(format!("{}:{}", place.start, place.size)))
    }
}

impl Argument for In<nvml_wrapper_sys::bindings::nvmlComputeInstancePlacement_t> {
    fn told(&self) -> Option<Value> {
        self.get().ok().map(|place| Value::from(format!("{}:{}", place.start, place.size)))
    }
}

/// A string in a field of a struct, cut to what fits.
pub(crate) fn field<const N: usize>(text: &str) -> [c_char; N] {
    let mut bytes = [0; N];
    let room = N.saturating_sub(1);
    bytes.iter_mut().take(room).zip(text.bytes()).for_each(|(place, byte)| *place = byte as c_char);
    bytes
}
