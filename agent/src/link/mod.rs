//! The link: the port through which the agent meets its broker.
//!
//! Purpose: [`Link`] takes what is to be sent, [`LinkEvents`] gives what came. The adapter over MQTT 5 is [`mqtt`], the
//! fake for tests [`fake`].
//!
//! Invariants:
//! - A connection is a session. Every connection starts clean, and what was outstanding on the one before is forgotten
//!   by the link: after [`LinkEvent::Down`] every publish without its [`LinkEvent::Acked`] counts as not sent. Who wants
//!   it sent keeps it (the outbox does) and publishes it again after the next [`LinkEvent::Up`].
//! - Subscriptions last: the link remembers them, subscribes again at every connection, and the broker then sends every
//!   retained message again. One SUBSCRIBE is in flight at a time; later ones join the one that waits.
//! - No call here waits. What does not fit is refused with [`LinkRefusal`], so the caller can never be in the way of the
//!   task that serves the connection.
//! - Certificate, key and CA are renewed without a restart: what lies in their files is used at the next connection, and a connection that
//!   stands is ended for it when nothing is outstanding. What cannot be used is told of, and changes nothing.
//! - Everything is bounded: [`MAX_TOPICS`] subscriptions, [`MAX_WAITING`] publishes that wait,
//!   [`MAX_OUTSTANDING`] without their PUBACK, [`EVENT_CAPACITY`] events that are not taken. A driver that is slow
//!   makes the link stop reading: TCP holds the broker back.
//!
//! Failure modes: each reason for a lost or refused connection is one variant of [`LinkError`], which names cause and cure.
//! The link tries again for ever, with backoff and jitter.
//!
//! Limits: messages of [`MAX_PACKET`] bytes; MQTT 5 brokers only.

pub mod fake;
pub mod mqtt;
pub mod probe;
pub mod tls;

mod answers;
mod backoff;
mod classify;
mod connection;
mod credentials;
mod error;
mod intake;
mod limits;
mod shared;

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::health::progress::Mark;
pub use error::{LinkError, LinkRefusal};
pub use limits::BrokerLimits;

/// The longest MQTT packet sent or taken, in bytes: protocol.md's 128 KiB for a message, and room for topic and properties.
pub const MAX_PACKET: u32 = (128 + 4) * 1024;
/// At most this many topics are subscribed at a time.
pub const MAX_TOPICS: usize = 1024;
/// At most this many publishes wait to be handed to the broker.
pub const MAX_WAITING: usize = 64;
/// At most this many publishes are with the broker without their PUBACK.
pub const MAX_OUTSTANDING: u16 = 32;
/// At most this many events wait for the driver; a message is an event.
pub const EVENT_CAPACITY: usize = 16;

/// How much later than it means to the link may do something, before it counts as stuck: names are resolved and files read in this time too.
const SLACK: Duration = Duration::from_secs(30);

/// A request with more correlation data than this, in bytes, is not answered: it would be kept until the answer is acknowledged.
pub const MAX_CORRELATION: usize = 1024;

/// How sure a publish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// Sent once; nobody learns whether it came through.
    AtMostOnce,
    /// Acknowledged by the broker; may come twice.
    AtLeastOnce,
}

/// A message to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The whole topic, prefix included.
    pub topic: String,
    /// The payload; with topic and properties at most [`MAX_PACKET`].
    pub payload: Bytes,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// How sure it is.
    pub qos: Qos,
    /// Comes back in [`LinkEvent::Acked`] or [`LinkEvent::PublishRefused`] when the broker answered; for
    /// [`Qos::AtLeastOnce`] only.
    pub token: Option<u64>,
    /// The correlation data of the request that this answers.
    pub correlation: Option<Bytes>,
}

impl Publish {
    /// A message that is acknowledged and not retained.
    pub fn new(topic: impl Into<String>, payload: impl Into<Bytes>) -> Self {
        Self {
            topic: topic.into(),
            payload: payload.into(),
            retain: false,
            qos: Qos::AtLeastOnce,
            token: None,
            correlation: None,
        }
    }

    /// The same, retained by the broker.
    pub fn retained(mut self) -> Self {
        self.retain = true;
        self
    }

    /// The same, with a token that its acknowledgement carries.
    pub fn with_token(mut self, token: u64) -> Self {
        self.token = Some(token);
        self
    }

    /// The same, as the answer to the request that `response` came with.
    pub fn with_correlation(mut self, correlation: Option<Bytes>) -> Self {
        self.correlation = correlation;
        self
    }
}

/// Where a request wants its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The topic to answer on.
    pub topic: String,
    /// To be sent back unchanged; at most [`MAX_CORRELATION`] bytes.
    pub correlation: Option<Bytes>,
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// Its payload, at most [`MAX_PACKET`] bytes.
    pub payload: Bytes,
    /// Whether the broker had kept it.
    pub retained: bool,
    /// Where an answer goes, if one is wanted.
    pub response: Option<Response>,
}

/// What the link tells the driver.
#[derive(Debug)]
pub enum LinkEvent {
    /// A connection stands and the subscriptions are on their way; the birth follows when the broker has taken the first.
    Up {
        /// The id of this connection, as in `device/{id}/status`; 16 hexadecimal digits.
        session: String,
        /// Whether the broker resumed an older session. The adapter starts clean, so it never does.
        session_present: bool,
        /// What the broker says of itself. One that lacks what the agent cannot do without is a [`LinkError::Unfit`] instead.
        broker: BrokerLimits,
    },
    /// The connection is lost, or could not be made. Everything outstanding counts as not sent.
    Down {
        /// Why, naming cause and cure.
        error: LinkError,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// What is known of this device's certificate has changed; before [`LinkEvent::Up`] where a connection shows it.
    Certificate {
        /// When the one that is used expires, Unix seconds.
        expires: Option<i64>,
        /// Why the one in the files is not used.
        refused: Option<LinkError>,
    },
    /// A message came.
    Message(Message),
    /// The broker has the publish with this token.
    Acked {
        /// The token of the publish.
        token: u64,
    },
    /// The broker refused the publish with this token; sending it again would be refused again.
    PublishRefused {
        /// The token of the publish.
        token: u64,
        /// Why.
        error: LinkError,
    },
    /// The broker took these subscriptions; the retained messages follow, or have come already.
    Subscribed {
        /// The topics, as they were asked for.
        topics: Vec<String>,
    },
    /// The broker refused a subscription. It is not asked for again until the next connection.
    SubscribeRefused {
        /// The topic.
        topic: String,
        /// Why.
        error: LinkError,
    },
}

/// The events of a link, in the order in which they happened. `recv` gives `None` after [`Link::close`], when the link
/// has said goodbye.
pub type LinkEvents = mpsc::Receiver<LinkEvent>;

/// What the agent asks of its link. No method waits.
pub trait Link: Send + Sync {
    /// Subscribes to topics, at QoS 1. A topic that is subscribed already is subscribed again: the broker then sends its
    /// retained message again. While the link is down the topics are only remembered.
    ///
    /// # Errors
    /// [`LinkRefusal::TooManyTopics`] where more than [`MAX_TOPICS`] would be subscribed; then none of these is.
    fn subscribe(&self, topics: Vec<String>) -> Result<(), LinkRefusal>;

    /// Unsubscribes from topics and forgets them. Messages that are on their way may still come.
    fn unsubscribe(&self, topics: &[String]);

    /// Hands a message over.
    ///
    /// # Errors
    /// [`LinkRefusal::Down`] while there is no connection, [`LinkRefusal::Busy`] while [`MAX_WAITING`] others wait,
    /// [`LinkRefusal::TooLong`] where it can never be sent.
    fn publish(&self, publish: Publish) -> Result<(), LinkRefusal>;

    /// How many more publishes fit now; 0 while the link is down.
    fn room(&self) -> usize;

    /// How far the task is that serves the connection. A link that is down and tries again gets on; one that does neither of what it has to
    /// within its own timeouts does not.
    fn mark(&self) -> Mark;

    /// Says goodbye: publishes the retained status `online: false`, disconnects, and ends the events.
    fn close(&self);
}
