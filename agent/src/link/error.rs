//! Why there is no connection, or why a message or subscription was not taken: in words that name cause and cure.

use std::path::PathBuf;

use thiserror::Error;

use super::{MAX_PACKET, MAX_TOPICS, MAX_WAITING};

/// What went wrong between agent and broker.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum LinkError {
    /// A file of the TLS set-up cannot be used.
    #[error("{what} {path}: {problem}; see [broker] in the configuration")]
    Credentials {
        /// What the file should hold.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The connection was ended to be made again with what was renewed.
    #[error("certificate, key or CA in [broker] were renewed; the connection is made again with them")]
    Renewed,
    /// The host is no name and no address.
    #[error("{0:?} is neither a host name nor an address; correct `host` in [broker]")]
    Host(String),
    /// Nobody listens there, or no way leads there.
    #[error(
        "no broker answers at {address} ({cause}); check `host` and `port` in [broker], the network and the broker"
    )]
    Absent {
        /// Host and port.
        address: String,
        /// What the system says.
        cause: String,
    },
    /// A connection was begun and not answered in time.
    #[error(
        "the broker at {address} did not answer within {seconds} s; check the network, and that it speaks MQTT 5 over TLS"
    )]
    Timeout {
        /// Host and port.
        address: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The broker's certificate is not signed by the configured authority.
    #[error(
        "the broker's certificate is not signed by the CA in {ca}; give the broker a certificate of that CA, or correct `ca` in [broker]"
    )]
    WrongAuthority {
        /// The configured CA file.
        ca: PathBuf,
    },
    /// The broker's certificate has expired, or is not valid yet.
    #[error("the broker's certificate is {problem} by this device's clock; renew it, or set the clock")]
    BrokerCertificateDate {
        /// `expired` or `not valid yet`.
        problem: &'static str,
    },
    /// The broker's certificate is for another name.
    #[error(
        "the broker's certificate is not for {host:?}; correct `host` in [broker], or give the broker a certificate with that name"
    )]
    BrokerName {
        /// The configured host.
        host: String,
    },
    /// Something else is wrong with the broker's certificate.
    #[error("the broker's certificate is not acceptable: {0}; give the broker another one")]
    BrokerCertificate(String),
    /// The broker does not accept this device's certificate.
    #[error(
        "the broker refused this device's certificate {cert} ({alert}); provision the device again, or check the broker's CA and clock"
    )]
    DeviceCertificate {
        /// The configured certificate file.
        cert: PathBuf,
        /// What the broker said.
        alert: String,
    },
    /// The two sides do not agree on TLS.
    #[error("TLS with {address} failed: {problem}; check that the port speaks TLS 1.2 or 1.3")]
    Tls {
        /// Host and port.
        address: String,
        /// What rustls says.
        problem: String,
    },
    /// The broker answered CONNECT with a refusal.
    #[error("the broker refused the connection: {reason}; {cure}")]
    Refused {
        /// The reason code in words.
        reason: String,
        /// What to do.
        cure: &'static str,
    },
    /// The broker took the connection, but lacks what the protocol stands on.
    #[error("the broker cannot carry a fleet: {lack}; {cure}")]
    Unfit {
        /// What it lacks.
        lack: &'static str,
        /// What to do.
        cure: &'static str,
    },
    /// The broker ended the connection with a reason.
    #[error("the broker ended the connection: {reason}; {cure}")]
    Disconnected {
        /// The reason code in words.
        reason: String,
        /// What to do.
        cure: &'static str,
    },
    /// The connection broke.
    #[error("the connection to {address} broke ({cause}); it is made again")]
    Broken {
        /// Host and port.
        address: String,
        /// What the system says.
        cause: String,
    },
    /// The broker answers no ping.
    #[error("the broker at {address} is silent; the connection is made again")]
    Silent {
        /// Host and port.
        address: String,
    },
    /// The connection stands, but what was sent is not acknowledged.
    #[error("{what} was not acknowledged for {seconds} s though the connection stands; the connection is made again")]
    NoProgress {
        /// What waits.
        what: &'static str,
        /// For how long.
        seconds: u64,
    },
    /// The broker takes no more for now; the message is not refused for good.
    #[error(
        "the broker's quota is exceeded (on {topic}); the connection is made again and the message sent again; raise the quota, or send less"
    )]
    Overloaded {
        /// The topic of the message that it did not take.
        topic: String,
    },
    /// A packet is longer than [`MAX_PACKET`], or than the broker allows.
    #[error(
        "a packet of {length} bytes was {direction}; at most {max} are allowed; shorten the message, or raise the broker's limit to {MAX_PACKET}"
    )]
    PacketTooLong {
        /// `sent` or `received`.
        direction: &'static str,
        /// Its length in bytes.
        length: u64,
        /// The most allowed, in bytes.
        max: u64,
    },
    /// The peer does not keep to MQTT 5.
    #[error("the peer at {address} does not keep to MQTT 5: {problem}; check that it is a broker of MQTT 5")]
    Protocol {
        /// Host and port.
        address: String,
        /// What it did.
        problem: String,
    },
    /// The broker refused a publish.
    #[error("the broker refused to publish on {topic}: {reason}; check its access control list")]
    PublishRefused {
        /// The topic.
        topic: String,
        /// The reason code in words.
        reason: String,
    },
    /// The broker refused a subscription.
    #[error("the broker refused the subscription to {topic}: {reason}; check its access control list")]
    SubscribeRefused {
        /// The topic.
        topic: String,
        /// The reason code in words.
        reason: String,
    },
}

/// Why a call was refused at once.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LinkRefusal {
    /// There is no connection.
    #[error("the link is down; publish again when it is up")]
    Down,
    /// Too much waits.
    #[error("{MAX_WAITING} messages wait to be published; publish again after the next acknowledgement")]
    Busy,
    /// It would be refused by every broker.
    #[error("a message of {length} bytes is not published; at most {MAX_PACKET} are, topic and properties included")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Too many subscriptions.
    #[error("more than {MAX_TOPICS} topics would be subscribed; unsubscribe from some first")]
    TooManyTopics,
}
