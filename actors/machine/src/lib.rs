//! The state machines behind the actors: everything that decides, nothing that acts.
//!
//! Pure: knows nothing of clocks, threads, sockets, devices or actix. Facts go in by `handle`-like methods that take `now`, wishes come
//! out of `poll(now)` until it gives `None`, `timeout()` says when `handle_timeout(now)` is due. Read in the order [`time`],
//! [`invariant`], [`tenant`], [`migration`], [`retraining`], [`coordinator`].
#![forbid(unsafe_code)]

pub mod coordinator;
pub mod invariant;
pub mod migration;
pub mod retraining;
pub mod tenant;
pub mod time;

pub use coordinator::{CoordinatorConfig, CoordinatorMachine, CoordinatorWish};
pub use invariant::{Invariant, Violation};
pub use migration::{MigrationConfig, MigrationMachine, MigrationReport, MigrationWish};
pub use retraining::{RetrainingConfig, RetrainingMachine, RetrainingStatus, RetrainingWish};
pub use tenant::{Dispatch, TenantConfig, TenantMachine, TenantWish};
pub use time::Time;
