//! The whole machine, against a repository, a broker, a disk and workers in memory.

#![allow(clippy::unwrap_used, clippy::panic)]

mod clocks;
mod deployments;
mod lies;
mod metadata;
mod model;
mod pulls;
mod repository;
mod revocation;
mod roles;
mod table;
mod world;
