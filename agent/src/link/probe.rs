//! Tries the way to the broker once, stage by stage, for whoever wants to know where it ends.
//!
//! Invariant: nothing is published or subscribed, and there is no last will. [`connect`] carries this device's id, by which the broker ends
//! another session of it: whoever calls it knows that there is none.
//!
//! Failure modes: each stage fails with the [`LinkError`] that the link would tell; later ones are not tried then.
//!
//! Limits: `[broker] connect_timeout_s` for each stage.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rumqttc::{AsyncClient, ConnectionError, Event, Packet};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use sanderling_protocol::topics::DeviceId;
use tokio::{
    io::AsyncReadExt,
    net::{TcpStream, lookup_host},
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{BrokerLimits, LinkError, classify, mqtt, tls};
use crate::settings::BrokerSettings;

/// For how long a broker may think about this device's certificate after TLS has begun.
const AFTERTHOUGHT: Duration = Duration::from_millis(500);

/// A stage of the way to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its name has addresses.
    Name,
    /// One of them takes connections.
    Tcp,
    /// Both sides accept each other's certificates.
    Tls,
}

/// What came of each stage that was tried, in order: in words, or why it failed.
pub type Stages = Vec<(Stage, Result<String, LinkError>)>;

/// Tries the way up to TLS.
pub async fn probe(broker: &BrokerSettings) -> Stages {
    let mut stages = Stages::new();
    let addresses = match limited(broker, resolve(broker)).await {
        Ok(addresses) => addresses,
        Err(error) => return with(stages, Stage::Name, Err(error)),
    };
    let listed: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    stages.push((Stage::Name, Ok(format!("{} is {}", broker.host, listed.join(", ")))));
    let stream = match limited(broker, reach(broker, &addresses)).await {
        Ok(stream) => stream,
        Err(error) => return with(stages, Stage::Tcp, Err(error)),
    };
    let peer = stream.peer_addr().map_or_else(|_| classify::address(broker), |peer| peer.to_string());
    stages.push((Stage::Tcp, Ok(format!("{peer} takes connections"))));
    let config = match tls::load(broker) {
        Ok(loaded) => loaded.config,
        Err(error) => return with(stages, Stage::Tls, Err(error)),
    };
    let shaken = limited(broker, shake_hands(broker, stream, config)).await;
    with(stages, Stage::Tls, shaken)
}

/// Whether the broker takes this device as a client. It ends another session of the same id for it.
///
/// # Errors
/// [`LinkError`].
pub async fn connect(broker: &BrokerSettings, device: &DeviceId) -> Result<String, LinkError> {
    let config = tls::load(broker)?.config;
    limited(broker, be_taken(broker, device, config)).await
}

fn with(mut stages: Stages, stage: Stage, result: Result<String, LinkError>) -> Stages {
    stages.push((stage, result));
    stages
}

async fn limited<T>(
    broker: &BrokerSettings,
    stage: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    let seconds = broker.connect_timeout.as_secs();
    let late = |_| LinkError::Timeout { address: classify::address(broker), seconds };
    timeout(broker.connect_timeout, stage).await.map_err(late)?
}

fn lost(broker: &BrokerSettings, error: io::Error) -> LinkError {
    classify::lost(&ConnectionError::Io(error), false, broker)
}

async fn resolve(broker: &BrokerSettings) -> Result<Vec<SocketAddr>, LinkError> {
    let found = lookup_host((broker.host.as_str(), broker.port)).await.map_err(|error| lost(broker, error))?;
    let found: Vec<SocketAddr> = found.collect();
    if found.is_empty() { Err(LinkError::Host(broker.host.clone())) } else { Ok(found) }
}

async fn reach(broker: &BrokerSettings, addresses: &[SocketAddr]) -> Result<TcpStream, LinkError> {
    TcpStream::connect(addresses).await.map_err(|error| lost(broker, error))
}

async fn shake_hands(
    broker: &BrokerSettings,
    stream: TcpStream,
    config: Arc<ClientConfig>,
) -> Result<String, LinkError> {
    let name = ServerName::try_from(broker.host.clone()).map_err(|_| LinkError::Host(broker.host.clone()))?;
    let mut stream = TlsConnector::from(config).connect(name, stream).await.map_err(|error| lost(broker, error))?;
    // In TLS 1.3 the broker looks at this device's certificate when the client's part is over already.
    match timeout(AFTERTHOUGHT, stream.read(&mut [0])).await {
        Ok(Err(error)) => return Err(lost(broker, error)),
        Ok(Ok(0)) => {
            let cause = "the broker closed it without a word after it had this device's certificate".to_owned();
            return Err(LinkError::Broken { address: classify::address(broker), cause });
        }
        Ok(Ok(_)) | Err(_) => {}
    }
    let version = stream.get_ref().1.protocol_version().and_then(|version| version.as_str().map(str::to_owned));
    Ok(format!("{} with both certificates", version.unwrap_or_else(|| "TLS".to_owned())))
}

async fn be_taken(broker: &BrokerSettings, device: &DeviceId, config: Arc<ClientConfig>) -> Result<String, LinkError> {
    let options = mqtt::options(broker, device.as_str(), config, None);
    let (client, mut events) = AsyncClient::builder(options).capacity(1).build();
    loop {
        match events.poll().await.map_err(|error| classify::lost(&error, false, broker))? {
            Event::Incoming(Packet::ConnAck(answer)) => {
                // The connection ends with the client in any case; this says so first.
                if client.try_disconnect().is_ok() {
                    while timeout(AFTERTHOUGHT, events.poll()).await.is_ok_and(|polled| polled.is_ok()) {}
                }
                let limits = BrokerLimits::read(answer.properties.as_ref());
                return match limits.lack() {
                    Some(lack) => Err(lack),
                    None => {
                        Ok(format!("the broker takes {device}; at most {} messages under way", limits.receive_maximum))
                    }
                };
            }
            _ => continue,
        }
    }
}
