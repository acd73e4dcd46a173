//! Configuration for Mosquitto: TLS with client certificates, identity from the common name, an access list that confines each
//! device to its own subtree.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sanderling_protocol::topics::Topics;

use super::{Authority, BrokerOptions, HOME_ASSISTANT, OPERATOR};
use crate::home::{self, Home};

/// Writes `broker/` and returns the configuration file.
pub(crate) fn mosquitto(
    home: &Home,
    authority: &Authority,
    options: &BrokerOptions,
    topics: &Topics,
) -> Result<PathBuf> {
    let address = &options.address;
    let mut names = vec![address.host.clone()];
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().filter(|name| *name != address.host));
    let issued = authority.server(&names)?;
    let folder = home.path("broker");
    home::write(&folder.join("broker.pem"), issued.cert.as_bytes())?;
    home::write_secret(&folder.join("broker.key"), issued.key.as_bytes())?;
    home::write(&folder.join("ca.pem"), authority.cert.as_bytes())?;
    let mut list = access_list(topics);
    if let Some(prefix) = &options.home_assistant {
        let discovery = Topics::new(prefix)?;
        list.push_str(&home_assistant_list(topics, &discovery));
        let issued = authority.client(HOME_ASSISTANT)?;
        home::write(&folder.join("home-assistant.pem"), issued.cert.as_bytes())?;
        home::write_secret(&folder.join("home-assistant.key"), issued.key.as_bytes())?;
    }
    home::write(&folder.join("acl"), list.as_bytes())?;
    std::fs::create_dir_all(folder.join("data"))?;
    let folder = folder.canonicalize().with_context(|| format!("could not find {}", folder.display()))?;
    let shown = folder.display();
    let port = address.port;
    let user = owner(&folder)?;
    let configuration = format!(
        "# Mosquitto for a Sanderling fleet. Run it with: mosquitto -c {shown}/mosquitto.conf
# The key is readable by who wrote it: started by root, Mosquitto becomes this user.
user {user}
per_listener_settings false
listener {port}
cafile {shown}/ca.pem
certfile {shown}/broker.pem
keyfile {shown}/broker.key
require_certificate true
use_identity_as_username true
allow_anonymous false
acl_file {shown}/acl
# Retained messages are the repository, and queued ones the fleet's results: both survive a restart.
persistence true
persistence_location {shown}/data/
autosave_interval 30
# A device asks for a window of at most 512 KiB of chunks at once.
max_inflight_messages 64
max_queued_messages 10000
max_packet_size 1048576
set_tcp_nodelay true
"
    );
    let file = folder.join("mosquitto.conf");
    home::write(&file, configuration.as_bytes())?;
    Ok(file)
}

/// The name of the user who owns the folder, or its number where it has no name.
fn owner(folder: &Path) -> Result<String> {
    use std::os::unix::fs::MetadataExt;
    let uid = std::fs::metadata(folder)?.uid().to_string();
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = users.lines().find(|line| line.split(':').nth(2) == Some(&uid)).and_then(|line| line.split(':').next());
    Ok(named.unwrap_or(&uid).to_owned())
}

/// Each device reads what is published for all and its own commands, and writes its own subtree; `%u` is the common name.
fn access_list(topics: &Topics) -> String {
    let prefix = topics.prefix();
    format!(
        "# The operator publishes and sees everything.
user {OPERATOR}
topic readwrite {prefix}/#

# Every device, by the common name of its certificate.
pattern read {prefix}/repo/#
pattern read {prefix}/blob/#
pattern read {prefix}/chunk/#
pattern read {prefix}/device/%u/cmd/#
pattern write {prefix}/device/%u/status
pattern write {prefix}/device/%u/reported
pattern write {prefix}/device/%u/event
pattern write {prefix}/device/%u/log
pattern write {prefix}/device/%u/data/#
pattern write {prefix}/device/%u/batch/#
pattern write {prefix}/device/%u/answer/#
"
    )
}

/// Home Assistant reads what devices say, and each device writes what Home Assistant finds it by.
fn home_assistant_list(topics: &Topics, discovery: &Topics) -> String {
    let (prefix, discovery) = (topics.prefix(), discovery.prefix());
    format!(
        "
# What each device tells Home Assistant of itself.
pattern readwrite {discovery}/device/%u/#

# Home Assistant, by the common name of its certificate.
user {HOME_ASSISTANT}
topic read {prefix}/device/+/status
topic read {prefix}/device/+/reported
topic read {prefix}/device/+/data/#
topic readwrite {discovery}/#
"
    )
}
