//! Provisioning: the certificate authority, the broker's configuration, the operator's certificate, and one folder for each device
//! with everything that it gets.

mod authority;
mod broker;
mod device;

use std::path::PathBuf;

use anyhow::Result;

use crate::home::{self, Home};
pub(crate) use authority::Authority;
pub(crate) use broker::mosquitto;
pub(crate) use device::{DeviceOptions, device};

/// Where a fleet's broker is reached.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct BrokerAddress {
    /// The broker's host name or address, as devices reach it; it stands in the broker's certificate.
    #[arg(long, default_value = "localhost")]
    pub(crate) host: String,
    /// The broker's TLS port.
    #[arg(long, default_value_t = 8883)]
    pub(crate) port: u16,
}

/// A broker to write a configuration for.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct BrokerOptions {
    #[command(flatten)]
    pub(crate) address: BrokerAddress,
    /// Let devices tell Home Assistant of themselves below this topic, and make a certificate for it to connect with.
    #[arg(long, value_name = "PREFIX", num_args = 0..=1, default_missing_value = "homeassistant")]
    pub(crate) home_assistant: Option<String>,
}

/// The common name of the operator's certificate, which the access list lets read and write everything.
pub(crate) const OPERATOR: &str = "operator";
/// The common name of Home Assistant's certificate, which the access list lets read what devices say.
pub(crate) const HOME_ASSISTANT: &str = "home-assistant";

/// Certificate and private key files.
#[derive(Clone, Debug)]
pub(crate) struct Credentials {
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    /// The certificate.
    pub(crate) cert: PathBuf,
    /// Its private key.
    pub(crate) key: PathBuf,
}

/// The operator's credentials, made when they are not there yet.
pub(crate) fn operator(home: &Home, authority: &Authority) -> Result<Credentials> {
    let credentials = operator_files(home);
    if !credentials.key.exists() {
        let issued = authority.client(OPERATOR)?;
        home::write(&credentials.cert, issued.cert.as_bytes())?;
        home::write_secret(&credentials.key, issued.key.as_bytes())?;
    }
    Ok(credentials)
}

/// Where the operator's credentials are.
pub(crate) fn operator_files(home: &Home) -> Credentials {
    Credentials {
        ca: home.path("authority/ca.pem"),
        cert: home.path("operator/operator.pem"),
        key: home.path("operator/operator.key"),
    }
}
