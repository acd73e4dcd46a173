//! The MQTT 5 broker inside the operator's tool, for the demo and for tests without Mosquitto.
//!
//! Purpose: what `sanderling demo` connects a real agent to, with the same rules as the Mosquitto that `provision`
//! configures: mutual TLS, identity from the certificate's common name, one access list.
//!
//! Invariants: no client is heard before its certificate is verified; the certificate, not what the client says of
//! itself, decides what it may do. Everything is kept in memory and gone when the broker stops.
//!
//! Failure modes: a configuration that does not work is an error of [`EmbeddedBroker::start`]. Later faults end one
//! connection, never the broker.
//!
//! Limits: 1,024 connections; 10 s for the TLS handshake and 10 s more for CONNECT; packets of at most 1 MiB; a queue
//! of 10,000 messages or 64 MiB per client, the oldest dropped first. Not meant for production: see
//! docs/decisions/0002-embedded-broker.md.

mod access;
mod listener;

#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::mpsc, thread};

use sanderling_protocol::topics::Topics;
use thiserror::Error;
use tokio::sync::oneshot;

/// What an embedded broker is started with.
pub(crate) struct BrokerConfig {
    /// Where it listens; with port 0 the kernel chooses one, see [`EmbeddedBroker::address`].
    pub(crate) listen: SocketAddr,
    /// The authority, as PEM, that signs the certificates of devices and operators.
    pub(crate) ca_pem: Vec<u8>,
    /// The broker's own certificate chain as PEM, leaf first.
    pub(crate) cert_pem: Vec<u8>,
    /// The private key of that leaf as PEM.
    pub(crate) key_pem: Vec<u8>,
    /// The topics that the access list is made for.
    pub(crate) topics: Topics,
    /// The common name that may read and write everything; every other name is a device.
    pub(crate) operator: String,
}

/// Why the embedded broker did not start.
#[derive(Debug, Error)]
pub(crate) enum BrokerError {
    /// One of the PEM texts does not hold what it should.
    #[error("the broker's {what} is not usable: {cause}; provision it again")]
    Pem {
        /// Which of the three.
        what: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// Certificate, key and authority do not make a TLS server.
    #[error("the broker's certificate, key and authority do not fit together: {0}; provision them again")]
    Tls(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {cause}; choose another address, or port 0")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The thread or the runtime of the broker could not be made.
    #[error("cannot start the broker's thread: {0}")]
    Thread(#[from] io::Error),
    /// The broker's message store did not come up.
    #[error("the broker's message store did not start: {0}")]
    Store(String),
    /// The thread ended before it listened.
    #[error("the broker's thread ended before it listened; its log says why")]
    Ended,
}

/// A running broker; dropping it closes every connection and the listener, and waits until that is done.
pub(crate) struct EmbeddedBroker {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl EmbeddedBroker {
    /// Starts a broker on a thread of its own and returns once it listens. May be called from asynchronous code: it
    /// blocks for milliseconds only.
    ///
    /// # Errors
    /// [`BrokerError`], before anything listens.
    pub(crate) fn start(config: BrokerConfig) -> Result<Self, BrokerError> {
        let tls = listener::tls_acceptor(&config.ca_pem, &config.cert_pem, &config.key_pem)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("broker-worker")
            .enable_io()
            .enable_time()
            .build()?;
        let (stop, stopped) = oneshot::channel();
        let (started, ready) = mpsc::sync_channel(1);
        let thread = thread::Builder::new().name("broker".to_owned()).spawn(move || {
            runtime.block_on(async {
                match listener::Listener::bind(&config, tls).await {
                    Ok((listener, address)) => {
                        // Nobody waits for the answer only if the starter is gone; then `stopped` fires at once.
                        let _ = started.send(Ok(address));
                        listener.run(stopped).await;
                    }
                    Err(error) => {
                        let _ = started.send(Err(error));
                    }
                }
            });
            runtime.shutdown_timeout(std::time::Duration::from_secs(2));
        })?;
        let address = ready.recv().map_err(|_| BrokerError::Ended)??;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    /// Where the broker listens, with the port that the kernel chose.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic on the broker's thread has been printed there; there is nothing left to stop.
            let _ = thread.join();
        }
    }
}
