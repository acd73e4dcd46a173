//! What is counted and measured, for a scraper on this machine, in the text form of OpenMetrics.
//!
//! Purpose: [`Figures`] are what the driver knows at one moment; `exposition` puts them into words, and `server` answers `GET /metrics` with
//! them, on loopback or a Unix socket. The last two are the feature `metrics`.
//!
//! Invariants: figures are gathered when they are asked for, and nothing is done for them before but counting. What is asked is bounded: one
//! scrape at a time waits for the driver, and four connections stand at most.
//!
//! Failure modes: where it cannot be listened, that is logged and tried again; nothing else depends on it.
//!
//! Limits: counters begin at 0 with the agent, and those of a module with its deployment. The names are a contract: `docs/operating.md` lists them, and
//! a test holds list and scrape to each other.

#[cfg(feature = "metrics")]
mod exposition;
#[cfg(feature = "metrics")]
pub mod server;

use sanderling_protocol::reported::{Outbox, SensorReport, SinkReport, Storage};
use tokio::sync::{mpsc, oneshot};

use crate::workload::ModuleFigures;

/// Somebody wants the figures.
pub type Scrape = oneshot::Sender<Box<Figures>>;
/// Those that want them.
pub type Scrapes = mpsc::Receiver<Scrape>;

/// What the driver counts beside its parts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Connections to the broker that stood.
    pub connects: u64,
    /// Connections that were lost or could not be made.
    pub link_failures: u64,
    /// Chunk messages that came.
    pub chunks: u64,
    /// Their bytes, as they came.
    pub chunk_bytes: u64,
    /// Chunks, indexes and blobs that were not what they should be, or could not be written.
    pub pull_failures: u64,
    /// Changes that the disk did not take.
    pub store_failures: u64,
}

/// What the driver knows at one moment.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    /// The modules of the deployment that runs.
    pub modules: Vec<ModuleFigures>,
    /// The sensors.
    pub sensors: Vec<SensorReport>,
    /// The sinks of the device.
    pub sinks: Vec<SinkReport>,
    /// The outbox.
    pub outbox: Outbox,
    /// The disk.
    pub storage: Storage,
    /// Whether there is a connection to the broker.
    pub connected: bool,
    /// When this device's certificate expires, Unix seconds.
    pub certificate_expires: Option<i64>,
    /// What the driver counted.
    pub counts: Counts,
}

/// The next that wants the figures; for ever none where nobody may ask.
pub(crate) async fn next(scrapes: &mut Option<Scrapes>) -> Scrape {
    loop {
        match scrapes {
            None => return std::future::pending().await,
            Some(asking) => match asking.recv().await {
                Some(scrape) => return scrape,
                None => *scrapes = None,
            },
        }
    }
}
