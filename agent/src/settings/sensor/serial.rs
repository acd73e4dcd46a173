//! `kind = "serial"`.

use std::path::PathBuf;

use serde::Deserialize;

use super::{
    SettingsError, Table,
    lines::{self, Delimiter, LineFormat},
    port::{self, RawFlow, RawParity},
};
use crate::sensors::{Parity, SerialSettings};

/// What most devices speak unless they are told otherwise.
const DEFAULT_BAUD: u32 = 9600;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    device: PathBuf,
    baud: Option<u32>,
    data_bits: Option<u8>,
    parity: Option<RawParity>,
    stop_bits: Option<u8>,
    flow_control: Option<RawFlow>,
    delimiter: Option<Delimiter>,
    max_line: Option<usize>,
    format: Option<LineFormat>,
    rate_hz: Option<f64>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<SerialSettings, SettingsError> {
        let Self { baud, data_bits, parity, stop_bits, flow_control, delimiter, max_line, format, rate_hz, .. } = self;
        let port = port::Keys { baud, data_bits, parity, stop_bits, flow_control };
        Ok(SerialSettings {
            port: port.check(self.device, DEFAULT_BAUD, Parity::None, table)?,
            lines: lines::Keys { delimiter, max_line, format, rate_hz }.check(table)?,
        })
    }
}
