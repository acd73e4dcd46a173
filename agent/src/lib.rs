//! The parts of the Sanderling daemon: everything but its arguments and its exit status.

#![deny(missing_docs)]

pub mod atomic_file;
mod backoff;
pub mod capsules;
pub mod certificate;
pub mod clock;
pub mod doctor;
pub mod driver;
pub mod frames;
pub mod health;
#[cfg(feature = "http")]
pub mod http;
pub mod link;
pub mod logging;
pub mod metrics;
pub mod outbox;
pub mod publishers;
mod rate;
mod reason;
pub mod report;
pub mod router;
pub mod sensors;
pub mod settings;
pub mod sinks;
pub mod state;
pub mod store;
pub mod sync;
pub mod tls;
pub mod unix_socket;
pub mod workload;
