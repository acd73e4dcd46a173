//! A sensor that takes the messages on a topic of an MQTT 5 broker, beside this device or the fleet's own.
//!
//! The payload of each message is a frame: of the format that the settings give, else of the media type that the message names, else bytes. It
//! is subscribed, and a connection held, while a module takes the frames. Retained messages come once for each connection.
//!
//! Invariants: a client for each connection, without a session that the broker keeps; one SUBSCRIBE for each connection; the client's calls never
//! wait, so that it is always polled. See docs/decisions/0005-mqtt-client.md for what that is good for.
//!
//! Failure modes: [`MqttError`], reported, and the connection made anew with growing pauses. A subscription that the broker refuses is one of
//! them. A peer that is silent for two keep-alives is given up, whether the broker lets the client ping it or not. A message that is
//! too long for the settings but not for the connection is refused and counted; a longer one is held back by the broker, which does not tell.
//!
//! Limits: one message at a time, of at most [`MqttSettings::max_frame`] bytes and [`HEADROOM`] of topic and properties: taken apart, short user
//! properties take twenty times their length for a moment.

use std::{error::Error, io, io::Read, path::PathBuf, pin::Pin, pin::pin, time::Duration};

use rumqttc::{
    AsyncClient, Broker, ConnAck, ConnectProperties, ConnectionError, Event, EventLoop, IncomingPacketSizeLimit,
    MqttOptions, Packet, Publish, QoS, StateError, SubAck, SubscribeReasonCode, TlsConfiguration, Transport,
};
use thiserror::Error;
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    Content, Outlet, RawImage, Sensor,
    buffer::Buffer,
    content::{self, Giver},
    reach::reach,
};
use crate::{
    backoff::Backoff,
    reason,
    tls::{self, CredentialsError, TlsFiles},
};

/// What a message may have beside its payload, in bytes.
const HEADROOM: usize = 1024;
/// Messages of QoS 1 that the broker sends before the first is acknowledged.
const MOST_UNACKNOWLEDGED: u16 = 16;
/// A password is at most this long, in bytes.
const MAX_PASSWORD: u64 = 4096;
/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(1);
/// Requests to the client that may wait: a subscription, probes, a goodbye.
const REQUESTS: usize = 8;

/// A sensor that takes the messages on a topic.
#[derive(Clone, Debug, PartialEq)]
pub struct MqttSettings {
    /// Host name or address of the broker.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The MQTT client id: the device's, a dot, and the sensor's name.
    pub client_id: String,
    /// The files of TLS; none without.
    pub tls: Option<TlsFiles>,
    /// A user name, and the file that holds its password.
    pub login: Option<(String, PathBuf)>,
    /// What is subscribed, wildcards allowed.
    pub topic: String,
    /// Whether the broker sends a message until it is acknowledged (QoS 1), or once (QoS 0).
    pub acknowledged: bool,
    /// What the payloads are, whatever the messages say.
    pub format: Option<Content>,
    /// What payloads are whose media type is `application/octet-stream`.
    pub raw: Option<RawImage>,
    /// The longest payload, in bytes.
    pub max_frame: usize,
    /// How often the broker is pinged.
    pub keep_alive: Duration,
    /// How long name, TCP, TLS and CONNECT may take together.
    pub connect_timeout: Duration,
}

/// Why there are no messages.
#[derive(Debug, Error)]
enum MqttError {
    #[error("{0}")]
    Credentials(#[from] CredentialsError),
    #[error("the password in {path}: {cause}; see `password_file`", path = path.display())]
    Password { path: PathBuf, cause: io::Error },
    #[error("no broker answers at {address} ({cause}); check `host`, `port`, the network and the broker")]
    Absent { address: String, cause: String },
    #[error("TLS with {address} failed: {cause}; check `ca`, `cert`, and that the port speaks TLS")]
    Tls { address: String, cause: String },
    #[error(
        "the broker at {address} refused the connection: {reason}; check its access control, and `username` or `cert`"
    )]
    Refused { address: String, reason: String },
    #[error("the broker refused the subscription to {topic}: {reason}; check its access control list")]
    Subscription { topic: String, reason: String },
    #[error("the broker takes no subscriptions with wildcards; correct `topic`, which is {topic}")]
    Wildcards { topic: String },
    #[error(
        "the broker sent a message of {length} bytes, topic and properties included; raise `max_frame`, or shorten it"
    )]
    TooLong { length: usize },
    #[error("the connection to {address} broke ({cause}); it is made again")]
    Broken { address: String, cause: String },
    #[error("the broker at {address} is silent; the connection is made again")]
    Silent { address: String },
}

/// The sensor.
pub struct Mqtt {
    settings: MqttSettings,
}

impl Mqtt {
    /// A sensor of checked settings.
    pub fn new(settings: MqttSettings) -> Self {
        Self { settings }
    }

    /// Whether the files of the connection can be used and somebody listens at the broker's address. Nothing is sent.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn probe(settings: &MqttSettings) -> Result<String, String> {
        let sensor = Self::new(settings.clone());
        sensor.options().map_err(|error| error.to_string())?;
        reach(&settings.host, settings.port, settings.connect_timeout)
            .map_err(|cause| MqttError::Absent { address: sensor.address(), cause: cause.to_string() }.to_string())?;
        Ok(format!("{} takes connections", sensor.address()))
    }

    fn address(&self) -> String {
        let MqttSettings { host, port, .. } = &self.settings;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }
}

impl Sensor for Mqtt {
    fn largest_frame(&self) -> usize {
        self.settings.max_frame
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move { self.run_on(&outlet).await })
    }
}

impl Mqtt {
    async fn run_on(&self, outlet: &Outlet) {
        let mut backoff = Backoff::default();
        let mut giver = Giver::new(self.settings.max_frame);
        loop {
            outlet.until_wanted().await;
            if let Err(error) = self.serve(outlet, &mut giver, &mut backoff).await {
                outlet.failed(error.to_string());
                backoff.wait().await;
            }
        }
    }

    /// Serves one connection until it breaks, or nobody wants its messages.
    async fn serve(&self, outlet: &Outlet, giver: &mut Giver, backoff: &mut Backoff) -> Result<(), MqttError> {
        let keep_alive = self.settings.keep_alive;
        let patience = (2 * keep_alive).max(self.settings.connect_timeout + Duration::from_secs(1));
        let built = AsyncClient::builder(self.options()?).capacity(REQUESTS).try_build();
        let (client, events) = built.map_err(|error| self.broken(&error))?;
        let heard = Notify::new();
        let mut polled = pin!(self.poll(events, &client, &heard, outlet, giver, backoff));
        let mut unwanted = pin!(outlet.until_unwanted());
        let mut silence = pin!(sleep(patience));
        let mut probe = pin!(sleep(keep_alive));
        loop {
            tokio::select! {
                error = &mut polled => return Err(error),
                () = heard.notified() => silence.set(sleep(patience)),
                () = &mut silence => return Err(MqttError::Silent { address: self.address() }),
                () = &mut probe => {
                    // Where the broker turned pings off, the end of a subscription that never was makes it answer.
                    let _ = client.try_unsubscribe(format!("{}/probe", self.settings.client_id));
                    probe.set(sleep(keep_alive));
                }
                () = &mut unwanted => {
                    if client.try_disconnect().is_ok() {
                        let _ = timeout(GOODBYE, &mut polled).await;
                    }
                    return Ok(());
                }
            }
        }
    }

    /// Polls the client until the end of the connection, and gives what comes.
    async fn poll(
        &self,
        mut events: EventLoop,
        client: &AsyncClient,
        heard: &Notify,
        outlet: &Outlet,
        giver: &mut Giver,
        backoff: &mut Backoff,
    ) -> MqttError {
        let mut buffer = Buffer::default();
        let mut up = false;
        loop {
            let packet = match events.poll().await {
                Ok(Event::Incoming(packet)) => packet,
                Ok(_) => continue,
                Err(error) => return self.lost(&error, up),
            };
            heard.notify_one();
            match packet {
                Packet::ConnAck(answer) => {
                    up = true;
                    if let Err(error) = self.subscribe(&answer, client) {
                        return error;
                    }
                }
                Packet::SubAck(answer) => {
                    if let Some(error) = self.refusal(&answer) {
                        return error;
                    }
                    outlet.well();
                    backoff.reset();
                }
                Packet::Publish(message) => {
                    self.give(&message, &mut buffer, giver, outlet);
                    outlet.flush();
                }
                _ => {}
            }
        }
    }

    fn subscribe(&self, answer: &ConnAck, client: &AsyncClient) -> Result<(), MqttError> {
        let topic = &self.settings.topic;
        let wildcards = answer.properties.as_ref().and_then(|said| said.wildcard_subscription_available) != Some(0);
        if !wildcards && topic.contains(['+', '#']) {
            return Err(MqttError::Wildcards { topic: topic.clone() });
        }
        let qos = if self.settings.acknowledged { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        client.try_subscribe(topic.clone(), qos).map_err(|error| self.broken(&error))
    }

    fn refusal(&self, answer: &SubAck) -> Option<MqttError> {
        let refused = answer.return_codes.iter().find(|code| !matches!(code, SubscribeReasonCode::Success(_)))?;
        Some(MqttError::Subscription { topic: self.settings.topic.clone(), reason: reason::in_words(&refused) })
    }

    fn give(&self, message: &Publish, buffer: &mut Buffer, giver: &mut Giver, outlet: &Outlet) {
        let (payload, most) = (&message.payload, self.settings.max_frame);
        let topic = || String::from_utf8_lossy(&message.topic).chars().take(128).collect::<String>();
        if payload.len() > most {
            let length = payload.len();
            return outlet
                .refused(format!("a message on {} of {length} bytes; at most {most}, see `max_frame`", topic()));
        }
        buffer.want(payload.len());
        match buffer.room(outlet.pool()).map(|room| room.get_mut(..payload.len())) {
            Ok(Some(room)) => room.copy_from_slice(payload),
            Ok(None) => return,
            Err(error) => return outlet.refused(error.to_string()),
        }
        buffer.filled(payload.len());
        let given = giver.give(self.content(message), buffer, 0, payload.len(), outlet);
        buffer.pass(payload.len());
        if let Err(error) = given {
            outlet.refused(format!("a message on {} was left out: {error}", topic()));
        }
    }

    fn content(&self, message: &Publish) -> Content {
        self.settings.format.unwrap_or_else(|| {
            let named = message.properties.as_ref().and_then(|properties| properties.content_type.as_deref());
            named.and_then(|named| content::of_media_type(named, self.settings.raw)).unwrap_or(Content::Bytes)
        })
    }

    fn options(&self) -> Result<MqttOptions, MqttError> {
        let settings = &self.settings;
        let packet = u32::try_from(settings.max_frame + HEADROOM).unwrap_or(u32::MAX);
        let mut properties = ConnectProperties::new();
        properties.session_expiry_interval = Some(0);
        properties.max_packet_size = Some(packet);
        properties.receive_maximum = Some(MOST_UNACKNOWLEDGED);
        let mut options = MqttOptions::new(&settings.client_id, Broker::tcp(settings.host.clone(), settings.port));
        options
            .set_keep_alive(u16::try_from(settings.keep_alive.as_secs()).unwrap_or(30))
            .set_clean_start(true)
            .set_connect_properties(properties)
            .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(packet))
            // Each is given before the next is taken apart.
            .set_read_batch_size(1)
            .set_connect_timeout(settings.connect_timeout);
        if let Some(files) = &settings.tls {
            let identity = files.identity.as_ref().map(|(cert, key)| (cert.as_path(), key.as_path()));
            let config = tls::load(&files.ca, identity)?.config;
            options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        }
        if let Some((user, file)) = &settings.login {
            let password = password(file).map_err(|cause| MqttError::Password { path: file.clone(), cause })?;
            options.set_credentials(user, password);
        }
        let (host, port) = (settings.host.clone(), settings.port);
        // In place of the client, so that an IPv6 address needs no brackets and acknowledgements do not wait for each other.
        options.set_socket_connector(move |_, _| {
            let host = host.clone();
            async move {
                let stream = TcpStream::connect((host.as_str(), port)).await?;
                stream.set_nodelay(true)?;
                Ok::<_, io::Error>(stream)
            }
        });
        Ok(options)
    }

    /// Why a connection could not be made, or was lost once it was `up`.
    fn lost(&self, error: &ConnectionError, up: bool) -> MqttError {
        let address = self.address();
        match error {
            ConnectionError::ConnectionRefused(code) => MqttError::Refused { address, reason: reason::in_words(&code) },
            ConnectionError::Tls(_) => MqttError::Tls { address, cause: whole(error) },
            ConnectionError::MqttState(StateError::ConnFail { reason }) => {
                MqttError::Refused { address, reason: reason::in_words(&reason) }
            }
            ConnectionError::MqttState(StateError::AwaitPingResp) => MqttError::Silent { address },
            ConnectionError::MqttState(StateError::IncomingPacketTooLarge { pkt_size, .. }) => {
                MqttError::TooLong { length: *pkt_size }
            }
            ConnectionError::MqttState(StateError::Deserialization(
                rumqttc::mqttbytes::Error::PayloadSizeLimitExceeded { pkt_size, .. },
            )) => MqttError::TooLong { length: *pkt_size },
            ConnectionError::MqttState(StateError::ConnectionAborted) if up => {
                MqttError::Broken { address, cause: "the broker closed it".to_owned() }
            }
            error if up => MqttError::Broken { address, cause: whole(error) },
            error => MqttError::Absent { address, cause: whole(error) },
        }
    }

    fn broken(&self, error: &dyn Error) -> MqttError {
        MqttError::Broken { address: self.address(), cause: error.to_string() }
    }
}

fn password(file: &PathBuf) -> io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(file)?.take(MAX_PASSWORD).read_to_string(&mut text)?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

/// An error with what it comes from, where that is not said already.
fn whole(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}
