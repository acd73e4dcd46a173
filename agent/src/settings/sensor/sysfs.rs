//! `kind = "sysfs"`.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::sensors::{SysfsFormat, SysfsSettings, SysfsValue};

const MOST_FILES: usize = 64;
/// Names go into JSON, without a need to escape them.
const NAMES: &str = "different names of 1 to 64 characters of A-Z a-z 0-9 . _ -";

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    files: Vec<RawFile>,
    interval_s: Option<f64>,
    format: Option<SysfsFormat>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    path: PathBuf,
    name: Option<String>,
    scale: Option<f64>,
    offset: Option<f64>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<SysfsSettings, SettingsError> {
        let count = self.files.len();
        if !(1..=MOST_FILES).contains(&count) {
            return Err(table.value("files", count, format!("1 to {MOST_FILES} files")));
        }
        let interval_s = self.interval_s.unwrap_or(1.0);
        table.within("interval_s", interval_s, 0.01..=86_400.0, " s")?;
        let mut names = BTreeSet::new();
        let mut files = Vec::with_capacity(count);
        for file in self.files {
            let file = file.check(table)?;
            if !names.insert(file.name.clone()) {
                return Err(table.value("files", format!("{:?} twice", file.name), NAMES));
            }
            files.push(file);
        }
        let format = self.format.unwrap_or(SysfsFormat::Series);
        let settings = SysfsSettings { files, interval: Duration::from_secs_f64(interval_s), format };
        table.fits("files", settings.largest())?;
        Ok(settings)
    }
}

impl RawFile {
    fn check(self, table: &Table<'_>) -> Result<SysfsValue, SettingsError> {
        if !self.path.is_absolute() {
            return Err(table.value("files", self.path.display(), "paths that begin with /"));
        }
        let of_path = || self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let name = self.name.clone().unwrap_or_else(of_path);
        if !sanderling_protocol::deployment::is_name(&name) {
            return Err(table.value("files", format!("{name:?}"), NAMES));
        }
        let (scale, offset) = (self.scale.unwrap_or(1.0), self.offset.unwrap_or(0.0));
        if !scale.is_finite() || !offset.is_finite() {
            return Err(table.value("files", format!("scale {scale}, offset {offset}"), "finite numbers"));
        }
        Ok(SysfsValue { path: self.path, name, scale, offset })
    }
}
