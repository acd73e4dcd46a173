//! `[metrics]`: where a scraper on this machine asks for them.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{SettingsError, load::Origin, raw::RawMetrics};

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MetricsSettings {
    /// `listen = "127.0.0.1:9464"`: a port on loopback.
    Loopback(SocketAddr),
    /// `path = "metrics.sock"`: a Unix socket, relative to `[paths] runtime`; mode 0660.
    Unix(PathBuf),
}

pub(super) fn check(raw: RawMetrics, runtime: &Path, origin: &Origin) -> Result<MetricsSettings, SettingsError> {
    const LOOPBACK: &str = "an address and a port on this machine alone, such as 127.0.0.1:9464 or [::1]:9464";
    if cfg!(not(feature = "metrics")) {
        return Err(origin.value(&["metrics"], "given", "nothing: this agent was built without the feature `metrics`"));
    }
    match (raw.listen, raw.path) {
        (Some(listen), None) => match listen.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(MetricsSettings::Loopback(address)),
            _ => Err(origin.value(&["metrics", "listen"], format!("{listen:?}"), LOOPBACK)),
        },
        (None, Some(path)) => Ok(MetricsSettings::Unix(runtime.join(path))),
        (Some(_), Some(_)) => Err(origin.value(&["metrics", "path"], "given beside `listen`", "one of them")),
        (None, None) => Err(origin.value(&["metrics"], "empty", "`listen` or `path`")),
    }
}
