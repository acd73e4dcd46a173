//! What a broker says of itself in CONNACK, and whether that is enough.
//!
//! Invariant: what the broker leaves out has the value that MQTT 5 gives it (3.2.2.3).

use rumqttc::ConnAckProperties;

use super::LinkError;

/// What a broker said of itself when it took the connection (MQTT 5, 3.2.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BrokerLimits {
    /// So many QoS 1 messages it takes before it has acknowledged the first of them (3.2.2.3.3). Brokers announce here the setting
    /// by which they bound what they send to one client, so it is a hint for that direction too.
    pub receive_maximum: u16,
    /// The longest packet that it takes, in bytes (3.2.2.3.6); `u32::MAX` where it sets no limit.
    pub maximum_packet: u32,
    /// The highest quality of service that it takes: 0, 1 or 2 (3.2.2.3.4).
    pub maximum_qos: u8,
    /// Whether it keeps retained messages (3.2.2.3.5).
    pub retain_available: bool,
    /// Whether it takes subscriptions with wildcards (3.2.2.3.11).
    pub wildcards_available: bool,
    /// The keep-alive that it asks for in place of ours, in seconds (3.2.2.3.14); 0 turns pings off.
    pub keep_alive: Option<u16>,
}

impl Default for BrokerLimits {
    /// What holds for a broker that says nothing.
    fn default() -> Self {
        Self {
            receive_maximum: u16::MAX,
            maximum_packet: u32::MAX,
            maximum_qos: 2,
            retain_available: true,
            wildcards_available: true,
            keep_alive: None,
        }
    }
}

impl BrokerLimits {
    pub(super) fn read(properties: Option<&ConnAckProperties>) -> Self {
        let Some(said) = properties else { return Self::default() };
        Self {
            receive_maximum: said.receive_max.unwrap_or(u16::MAX),
            maximum_packet: said.max_packet_size.unwrap_or(u32::MAX),
            maximum_qos: said.max_qos.unwrap_or(2).min(2),
            retain_available: said.retain_available != Some(0),
            wildcards_available: said.wildcard_subscription_available != Some(0),
            keep_alive: said.server_keep_alive,
        }
    }

    /// What the broker lacks without which nothing works: a repository is retained messages, and a record is deleted at its
    /// acknowledgement.
    pub(super) fn lack(&self) -> Option<LinkError> {
        if !self.retain_available {
            return Some(LinkError::Unfit {
                lack: "it keeps no retained messages, and the repository is retained messages",
                cure: "turn them on in the broker (Mosquitto: `retain_available true`), or use another broker",
            });
        }
        (self.maximum_qos == 0).then_some(LinkError::Unfit {
            lack: "it takes messages of QoS 0 only, and what it does not acknowledge may be lost",
            cure: "allow QoS 1 in the broker (Mosquitto: `max_qos 1`), or use another broker",
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use bytes::{BufMut, Bytes, BytesMut};

    use super::*;

    /// Properties as they stand in a CONNACK.
    fn said(properties: &[u8]) -> BrokerLimits {
        let mut bytes = BytesMut::new();
        bytes.put_u8(u8::try_from(properties.len()).unwrap());
        bytes.put_slice(properties);
        let read = ConnAckProperties::read(&mut Bytes::from(bytes)).unwrap();
        BrokerLimits::read(read.as_ref())
    }

    #[test]
    fn what_is_left_out_is_as_the_specification_says() {
        assert_eq!(said(&[]), BrokerLimits::default());
        assert_eq!(BrokerLimits::read(None), BrokerLimits::default());
        assert_eq!(BrokerLimits::default().lack(), None);
    }

    #[test]
    fn what_is_said_is_kept() {
        let limits = said(&[0x21, 0, 20, 0x27, 0, 1, 0, 0, 0x24, 1, 0x25, 1, 0x28, 0, 0x13, 0, 7]);
        let wanted = BrokerLimits {
            receive_maximum: 20,
            maximum_packet: 65_536,
            maximum_qos: 1,
            retain_available: true,
            wildcards_available: false,
            keep_alive: Some(7),
        };
        assert_eq!((limits, limits.lack()), (wanted, None));
    }

    #[test]
    fn a_broker_without_retained_messages_or_qos_1_does_not_do() {
        let told = |properties: &[u8]| said(properties).lack().unwrap().to_string();
        let retain = told(&[0x25, 0]);
        assert!(retain.contains("no retained messages") && retain.contains("retain_available true"), "{retain}");
        let qos = told(&[0x24, 0]);
        assert!(qos.contains("QoS 0 only") && qos.contains("max_qos 1"), "{qos}");
    }
}
