//! The client's side of a connection: it is polled until its end, and what comes is handed on.
//!
//! Invariant: while the other side is busy nothing more is read, so that TCP holds the broker back.

use std::time::Duration;

use bytes::Bytes;
use rumqttc::{ConnectionError, Event, EventLoop, Packet};
use tokio::sync::mpsc;

use super::{BrokerLimits, MAX_CORRELATION, Message, Response, SLACK};
use crate::health::progress::Pulse;

/// A payload that is shorter, in bytes, is copied, so that it does not hold a packet in memory that is long for other reasons.
const SHORT: usize = 4096;
/// Keep-alives in which a connection that stands may be quiet: after two it is given up.
const QUIET: u32 = 3;

/// What the client's side hands on.
pub(super) enum Came {
    /// The broker took the connection.
    Up { session_present: bool, limits: BrokerLimits },
    /// A message.
    Message(Message),
}

/// Polls the client until its end.
///
/// Something comes in every keep-alive, if only the answer to a ping: each is a step in `pulse`.
pub(super) async fn poll(
    mut events: EventLoop,
    came: mpsc::Sender<Came>,
    keep_alive: Duration,
    pulse: &Pulse,
) -> ConnectionError {
    loop {
        let polled = events.poll().await;
        pulse.step(QUIET * keep_alive + SLACK);
        let next = match polled {
            Err(error) => return error,
            Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                // A broker may ask for a longer keep-alive; we may ping more often, and notice sooner.
                if events.options.keep_alive() > keep_alive {
                    events.options.set_keep_alive(u16::try_from(keep_alive.as_secs()).unwrap_or(30));
                }
                let limits = BrokerLimits::read(answer.properties.as_ref());
                Came::Up { session_present: answer.session_present, limits }
            }
            Ok(Event::Incoming(Packet::Publish(publish))) => match message(publish) {
                Some(message) => Came::Message(message),
                None => continue,
            },
            Ok(_) => continue,
        };
        if came.send(next).await.is_err() {
            return ConnectionError::RequestsDone;
        }
    }
}

/// `None` where the topic is not text, which MQTT forbids.
fn message(publish: rumqttc::Publish) -> Option<Message> {
    let topic = String::from_utf8(publish.topic.to_vec()).ok()?;
    let response = publish.properties.and_then(|properties| {
        let correlation = properties.correlation_data;
        if correlation.as_ref().is_some_and(|data| data.len() > MAX_CORRELATION) {
            return None;
        }
        // A copy: what is a part of the packet would hold the whole of it in memory until the answer is acknowledged.
        let correlation = correlation.map(|data| Bytes::copy_from_slice(&data));
        Some(Response { topic: properties.response_topic?, correlation })
    });
    let payload =
        if publish.payload.len() < SHORT { Bytes::copy_from_slice(&publish.payload) } else { publish.payload };
    Some(Message { topic, payload, retained: publish.retain, response })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rumqttc::{PublishProperties, QoS};

    use super::*;

    fn request(correlation: Bytes) -> Option<Response> {
        let properties = PublishProperties {
            response_topic: Some("answers".to_owned()),
            correlation_data: Some(correlation),
            ..PublishProperties::default()
        };
        message(rumqttc::Publish::new("cmd/ping", QoS::AtMostOnce, "{}", Some(properties))).unwrap().response
    }

    #[test]
    fn correlation_data_holds_no_packet_in_memory() {
        let packet = Bytes::from(vec![7; 100_000]);
        let response = request(packet.slice(10..20)).unwrap();
        assert_eq!(response.correlation.as_deref(), Some([7; 10].as_slice()));
        assert!(packet.try_into_mut().is_ok(), "nobody else holds the packet");
    }

    #[test]
    fn correlation_data_that_is_too_long_is_not_answered() {
        assert!(request(Bytes::from(vec![7; MAX_CORRELATION])).is_some());
        assert_eq!(request(Bytes::from(vec![7; MAX_CORRELATION + 1])), None);
    }
}
