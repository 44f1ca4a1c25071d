//! Mixed precision: matrix products and convolutions of a forward pass in bfloat16, everything else in fp32.
//!
//! Weights, gradients and the optimizer's state stay fp32, and bfloat16 has fp32's range: no loss needs to be scaled, as it would with fp16.
#![allow(unsafe_code)]

use std::marker::PhantomData;

use migrator_models::Precision;
use tch::Device;

// SAFETY: `autocast.cpp` defines it with these types.
unsafe extern "C" {
    /// In `autocast.cpp`: mixed precision of the calling thread on or off, on CUDA or on the host; 0 = done. It touches nothing but state
    /// of that thread and lets no exception out.
    safe fn migrator_autocast(cuda: i32, on: i32) -> i32;
}

/// Mixed precision of this thread until it is dropped.
#[derive(Debug)]
pub(crate) struct Autocast {
    cuda: bool,
    /// It is of the thread that began it.
    _thread: PhantomData<*const ()>,
}

/// Mixed precision on a GPU if `precision` says so. The host's cores compute in fp32 whatever it says: there bfloat16 is no faster.
pub(crate) fn on(device: Device, precision: Precision) -> Option<Autocast> {
    (device.is_cuda() && precision == Precision::Bf16).then(|| Autocast::begin(true)).flatten()
}

impl Autocast {
    fn begin(cuda: bool) -> Option<Autocast> {
        set(cuda, true).then_some(Autocast { cuda, _thread: PhantomData })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        set(self.cuda, false);
    }
}

fn set(cuda: bool, on: bool) -> bool {
    migrator_autocast(i32::from(cuda), i32::from(on)) == 0
}

#[cfg(test)]
mod tests {
    use tch::{Kind, Tensor};

    use super::*;

    #[test]
    fn products_are_bfloat16_while_it_lasts_and_gradients_are_fp32() {
        let weight = Tensor::randn([4, 4], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let input = Tensor::randn([2, 4], (Kind::Float, Device::Cpu));
        let product = {
            let _half = Autocast::begin(false).expect("the host has autocast as well");
            input.matmul(&weight)
        };
        assert_eq!(product.kind(), Kind::BFloat16);
        assert_eq!(input.matmul(&weight).kind(), Kind::Float);
        product.to_kind(Kind::Float).sum(Kind::Float).backward();
        assert_eq!(weight.grad().kind(), Kind::Float);
        assert!(on(Device::Cpu, Precision::Bf16).is_none());
    }
}
