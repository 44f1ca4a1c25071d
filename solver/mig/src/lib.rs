//! The vocabulary of MIG: profiles, placements, partitions and the catalogs they come from.
//!
//! Knows nothing of clocks, devices, tenants or NVML: a [`Catalog`] is data, and everything here is arithmetic on it.
//! Read in the order [`profile`], [`catalog`], [`board`], [`partition`], [`geometry`], [`hull`].
#![forbid(unsafe_code)]

pub mod board;
pub mod catalog;
pub mod geometry;
pub mod hull;
pub mod partition;
pub mod profile;

pub use board::{Board, BoardError, BoardProfile};
pub use catalog::{Catalog, CatalogError};
pub use geometry::Geometry;
pub use hull::{Facet, decomposes, facets};
pub use partition::{Partition, PartitionError};
pub use profile::{Placement, Profile, ProfileId, Site};
