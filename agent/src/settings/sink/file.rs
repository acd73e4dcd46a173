//! `kind = "file"`.

use std::path::PathBuf;

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::sinks::{FileSettings, FileSync};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    /// Relative to `[paths] state`.
    path: PathBuf,
    max_bytes: Option<u64>,
    keep: Option<u32>,
    sync: Option<FileSync>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<FileSettings, SettingsError> {
        if self.path.file_name().is_none() {
            return Err(table.value("path", self.path.display(), "the path of a file"));
        }
        Ok(FileSettings {
            path: table.paths.state.join(self.path),
            max_bytes: table.range("max_bytes", self.max_bytes.unwrap_or(16 << 20), 4096..=1 << 40, " bytes")?,
            keep: table.range("keep", self.keep.unwrap_or(4), 0..=1000, " files")?,
            sync: self.sync.unwrap_or_default(),
        })
    }
}
