//! A client of the broker: MQTT 5 over mutual TLS, for observers, hostile publishers and intruders.
//!
//! It keeps all that it is sent, in order. Its session outlives a restart of the broker, so that nothing is missed meanwhile.

use std::{
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::JoinHandle,
    time::Duration,
};

use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, IncomingPacketSizeLimit, MqttOptions, NetworkOptions, PubAckReason,
    PublishOptions, PublishProperties, PublishResult, QoS, SessionMode, SubscribeFilterInput, Transport,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tokio::sync::oneshot;

use crate::{Broker, Deadline, PATIENCE};

/// More than the largest message of ours, which is below 128 KiB.
const MAX_PACKET: u32 = 1 << 20;
const AGAIN: Duration = Duration::from_millis(50);

/// Who a client is.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The authority that it trusts, PEM.
    pub ca: PathBuf,
    /// Its certificate, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// A message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The topic.
    pub topic: String,
    /// The payload.
    pub payload: Vec<u8>,
    /// The broker had kept it.
    pub retained: bool,
    /// The correlation data of an answer.
    pub correlation: Option<Vec<u8>>,
}

#[derive(Default)]
struct State {
    messages: Vec<Message>,
    subscribed: bool,
    error: Option<String>,
}

#[derive(Default)]
struct Heard {
    state: Mutex<State>,
    came: Condvar,
}

/// A connected client.
pub struct Peer {
    client: AsyncClient,
    heard: Arc<Heard>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Peer {
    /// Connects as client `id` and subscribes to these filters.
    ///
    /// # Errors
    /// What the broker or TLS said, where that was no success within [`PATIENCE`].
    pub fn connect(broker: &Broker, who: &Credentials, id: &str, filters: &[String]) -> Result<Self, String> {
        let mut options = MqttOptions::new(id, (Broker::HOST.to_owned(), broker.port()));
        let mut network = NetworkOptions::new();
        network.set_tcp_nodelay(true);
        options
            .set_transport(Transport::tls_with_config(tls(who).into()))
            .set_network_options(network)
            .set_keep_alive(30)
            .set_session_mode(SessionMode::Persistent)
            .set_max_packet_size(Some(MAX_PACKET))
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_PACKET));
        let (client, events) = AsyncClient::builder(options).capacity(4096).build();
        let heard = Arc::new(Heard::default());
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn({
            let (client, heard, filters) = (client.clone(), heard.clone(), filters.to_vec());
            move || serve(events, &client, &heard, &filters, stopped)
        });
        let peer = Self { client, heard, stop: Some(stop), thread: Some(thread) };
        let deadline = Deadline::after(PATIENCE);
        let mut state = peer.state();
        while !state.subscribed {
            let Some(left) = deadline.left() else {
                return Err(state.error.clone().unwrap_or_else(|| "no answer".into()));
            };
            state = peer.heard.came.wait_timeout(state, left).unwrap().0;
        }
        drop(state);
        Ok(peer)
    }

    /// Publishes with QoS 1, and waits for the acknowledgement.
    ///
    /// # Errors
    /// What the broker says against it.
    pub fn publish(&self, topic: &str, payload: &[u8], retain: bool) -> Result<(), String> {
        self.send(topic, payload, PublishOptions::new(QoS::AtLeastOnce).retain(retain)).map(|_| ())
    }

    /// Publishes a request with a response topic and correlation data. `false` where the broker says that nobody listens there.
    ///
    /// # Errors
    /// What the broker says against it.
    pub fn ask(&self, topic: &str, payload: &[u8], response: &str, correlation: &[u8]) -> Result<bool, String> {
        let properties = PublishProperties {
            response_topic: Some(response.to_owned()),
            correlation_data: Some(correlation.to_vec().into()),
            ..PublishProperties::default()
        };
        self.send(topic, payload, PublishOptions::new(QoS::AtLeastOnce).properties(properties))
    }

    /// Says whether somebody was subscribed.
    fn send(&self, topic: &str, payload: &[u8], options: PublishOptions) -> Result<bool, String> {
        let notice = self.client.try_publish_tracked(topic, payload, options).map_err(|error| error.to_string())?;
        match notice.wait() {
            Ok(PublishResult::Qos1(ack)) => match ack.reason {
                PubAckReason::Success => Ok(true),
                PubAckReason::NoMatchingSubscribers => Ok(false),
                refused => Err(format!("{refused:?}")),
            },
            other => Err(format!("{other:?}")),
        }
    }

    /// How many messages came so far.
    pub fn count(&self) -> usize {
        self.state().messages.len()
    }

    /// Looks at all messages, again whenever one comes, until `look` finds something; `None` when the limit is over.
    pub fn wait<T>(&self, limit: Duration, mut look: impl FnMut(&[Message]) -> Option<T>) -> Option<T> {
        let deadline = Deadline::after(limit);
        let mut state = self.state();
        loop {
            if let Some(found) = look(&state.messages) {
                return Some(found);
            }
            let left = deadline.left()?;
            state = self.heard.came.wait_timeout(state, left).unwrap().0;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.heard.state.lock().unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            // An error means that the thread has ended already.
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(
    mut events: EventLoop,
    client: &AsyncClient,
    heard: &Heard,
    filters: &[String],
    stopped: oneshot::Receiver<()>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let serve = async {
        loop {
            match events.poll().await {
                Ok(Event::Incoming(packet)) => take(packet, client, heard, filters),
                Ok(_) => {}
                Err(error) => {
                    heard.state.lock().unwrap().error = Some(error.to_string());
                    tokio::time::sleep(AGAIN).await;
                }
            }
        }
    };
    runtime.block_on(async {
        tokio::select! {
            () = serve => {}
            _ = stopped => {}
        }
    });
}

fn take(packet: Incoming, client: &AsyncClient, heard: &Heard, filters: &[String]) {
    let mut state = heard.state.lock().unwrap();
    match packet {
        Incoming::ConnAck(ack) if ack.session_present || filters.is_empty() => state.subscribed = true,
        Incoming::ConnAck(_) => {
            let filters = filters.iter().map(|filter| SubscribeFilterInput::new(filter.clone(), QoS::AtLeastOnce));
            client.try_subscribe_many(filters).unwrap();
        }
        Incoming::SubAck(_) => state.subscribed = true,
        Incoming::Publish(message) => state.messages.push(Message {
            topic: String::from_utf8_lossy(&message.topic).into_owned(),
            payload: message.payload.to_vec(),
            retained: message.retain,
            correlation: message
                .properties
                .and_then(|properties| properties.correlation_data)
                .map(|data| data.to_vec()),
        }),
        _ => return,
    }
    heard.came.notify_all();
}

/// The TLS of a client with these credentials.
pub(crate) fn tls(who: &Credentials) -> rustls::ClientConfig {
    let certificates = |file| CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap);
    let mut roots = rustls::RootCertStore::empty();
    certificates(&who.ca).for_each(|certificate| roots.add(certificate).unwrap());
    let key = PrivateKeyDer::from_pem_file(&who.key).unwrap();
    rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates(&who.cert).collect(), key)
        .unwrap()
}
