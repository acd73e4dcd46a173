//! What the link's tests stand on: certificates, a real Mosquitto, a proxy that breaks connections, and a broker that
//! misbehaves.

pub(crate) mod misbehaving;
pub(crate) mod mosquitto;
pub(crate) mod pki;
pub(crate) mod proxy;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use sanderling_agent::{
    clock::SystemClock,
    link::{
        LinkError, LinkEvent, LinkEvents, Message,
        mqtt::{LinkConfig, MqttLink, link},
    },
    settings::BrokerSettings,
};
use sanderling_protocol::topics::Topics;

use self::pki::Pki;

/// The longest that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// Broker settings for a device; quick, so that tests are.
pub(crate) fn settings(pki: &Pki, device: &str, port: u16) -> BrokerSettings {
    let (cert, key) = pki.device(device);
    BrokerSettings {
        host: "localhost".to_owned(),
        port,
        ca: pki.ca(),
        cert,
        key,
        topics: Topics::default(),
        keep_alive: Duration::from_secs(1),
        connect_timeout: Duration::from_secs(5),
        backoff_min: Duration::from_millis(50),
        backoff_max: Duration::from_millis(200),
        reload: Duration::from_millis(50),
    }
}

/// A link that runs.
pub(crate) struct Running {
    pub(crate) link: MqttLink,
    pub(crate) events: LinkEvents,
    /// What came before the event that was waited for.
    pub(crate) passed: Vec<LinkEvent>,
}

/// Starts a link as `device`.
pub(crate) fn start(device: &str, broker: BrokerSettings) -> Running {
    // Every link of a test has its own numbers.
    static SEED: AtomicU64 = AtomicU64::new(1);
    let mut number = SEED.fetch_add(1 << 32, Ordering::Relaxed);
    let random = Box::new(move || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        number
    });
    let config =
        LinkConfig { broker, device: device.parse().unwrap(), agent: "0.0.0".to_owned(), boot: "boot".to_owned() };
    let (link, events, task) = link(config, Arc::new(SystemClock::new()), random);
    tokio::spawn(task);
    Running { link, events, passed: Vec::new() }
}

impl Running {
    /// The next event; panics after a while without.
    pub(crate) async fn next(&mut self) -> LinkEvent {
        match tokio::time::timeout(PATIENCE, self.events.recv()).await {
            Ok(Some(event)) => event,
            Ok(None) => panic!("the events ended; before: {:?}", self.passed),
            Err(_) => panic!("no event; before: {:?}", self.passed),
        }
    }

    /// The first event that `wanted` makes something of; others are kept in `passed`.
    pub(crate) async fn until<T>(&mut self, wanted: impl Fn(&LinkEvent) -> Option<T>) -> T {
        loop {
            let event = self.next().await;
            if let Some(found) = wanted(&event) {
                return found;
            }
            self.passed.push(event);
            assert!(self.passed.len() < 50_000, "too many events");
        }
    }

    pub(crate) async fn up(&mut self) -> String {
        self.until(|event| match event {
            LinkEvent::Up { session, session_present, .. } => {
                assert!(!session_present);
                Some(session.clone())
            }
            _ => None,
        })
        .await
    }

    pub(crate) async fn down(&mut self) -> LinkError {
        self.until(|event| match event {
            LinkEvent::Down { error, .. } => Some(error.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn message(&mut self) -> Message {
        self.until(|event| match event {
            LinkEvent::Message(message) => Some(message.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn subscribed(&mut self) -> Vec<String> {
        self.until(|event| match event {
            LinkEvent::Subscribed { topics } => Some(topics.clone()),
            _ => None,
        })
        .await
    }

    pub(crate) async fn acked(&mut self) -> u64 {
        self.until(|event| match event {
            LinkEvent::Acked { token } => Some(*token),
            _ => None,
        })
        .await
    }
}
