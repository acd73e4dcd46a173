//! What kinds that use a serial port have in common: `device`, `baud`, `data_bits`, `parity`, `stop_bits`, `flow_control`.

use std::path::PathBuf;

use serde::Deserialize;

use super::{SettingsError, Table};
use crate::sensors::{DataBits, FlowControl, Parity, PortSettings, StopBits};

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawParity {
    None,
    Even,
    Odd,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum RawFlow {
    None,
    Software,
    Hardware,
}

/// The keys as they stand in the table, beside `device`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pub(super) baud: Option<u32>,
    pub(super) data_bits: Option<u8>,
    pub(super) parity: Option<RawParity>,
    pub(super) stop_bits: Option<u8>,
    pub(super) flow_control: Option<RawFlow>,
}

impl Keys {
    /// The first of them that is given.
    #[cfg(feature = "modbus")]
    pub(super) fn given(&self) -> Option<&'static str> {
        let keys = [
            (self.baud.is_some(), "baud"),
            (self.data_bits.is_some(), "data_bits"),
            (self.parity.is_some(), "parity"),
            (self.stop_bits.is_some(), "stop_bits"),
            (self.flow_control.is_some(), "flow_control"),
        ];
        keys.into_iter().find_map(|(given, key)| given.then_some(key))
    }

    /// The settings of a port; `baud` and `parity` unless the table says otherwise.
    pub(super) fn check(
        self,
        device: PathBuf,
        baud: u32,
        parity: Parity,
        table: &Table<'_>,
    ) -> Result<PortSettings, SettingsError> {
        if !device.is_absolute() {
            return Err(table.value("device", device.display(), "an absolute path, such as /dev/ttyUSB0"));
        }
        let data_bits = match self.data_bits.unwrap_or(8) {
            5 => DataBits::Five,
            6 => DataBits::Six,
            7 => DataBits::Seven,
            8 => DataBits::Eight,
            other => return Err(table.value("data_bits", other, "5 to 8")),
        };
        let stop_bits = match self.stop_bits.unwrap_or(1) {
            1 => StopBits::One,
            2 => StopBits::Two,
            other => return Err(table.value("stop_bits", other, "1 or 2")),
        };
        Ok(PortSettings {
            device,
            baud: table.within("baud", self.baud.unwrap_or(baud), 50..=4_000_000, " bits/s")?,
            data_bits,
            parity: match self.parity {
                None => parity,
                Some(RawParity::None) => Parity::None,
                Some(RawParity::Even) => Parity::Even,
                Some(RawParity::Odd) => Parity::Odd,
            },
            stop_bits,
            flow: match self.flow_control {
                None | Some(RawFlow::None) => FlowControl::None,
                Some(RawFlow::Software) => FlowControl::Software,
                Some(RawFlow::Hardware) => FlowControl::Hardware,
            },
        })
    }
}
