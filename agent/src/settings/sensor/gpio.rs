//! `kind = "gpio"`.

use std::time::Duration;

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::sensors::{GpioBias, GpioEdges, GpioLine, GpioSettings};

/// As many as the kernel gives at once.
const MOST_LINES: usize = 64;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    chip: Option<String>,
    lines: Vec<GpioLine>,
    edges: Option<GpioEdges>,
    bias: Option<GpioBias>,
    active_low: Option<bool>,
    debounce_ms: Option<f64>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<GpioSettings, SettingsError> {
        if let Some(chip) = self.chip.as_deref() {
            let inside = chip.strip_prefix("/dev/").unwrap_or(chip);
            if inside.is_empty()
                || inside.starts_with('/')
                || inside.split('/').any(|part| matches!(part, "" | "." | ".."))
            {
                return Err(table.value("chip", format!("{chip:?}"), "such as \"gpiochip0\" or \"/dev/gpiochip0\""));
            }
        }
        let count = self.lines.len();
        if !(1..=MOST_LINES).contains(&count) {
            return Err(table.value("lines", count, format!("1 to {MOST_LINES} lines")));
        }
        for (index, line) in self.lines.iter().enumerate() {
            let is_bad = match line {
                GpioLine::Name(name) => !(1..32).contains(&name.len()),
                GpioLine::Offset(_) => self.chip.is_none(),
            };
            if is_bad {
                let allowed = "names of 1 to 31 bytes, or numbers beside `chip`";
                return Err(table.value("lines", format!("{line:?}"), allowed));
            }
            if self.lines.iter().skip(index + 1).any(|other| other == line) {
                return Err(table.value("lines", format!("{line:?} twice"), "each line once"));
            }
        }
        let debounce = self.debounce_ms.unwrap_or(0.0);
        table.within("debounce_ms", debounce, 0.0..=60_000.0, " ms")?;
        let debounce = Duration::from_secs_f64(debounce / 1000.0);
        Ok(GpioSettings {
            chip: self.chip,
            lines: self.lines,
            edges: self.edges.unwrap_or_default(),
            bias: self.bias.unwrap_or_default(),
            active_low: self.active_low.unwrap_or(false),
            debounce: Some(debounce).filter(|debounce| !debounce.is_zero()),
        })
    }
}
