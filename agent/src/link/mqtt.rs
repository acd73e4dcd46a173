//! [`Link`] over MQTT 5 and mutual TLS, by `rumqttc`.
//!
//! Every connection gets a client of its own, which starts clean (session expiry 0) and is thrown away at the first
//! error: no packet id, no replay queue and no session outlives its connection, on either side. What the client is
//! known to do wrong over a reconnect (packet ids that collide, pending messages that are cleared) has nothing to act
//! on; the outbox is the session. What remains is covered by the watchdog in `connection`.
//!
//! Failure modes: see [`LinkError`]; each is told in [`LinkEvent::Down`] and the next attempt follows the backoff, which
//! starts anew only after a connection that stood for a keep-alive: a broker that lets in and throws out is not hammered.
//! Limits: those of the parent module; TCP without Nagle's delay; QoS 2 is not used.

use std::{future::Future, io, sync::Arc, time::Duration};

use rumqttc::{
    AsyncClient, Broker, ConnectProperties, EventLoop, IncomingPacketSizeLimit, LastWill, MqttOptions, QoS,
    TlsConfiguration, Transport,
};
use sanderling_protocol::{reported::Status, topics::DeviceId};
use tokio::{net::TcpStream, sync::mpsc};

use super::{
    EVENT_CAPACITY, Link, LinkError, LinkEvent, LinkEvents, LinkRefusal, MAX_OUTSTANDING, MAX_PACKET, MAX_WAITING,
    Publish, SLACK,
    backoff::Backoff,
    connection::{Connection, End, Ground},
    credentials::Credentials,
    shared::Shared,
};
use crate::{clock::Clock, health::progress::Mark, settings::BrokerSettings};

/// Packets that are read before the driver is given the first of them. One, because a packet may take thirty times its length
/// once it is taken apart: 132 KiB of short user properties are 20,000 pairs of strings.
const READ_BATCH: usize = 1;

/// What a link needs to know.
#[derive(Clone, Debug)]
pub struct LinkConfig {
    /// Where the broker is.
    pub broker: BrokerSettings,
    /// Who this device is; the MQTT client id.
    pub device: DeviceId,
    /// The agent's version, for the status.
    pub agent: String,
    /// The kernel's boot id, for the status.
    pub boot: String,
}

/// What a connection says of itself.
#[derive(Clone, Debug)]
pub struct Announcement {
    /// When the broker has taken the first subscriptions.
    pub birth: Option<Publish>,
    /// At the end of the connection: said by the agent where it closes the link, and by the broker, as the last will, where the
    /// connection breaks.
    pub farewell: Publish,
}

/// Says what a connection says of itself, by the connection's id. Asked once for each.
pub type Announce = Box<dyn FnMut(&str) -> Announcement + Send>;

/// Gives a random number; for jitter and session ids.
pub type Random = Box<dyn FnMut() -> u64 + Send>;

/// The caller's side of the link; clones share it.
#[derive(Clone, Debug)]
pub struct MqttLink {
    shared: Arc<Shared>,
}

impl Link for MqttLink {
    fn subscribe(&self, topics: Vec<String>) -> Result<(), LinkRefusal> {
        self.shared.subscribe(topics)
    }

    fn unsubscribe(&self, topics: &[String]) {
        self.shared.unsubscribe(topics);
    }

    fn publish(&self, publish: Publish) -> Result<(), LinkRefusal> {
        self.shared.publish(publish)
    }

    fn room(&self) -> usize {
        self.shared.room()
    }

    fn mark(&self) -> Mark {
        self.shared.pulse.mark()
    }

    fn close(&self) {
        self.shared.close();
    }
}

/// Makes a link: the caller's side, its events, and the task that serves it, which is to be spawned on a tokio runtime
/// with I/O and time. The task ends after [`Link::close`], or when the events are dropped.
pub fn link(
    config: LinkConfig,
    clock: Arc<dyn Clock>,
    random: Random,
) -> (MqttLink, LinkEvents, impl Future<Output = ()> + Send) {
    let (broker, client_id, wall) = (config.broker.clone(), config.device.to_string(), clock.clone());
    let announce = move |session: &str| Announcement {
        birth: Some(status(&config, session, true, wall.wall())),
        farewell: status(&config, session, false, wall.wall()),
    };
    link_as(broker, client_id, Box::new(announce), clock, random)
}

/// As [`link`], under another client id, and with other announcements than the device's status.
pub fn link_as(
    broker: BrokerSettings,
    client_id: String,
    announce: Announce,
    clock: Arc<dyn Clock>,
    random: Random,
) -> (MqttLink, LinkEvents, impl Future<Output = ()> + Send) {
    let shared = Arc::new(Shared::default());
    let (events, receiver) = mpsc::channel(EVENT_CAPACITY);
    let backoff = Backoff::new(broker.backoff_min, broker.backoff_max);
    let (shared_by_task, credentials) = (Arc::clone(&shared), Credentials::new());
    let task =
        Task { broker, client_id, announce, clock, random, shared: shared_by_task, events, backoff, credentials };
    (MqttLink { shared }, receiver, task.run())
}

fn status(config: &LinkConfig, session: &str, online: bool, since: i64) -> Publish {
    let status =
        Status { session: session.to_owned(), online, agent: config.agent.clone(), boot: config.boot.clone(), since };
    let topic = config.broker.topics.device(&config.device, "status");
    Publish::new(topic, serde_json::to_vec(&status).unwrap_or_default()).retained()
}

struct Task {
    broker: BrokerSettings,
    client_id: String,
    announce: Announce,
    clock: Arc<dyn Clock>,
    random: Random,
    shared: Arc<Shared>,
    events: mpsc::Sender<LinkEvent>,
    backoff: Backoff,
    credentials: Credentials,
}

impl Task {
    async fn run(mut self) {
        self.connect_again_and_again().await;
        self.shared.pulse.rest();
    }

    async fn connect_again_and_again(&mut self) {
        while !self.shared.closing() {
            let began = self.clock.mono();
            self.shared.pulse.step(self.broker.connect_timeout + SLACK);
            let end = self.connect_once().await;
            self.shared.down();
            let error = match end {
                End::Closed => return,
                End::Renewed => {
                    tracing::info!("the connection is made again with a renewed certificate, key or CA");
                    let down = LinkEvent::Down { error: LinkError::Renewed, retry_in: Duration::ZERO };
                    if self.events.send(down).await.is_err() {
                        return;
                    }
                    continue;
                }
                End::Lost(error) => error,
            };
            self.credentials.failed(&error);
            if self.clock.mono().saturating_sub(began) >= self.broker.keep_alive {
                self.backoff.reset();
            }
            let retry_in = self.backoff.next((self.random)());
            tracing::warn!(%error, retry_in_ms = retry_in.as_millis(), "the link is down");
            if self.events.send(LinkEvent::Down { error, retry_in }).await.is_err() {
                return;
            }
            self.shared.pulse.step(retry_in + SLACK);
            self.wait(retry_in).await;
        }
    }

    async fn connect_once(&mut self) -> End {
        let session = format!("{:016x}", (self.random)());
        let Announcement { birth, farewell } = (self.announce)(&session);
        match self.client(&farewell) {
            Err(error) => End::Lost(error),
            Ok((client, events)) => {
                let on = Ground {
                    broker: &self.broker,
                    shared: &self.shared,
                    events: &self.events,
                    credentials: &mut self.credentials,
                };
                Connection::new(on, client, session, birth, farewell).run(events).await
            }
        }
    }

    fn client(&mut self, will: &Publish) -> Result<(AsyncClient, EventLoop), LinkError> {
        let tls = self.credentials.choose(&self.broker)?;
        let options = options(&self.broker, &self.client_id, tls, Some(will));
        // Acknowledgements that the broker owes us are bounded by MAX_OUTSTANDING; the rest are subscriptions.
        let capacity = usize::from(MAX_OUTSTANDING) + MAX_WAITING;
        AsyncClient::builder(options).capacity(capacity).try_build().map_err(|error| LinkError::Protocol {
            address: super::classify::address(&self.broker),
            problem: error.to_string(),
        })
    }

    async fn wait(&mut self, time: Duration) {
        let sleep = tokio::time::sleep(time);
        tokio::pin!(sleep);
        // Other work than closing wakes this too, and is of no use while the link is down.
        while !self.shared.closing() {
            tokio::select! {
                () = &mut sleep => return,
                () = self.events.closed() => return,
                () = self.shared.work.notified() => {}
            }
        }
    }
}

/// What the client is told for one connection; without a will for one that only looks.
pub(super) fn options(
    broker: &BrokerSettings,
    client_id: &str,
    tls: Arc<rustls::ClientConfig>,
    will: Option<&Publish>,
) -> MqttOptions {
    let mut options = MqttOptions::new(client_id, Broker::tcp(broker.host.clone(), broker.port));
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(0);
    properties.max_packet_size = Some(MAX_PACKET);
    options
        .set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(tls)))
        .set_keep_alive(u16::try_from(broker.keep_alive.as_secs()).unwrap_or(30))
        .set_clean_start(true)
        .set_connect_properties(properties)
        .set_incoming_packet_size_limit(IncomingPacketSizeLimit::Bytes(MAX_PACKET))
        .set_outgoing_inflight_upper_limit(MAX_OUTSTANDING)
        .set_read_batch_size(READ_BATCH)
        .set_connect_timeout(broker.connect_timeout);
    if let Some(will) = will {
        options.set_last_will(LastWill::new(
            will.topic.clone(),
            will.payload.to_vec(),
            QoS::AtLeastOnce,
            will.retain,
            None,
        ));
    }
    let (host, port) = (broker.host.clone(), broker.port);
    options.set_socket_connector(move |_, _| connect(host.clone(), port));
    options
}

/// Resolves and connects, in place of the client, so that an IPv6 address needs no brackets and Nagle's delay is off:
/// with it, a pull by windows is sixty times slower.
async fn connect(host: String, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn connects_to_names_and_addresses_without_delay() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["localhost", "127.0.0.1"] {
            assert!(connect(host.to_owned(), port).await.unwrap().nodelay().unwrap(), "{host}");
        }
        let Ok(listener) = TcpListener::bind(("::1", 0)).await else { return };
        let port = listener.local_addr().unwrap().port();
        assert!(connect("::1".to_owned(), port).await.is_ok());
    }

    #[tokio::test]
    async fn a_link_that_never_gets_a_connection_gets_on_and_one_that_is_closed_rests() {
        let folder = tempfile::tempdir().unwrap();
        let broker = BrokerSettings {
            host: "localhost".to_owned(),
            port: 8883,
            ca: folder.path().join("ca.pem"),
            cert: folder.path().join("cert.pem"),
            key: folder.path().join("key.pem"),
            topics: sanderling_protocol::topics::Topics::default(),
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(1),
            backoff_max: Duration::from_secs(3600),
            reload: Duration::from_secs(5),
        };
        let device = "gw-1".parse().unwrap();
        let config = LinkConfig { broker, device, agent: String::new(), boot: String::new() };
        let (link, mut events, task) = link(config, Arc::new(crate::clock::FakeClock::at(0)), Box::new(|| 0));
        let task = tokio::spawn(task);
        for attempt in 1..4 {
            let Some(LinkEvent::Down { retry_in, .. }) = events.recv().await else { unreachable!() };
            // One for the attempt, and one for the wait that follows.
            while link.mark().steps < 2 * attempt {
                tokio::task::yield_now().await;
            }
            assert!(link.mark().within.is_some_and(|within| within >= retry_in));
        }
        link.close();
        task.await.unwrap();
        assert_eq!(link.mark().within, None);
    }
}
