//! The whole machine, against a repository, a broker, a disk and workers in memory.

#![allow(clippy::unwrap_used, clippy::panic)]

mod deployments;
mod metadata;
mod repository;
mod walk;
mod world;
