//! What a release allows, from a target's `custom.sanderling`.

use serde::{Deserialize, Serialize};

/// The most that a deployment may give to a released module.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceiling {
    /// Grants as in the deployment; `emit:*` stands for every channel.
    pub grants: Vec<String>,
    /// Linear memory of the guest, in MiB.
    pub memory_mib: u32,
    /// Wall-clock time for one frame, in milliseconds.
    pub deadline_ms: u32,
}
