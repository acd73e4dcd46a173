//! `kind = "mqtt"`.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{SettingsError, Table, lines, replay};
use crate::{
    sensors::{Content, MqttSettings, RawImage},
    tls::TlsFiles,
};

/// The longest payload unless the table says otherwise, in bytes.
const DEFAULT_FRAME: usize = 256 << 10;
const LONGEST_TOPIC: usize = 512;

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::settings) struct Raw {
    broker: Option<Broker>,
    host: Option<String>,
    port: Option<u16>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    username: Option<String>,
    password_file: Option<PathBuf>,
    topic: String,
    qos: Option<u8>,
    format: Option<Format>,
    raw: Option<RawImage>,
    rate_hz: Option<f64>,
    max_frame: Option<usize>,
    keep_alive_s: Option<u64>,
    connect_timeout_s: Option<u64>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Broker {
    /// That of `[broker]`.
    Same,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    Bytes,
    Json,
    Jpeg,
    Png,
    Csv,
    Raw,
}

/// Where the broker is and what it is shown.
struct Way {
    host: String,
    port: u16,
    tls: Option<TlsFiles>,
    login: Option<(String, PathBuf)>,
}

impl Raw {
    pub(super) fn check(self, table: &Table<'_>) -> Result<MqttSettings, SettingsError> {
        if self.topic.len() > LONGEST_TOPIC || !rumqttc::mqttbytes::valid_filter(&self.topic) {
            let allowed = format!("a topic filter of at most {LONGEST_TOPIC} bytes, such as press/+/state or press/#");
            return Err(table.value("topic", format!("{:?}", self.topic), allowed));
        }
        let qos = table.within("qos", self.qos.unwrap_or(1), 0..=1, "")?;
        let keep_alive = table.within("keep_alive_s", self.keep_alive_s.unwrap_or(30), 1..=30, " s")?;
        let connect = table.within("connect_timeout_s", self.connect_timeout_s.unwrap_or(15), 1..=300, " s")?;
        let max_frame = table.max_frame(Some(self.max_frame.unwrap_or(DEFAULT_FRAME.min(table.max_frame_bytes))))?;
        self.raw.as_ref().map_or(Ok(()), |raw| replay::image(raw, table))?;
        let format = self.content(table)?;
        let (topic, raw) = (self.topic.clone(), self.raw);
        let Way { host, port, tls, login } = self.way(table)?;
        Ok(MqttSettings {
            host,
            port,
            client_id: format!("{}.{}", table.device, table.name),
            tls,
            login,
            topic,
            acknowledged: qos == 1,
            format,
            raw,
            max_frame,
            keep_alive: Duration::from_secs(keep_alive),
            connect_timeout: Duration::from_secs(connect),
        })
    }

    fn content(&self, table: &Table<'_>) -> Result<Option<Content>, SettingsError> {
        let rate_hz = lines::rate(self.rate_hz, table)?;
        if self.rate_hz.is_some() && !matches!(self.format, Some(Format::Csv)) {
            return Err(table.value("rate_hz", "given", "only with `format = \"csv\"`"));
        }
        Ok(Some(match self.format {
            None => return Ok(None),
            Some(Format::Bytes) => Content::Bytes,
            Some(Format::Json) => Content::Json,
            Some(Format::Jpeg) => Content::Jpeg,
            Some(Format::Png) => Content::Png,
            Some(Format::Csv) => Content::Csv { rate_hz },
            Some(Format::Raw) => {
                let missing = || table.value("raw", "missing", "the layout of the images, for `format = \"raw\"`");
                Content::Raw(self.raw.ok_or_else(missing)?)
            }
        }))
    }

    fn way(self, table: &Table<'_>) -> Result<Way, SettingsError> {
        if let Some(Broker::Same) = self.broker {
            let keys = [
                (self.host.is_some(), "host"),
                (self.port.is_some(), "port"),
                (self.ca.is_some(), "ca"),
                (self.cert.is_some(), "cert"),
                (self.key.is_some(), "key"),
                (self.username.is_some(), "username"),
            ];
            if let Some((_, key)) = keys.into_iter().find(|(given, _)| *given) {
                return Err(table.value(
                    key,
                    "given",
                    "nothing beside `broker = \"same\"`, which takes it from [broker]",
                ));
            }
            let broker = table.broker;
            let identity = Some((broker.cert.clone(), broker.key.clone()));
            let tls = Some(TlsFiles { ca: broker.ca.clone(), identity });
            return Ok(Way { host: broker.host.clone(), port: broker.port, tls, login: None });
        }
        let missing = || table.value("host", "missing", "the broker's host name or address, or `broker = \"same\"`");
        let host = self.host.filter(|host| !host.is_empty()).ok_or_else(missing)?;
        let identity = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            (Some(_), None) => return Err(table.value("key", "missing", "the private key of `cert`")),
            (None, Some(_)) => return Err(table.value("cert", "missing", "the certificate of `key`")),
        };
        let tls = match (self.ca, identity) {
            (Some(ca), identity) => Some(TlsFiles { ca, identity }),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(table.value("ca", "missing", "the broker's CA, without which there is no TLS"));
            }
        };
        let login = match (self.username, self.password_file) {
            (Some(user), Some(file)) => Some((user, file)),
            (None, None) => None,
            (Some(_), None) => {
                return Err(table.value("password_file", "missing", "the file with the user's password"));
            }
            (None, Some(_)) => return Err(table.value("username", "missing", "whose password it is")),
        };
        let port = self.port.unwrap_or(if tls.is_some() { 8883 } else { 1883 });
        Ok(Way { host, port: table.within("port", port, 1..=u16::MAX, "")?, tls, login })
    }
}
