//! The client's side of a connection: it is polled until its end, and what comes is handed on.
//!
//! Invariant: while the other side is busy nothing more is read, so that TCP holds the broker back.

use std::time::Duration;

use rumqttc::{ConnectionError, Event, EventLoop, Packet};
use tokio::sync::mpsc;

use super::{BrokerLimits, Message, Response};

/// What the client's side hands on.
pub(super) enum Came {
    /// The broker took the connection.
    Up { session_present: bool, limits: BrokerLimits },
    /// A message.
    Message(Message),
}

/// Polls the client until its end.
pub(super) async fn poll(mut events: EventLoop, came: mpsc::Sender<Came>, keep_alive: Duration) -> ConnectionError {
    loop {
        let next = match events.poll().await {
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
        Some(Response { topic: properties.response_topic?, correlation: properties.correlation_data })
    });
    Some(Message { topic, payload: publish.payload, retained: publish.retain, response })
}
