//! What the driver counts, and all figures for a scraper.

use sanderling_protocol::{
    reported::{Damaged, Refused, Storage},
    topics::Published,
};

use super::Driver;
use crate::{
    metrics::{Figures, Scrapes},
    settings::Settings,
    sync::Event,
};

impl Driver {
    /// Everything that is known now.
    pub(super) fn figures(&self) -> Figures {
        Figures {
            modules: self.works.figures(self.sync.generation()),
            sensors: self.sensors.reports(),
            sinks: self.gathered.borrow().sinks.reports(),
            outbox: self.spool.figures(),
            storage: self.storage(),
            connected: self.connection.is_some(),
            certificate_expires: self.certificate_expires,
            counts: self.counts,
        }
    }

    /// The disk as it is told.
    pub(super) fn storage(&self) -> Storage {
        Storage {
            used: self.storage.used,
            free: self.storage.free,
            damaged: Damaged { databases: self.database.damaged(), blobs: self.storage.damaged },
        }
    }

    /// Counts what the disk did not do of a pull.
    pub(super) fn count_pull(&mut self, event: &Event) {
        let failed = match event {
            Event::Begun { missing, .. } => missing.is_err(),
            Event::Wrote { result, .. } | Event::Finished { result, .. } => result.is_err(),
            _ => false,
        };
        self.counts.pull_failures += u64::from(failed);
    }

    /// Counts a message that came, if it is of a pull.
    pub(super) fn count_message(&mut self, what: &Published, bytes: usize) {
        if matches!(what, Published::Chunk(_)) {
            self.counts.chunks += 1;
            self.counts.chunk_bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
        }
    }

    /// Counts what was refused, if it is of a pull.
    pub(super) fn count_refused(&mut self, refused: &Refused) {
        let of_pull = ["chunk/", "blob/"].iter().any(|part| refused.what.starts_with(part));
        self.counts.pull_failures += u64::from(of_pull);
    }
}

/// What a scraper asks, where one may.
pub(super) fn start_metrics(settings: &Settings) -> Option<Scrapes> {
    #[cfg(feature = "metrics")]
    if let Some(metrics) = &settings.metrics {
        let (server, scrapes) = crate::metrics::server::server(metrics);
        tokio::task::spawn_local(server);
        return Some(scrapes);
    }
    let _ = settings;
    None
}
