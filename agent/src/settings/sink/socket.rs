//! `kind = "socket"`.

use std::path::PathBuf;

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::{
    sinks::{SocketFormat, SocketSettings},
    unix_socket::LONGEST_PATH,
};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    /// Relative to `[paths] runtime`.
    path: PathBuf,
    max_clients: Option<usize>,
    format: Option<SocketFormat>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<SocketSettings, SettingsError> {
        let path = table.paths.runtime.join(self.path);
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(table.value("path", path.display(), "a path of 1 to 107 bytes, as Unix sockets have"));
        }
        Ok(SocketSettings {
            path,
            max_clients: table.range("max_clients", self.max_clients.unwrap_or(8), 1..=64, " readers")?,
            format: self.format.unwrap_or_default(),
        })
    }
}
