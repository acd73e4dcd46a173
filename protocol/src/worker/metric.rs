//! What a module counts and measures: counters and gauges by name.

use serde::{Deserialize, Serialize};

use crate::deployment::is_name;

/// A module has at most this many metrics.
pub const MAX_METRICS: usize = 64;
/// The name of a metric is at most this long, in bytes; it is a name as those of modules are.
pub const MAX_METRIC_NAME: usize = 64;

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// It only grows.
    Counter,
    /// It is what it was set to last.
    Gauge,
}

/// A metric and its value, in reports `{"counter": 7}` or `{"gauge": 0.5}`. Values are finite.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// A counter's.
    Counter(f64),
    /// A gauge's.
    Gauge(f64),
}

// A value that is finite equals itself.
impl Eq for Metric {}

impl Metric {
    /// A metric of this kind.
    pub const fn new(kind: MetricKind, value: f64) -> Self {
        match kind {
            MetricKind::Counter => Self::Counter(value),
            MetricKind::Gauge => Self::Gauge(value),
        }
    }

    /// Its kind.
    pub const fn kind(self) -> MetricKind {
        match self {
            Self::Counter(_) => MetricKind::Counter,
            Self::Gauge(_) => MetricKind::Gauge,
        }
    }

    /// Its value.
    pub const fn value(self) -> f64 {
        let (Self::Counter(value) | Self::Gauge(value)) = self;
        value
    }
}

/// Whether a module may have such a metric.
pub fn check_metric(name: &str, metric: Metric) -> bool {
    is_name(name) && metric.value().is_finite() && (metric.kind() == MetricKind::Gauge || metric.value() >= 0.0)
}
