//! `kind = "process"`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    SettingsError, Table,
    lines::{self, Delimiter, LineFormat},
};
use crate::sensors::{ProcessFrames, ProcessSettings};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    folder: Option<PathBuf>,
    #[serde(default)]
    always: bool,
    #[serde(default)]
    frames: Frames,
    delimiter: Option<Delimiter>,
    max_line: Option<usize>,
    format: Option<LineFormat>,
    rate_hz: Option<f64>,
    max_frame: Option<usize>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Frames {
    #[default]
    Lines,
    LengthPrefixed,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<ProcessSettings, SettingsError> {
        let program = self.command.first().map_or("", String::as_str);
        if !Path::new(program).is_absolute() {
            let allowed = "a list: the absolute path of a program, then its arguments; no shell is between";
            return Err(table.value("command", format!("{:?}", self.command), allowed));
        }
        if let Some(text) = self.command.iter().chain(self.environment.values()).find(|text| text.contains('\0')) {
            return Err(table.value("command", format!("{text:?}"), "text without zero bytes"));
        }
        let bad = |name: &&String| name.is_empty() || name.contains(['=', '\0']);
        if let Some(name) = self.environment.keys().find(bad) {
            return Err(table.value("environment", format!("{name:?}"), "names without `=`"));
        }
        let folder = self.folder.unwrap_or_else(|| "/".into());
        if !folder.is_absolute() {
            return Err(table.value("folder", folder.display(), "an absolute path"));
        }
        let Self { delimiter, max_line, format, rate_hz, max_frame, .. } = self;
        let lines = lines::Keys { delimiter, max_line, format, rate_hz };
        let frames = match (self.frames, lines.given(), max_frame) {
            (Frames::Lines, _, Some(_)) => {
                return Err(table.value(
                    "max_frame",
                    "given",
                    "only with `frames = \"length-prefixed\"`; see `max_line`",
                ));
            }
            (Frames::Lines, _, None) => ProcessFrames::Lines(lines.check(table)?),
            (Frames::LengthPrefixed, Some(key), _) => {
                return Err(table.value(key, "given", "only with `frames = \"lines\"`"));
            }
            (Frames::LengthPrefixed, None, given) => {
                ProcessFrames::LengthPrefixed { max_frame: table.max_frame(given)? }
            }
        };
        Ok(ProcessSettings {
            command: self.command,
            environment: self.environment,
            folder,
            always: self.always,
            frames,
        })
    }
}
