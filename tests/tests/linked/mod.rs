//! The agent's link, without the agent, on a real broker through the fault-injecting proxy.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError},
    },
    thread::JoinHandle,
    time::Duration,
};

use sanderling_agent::{
    clock::SystemClock,
    link::{
        BrokerLimits, Link, LinkError, LinkEvent, Message, Publish,
        mqtt::{LinkConfig, MqttLink, link},
    },
    settings::BrokerSettings,
};
use sanderling_tests::{Deadline, Device, PATIENCE, Proxy, Site};

/// The keep-alive that tests use: the shortest that MQTT has.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// A broker, the proxy before it, and a device that has a link and no agent.
pub(crate) struct Ground {
    pub(crate) proxy: Proxy,
    pub(crate) device: Device,
    pub(crate) site: Site,
}

impl Ground {
    pub(crate) fn new() -> Self {
        let site = Site::new();
        let device = site.device("gw-1");
        let proxy = Proxy::before(&site.broker, &site.fleet, &device.credentials());
        Self { proxy, device, site }
    }

    /// A topic below the device's own.
    pub(crate) fn own(&self, rest: &str) -> String {
        self.site.fleet.topics().device(&self.device.id, rest)
    }

    /// A topic that every device may read.
    pub(crate) fn common(&self, rest: &str) -> String {
        format!("{}/{rest}", self.site.fleet.topics().prefix())
    }

    /// Starts the link through the proxy.
    pub(crate) fn link(&self) -> Linked {
        self.link_with(KEEP_ALIVE)
    }

    pub(crate) fn link_with(&self, keep_alive: Duration) -> Linked {
        let credentials = self.device.credentials();
        Linked::start(LinkConfig {
            broker: BrokerSettings {
                host: "127.0.0.1".to_owned(),
                port: self.proxy.port(),
                ca: credentials.ca,
                cert: credentials.cert,
                key: credentials.key,
                topics: self.site.fleet.topics(),
                keep_alive,
                connect_timeout: Duration::from_secs(5),
                backoff_min: Duration::from_millis(10),
                backoff_max: Duration::from_millis(50),
                reload: Duration::from_secs(5),
            },
            device: self.device.id.clone(),
            agent: "0.0.0".to_owned(),
            boot: "boot".to_owned(),
        })
    }

    /// Waits until all of `0..count` came.
    pub(crate) fn wait_arrived(&self, count: u64) {
        self.site.observer.wait_for("every number", PATIENCE, |seen| {
            let numbers: BTreeSet<u64> = seen
                .of(&self.device.id, "data/m/x")
                .filter_map(|message| std::str::from_utf8(&message.payload).ok()?.parse().ok())
                .collect();
            (0..count).all(|number| numbers.contains(&number)).then_some(())
        });
    }

    /// A number to send.
    pub(crate) fn number(&self, number: u64) -> Publish {
        Publish::new(self.own("data/m/x"), number.to_string()).with_token(number)
    }
}

/// A link that runs on a thread of its own.
pub(crate) struct Linked {
    pub(crate) link: MqttLink,
    events: Receiver<LinkEvent>,
    /// Why the link went down, each time so far.
    pub(crate) downs: Vec<LinkError>,
    thread: Option<JoinHandle<()>>,
}

impl Linked {
    fn start(config: LinkConfig) -> Self {
        static SEED: AtomicU64 = AtomicU64::new(1);
        let mut number = SEED.fetch_add(1 << 32, Ordering::Relaxed);
        let random = Box::new(move || {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            number
        });
        let (link, mut came, task) = link(config, Arc::new(SystemClock::new()), random);
        // As many events wait here as the link itself would let wait.
        let (sender, events) = mpsc::sync_channel(16);
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let forward = std::thread::spawn(move || {
                while let Some(event) = came.blocking_recv() {
                    if sender.send(event).is_err() {
                        return;
                    }
                }
            });
            runtime.block_on(task);
            let _ = forward.join();
        });
        Self { link, events, downs: Vec::new(), thread: Some(thread) }
    }

    /// The next event, `None` when the limit is over.
    pub(crate) fn next_within(&mut self, limit: Duration) -> Option<LinkEvent> {
        let event = match self.events.recv_timeout(limit) {
            Ok(event) => event,
            Err(RecvTimeoutError::Timeout) => return None,
            Err(RecvTimeoutError::Disconnected) => panic!("the link ended; it was down because of {:?}", self.downs),
        };
        if let LinkEvent::Down { error, .. } = &event {
            self.downs.push(error.clone());
        }
        Some(event)
    }

    /// The first event that `wanted` makes something of.
    #[track_caller]
    pub(crate) fn until<T>(&mut self, what: &str, mut wanted: impl FnMut(LinkEvent) -> Option<T>) -> T {
        let deadline = Deadline::after(PATIENCE);
        while let Some(event) = deadline.left().and_then(|left| self.next_within(left)) {
            if let Some(found) = wanted(event) {
                return found;
            }
        }
        panic!("{what}: not within {PATIENCE:?}; the link was down because of {:?}", self.downs);
    }

    pub(crate) fn up(&mut self) -> BrokerLimits {
        self.until("a connection", |event| match event {
            LinkEvent::Up { broker, session_present, .. } => {
                assert!(!session_present, "every connection starts clean");
                Some(broker)
            }
            _ => None,
        })
    }

    pub(crate) fn down(&mut self) -> LinkError {
        self.until("the end of the connection", |event| match event {
            LinkEvent::Down { error, .. } => Some(error),
            _ => None,
        })
    }

    pub(crate) fn message_on(&mut self, topic: &str) -> Message {
        self.until(topic, |event| match event {
            LinkEvent::Message(message) if message.topic == topic => Some(message),
            _ => None,
        })
    }

    pub(crate) fn subscribed(&mut self) -> Vec<String> {
        self.until("a subscription", |event| match event {
            LinkEvent::Subscribed { topics } => Some(topics),
            _ => None,
        })
    }

    /// Sends the numbers as the outbox does — each is kept until its acknowledgement, and what is not acknowledged when a
    /// connection begins is sent again — until none is left. Gives how many acknowledgements there were.
    #[track_caller]
    pub(crate) fn deliver(&mut self, numbers: std::ops::Range<u64>, publish: impl Fn(u64) -> Publish) -> u64 {
        let mut kept: BTreeSet<u64> = numbers.collect();
        let mut unsent: Vec<u64> = kept.iter().rev().copied().collect();
        let mut acked = 0;
        let deadline = Deadline::after(PATIENCE);
        while !kept.is_empty() {
            while self.link.room() > 0 {
                let Some(number) = unsent.pop() else { break };
                if self.link.publish(publish(number)).is_err() {
                    unsent.push(number);
                    break;
                }
            }
            let left = deadline.left().unwrap_or_else(|| {
                panic!("{} numbers are not acknowledged; the link was down because of {:?}", kept.len(), self.downs)
            });
            match self.next_within(left.min(Duration::from_millis(200))) {
                Some(LinkEvent::Acked { token }) => {
                    kept.remove(&token);
                    acked += 1;
                }
                Some(LinkEvent::Up { session_present, .. }) => {
                    assert!(!session_present);
                    unsent = kept.iter().rev().copied().collect();
                }
                Some(LinkEvent::PublishRefused { token, error }) => panic!("{token} was refused: {error}"),
                _ => {}
            }
        }
        acked
    }
}

impl Drop for Linked {
    fn drop(&mut self) {
        self.link.close();
        // What still comes is taken, so that the link can end.
        while self.events.recv_timeout(Duration::from_secs(5)).is_ok() {}
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            if !std::thread::panicking() {
                ended.expect("the link does not panic");
            }
        }
    }
}
