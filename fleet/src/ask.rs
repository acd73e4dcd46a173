//! Asking one device something, and waiting for its answer.
//!
//! Failure modes: a device that is not connected is told from one that does not answer, where the broker says that nobody listens.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rumqttc::{Event, Incoming, PubAckReason, Publish, PublishOptions, PublishProperties, QoS, SubscribeReasonCode};
use sanderling_protocol::{
    command::Answer,
    topics::{DeviceId, Topics},
};

use crate::connection::Connection;

/// A device that is connected answers within this time.
const ANSWER: Duration = Duration::from_secs(15);

/// Sends a command, and gives the body of its answer; what comes on other topics meanwhile is given to `aside`.
pub(crate) async fn ask(
    connection: &mut Connection,
    topics: &Topics,
    device: &DeviceId,
    command: &str,
    request: Vec<u8>,
    aside: impl FnMut(&Publish),
) -> Result<Option<serde_json::Value>> {
    let answered = exchange(connection, topics, device, command, request, aside);
    let answer = tokio::time::timeout(ANSWER, answered)
        .await
        .with_context(|| format!("{device} did not answer within {} s", ANSWER.as_secs()))??;
    if answer.ok {
        return Ok(answer.body);
    }
    bail!("{device} refused: {}", answer.error.as_deref().unwrap_or("it does not say why"))
}

async fn exchange(
    Connection { client, events }: &mut Connection,
    topics: &Topics,
    device: &DeviceId,
    command: &str,
    request: Vec<u8>,
    mut aside: impl FnMut(&Publish),
) -> Result<Answer> {
    // Several operators may ask at once: each has a topic of its own.
    let own = format!("{}-{}", std::process::id(), crate::clock::unix_seconds());
    let response = topics.device(device, &format!("answer/{own}"));
    client.subscribe(response.clone(), QoS::AtLeastOnce).await?;
    let mut request = Some(request);
    loop {
        let event = events.poll().await.context("the broker was lost before the answer came")?;
        match event {
            Event::Incoming(Incoming::SubAck(ack)) => {
                if !ack.return_codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
                    bail!("the broker refuses to read {response}: {:?}; check its access list", ack.return_codes);
                }
                let Some(request) = request.take() else { continue };
                let properties = PublishProperties {
                    response_topic: Some(response.clone()),
                    correlation_data: Some(own.clone().into()),
                    ..PublishProperties::default()
                };
                let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
                client.publish(topics.device(device, &format!("cmd/{command}")), request, options).await?;
            }
            Event::Incoming(Incoming::PubAck(ack)) => match ack.reason {
                PubAckReason::Success => {}
                PubAckReason::NoMatchingSubscribers => bail!("{device} is not connected to the broker"),
                refused => bail!("the broker refuses the command: {refused:?}; check its access list"),
            },
            Event::Incoming(Incoming::Publish(message)) if message.topic == response.as_bytes() => {
                return serde_json::from_slice(&message.payload)
                    .with_context(|| format!("{device} gave no answer that is one"));
            }
            Event::Incoming(Incoming::Publish(message)) => aside(&message),
            _ => {}
        }
    }
}
