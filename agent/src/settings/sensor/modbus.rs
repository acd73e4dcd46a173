//! `kind = "modbus"`.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use sanderling_protocol::deployment::is_name;
use serde::Deserialize;

use super::{
    SettingsError, Table,
    port::{self, RawFlow, RawParity},
};
use crate::sensors::{
    Parity, Sensor,
    modbus::{Function, MOST_VALUES, Modbus, ModbusFormat, ModbusSettings, Point, ValueType, Way, WordOrder},
};

const DEFAULT_PORT: u16 = 502;
/// What the specification of Modbus over serial lines gives as default, with even parity.
const DEFAULT_BAUD: u32 = 19_200;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    address: Option<String>,
    device: Option<PathBuf>,
    baud: Option<u32>,
    data_bits: Option<u8>,
    parity: Option<RawParity>,
    stop_bits: Option<u8>,
    flow_control: Option<RawFlow>,
    unit: Option<u8>,
    word_order: Option<WordOrder>,
    interval_s: Option<f64>,
    timeout_s: Option<f64>,
    #[serde(default)]
    format: ModbusFormat,
    #[serde(default)]
    point: Vec<RawPoint>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPoint {
    name: String,
    function: Option<Function>,
    address: u16,
    count: Option<u16>,
    #[serde(rename = "type")]
    value: Option<ValueType>,
    unit: Option<u8>,
    word_order: Option<WordOrder>,
    scale: Option<f64>,
    offset: Option<f64>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<ModbusSettings, SettingsError> {
        let seconds = |key: &str, value: Option<f64>, allowed| {
            table.within(key, value.unwrap_or(1.0), allowed, " s").map(Duration::from_secs_f64)
        };
        let interval = seconds("interval_s", self.interval_s, 0.001..=86_400.0)?;
        let timeout = seconds("timeout_s", self.timeout_s, 0.01..=60.0)?;
        let settings = ModbusSettings {
            points: self.points(table)?,
            interval,
            timeout,
            format: self.format,
            way: self.way(table)?,
        };
        table.fits("point", Modbus::new(settings.clone()).largest_frame())?;
        Ok(settings)
    }

    fn points(&self, table: &Table<'_>) -> Result<Vec<Point>, SettingsError> {
        if self.point.is_empty() {
            return Err(table.value("point", "missing", "one [[sensor.<name>.point]] or more"));
        }
        let points = self.point.iter().map(|raw| self.point(raw, table)).collect::<Result<Vec<_>, _>>()?;
        let names: BTreeSet<_> = points.iter().map(|point| &point.name).collect();
        if names.len() < points.len() {
            return Err(table.value("point.name", "given twice", "another name for each point"));
        }
        let values: usize = points.iter().map(|point| usize::from(point.count)).sum();
        if values > MOST_VALUES {
            return Err(table.value("point", format!("{values} values"), format!("at most {MOST_VALUES}")));
        }
        Ok(points)
    }

    fn point(&self, raw: &RawPoint, table: &Table<'_>) -> Result<Point, SettingsError> {
        let wrong = |key: &str, value: String, allowed: String| {
            table.value(&format!("point.{key}"), format!("{value} in {:?}", raw.name), allowed)
        };
        if !is_name(&raw.name) {
            return Err(wrong("name", "bad".into(), "1 to 64 characters of A-Z a-z 0-9 . _ -".into()));
        }
        let function = raw.function.unwrap_or(Function::Holding);
        if function.is_bits() && (raw.value.is_some() || raw.word_order.is_some()) {
            return Err(wrong("type", "given".into(), "only for registers".into()));
        }
        let point = Point {
            name: raw.name.clone(),
            unit: raw.unit.or(self.unit).unwrap_or(1),
            function,
            address: raw.address,
            count: raw.count.unwrap_or(1),
            value: raw.value.unwrap_or_default(),
            order: raw.word_order.or(self.word_order).unwrap_or_default(),
            scale: raw.scale.unwrap_or(1.0),
            offset: raw.offset.unwrap_or(0.0),
        };
        let length = point.length();
        if !(1..=u32::from(function.most())).contains(&length) {
            let unit = if function.is_bits() { "bits" } else { "registers" };
            let allowed = format!("1 to {} {unit} a point, which one request can ask for", function.most());
            return Err(wrong("count", point.count.to_string(), allowed));
        }
        if u32::from(point.address) + length > 1 << 16 {
            return Err(wrong("address", point.address.to_string(), "addresses up to 65535, from 0 on".into()));
        }
        if !point.scale.is_finite() || !point.offset.is_finite() {
            return Err(wrong("scale", point.scale.to_string(), "finite numbers".into()));
        }
        Ok(point)
    }

    fn way(self, table: &Table<'_>) -> Result<Way, SettingsError> {
        let Self { baud, data_bits, parity, stop_bits, flow_control, .. } = self;
        let keys = port::Keys { baud, data_bits, parity, stop_bits, flow_control };
        match (self.address, self.device) {
            (Some(_), Some(_)) => Err(table.value("device", "given beside `address`", "one of the two")),
            (None, None) => {
                let allowed = "`address` (host:port, for Modbus TCP) or `device` (a serial port, for RTU)";
                Err(table.value("address", "missing", allowed))
            }
            (None, Some(device)) => keys.check(device, DEFAULT_BAUD, Parity::Even, table).map(Way::Rtu),
            (Some(address), None) => match keys.given() {
                Some(key) => Err(table.value(key, "given", "only with `device`")),
                None => tcp(&address, table),
            },
        }
    }
}

/// `host`, `host:port`, `[v6]` or `[v6]:port`.
fn tcp(address: &str, table: &Table<'_>) -> Result<Way, SettingsError> {
    let wrong = || table.value("address", format!("{address:?}"), "host or host:port; an IPv6 address in brackets");
    let (host, port) = match address.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or_else(wrong)?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':').ok_or_else(wrong)?) })
        }
        None => match address.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (address, None),
        },
    };
    let port = port.map_or(Ok(DEFAULT_PORT), |port| port.parse().map_err(|_| wrong()))?;
    if host.is_empty() || port == 0 { Err(wrong()) } else { Ok(Way::Tcp { host: host.to_owned(), port }) }
}
