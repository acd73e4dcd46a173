//! One device's folder: to be copied to `/etc/sanderling` on the gateway.

use std::path::PathBuf;

use anyhow::{Result, bail};
use sanderling_protocol::topics::{DeviceId, Topics};

use super::{Authority, BrokerAddress, HOME_ASSISTANT, OPERATOR};
use crate::{
    home::{self, Home},
    repo,
};

/// What is known of a device.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct DeviceOptions {
    /// The device's id: 1 to 64 characters of A-Z a-z 0-9 . _ -
    pub(crate) id: DeviceId,
    /// A label that deployments can address, as `key=value`. Repeat for several.
    #[arg(long = "label")]
    pub(crate) labels: Vec<String>,
    /// Where the folder will lie on the device.
    #[arg(long, default_value = "/etc/sanderling")]
    pub(crate) installed_at: PathBuf,
    /// Where the agent keeps its state.
    #[arg(long, default_value = "/var/lib/sanderling")]
    pub(crate) state: PathBuf,
}

/// Writes `devices/{id}` and returns it. Sensors are added there, to `agent.toml` or as files in `agent.toml.d/`.
pub(crate) fn device(
    home: &Home,
    authority: &Authority,
    address: &BrokerAddress,
    topics: &Topics,
    options: &DeviceOptions,
) -> Result<PathBuf> {
    let folder = home.path(format!("devices/{}", options.id));
    if folder.join("device.key").exists() {
        bail!("{} is provisioned already, in {}; remove the folder to make it anew", options.id, folder.display());
    }
    if options.id.as_str() == OPERATOR {
        bail!("{OPERATOR} is the operator's own name, with all rights at the broker; give the device another id");
    }
    if options.id.as_str() == HOME_ASSISTANT {
        bail!("{HOME_ASSISTANT} is the name that Home Assistant has at the broker; give the device another id");
    }
    let root = home::read(&repo::root_file(home)?)?;
    let issued = authority.client(options.id.as_str())?;
    home::write(&folder.join("device.pem"), issued.cert.as_bytes())?;
    home::write_secret(&folder.join("device.key"), issued.key.as_bytes())?;
    home::write(&folder.join("ca.pem"), authority.cert.as_bytes())?;
    home::write(&folder.join("root.json"), &root)?;
    home::write(&folder.join("agent.toml"), configuration(address, topics, options)?.as_bytes())?;
    Ok(folder)
}

fn configuration(address: &BrokerAddress, topics: &Topics, options: &DeviceOptions) -> Result<String> {
    // A JSON string is a TOML string.
    let quoted = |text: &str| serde_json::to_string(text);
    let at = |file: &str| quoted(&options.installed_at.join(file).to_string_lossy());
    let mut labels = String::new();
    for label in &options.labels {
        let Some((key, value)) = label.split_once('=') else { bail!("label {label:?}: write it key=value") };
        labels.push_str(&format!("{} = {}\n", quoted(key)?, quoted(value)?));
    }
    Ok(format!(
        "# The agent's configuration, made by `sanderling provision device`. Files in agent.toml.d/*.toml are laid over it.
device = {id}

[labels]
{labels}
[broker]
host = {host}
port = {port}
ca = {ca}
cert = {cert}
key = {key}
prefix = {prefix}

[trust]
root = {root}

[paths]
state = {state}

# Sensors, one table each; for example images from a folder:
# [sensor.cam0]
# kind = \"replay\"
# path = \"/srv/images\"
# rate = 10
# loop = true
",
        id = quoted(options.id.as_str())?,
        host = quoted(&address.host)?,
        port = address.port,
        ca = at("ca.pem")?,
        cert = at("device.pem")?,
        key = at("device.key")?,
        prefix = quoted(topics.prefix())?,
        root = at("root.json")?,
        state = quoted(&options.state.to_string_lossy())?,
    ))
}
