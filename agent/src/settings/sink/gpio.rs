//! `kind = "gpio"`.

use std::path::PathBuf;

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::sinks::{Condition, GpioSettings, LineAt, Test};

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    chip: Option<PathBuf>,
    line: RawLine,
    active_low: Option<bool>,
    pulse_ms: Option<f64>,
    delay_ms: Option<f64>,
    min_gap_ms: Option<f64>,
    when: Option<RawWhen>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "the number of a line of `chip`, or the name of a line")]
enum RawLine {
    Number(u32),
    Name(String),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWhen {
    pointer: String,
    is: Option<Scalar>,
    above: Option<f64>,
    below: Option<f64>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "a text, a number or a boolean")]
enum Scalar {
    Truth(bool),
    Number(f64),
    Text(String),
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<GpioSettings, SettingsError> {
        if cfg!(not(feature = "gpio")) {
            return Err(table.value(
                "kind",
                "\"gpio\"",
                "other kinds; this agent was built without the feature `gpio`",
            ));
        }
        let at = match (self.chip, self.line) {
            (Some(chip), RawLine::Number(line)) => LineAt::Number { chip, line },
            (None, RawLine::Number(line)) => {
                return Err(table.value("line", line, "a number beside `chip`, such as \"/dev/gpiochip0\", or a name"));
            }
            (_, RawLine::Name(name)) if name.is_empty() || name.len() > 31 => {
                return Err(table.value("line", format!("{name:?}"), "a name of 1 to 31 bytes, or a number"));
            }
            (chip, RawLine::Name(name)) => LineAt::Name { chip, name },
        };
        Ok(GpioSettings {
            at,
            active_low: self.active_low.unwrap_or(false),
            pulse: table.milliseconds("pulse_ms", self.pulse_ms.unwrap_or(50.0), 0.1..=10_000.0)?,
            delay: table.milliseconds("delay_ms", self.delay_ms.unwrap_or(0.0), 0.0..=60_000.0)?,
            min_gap: table.milliseconds("min_gap_ms", self.min_gap_ms.unwrap_or(0.0), 0.0..=60_000.0)?,
            when: self.when.map(|when| when.check(table)).transpose()?,
        })
    }
}

impl RawWhen {
    fn check(self, table: &Table<'_>) -> Result<Condition, SettingsError> {
        if !self.pointer.is_empty() && !self.pointer.starts_with('/') {
            let allowed = "a JSON pointer, such as \"/label\"; \"\" is the whole record";
            return Err(table.value("when.pointer", format!("{:?}", self.pointer), allowed));
        }
        let test = match (self.is, self.above, self.below) {
            (Some(is), None, None) => Test::Is(match is {
                Scalar::Truth(truth) => truth.into(),
                Scalar::Number(number) => number.into(),
                Scalar::Text(text) => text.into(),
            }),
            (None, above, below) if above.is_some() || below.is_some() => {
                Test::Between { above: above.unwrap_or(f64::NEG_INFINITY), below: below.unwrap_or(f64::INFINITY) }
            }
            _ => return Err(table.value("when", "without one test", "`is`, or `above`, `below` or both")),
        };
        Ok(Condition { pointer: self.pointer, test })
    }
}
