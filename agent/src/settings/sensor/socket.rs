//! `kind = "socket"`.

use std::path::PathBuf;

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::{sensors::SocketSettings, unix_socket::LONGEST_PATH};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    /// Relative to `[paths] runtime`.
    path: PathBuf,
    max_frame: Option<usize>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<SocketSettings, SettingsError> {
        let max_frame = table.max_frame(self.max_frame)?;
        Ok(SocketSettings { path: path(self.path, table)?, max_frame })
    }
}

/// Where a socket is made.
pub(super) fn path(path: PathBuf, table: &Table<'_>) -> Result<PathBuf, SettingsError> {
    let path = table.runtime.join(path);
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(table.value("path", path.display(), "a path of 1 to 107 bytes, as Unix sockets have"));
    }
    Ok(path)
}
