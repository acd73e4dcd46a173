//! The reported state, and when it is published.
//!
//! Published on change, no more often than `[report] min_s`, at least every `max_s`. Figures that always move (frames,
//! times, bytes) ride along and are no change by themselves: else a running module would report for ever.

use std::time::Duration;

use sanderling_protocol::{
    reported::{Drops, Excess, ModuleReport, Outbox, Reported, SCHEMA, SensorReport, SinkReport, Storage},
    topics::DeviceId,
};

use crate::{settings::ReportSettings, sync};

/// The parts of a report.
#[derive(Debug)]
pub struct Parts {
    /// The device.
    pub device: DeviceId,
    /// The id of the connection.
    pub session: String,
    /// What is trusted, wanted and refused.
    pub sync: sync::Report,
    /// The modules of the deployment that runs.
    pub modules: Vec<ModuleReport>,
    /// The sensors.
    pub sensors: Vec<SensorReport>,
    /// The sinks.
    pub sinks: Vec<SinkReport>,
    /// The disk.
    pub storage: Storage,
    /// The outbox.
    pub outbox: Outbox,
    /// When this device's certificate expires, Unix seconds.
    pub certificate_expires: Option<i64>,
}

/// A report tells at most this many metrics of all modules together, so that it stays below what brokers carry.
const MOST_METRICS: usize = 512;

/// Puts a report together.
pub fn build(parts: Parts) -> Reported {
    let Parts { device, session, sync, mut modules, sensors, sinks, storage, outbox, certificate_expires } = parts;
    let share = MOST_METRICS / modules.len().max(1);
    for module in &mut modules {
        while module.metrics.len() > share {
            module.metrics.pop_last();
        }
    }
    Reported {
        schema: SCHEMA.to_owned(),
        device,
        session,
        deployment: sync.deployment,
        metadata: sync.metadata,
        modules,
        sensors,
        sinks,
        refused: sync.refused,
        storage,
        outbox,
        stale: sync.stale,
        certificate_expires,
    }
}

/// The report without the figures that always move.
fn essence(report: &Reported) -> Reported {
    let mut report = report.clone();
    for module in &mut report.modules {
        (module.frames, module.dropped, module.skipped, module.unreadable) = (0, 0, 0, 0);
        module.drops = Drops::default();
        (module.frame_us_p50, module.frame_us_p99) = (0, 0);
        module.excess = Excess::default();
        module.metrics.clear();
    }
    for sensor in &mut report.sensors {
        (sensor.frames, sensor.refused) = (0, 0);
    }
    for sink in &mut report.sinks {
        (sink.records, sink.pulses) = (0, None);
        sink.dropped.clear();
    }
    report.storage = Storage { damaged: report.storage.damaged, ..Storage::default() };
    report.outbox = Outbox { dropped: report.outbox.dropped, ..Outbox::default() };
    report
}

/// Says when a report is to be made, and whether it is worth publishing.
#[derive(Debug)]
pub struct Pace {
    settings: ReportSettings,
    last: Option<(Duration, Reported)>,
    touched: Option<Duration>,
}

impl Pace {
    /// Nothing was published yet.
    pub fn new(settings: ReportSettings) -> Self {
        Self { settings, last: None, touched: None }
    }

    /// Something may have changed.
    pub fn touch(&mut self, mono: Duration) {
        self.touched.get_or_insert(mono);
    }

    /// What was published before counts for nothing: the connection is new.
    pub fn forget(&mut self) {
        self.last = None;
        self.touched = Some(Duration::ZERO);
    }

    /// When to make the next report, on the monotonic clock; `None` before the first touch.
    pub fn due_at(&self) -> Option<Duration> {
        let Some((at, _)) = &self.last else { return self.touched };
        let changed = self.touched.map(|touched| touched.max(at.saturating_add(self.settings.min_interval)));
        let latest = at.saturating_add(self.settings.max_interval);
        Some(changed.map_or(latest, |changed| changed.min(latest)))
    }

    /// A report was made. Says whether to publish it.
    pub fn made(&mut self, report: &Reported, mono: Duration) -> bool {
        self.touched = None;
        if let Some((at, last)) = &self.last
            && mono < at.saturating_add(self.settings.max_interval)
            && *last == essence(report)
        {
            return false;
        }
        self.published(report, mono);
        true
    }

    /// A report was published, whether it was due or not.
    pub fn published(&mut self, report: &Reported, mono: Duration) {
        self.touched = None;
        self.last = Some((mono, essence(report)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use sanderling_protocol::digest::Digest;
    use sanderling_protocol::{
        reported::{MetadataReport, ModuleState},
        worker::Metric,
    };

    use super::*;

    const MIN: Duration = Duration::from_secs(2);
    const MAX: Duration = Duration::from_secs(300);

    fn pace() -> Pace {
        Pace::new(ReportSettings { min_interval: MIN, max_interval: MAX })
    }

    fn report(frames: u64, state: ModuleState) -> Reported {
        let module = ModuleReport {
            name: "m".into(),
            artifact: Digest::of(b"m"),
            state,
            since: 0,
            restarts: 0,
            frames,
            dropped: 0,
            drops: Drops::default(),
            skipped: frames,
            unreadable: 0,
            frame_us_p50: frames,
            frame_us_p99: frames,
            excess: Excess { records: frames, log_lines: frames },
            metrics: [("seen".to_owned(), Metric::Counter(frames as f64))].into(),
            denied: vec![],
            pid: None,
            next_restart: None,
            unconfined: vec![],
            fault: None,
        };
        let sink = SinkReport { name: "log".into(), records: frames, ..SinkReport::default() };
        build(Parts {
            device: "gw-1".parse().unwrap(),
            session: "s".into(),
            sync: sync::Report { deployment: None, metadata: MetadataReport::default(), refused: vec![], stale: None },
            modules: vec![module],
            sensors: vec![],
            sinks: vec![sink],
            storage: Storage { used: frames, ..Storage::default() },
            outbox: Outbox { records: frames, bytes: frames, dropped: 0 },
            certificate_expires: None,
        })
    }

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn the_metrics_of_all_modules_together_are_bounded() {
        let module = |modules: usize, metrics: usize| {
            let mut parts = report(1, ModuleState::Running);
            let named = |at: usize| (format!("m{at:03}"), Metric::Gauge(0.0));
            parts.modules =
                vec![ModuleReport { metrics: (0..metrics).map(named).collect(), ..parts.modules.remove(0) }; modules];
            let Reported { device, session, modules, storage, outbox, .. } = parts;
            let sync =
                sync::Report { deployment: None, metadata: MetadataReport::default(), refused: vec![], stale: None };
            build(Parts {
                device,
                session,
                sync,
                modules,
                sensors: vec![],
                sinks: vec![],
                storage,
                outbox,
                certificate_expires: None,
            })
        };
        assert_eq!(module(8, 64).modules[7].metrics.len(), 64);
        let many = module(32, 64);
        assert_eq!(many.modules[0].metrics.keys().next_back().unwrap(), "m015");
        assert_eq!(many.modules.iter().map(|module| module.metrics.len()).sum::<usize>(), MOST_METRICS);
    }

    #[test]
    fn nothing_is_due_before_something_happened() {
        let mut pace = pace();
        assert_eq!(pace.due_at(), None);
        pace.touch(s(9));
        assert_eq!(pace.due_at(), Some(s(9)));
    }

    #[test]
    fn changes_are_published_no_more_often_than_the_least_interval() {
        let mut pace = pace();
        assert!(pace.made(&report(1, ModuleState::Starting), s(10)));
        assert_eq!(pace.due_at(), Some(s(10) + MAX));
        pace.touch(s(11));
        assert_eq!(pace.due_at(), Some(s(10) + MIN));
        assert!(pace.made(&report(2, ModuleState::Running), s(12)));
        pace.touch(s(20));
        assert_eq!(pace.due_at(), Some(s(20)));
    }

    #[test]
    fn figures_that_always_move_are_no_change_but_are_published_at_last() {
        let mut pace = pace();
        assert!(pace.made(&report(1, ModuleState::Running), s(0)));
        pace.touch(s(3));
        assert!(!pace.made(&report(900, ModuleState::Running), s(3)));
        assert_eq!(pace.due_at(), Some(MAX));
        assert!(pace.made(&report(9000, ModuleState::Running), MAX));
    }

    #[test]
    fn a_new_connection_is_told_at_once() {
        let mut pace = pace();
        assert!(pace.made(&report(1, ModuleState::Running), s(5)));
        pace.forget();
        assert_eq!(pace.due_at(), Some(Duration::ZERO));
        assert!(pace.made(&report(1, ModuleState::Running), s(6)));
    }
}
