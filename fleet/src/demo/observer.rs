//! Listening to the gateway as an operator does: what it reports and emits, in order, with waits that have a limit.

use std::{collections::VecDeque, time::Duration};

use anyhow::{Context, Result, bail};
use rumqttc::{AsyncClient, Event, EventLoop, Incoming, QoS};
use sanderling_protocol::{
    reported::{Reported, Status},
    topics::Topics,
};
use serde::Deserialize;

use crate::{clock::Stopwatch, connection::Connection};

/// What the guest emits; see modules/surface-defect.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Detection {
    /// The frame's sequence number.
    pub(super) seq: u64,
    /// The model's score.
    pub(super) score: f64,
    /// What the guest decided.
    pub(super) defect: bool,
}

/// One thing that was heard.
#[derive(Clone, Debug)]
pub(super) enum Heard {
    /// A record of the module.
    Detection(Detection),
    /// A new reported state; also kept in [`Observer::reported`].
    Reported,
}

/// A subscriber to everything of the gateway.
pub(super) struct Observer {
    client: AsyncClient,
    events: EventLoop,
    topics: Topics,
    heard: VecDeque<Heard>,
    /// The newest reported state.
    pub(super) reported: Option<Reported>,
    /// Whether the gateway is online.
    pub(super) online: bool,
}

impl Observer {
    /// Subscribes.
    pub(super) async fn new(connection: Connection, topics: &Topics) -> Result<Self> {
        let Connection { client, events } = connection;
        client.subscribe(format!("{}/device/#", topics.prefix()), QoS::AtLeastOnce).await?;
        let heard = VecDeque::new();
        Ok(Self { client, events, topics: topics.clone(), heard, reported: None, online: false })
    }

    /// Waits until `done` is true of what was heard last, at most `limit`; what is heard on the way is passed to it in order.
    pub(super) async fn until<T>(
        &mut self,
        what: &str,
        limit: Duration,
        mut done: impl FnMut(&Self, Option<&Heard>) -> Option<T>,
    ) -> Result<T> {
        if let Some(found) = done(self, None) {
            return Ok(found);
        }
        let clock = Stopwatch::start();
        loop {
            while let Some(heard) = self.heard.pop_front() {
                if let Some(found) = done(self, Some(&heard)) {
                    return Ok(found);
                }
            }
            let left = limit.saturating_sub(clock.elapsed());
            if left.is_zero() {
                bail!("waited {} s for {what} in vain; last reported: {}", limit.as_secs(), self.last_report());
            }
            if let Ok(event) = tokio::time::timeout(left, self.events.poll()).await {
                self.take(event.context("the demo's broker was lost")?);
            }
        }
    }

    /// Asks the gateway for a fresh report, which arrives as any other.
    pub(super) async fn ask_report(&mut self, device: &str) -> Result<()> {
        let topic = format!("{}/device/{device}/cmd/report", self.topics.prefix());
        let options = rumqttc::PublishOptions::new(QoS::AtLeastOnce);
        self.client.publish(topic, Vec::new(), options).await.context("could not ask for a report")
    }

    fn take(&mut self, event: Event) {
        let Event::Incoming(Incoming::Publish(message)) = event else { return };
        let topic = String::from_utf8_lossy(&message.topic).into_owned();
        let Some((_, what)) = self.topics.parse_device(&topic) else { return };
        match what {
            "status" => {
                if let Ok(status) = serde_json::from_slice::<Status>(&message.payload) {
                    self.online = status.online;
                }
                self.heard.push_back(Heard::Reported);
            }
            "reported" => {
                if let Ok(reported) = serde_json::from_slice(&message.payload) {
                    self.reported = Some(reported);
                    self.heard.push_back(Heard::Reported);
                }
            }
            what if what.starts_with("data/") => {
                if let Ok(detection) = serde_json::from_slice(&message.payload) {
                    self.heard.push_back(Heard::Detection(detection));
                }
            }
            _ => {}
        }
    }

    fn last_report(&self) -> String {
        self.reported.as_ref().and_then(|reported| serde_json::to_string(reported).ok()).unwrap_or("nothing".into())
    }
}
