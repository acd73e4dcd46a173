//! Which rows there are, and what measures them together.

use anyhow::Result;

use crate::{report::Row, rows};

/// Rows that are measured together, in one process.
pub(crate) struct Group {
    /// Its name.
    pub(crate) name: &'static str,
    /// The names of its rows.
    pub(crate) rows: &'static [&'static str],
    /// Measures them.
    pub(crate) measure: fn() -> Result<Vec<Row>>,
}

impl Group {
    /// All of them, in the order of the table.
    pub(crate) fn all() -> &'static [Self] {
        &[
            Self {
                name: "interpreter",
                rows: &["interpreter", "metering-loops", "metering-calls"],
                measure: rows::interpreter::measure,
            },
            Self { name: "isolated", rows: &["isolated-64", "isolated-640x480"], measure: rows::isolated::measure },
            Self { name: "recording", rows: &["recording-64", "recording-640x480"], measure: rows::recording::measure },
            Self { name: "copy", rows: &["frame-copy"], measure: rows::copy::measure },
            Self {
                name: "images",
                rows: &["image-gray8", "image-guest", "image-rgb8", "image-yuyv", "image-nv12"],
                measure: rows::images::measure,
            },
            Self {
                name: "inference",
                rows: &["inference", "load-wasm", "load-model"],
                measure: rows::inference::measure,
            },
            Self {
                name: "workers",
                rows: &["frames-saturated", "frame-64", "frame-640x480", "pulse"],
                measure: rows::workers::measure,
            },
            Self {
                name: "memory",
                rows: &["agent-size", "worker-size", "agent-pss", "worker-pss", "worker-model-pss", "whole-pss"],
                measure: rows::memory::measure,
            },
            Self {
                name: "outbox",
                rows: &["outbox-amplification-1", "outbox-amplification-10", "outbox-amplification-100"],
                measure: rows::outbox::measure,
            },
            Self { name: "pull", rows: &["pull", "pull-memory"], measure: rows::pull::measure },
            Self { name: "first-result", rows: &["first-result"], measure: rows::first::measure },
        ]
    }
}
