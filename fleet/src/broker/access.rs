//! Who may do what at the embedded broker.
//!
//! Purpose: the access list of protocol.md. A device writes only under its own `device/{id}/` and reads `repo/`,
//! `blob/`, `chunk/` and its own `cmd/`; the operator may all.
//!
//! Invariants: the identity comes from the verified certificate of the connection, so that user name and client id
//! cannot change it. A device's client id is its common name: with another it could take over a neighbour's session.
//! What is not allowed is refused, shared subscriptions and `$` topics of devices included.

use std::{future::Future, net::SocketAddr, pin::Pin};

use mqtt5::{
    broker::{AuthProvider, AuthResult},
    packet::connect::ConnectPacket,
    protocol::v5::reason_codes::ReasonCode,
};
use sanderling_protocol::topics::{DeviceId, Topics};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// The operator: may all.
    Operator,
    /// A device, confined to its own subtree.
    Device(DeviceId),
}

impl Identity {
    /// The identity in a verified certificate: its one common name. `None` where there is none, or several, or it is
    /// neither the operator's nor a device id.
    pub(super) fn from_certificate(der: &[u8], operator: &str) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut names = certificate.subject().iter_common_name();
        let name = names.next()?.as_str().ok()?;
        if names.next().is_some() {
            return None;
        }
        if name == operator { Some(Self::Operator) } else { name.parse().ok().map(Self::Device) }
    }
}

/// The access list of one connection.
pub(super) struct Access {
    identity: Identity,
    readable: Vec<String>,
    writable: Vec<String>,
}

impl Access {
    pub(super) fn new(identity: Identity, topics: &Topics) -> Self {
        let prefix = topics.prefix();
        let (readable, writable) = match &identity {
            Identity::Operator => (Vec::new(), Vec::new()),
            Identity::Device(id) => (
                vec![
                    format!("{prefix}/repo/"),
                    format!("{prefix}/blob/"),
                    format!("{prefix}/chunk/"),
                    format!("{prefix}/device/{id}/cmd/"),
                ],
                vec![format!("{prefix}/device/{id}/")],
            ),
        };
        Self { identity, readable, writable }
    }

    fn may_connect_as(&self, client_id: &str) -> bool {
        match &self.identity {
            Identity::Operator => true,
            Identity::Device(id) => id.as_str() == client_id,
        }
    }

    fn may_publish(&self, topic: &str) -> bool {
        self.identity == Identity::Operator || under(&self.writable, topic)
    }

    /// A filter is readable where all it can match is: wildcards follow a literal, readable beginning.
    fn may_subscribe(&self, filter: &str) -> bool {
        self.identity == Identity::Operator || under(&self.readable, filter)
    }

    fn user(&self) -> &str {
        match &self.identity {
            Identity::Operator => "operator",
            Identity::Device(id) => id.as_str(),
        }
    }
}

fn under(beginnings: &[String], topic: &str) -> bool {
    beginnings.iter().any(|beginning| topic.len() > beginning.len() && topic.starts_with(beginning.as_str()))
}

impl AuthProvider for Access {
    fn authenticate<'a>(
        &'a self,
        connect: &'a ConnectPacket,
        _client: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = mqtt5::Result<AuthResult>> + Send + 'a>> {
        let result = if self.may_connect_as(&connect.client_id) {
            AuthResult::success_with_user(self.user())
        } else {
            AuthResult::fail_with_reason(
                ReasonCode::ClientIdentifierNotValid,
                "the client id is not the certificate's common name",
            )
        };
        Box::pin(std::future::ready(Ok(result)))
    }

    fn authorize_publish<'a>(
        &'a self,
        _client_id: &str,
        _user: Option<&'a str>,
        topic: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(std::future::ready(self.may_publish(topic)))
    }

    fn authorize_subscribe<'a>(
        &'a self,
        _client_id: &str,
        _user: Option<&'a str>,
        filter: &'a str,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
        Box::pin(std::future::ready(self.may_subscribe(filter)))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn device(id: &str) -> Access {
        Access::new(Identity::Device(id.parse().unwrap()), &Topics::new("sanderling/v1").unwrap())
    }

    #[test]
    fn a_device_writes_only_under_its_own_subtree() {
        let access = device("gw-1");
        assert!(access.may_publish("sanderling/v1/device/gw-1/status"));
        assert!(access.may_publish("sanderling/v1/device/gw-1/data/scratch/defects"));
        assert!(access.may_publish("sanderling/v1/device/gw-1/batch/scratch/defects"));
        for topic in [
            "sanderling/v1/device/gw-2/status",
            "sanderling/v1/device/gw-11/status",
            "sanderling/v1/device/gw-1",
            "sanderling/v1/device/gw-1/",
            "sanderling/v1/repo/timestamp",
            "sanderling/v1/chunk/00",
            "other/sanderling/v1/device/gw-1/status",
            "$SYS/broker",
        ] {
            assert!(!access.may_publish(topic), "{topic}");
        }
    }

    #[test]
    fn a_device_reads_what_is_published_for_all_and_its_own_commands() {
        let access = device("gw-1");
        for filter in ["repo/timestamp", "repo/#", "blob/+", "chunk/00", "device/gw-1/cmd/+"] {
            assert!(access.may_subscribe(&format!("sanderling/v1/{filter}")), "{filter}");
        }
        for filter in [
            "#",
            "+/v1/repo/#",
            "sanderling/v1/#",
            "sanderling/v1/+/timestamp",
            "sanderling/v1/device/+/cmd/+",
            "sanderling/v1/device/gw-2/cmd/ping",
            "sanderling/v1/device/gw-1/#",
            "$share/all/sanderling/v1/repo/#",
            "$SYS/#",
        ] {
            assert!(!access.may_subscribe(filter), "{filter}");
        }
    }

    #[test]
    fn a_device_connects_under_its_own_name_only() {
        let access = device("gw-1");
        assert!(access.may_connect_as("gw-1"));
        assert!(!access.may_connect_as("gw-2"));
        assert!(!access.may_connect_as(""));
    }

    #[test]
    fn the_operator_may_all() {
        let access = Access::new(Identity::Operator, &Topics::new("sanderling/v1").unwrap());
        assert!(access.may_connect_as("watch-7"));
        assert!(access.may_publish("sanderling/v1/repo/timestamp"));
        assert!(access.may_subscribe("#"));
    }

    #[test]
    fn bytes_that_are_no_certificate_have_no_identity() {
        assert_eq!(Identity::from_certificate(b"\x30\x03\x02\x01", "operator"), None);
        assert_eq!(Identity::from_certificate(b"", "operator"), None);
    }
}
