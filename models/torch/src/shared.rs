//! Sharing a network between threads.
#![allow(unsafe_code)]

use std::ops::Deref;

/// A network that several threads may run at the same time.
#[derive(Debug)]
pub(crate) struct Shared<T>(T);

impl<T> Shared<T> {
    /// # Safety
    /// While shared, `value` is only used in ways that libtorch allows from several threads at once: forward passes in
    /// inference mode, which read tensors and never write them, resize them or attach gradients.
    pub(crate) unsafe fn new(value: T) -> Shared<T> {
        Shared(value)
    }
}

// SAFETY: tch leaves `Tensor` without `Sync` because its in-place methods take effect through shared handles. `Shared::new` makes
// the caller promise read-only use; reading a tensor from several threads is safe in libtorch (atomic reference counts).
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// Shares a network that is in evaluation mode and stays behind [`Model`](crate::Model), which only runs forward passes without
/// gradients.
pub(crate) fn for_inference(network: crate::network::Network) -> Shared<crate::network::Network> {
    // SAFETY: `Model` gives out no reference to the network and calls `forward(_, false)` on it only; batch norm without
    // training reads its running statistics, and dropout is the identity.
    unsafe { Shared::new(network) }
}
