//! A line to one device, on which it is asked again and again.
//!
//! Failure modes: a device that is not connected is told from one that does not answer, where the broker says that nobody listens; a broker that
//! does not let the operator read answers is named.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use rumqttc::{Event, Incoming, PubAckReason, Publish, PublishOptions, PublishProperties, QoS, SubscribeReasonCode};
use sanderling_protocol::{
    command::Answer,
    topics::{DeviceId, Topics},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{clock, connection::Connection, say::plain};

/// A device that is connected answers within this time.
const PATIENCE: Duration = Duration::from_secs(15);
/// A command that came too soon is sent again so often, a second apart.
const AGAIN: u32 = 30;

/// A line to one device.
pub(crate) struct Line {
    connection: Connection,
    device: DeviceId,
    commands: String,
    response: String,
    asked: u64,
}

impl Line {
    /// Listens for answers of a device.
    pub(crate) async fn open(connection: Connection, topics: &Topics, device: &DeviceId) -> Result<Self> {
        // A name of our own, so that several tools may ask one device at once.
        let own = format!("answer/{}-{}", std::process::id(), clock::unix_seconds());
        let (response, commands) = (topics.device(device, &own), topics.device(device, "cmd"));
        let mut line = Self { connection, device: device.clone(), commands, response, asked: 0 };
        line.listen(line.response.clone(), QoS::AtLeastOnce).await?;
        Ok(line)
    }

    /// Hears what is published on a topic, too.
    pub(crate) async fn listen(&mut self, topic: String, qos: QoS) -> Result<()> {
        self.connection.client.subscribe(topic.clone(), qos).await?;
        let granted = async {
            loop {
                if let Event::Incoming(Incoming::SubAck(answer)) = self.event().await? {
                    return Ok::<_, anyhow::Error>(answer.return_codes);
                }
            }
        };
        let codes = tokio::time::timeout(PATIENCE, granted).await.context("the broker does not answer")??;
        if !codes.iter().all(|code| matches!(code, SubscribeReasonCode::Success(_))) {
            bail!("the broker refuses to read {topic}: {codes:?}; check its access list for the operator");
        }
        Ok(())
    }

    /// Asks, and waits for the body of the answer. A device takes a few commands a second; more of them wait here.
    pub(crate) async fn ask<T: DeserializeOwned>(&mut self, command: &str, request: &impl Serialize) -> Result<T> {
        self.ask_beside(command, request, |_| {}).await
    }

    /// As [`Line::ask`]; what comes on other topics meanwhile is given to `aside`.
    pub(crate) async fn ask_beside<T: DeserializeOwned>(
        &mut self,
        command: &str,
        request: &impl Serialize,
        mut aside: impl FnMut(&Publish),
    ) -> Result<T> {
        let request = serde_json::to_vec(request)?;
        let mut answer = self.ask_once(command, &request, &mut aside).await?;
        for _ in 0..AGAIN {
            if answer.error.as_ref().is_none_or(|error| !error.starts_with("too many commands")) {
                break;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            answer = self.ask_once(command, &request, &mut aside).await?;
        }
        if !answer.ok {
            let why = answer.error.as_deref().unwrap_or("it does not say why");
            bail!("{} refused: {}", self.device, plain(why));
        }
        serde_json::from_value(answer.body.unwrap_or_default())
            .with_context(|| format!("{} answered what this version of the tool does not understand", self.device))
    }

    async fn ask_once(&mut self, command: &str, request: &[u8], aside: &mut impl FnMut(&Publish)) -> Result<Answer> {
        self.asked += 1;
        let correlation = format!("{command} {}", self.asked).into_bytes();
        let properties = PublishProperties {
            response_topic: Some(self.response.clone()),
            correlation_data: Some(correlation.clone().into()),
            ..PublishProperties::default()
        };
        let options = PublishOptions::new(QoS::AtLeastOnce).properties(properties);
        self.connection.client.publish(format!("{}/{command}", self.commands), request, options).await?;
        let heard = tokio::time::timeout(PATIENCE, self.answer(&correlation, aside)).await;
        heard.with_context(|| {
            format!(
                "{device} did not answer within {} s; see whether it is online (sanderling watch --device {device})",
                PATIENCE.as_secs(),
                device = self.device
            )
        })?
    }

    async fn answer(&mut self, correlation: &[u8], aside: &mut impl FnMut(&Publish)) -> Result<Answer> {
        loop {
            match self.event().await? {
                Event::Incoming(Incoming::PubAck(ack)) => match ack.reason {
                    PubAckReason::Success => {}
                    PubAckReason::NoMatchingSubscribers => bail!("{} is not connected to the broker", self.device),
                    refused => bail!("the broker refuses the command: {refused:?}; check its access list"),
                },
                Event::Incoming(Incoming::Publish(message)) if message.topic == self.response.as_bytes() => {
                    let properties = message.properties.as_ref();
                    let answers = properties.and_then(|properties| properties.correlation_data.as_deref());
                    if answers == Some(correlation) {
                        return serde_json::from_slice(&message.payload)
                            .with_context(|| format!("{} gave no answer that is one", self.device));
                    }
                }
                Event::Incoming(Incoming::Publish(message)) => aside(&message),
                _ => {}
            }
        }
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Result<Publish> {
        loop {
            if let Event::Incoming(Incoming::Publish(message)) = self.event().await? {
                return Ok(message);
            }
        }
    }

    async fn event(&mut self) -> Result<Event> {
        self.connection.events.poll().await.context("the broker was lost; ask again")
    }

    /// Says goodbye.
    pub(crate) async fn close(mut self) {
        if self.connection.client.disconnect().await.is_ok() {
            // Without it the broker would not see the goodbye; its error says only that the connection is closed.
            tokio::time::timeout(Duration::from_secs(2), self.event()).await.ok();
        }
    }
}
