//! The operator's connection to the broker: MQTT 5 over mutual TLS.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, IncomingPacketSizeLimit, MqttOptions, NetworkOptions, SessionMode,
    Transport,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};

use crate::provision::{BrokerAddress, Credentials};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// More than the largest message of ours, which is below 128 KiB.
const MAX_PACKET: u32 = 256 * 1024;

/// A connection that the broker has accepted. Whoever holds it polls `events`.
pub(crate) struct Connection {
    /// Sends.
    pub(crate) client: AsyncClient,
    /// Receives, and makes sending happen.
    pub(crate) events: EventLoop,
}

/// Connects, and waits for the broker's word.
pub(crate) async fn connect(address: &BrokerAddress, credentials: &Credentials, client_id: &str) -> Result<Connection> {
    let mut options = MqttOptions::new(client_id, (address.host.clone(), address.port));
    let mut network = NetworkOptions::new();
    // Without it Nagle and delayed acknowledgements stall every exchange for 40 ms.
    network.set_tcp_nodelay(true);
    options
        .set_transport(Transport::tls_with_config(tls(credentials)?.into()))
        .set_network_options(network)
        .set_keep_alive(30)
        .set_session_mode(SessionMode::Clean)
        .set_max_packet_size(Some(MAX_PACKET))
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_PACKET));
    let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
    let at = format!("{}:{}", address.host, address.port);
    let accepted = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(Incoming::ConnAck(_))) => return Ok(()),
                Ok(_) => {}
                Err(error) => bail!(
                    "the broker at {at} does not take the connection: {error}; check host and port, that it runs, and that its authority is {}",
                    credentials.ca.display()
                ),
            }
        }
    };
    tokio::time::timeout(CONNECT_TIMEOUT, accepted)
        .await
        .with_context(|| format!("the broker at {at} did not answer within {} s", CONNECT_TIMEOUT.as_secs()))??;
    Ok(Connection { client, events })
}

fn tls(credentials: &Credentials) -> Result<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in certificates(&credentials.ca)? {
        roots
            .add(certificate)
            .with_context(|| format!("{} is not an authority's certificate", credentials.ca.display()))?;
    }
    let key = PrivateKeyDer::from_pem_file(&credentials.key)
        .with_context(|| format!("could not read the private key {}", credentials.key.display()))?;
    let config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&credentials.cert)?, key)
        .with_context(|| format!("{} and its key do not fit", credentials.cert.display()))?;
    Ok(config)
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>> {
    let read = || CertificateDer::pem_file_iter(file)?.collect::<Result<Vec<_>, _>>();
    let certificates = read().with_context(|| format!("could not read the certificate {}", file.display()))?;
    if certificates.is_empty() {
        bail!("{} holds no certificate", file.display());
    }
    Ok(certificates)
}
