//! `kind = "http"`.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;

use super::{SettingsError, Table, lines, replay, socket};
use crate::{
    http::Address,
    sensors::{HttpSettings, RawImage},
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    listen: Option<String>,
    /// Relative to `[paths] runtime`.
    path: Option<PathBuf>,
    token_file: Option<PathBuf>,
    raw: Option<RawImage>,
    rate_hz: Option<f64>,
    max_frame: Option<usize>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<HttpSettings, SettingsError> {
        self.raw.as_ref().map_or(Ok(()), |raw| replay::image(raw, table))?;
        let address = match (self.listen, self.path) {
            (Some(listen), None) => Address::Loopback(loopback(&listen, table)?),
            (None, Some(path)) => Address::Unix(socket::path(path, table)?),
            (Some(_), Some(_)) => {
                return Err(table.value("path", "given beside `listen`", "one of the two; make two sensors for both"));
            }
            (None, None) => {
                return Err(table.value("listen", "missing", "`listen` (an address and port on loopback) or `path`"));
            }
        };
        Ok(HttpSettings {
            address,
            token: self.token_file,
            raw: self.raw,
            rate_hz: lines::rate(self.rate_hz, table)?,
            max_frame: table.max_frame(self.max_frame)?,
        })
    }
}

fn loopback(listen: &str, table: &Table<'_>) -> Result<SocketAddr, SettingsError> {
    let address = listen.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback() && address.port() != 0);
    let allowed = "127.0.0.1:PORT or [::1]:PORT: frames are taken from programs on this machine alone";
    address.ok_or_else(|| table.value("listen", format!("{listen:?}"), allowed))
}
