//! From what the MQTT client reports to a [`LinkError`] that names cause and cure.

use std::{error::Error, io};

use rumqttc::{
    ConnectReturnCode, ConnectionError, DisconnectReasonCode, PubAckReason, PublishNoticeError, StateError,
    SubscribeReasonCode, mqttbytes,
};
use rustls::CertificateError;

use super::{LinkError, MAX_PACKET};
use crate::{reason, settings::BrokerSettings};

/// Host and port, as people write them.
pub(super) fn address(broker: &BrokerSettings) -> String {
    if broker.host.contains(':') {
        format!("[{}]:{}", broker.host, broker.port)
    } else {
        format!("{}:{}", broker.host, broker.port)
    }
}

/// Why a connection could not be made, or was lost once it `stood`.
pub(super) fn lost(error: &ConnectionError, stood: bool, broker: &BrokerSettings) -> LinkError {
    if let Some(error) = tls_error(error) {
        return tls(error, broker);
    }
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code),
        ConnectionError::Timeout(_) => {
            LinkError::Timeout { address: address(broker), seconds: broker.connect_timeout.as_secs() }
        }
        ConnectionError::Tls(rumqttc::TlsError::DNSName(_)) => LinkError::Host(broker.host.clone()),
        ConnectionError::MqttState(error) => state(error, stood, broker),
        ConnectionError::Io(error) => io(error, stood, broker),
        ConnectionError::Tls(rumqttc::TlsError::Io(error)) => {
            LinkError::Tls { address: address(broker), problem: error.to_string() }
        }
        other => LinkError::Protocol { address: address(broker), problem: other.to_string() },
    }
}

fn io(error: &io::Error, stood: bool, broker: &BrokerSettings) -> LinkError {
    let (address, cause) = (address(broker), error.to_string());
    if stood { LinkError::Broken { address, cause } } else { LinkError::Absent { address, cause } }
}

fn state(error: &StateError, stood: bool, broker: &BrokerSettings) -> LinkError {
    match error {
        StateError::Io(error) | StateError::Deserialization(mqttbytes::Error::Io(error)) => {
            LinkError::Broken { address: address(broker), cause: error.to_string() }
        }
        StateError::ConnectionAborted => {
            let cause = if stood {
                "the broker closed it, as it does when another device comes with the same id"
            } else {
                "the broker closed it before it answered CONNECT"
            };
            LinkError::Broken { address: address(broker), cause: cause.to_owned() }
        }
        StateError::AwaitPingResp => LinkError::Silent { address: address(broker) },
        StateError::ConnFail { reason } => refused(*reason),
        StateError::ServerDisconnect { reason_code, reason_string } => {
            disconnected(*reason_code, reason_string.as_deref())
        }
        StateError::IncomingPacketTooLarge { pkt_size, max } => {
            received_too_long(*pkt_size, u64::try_from(*max).unwrap_or(u64::from(MAX_PACKET)))
        }
        StateError::Deserialization(mqttbytes::Error::PayloadSizeLimitExceeded { pkt_size, max }) => {
            received_too_long(*pkt_size, u64::from(*max))
        }
        StateError::OutgoingPacketTooLarge { pkt_size, max }
        | StateError::Deserialization(mqttbytes::Error::OutgoingPacketTooLarge { pkt_size, max }) => {
            LinkError::PacketTooLong { direction: "sent", length: u64::from(*pkt_size), max: u64::from(*max) }
        }
        other => LinkError::Protocol { address: address(broker), problem: other.to_string() },
    }
}

fn received_too_long(length: usize, max: u64) -> LinkError {
    LinkError::PacketTooLong { direction: "received", length: u64::try_from(length).unwrap_or(u64::MAX), max }
}

/// The TLS error at the bottom of an error, if there is one.
fn tls_error(error: &ConnectionError) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = carried(error).or_else(|| error.source());
    }
    None
}

/// What an error carries and does not name as its source.
fn carried<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    if let Some(StateError::Deserialization(carried)) = error.downcast_ref() {
        return Some(carried);
    }
    let carried = error.downcast_ref::<io::Error>()?.get_ref()?;
    Some(carried)
}

fn tls(error: &rustls::Error, broker: &BrokerSettings) -> LinkError {
    match error {
        rustls::Error::InvalidCertificate(error) => broker_certificate(error, broker),
        // After the handshake the only thing that a broker can dislike is the certificate that it was shown.
        rustls::Error::AlertReceived(alert) if is_about_certificates(*alert) => {
            LinkError::DeviceCertificate { cert: broker.cert.clone(), alert: format!("{alert:?}") }
        }
        other => LinkError::Tls { address: address(broker), problem: other.to_string() },
    }
}

fn is_about_certificates(alert: rustls::AlertDescription) -> bool {
    use rustls::AlertDescription as Alert;
    matches!(
        alert,
        Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::DecryptError
            | Alert::CertificateRequired
    )
}

fn broker_certificate(error: &CertificateError, broker: &BrokerSettings) -> LinkError {
    match error {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            LinkError::BrokerCertificateDate { problem: "expired" }
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            LinkError::BrokerCertificateDate { problem: "not valid yet" }
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            LinkError::BrokerName { host: broker.host.clone() }
        }
        // A CA of the same name with another key gives a bad signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            LinkError::WrongAuthority { ca: broker.ca.clone() }
        }
        other => LinkError::BrokerCertificate(format!("{other:?}")),
    }
}

fn refused(code: ConnectReturnCode) -> LinkError {
    use ConnectReturnCode as Code;
    let cure = match code {
        Code::NotAuthorized | Code::BadUserNamePassword | Code::Banned | Code::BadAuthenticationMethod => {
            "provision the device with this broker, or check its access control"
        }
        Code::BadClientId | Code::ClientIdentifierNotValid => "check that the broker takes the device id as client id",
        Code::RefusedProtocolVersion | Code::UnsupportedProtocolVersion => "use a broker that speaks MQTT 5",
        Code::UseAnotherServer | Code::ServerMoved => "correct `host` in [broker]",
        Code::RetainNotSupported | Code::QoSNotSupported => {
            "turn on retained messages and QoS 1 in the broker (Mosquitto: `retain_available true`, `max_qos 1`), or use another"
        }
        Code::PacketTooLarge => "raise the broker's packet limit to 132 KiB",
        _ => "see the broker's log; it is tried again",
    };
    let reason = match code {
        Code::QoSNotSupported => "QoS not supported".to_owned(),
        other => reason::in_words(&other),
    };
    LinkError::Refused { reason, cure }
}

fn disconnected(code: DisconnectReasonCode, text: Option<&str>) -> LinkError {
    use DisconnectReasonCode as Code;
    let cure = match code {
        Code::SessionTakenOver => "look for another device with the same id",
        Code::NotAuthorized => "check the broker's access control",
        Code::PacketTooLarge => "raise the broker's packet limit to 132 KiB",
        Code::UseAnotherServer | Code::ServerMoved => "correct `host` in [broker]",
        _ => "it is made again",
    };
    let mut reason = reason::in_words(&code);
    if let Some(text) = text {
        reason = format!("{reason} ({})", text.chars().take(128).collect::<String>());
    }
    LinkError::Disconnected { reason, cure }
}

/// Why a publish was refused; `None` where it only was not answered, and the end of the connection tells why.
pub(super) fn publish_refused(topic: &str, error: &PublishNoticeError) -> Option<LinkError> {
    let reason = match error {
        PublishNoticeError::V5PubAck(reason) => match reason {
            PubAckReason::QuotaExceeded => return Some(LinkError::Overloaded { topic: topic.to_owned() }),
            PubAckReason::NotAuthorized => "not authorized".to_owned(),
            other => reason::in_words(&other),
        },
        PublishNoticeError::RetainNotSupported => "the broker keeps no retained messages".to_owned(),
        _ => return None,
    };
    Some(LinkError::PublishRefused { topic: topic.to_owned(), reason })
}

/// Why a subscription was refused; `None` where it was not.
pub(super) fn subscribe_refused(topic: &str, code: SubscribeReasonCode) -> Option<LinkError> {
    match code {
        SubscribeReasonCode::Success(_) => None,
        other => Some(LinkError::SubscribeRefused { topic: topic.to_owned(), reason: reason::in_words(&other) }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use sanderling_protocol::topics::Topics;

    use super::*;

    fn broker() -> BrokerSettings {
        BrokerSettings {
            host: "broker.example".to_owned(),
            port: 8883,
            ca: "ca.pem".into(),
            cert: "gw.pem".into(),
            key: "gw.key".into(),
            topics: Topics::default(),
            keep_alive: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(15),
            backoff_min: Duration::from_secs(1),
            backoff_max: Duration::from_secs(60),
            reload: Duration::from_secs(5),
        }
    }

    fn handshake(error: rustls::Error) -> ConnectionError {
        ConnectionError::Tls(rumqttc::TlsError::Io(io::Error::new(io::ErrorKind::InvalidData, error)))
    }

    fn certificate(error: CertificateError) -> LinkError {
        lost(&handshake(rustls::Error::InvalidCertificate(error)), false, &broker())
    }

    #[test]
    fn tells_apart_what_is_wrong_with_certificates() {
        assert_eq!(certificate(CertificateError::UnknownIssuer), LinkError::WrongAuthority { ca: "ca.pem".into() });
        assert_eq!(certificate(CertificateError::Expired), LinkError::BrokerCertificateDate { problem: "expired" });
        assert_eq!(
            certificate(CertificateError::NotValidForName),
            LinkError::BrokerName { host: "broker.example".to_owned() }
        );
        let alert = rustls::Error::AlertReceived(rustls::AlertDescription::CertificateExpired);
        let late = mqttbytes::Error::Io(io::Error::new(io::ErrorKind::InvalidData, alert));
        let late = ConnectionError::MqttState(StateError::Deserialization(late));
        let error = lost(&late, false, &broker());
        assert!(matches!(error, LinkError::DeviceCertificate { .. }), "{error}");
    }

    #[test]
    fn tells_an_absent_broker_from_a_broken_connection() {
        let gone = || ConnectionError::Io(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(matches!(lost(&gone(), false, &broker()), LinkError::Absent { .. }));
        assert!(matches!(lost(&gone(), true, &broker()), LinkError::Broken { .. }));
    }

    #[test]
    fn every_message_names_a_cure() {
        let refused = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        let text = lost(&refused, false, &broker()).to_string();
        assert!(text.contains("not authorized") && text.contains("provision"), "{text}");
        let taken =
            StateError::ServerDisconnect { reason_code: DisconnectReasonCode::SessionTakenOver, reason_string: None };
        let text = lost(&ConnectionError::MqttState(taken), true, &broker()).to_string();
        assert!(text.contains("session taken over") && text.contains("same id"), "{text}");
    }

    #[test]
    fn a_publish_that_was_not_answered_was_not_refused() {
        assert_eq!(publish_refused("t", &PublishNoticeError::Recv), None);
        let refused = |reason| publish_refused("t", &PublishNoticeError::V5PubAck(reason));
        assert!(matches!(refused(PubAckReason::NotAuthorized), Some(LinkError::PublishRefused { .. })));
        assert_eq!(refused(PubAckReason::QuotaExceeded), Some(LinkError::Overloaded { topic: "t".to_owned() }));
        assert_eq!(subscribe_refused("t", SubscribeReasonCode::Success(rumqttc::QoS::AtLeastOnce)), None);
        assert!(subscribe_refused("t", SubscribeReasonCode::NotAuthorized).is_some());
    }
}
