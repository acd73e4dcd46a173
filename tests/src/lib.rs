//! The harness of the end-to-end tests: real processes on loopback, and what a test says about them.
//!
//! Purpose: a test makes a [`Site`] (a fleet's folder, a real Mosquitto with the TLS and access list that the operator's tool
//! generates, an observer with the operator's certificate), provisions a [`Device`], starts the real `sanderling-agent`,
//! publishes with the real `sanderling`, and waits for what the device reports.
//!
//! Invariants: every wait is for a condition and has a limit; every process is ended by its own handle when its owner is dropped;
//! servers listen on loopback, on ports that the kernel chose; each test has its own folder, broker and agent.
//!
//! Failure modes: what goes wrong fails the test with what was awaited, what was reported last, and the log of each process.

#![deny(missing_docs)]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a harness: whatever is not as it should be fails the test")]

mod account;
mod broker;
mod certificates;
mod clock;
mod device;
mod dice;
mod documents;
mod fleet;
mod ground;
pub mod guests;
pub mod lanes;
mod observer;
pub mod onnx;
mod peer;
mod process;
mod programs;
pub mod proof;
pub mod proxy;
mod repository;
mod site;
#[cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod tracer;
mod usage;
#[cfg(feature = "workers")]
pub mod workers;

use std::time::Duration;

pub use account::{Account, Handled};
pub use broker::{Broker, Sent};
pub use certificates::{expired_client, foreign_authority, renewed_client};
pub use clock::{Deadline, Watch, unix_nanos, until};
pub use device::{Device, Door};
pub use dice::Dice;
pub use documents::{Module, defects, deployment};
pub use fleet::Fleet;
pub use ground::{Ground, Held, Version};
pub use observer::{Observer, Seen, Tick};
pub use peer::{Credentials, Message, Peer};
pub use process::Process;
pub use programs::{guest, program, python, repository as source};
pub use proxy::Proxy;
pub use repository::Publication;
pub use site::{Site, line, line_module};
pub use usage::taken_by;

/// How long to wait for what should happen within a second or two: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);
