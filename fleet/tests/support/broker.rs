//! A real Mosquitto with the configuration that the tool writes, on loopback alone.

use std::{
    collections::BTreeMap,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, IncomingPacketSizeLimit, MqttOptions, NetworkOptions, PublishOptions, QoS,
    SubscribeFilterInput, Transport,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use super::Fleet;

const PREFIX: &str = "sanderling/v1";
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(10);

/// A running broker.
pub(crate) struct Broker {
    process: Child,
    port: u16,
}

impl Broker {
    /// Provisions and starts one. `more` is added to its configuration.
    pub(crate) fn start(fleet: &Fleet, more: &str) -> Self {
        for _ in 0..5 {
            let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap().port();
            fleet.done(&["provision", "broker", "--host", "127.0.0.1", "--port", &port.to_string()]);
            let file = fleet.path("fleet/broker/mosquitto.conf");
            let text = std::fs::read_to_string(&file).unwrap();
            let local = text.replace(&format!("listener {port}\n"), &format!("listener {port} 127.0.0.1\n"));
            std::fs::write(&file, format!("{local}{more}\n")).unwrap();
            let mut process = Command::new(mosquitto()).arg("-c").arg(&file).stderr(Stdio::null()).spawn().unwrap();
            while process.try_wait().unwrap().is_none() {
                if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                    return Self { process, port };
                }
                std::thread::sleep(LOOK);
            }
        }
        panic!("mosquitto did not start");
    }

    /// A command of the tool with this broker's address.
    pub(crate) fn words(&self, words: &[&str]) -> Vec<String> {
        let port = self.port.to_string();
        words.iter().copied().chain(["--host", "127.0.0.1", "--port", &port]).map(str::to_owned).collect()
    }

    /// What a command of the tool says with `--json`.
    pub(crate) fn json(&self, fleet: &Fleet, words: &[&str]) -> serde_json::Value {
        let words = self.words(words);
        fleet.json(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// What a command of the tool says that is refused.
    pub(crate) fn refused(&self, fleet: &Fleet, words: &[&str]) -> String {
        let words = self.words(words);
        fleet.refused(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// All that it retains of the repository, by topic without the prefix.
    pub(crate) fn retained(&self, fleet: &Fleet) -> BTreeMap<String, Vec<u8>> {
        self.work(fleet, "lister", async |client, events| {
            let kinds = ["repo", "blob", "chunk", "fence"];
            let filters = kinds.map(|kind| SubscribeFilterInput::new(format!("{PREFIX}/{kind}/#"), QoS::AtLeastOnce));
            client.subscribe_many(filters).await.unwrap();
            let mut found = BTreeMap::new();
            loop {
                let message = match events.poll().await.unwrap() {
                    Event::Incoming(Incoming::Publish(message)) => message,
                    // Sent before, it could overtake the subscription.
                    Event::Incoming(Incoming::SubAck(_)) => {
                        client
                            .publish(format!("{PREFIX}/fence/x"), "x", PublishOptions::at_least_once())
                            .await
                            .unwrap();
                        continue;
                    }
                    _ => continue,
                };
                let topic = String::from_utf8(message.topic.to_vec()).unwrap();
                let topic = topic.strip_prefix("sanderling/v1/").unwrap().to_owned();
                if topic == "fence/x" {
                    return found;
                }
                found.insert(topic, message.payload.to_vec());
            }
        })
    }

    /// Retains messages; one without payload is cleared.
    pub(crate) fn put(&self, fleet: &Fleet, messages: &[(&str, &[u8])]) {
        self.work(fleet, "putter", async |client, events| {
            for (topic, payload) in messages {
                let options = PublishOptions::at_least_once().retain(true);
                client.publish(format!("{PREFIX}/{topic}"), payload.to_vec(), options).await.unwrap();
            }
            let mut acknowledged = 0;
            while acknowledged < messages.len() {
                acknowledged +=
                    usize::from(matches!(events.poll().await.unwrap(), Event::Incoming(Incoming::PubAck(_))));
            }
        });
    }

    /// Calls `each` with the number of messages of the repository that came while it listens, until that says `false`. `listening` is
    /// called once nothing is missed any longer.
    pub(crate) fn count(&self, fleet: &Fleet, listening: impl FnOnce(), mut each: impl FnMut(usize) -> bool) {
        self.work(fleet, "counter", async |client, events| {
            let filters = ["repo", "blob", "chunk"].map(|kind| {
                SubscribeFilterInput::new(format!("{PREFIX}/{kind}/#"), QoS::AtMostOnce)
                    .retain_forward_rule(rumqttc::RetainForwardRule::Never)
            });
            client.subscribe_many(filters).await.unwrap();
            let (mut listening, mut count) = (Some(listening), 0);
            while each(count) {
                match tokio::time::timeout(LOOK, events.poll()).await.map(Result::unwrap) {
                    Ok(Event::Incoming(Incoming::SubAck(_))) => {
                        listening.take().into_iter().for_each(|listening| listening())
                    }
                    Ok(Event::Incoming(Incoming::Publish(_))) => count += 1,
                    _ => {}
                }
            }
        });
    }

    fn work<T>(&self, fleet: &Fleet, id: &str, work: impl AsyncFnOnce(AsyncClient, &mut EventLoop) -> T) -> T {
        let mut options = MqttOptions::new(id, ("127.0.0.1", self.port));
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_transport(Transport::tls_with_config(tls(fleet).into()))
            .set_network_options(network)
            .set_max_packet_size(Some(1 << 20))
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(1 << 20));
        let (client, mut events) = AsyncClient::builder(options).capacity(4096).build();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async { tokio::time::timeout(PATIENCE, work(client, &mut events)).await.unwrap() })
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn tls(fleet: &Fleet) -> rustls::ClientConfig {
    let certificates = |file: &str| CertificateDer::pem_file_iter(fleet.path(file)).unwrap().map(Result::unwrap);
    let mut roots = rustls::RootCertStore::empty();
    certificates("fleet/authority/ca.pem").for_each(|certificate| roots.add(certificate).unwrap());
    let key = PrivateKeyDer::from_pem_file(fleet.path("fleet/operator/operator.key")).unwrap();
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates("fleet/operator/operator.pem").collect(), key)
        .unwrap()
}

/// Debian installs it where only root's path looks.
fn mosquitto() -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join("mosquitto")).find(|program| program.is_file()).unwrap_or_else(|| {
        panic!("mosquitto is missing: `cargo xtask test` installs it, or `apt-get install mosquitto`")
    })
}
