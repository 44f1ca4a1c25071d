//! TorchScript modules rewritten for inference, as `torch.jit.optimize_for_inference` does it: what that brings is in
//! docs/adr/0016-torchscript-is-rewritten-for-inference.md.
//!
//! The rewriting is checked, for PyTorch calls it a prototype: a module that answers a row otherwise than before stays as it was.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::ptr::NonNull;

use tch::{CModule, Kind, Tensor};

use crate::TorchError;

// SAFETY: `optimise.cpp` defines them with these types, and lets no exception out.
unsafe extern "C" {
    /// In `optimise.cpp`.
    fn migrator_optimise_begin(module: *mut c_void) -> *mut c_void;
    /// In `optimise.cpp`.
    fn migrator_optimise_end(module: *mut c_void, before: *mut c_void, keep: i32);
}

/// Largest difference of a logit, relative to the largest logit (or to 1): other orders of summation come to a thousandth of that in fp32.
const ALIKE: f64 = 1e-3;
/// The same of numbers with 8 bits of precision.
const ALIKE_BF16: f64 = 3e-2;

/// Rewrites a module in evaluation mode, if it answers this input as before; gives whether it is rewritten.
pub(crate) fn for_inference(module: &mut CModule, input: &[Tensor], kind: Kind) -> Result<bool, TorchError> {
    let answer = |module: &CModule| tch::no_grad(|| module.forward_ts(input)?.f_to_kind(Kind::Double));
    let before = answer(module)?;
    let Some(change) = Change::begin(module) else { return Ok(false) };
    let limit = if kind == Kind::Float { ALIKE } else { ALIKE_BF16 };
    let kept = answer(change.module).is_ok_and(|after| alike(&before, &after, limit).unwrap_or(false));
    change.end(kept);
    Ok(kept)
}

fn alike(before: &Tensor, after: &Tensor, limit: f64) -> Result<bool, TorchError> {
    if before.size() != after.size() {
        return Ok(false);
    }
    let largest = |tensor: &Tensor| tensor.f_abs()?.f_max()?.f_double_value(&[]);
    let (difference, scale) = (largest(&before.f_sub(after)?)?, largest(before)?);
    Ok(difference <= limit * scale.max(1.0))
}

/// A module that was rewritten, and what it was.
struct Change<'m> {
    module: &'m mut CModule,
    before: NonNull<c_void>,
}

impl<'m> Change<'m> {
    /// `None` when libtorch cannot rewrite it; it is as it was.
    fn begin(module: &'m mut CModule) -> Option<Change<'m>> {
        // SAFETY: the pointer is to a module of libtorch, which nobody else uses while it is borrowed mutably.
        let before = unsafe { migrator_optimise_begin(inner(module)) };
        NonNull::new(before).map(|before| Change { module, before })
    }

    /// Keeps it, or puts back what it was.
    fn end(self, keep: bool) {
        // SAFETY: as in `begin`; `before` comes from there and is freed here, once.
        unsafe { migrator_optimise_end(inner(self.module), self.before.as_ptr(), i32::from(keep)) }
    }
}

/// libtorch's module behind tch's, which shows it to nobody.
fn inner(module: &mut CModule) -> *mut c_void {
    // Its only field is the pointer. Should a version of tch, which Cargo.lock pins, add another one, this does not compile.
    const { assert!(size_of::<CModule>() == size_of::<*mut c_void>()) };
    // SAFETY: a struct with one field of its own size has that field at offset 0, and it is a pointer.
    unsafe { *std::ptr::from_mut(module).cast::<*mut c_void>() }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use tch::Device;

    use super::*;
    use crate::script;

    fn module() -> CModule {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixture/conv_bn.pt");
        script::load(&path, Device::Cpu).unwrap()
    }

    fn rows() -> [Tensor; 1] {
        [Tensor::arange(3 * 64, (Kind::Float, Device::Cpu)).remainder(17.0).divide_scalar(16.0).reshape([3, 1, 8, 8])]
    }

    #[test]
    fn a_module_is_rewritten_and_answers_alike() {
        let (mut rewritten, plain) = (module(), module());
        assert!(for_inference(&mut rewritten, &rows(), Kind::Float).unwrap());
        assert!(rewritten.named_parameters().unwrap().is_empty(), "weights have become constants");
        let (found, wanted) = (rewritten.forward_ts(&rows()).unwrap(), plain.forward_ts(&rows()).unwrap());
        assert!((found - wanted).abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn what_is_put_back_is_what_it_was() {
        let (mut module, plain) = (module(), module());
        Change::begin(&mut module).unwrap().end(false);
        assert_eq!(module.named_parameters().unwrap().len(), plain.named_parameters().unwrap().len());
        assert_eq!(module.forward_ts(&rows()).unwrap(), plain.forward_ts(&rows()).unwrap());
    }

    #[test]
    fn answers_that_differ_or_are_no_numbers_are_not_alike() {
        let of = |values: &[f64]| Tensor::from_slice(values);
        let same = |a: &[f64], b: &[f64]| alike(&of(a), &of(b), ALIKE).unwrap();
        assert!(same(&[100.0, 0.5], &[100.05, 0.5]) && same(&[0.1], &[0.1005]));
        assert!(!same(&[1.0, 0.5], &[1.0, 0.502]) && !same(&[1.0], &[f64::NAN]) && !same(&[1.0], &[1.0, 1.0]));
    }
}
