//! Accepts connections for the embedded broker and hands each to the MQTT engine with its own access list.
//!
//! Purpose: the engine's own TLS listener waits for one handshake at a time and does not tell its access list who the
//! certificate names. Both are put right here: every handshake has its own task and time limit, and the identity in
//! the certificate makes the connection's access list.
//!
//! Failure modes: a failed handshake or a certificate without identity ends that connection with a warning in the log.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use mqtt5::broker::{
    BrokerConfig as EngineConfig, DynamicStorage, MemoryBackend, ResourceLimits, ResourceMonitor, StorageBackend,
    client_handler::ClientHandler, router::MessageRouter, sys_topics::BrokerStats, tls_acceptor::TlsStreamWrapper,
    transport::BrokerTransport,
};
use rustls::{RootCertStore, ServerConfig, server::WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use sanderling_protocol::topics::Topics;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, broadcast, oneshot},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use super::{
    BrokerConfig, BrokerError,
    access::{Access, Identity},
};

const CONNECTIONS: usize = 1024;
const PACKET_BYTES: usize = 1 << 20;
/// What Mosquitto announces too. Without it the engine lets 65,535 publishes be in flight, and clients make tables of
/// that size.
const RECEIVE_MAXIMUM: u16 = 20;
const HANDSHAKE: Duration = Duration::from_secs(10);
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// How long the listener rests when the kernel has no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A TLS server that demands a client certificate signed by `ca_pem`.
pub(super) fn tls_acceptor(ca_pem: &[u8], cert_pem: &[u8], key_pem: &[u8]) -> Result<TlsAcceptor, BrokerError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for authority in certificates("authority", ca_pem)? {
        roots.add(authority).map_err(|error| BrokerError::Pem { what: "authority", cause: error.to_string() })?;
    }
    let chain = certificates("certificate", cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|error| BrokerError::Pem { what: "private key", cause: error.to_string() })?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| BrokerError::Tls(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_client_cert_verifier(verifier).with_single_cert(chain, key))
        .map_err(|error| BrokerError::Tls(error.to_string()))?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(what: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, BrokerError> {
    let found = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| BrokerError::Pem { what, cause: error.to_string() })?;
    if found.is_empty() {
        return Err(BrokerError::Pem { what, cause: "no certificate in it".to_owned() });
    }
    Ok(found)
}

/// What every connection shares.
struct Shared {
    tls: TlsAcceptor,
    topics: Topics,
    operator: String,
    config: Arc<EngineConfig>,
    router: Arc<MessageRouter>,
    storage: Arc<DynamicStorage>,
    stats: Arc<BrokerStats>,
    monitor: Arc<ResourceMonitor>,
    shutdown: broadcast::Sender<()>,
}

/// A bound listener with its engine.
pub(super) struct Listener {
    socket: TcpListener,
    shared: Arc<Shared>,
}

impl Listener {
    /// Binds, and makes an engine with an empty store.
    pub(super) async fn bind(config: &BrokerConfig, tls: TlsAcceptor) -> Result<(Self, SocketAddr), BrokerError> {
        let cannot_listen = |cause| BrokerError::Listen { address: config.listen, cause };
        let socket = TcpListener::bind(config.listen).await.map_err(cannot_listen)?;
        let address = socket.local_addr().map_err(cannot_listen)?;
        let storage = Arc::new(DynamicStorage::Memory(MemoryBackend::new()));
        let router = Arc::new(MessageRouter::with_storage(Arc::clone(&storage)));
        router.initialize().await.map_err(|error| BrokerError::Store(error.to_string()))?;
        let (shutdown, _) = broadcast::channel(1);
        let shared = Shared {
            tls,
            topics: config.topics.clone(),
            operator: config.operator.clone(),
            config: Arc::new(
                EngineConfig::default()
                    .with_max_clients(CONNECTIONS)
                    .with_max_packet_size(PACKET_BYTES)
                    .with_server_receive_maximum(RECEIVE_MAXIMUM),
            ),
            router,
            storage,
            stats: Arc::new(BrokerStats::new()),
            monitor: Arc::new(ResourceMonitor::new(limits())),
            shutdown,
        };
        Ok((Self { socket, shared: Arc::new(shared) }, address))
    }

    /// Serves until `stopped` fires or its sender is gone, then asks every connection to end.
    pub(super) async fn run(self, mut stopped: oneshot::Receiver<()>) {
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        let mut housekeeping = interval(HOUSEKEEPING);
        housekeeping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = &mut stopped => break,
                _ = housekeeping.tick() => self.shared.expire().await,
                accepted = self.socket.accept() => match accepted {
                    Ok((stream, peer)) => self.admit(stream, peer, &free),
                    Err(error) => {
                        warn!("the embedded broker cannot accept a connection: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        // No receiver means no connection: nothing to tell.
        let _ = self.shared.shutdown.send(());
    }

    fn admit(&self, stream: TcpStream, peer: SocketAddr, free: &Arc<Semaphore>) {
        match Arc::clone(free).try_acquire_owned() {
            Ok(place) => {
                tokio::spawn(serve(Arc::clone(&self.shared), stream, peer, place));
            }
            Err(_) => warn!("the embedded broker refuses {peer}: {CONNECTIONS} connections are open"),
        }
    }
}

impl Shared {
    /// Drops what has expired: sessions, their queues, retained messages.
    async fn expire(&self) {
        if let Err(error) = self.storage.cleanup_expired().await {
            warn!("the embedded broker cannot drop what has expired: {error}");
        }
        self.router.sweep_sessions().await;
    }
}

/// No limit on rates: the demo's clients are ours, and a limit would be measured instead of the agent.
fn limits() -> ResourceLimits {
    ResourceLimits {
        max_connections: CONNECTIONS,
        max_connections_per_ip: CONNECTIONS,
        max_message_rate_per_client: 0,
        max_bandwidth_per_client: 0,
        max_connection_rate: u32::MAX,
        rate_limit_window: Duration::from_secs(1),
    }
}

async fn serve(shared: Arc<Shared>, stream: TcpStream, peer: SocketAddr, _place: OwnedSemaphorePermit) {
    let mut shutdown = shared.shutdown.subscribe();
    // Acknowledgements are small: with Nagle's algorithm each would wait for the peer's delayed ACK.
    if let Err(error) = stream.set_nodelay(true) {
        debug!("no TCP_NODELAY for {peer}: {error}");
    }
    let handshake = tokio::select! {
        _ = shutdown.recv() => return,
        handshake = timeout(HANDSHAKE, shared.tls.accept(stream)) => handshake,
    };
    let stream = match handshake {
        Ok(Ok(stream)) => TlsStreamWrapper::new(stream),
        Ok(Err(error)) => return warn!("the TLS handshake with {peer} failed: {error}"),
        Err(_) => return warn!("the TLS handshake with {peer} took more than {HANDSHAKE:?}"),
    };
    let chain = stream.client_cert_chain().unwrap_or_default();
    let Some(identity) = chain.first().and_then(|leaf| Identity::from_certificate(leaf, &shared.operator)) else {
        return warn!(
            "the certificate of {peer} names no device: its subject needs one common name that is a device id"
        );
    };
    let handler = ClientHandler::new(
        BrokerTransport::tls(stream),
        peer,
        Arc::clone(&shared.config),
        Arc::clone(&shared.router),
        Arc::new(Access::new(identity, &shared.topics)),
        Some(Arc::clone(&shared.storage)),
        Arc::clone(&shared.stats),
        Arc::clone(&shared.monitor),
        shutdown,
    );
    if let Err(error) = handler.run().await {
        if error.is_normal_disconnect() {
            debug!("{peer} disconnected");
        } else {
            warn!("the connection of {peer} ended: {error}");
        }
    }
}
