//! A line to one device, on which it is asked again and again.
//!
//! Failure modes: a device that is not connected, or whose broker does not let the operator read its answers, is waited for in vain; the
//! error says both.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rumqttc::{
    AsyncClient, Event, EventLoop, Incoming, PublishOptions, PublishProperties, QoS, SubscribeFilter,
    SubscribeReasonCode,
};
use sanderling_protocol::{
    command::Answer,
    topics::{DeviceId, Topics},
};
use serde::de::DeserializeOwned;

use crate::connection::Connection;

const PATIENCE: Duration = Duration::from_secs(15);
/// A command that came too soon is sent again so often, a second apart.
const AGAIN: u32 = 30;

/// A line to one device.
pub(crate) struct Line {
    client: AsyncClient,
    events: EventLoop,
    device: DeviceId,
    commands: String,
    response: String,
    asked: u64,
}

impl Line {
    /// Listens for answers of a device.
    pub(crate) async fn open(connection: Connection, topics: &Topics, device: &DeviceId) -> Result<Self> {
        let Connection { client, mut events } = connection;
        // A name of our own, so that several tools may ask one device at once.
        let response = topics.device(device, &format!("answer/tool-{}", std::process::id()));
        client.subscribe_many([SubscribeFilter::new(response.clone(), QoS::AtLeastOnce)]).await?;
        let granted = async {
            loop {
                match events.poll().await.context("the broker was lost")? {
                    Event::Incoming(Incoming::SubAck(answer)) => return Ok::<_, anyhow::Error>(answer.return_codes),
                    _ => continue,
                }
            }
        };
        let codes = tokio::time::timeout(PATIENCE, granted).await.context("the broker does not answer")??;
        if !codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
            bail!("the broker refuses to read {response}; check its access list for the operator");
        }
        let commands = topics.device(device, "cmd");
        Ok(Self { client, events, device: device.clone(), commands, response, asked: 0 })
    }

    /// Asks, and waits for the body of the answer. A device takes a few commands a second; more of them wait here.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, command: &str, request: &serde_json::Value) -> Result<T> {
        let mut answer = self.ask_once(command, request).await?;
        for _ in 0..AGAIN {
            if answer.error.as_ref().is_none_or(|error| !error.starts_with("too many commands")) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer = self.ask_once(command, request).await?;
        }
        if !answer.ok {
            bail!("{}: {}", self.device, answer.error.as_deref().unwrap_or("no reason was given"));
        }
        serde_json::from_value(answer.body.unwrap_or_default())
            .with_context(|| format!("{} answered what this version of the tool does not understand", self.device))
    }

    async fn ask_once(&mut self, command: &str, request: &serde_json::Value) -> Result<Answer> {
        self.asked += 1;
        let correlation = format!("{command} {}", self.asked).into_bytes();
        let properties = PublishProperties {
            response_topic: Some(self.response.clone()),
            correlation_data: Some(correlation.clone().into()),
            ..PublishProperties::default()
        };
        let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
        let payload = if request.is_null() { Vec::new() } else { serde_json::to_vec(request)? };
        self.client.publish(format!("{}/{command}", self.commands), payload, options).await?;
        tokio::time::timeout(PATIENCE, self.heard(&correlation)).await.with_context(|| {
            format!(
                "{} did not answer within {} s; see whether it is online (sanderling watch --device {})",
                self.device,
                PATIENCE.as_secs(),
                self.device
            )
        })?
    }

    async fn heard(&mut self, correlation: &[u8]) -> Result<Answer> {
        loop {
            let event = self.events.poll().await.context("the broker was lost; ask again")?;
            let Event::Incoming(Incoming::Publish(message)) = event else { continue };
            let ours = message.properties.as_ref().and_then(|properties| properties.correlation_data.as_deref());
            if ours == Some(correlation) {
                return serde_json::from_slice(&message.payload)
                    .with_context(|| format!("{} answered what is no answer", self.device));
            }
        }
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        if self.client.disconnect().await.is_ok() {
            // Without it the broker would not see the goodbye; its error says only that the connection is closed.
            tokio::time::timeout(Duration::from_secs(2), self.events.poll()).await.ok();
        }
    }
}
