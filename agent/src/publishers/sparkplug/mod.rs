//! Sparkplug B: the device as an edge node, its modules as devices of it, for SCADA systems and historians.
//!
//! Purpose: what the device reports, in births, data and deaths as Sparkplug's specification 3.0 has them. What is said is decided by
//! `node`, a pure state machine; this module is the task that says it.
//!
//! The connection is one of its own, with the device's certificate and the client id `{device}.sparkplug`: a node's death is the last will
//! of its connection, and the will of the agent's own connection is the device's status ([decision 33]).
//!
//! Invariants: nothing is said before the first report, and nothing before the broker has taken the subscription to commands. A message that
//! the link does not take leaves no gap: another birth follows.
//!
//! Failure modes: as the link's; the agent itself goes on without it. Limits: values change as often as the device reports.
//!
//! [decision 33]: ../../../../docs/decisions/0033-sparkplug.md

mod node;
mod payload;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};

use sanderling_protocol::reported::Reported;
use tokio::{sync::watch, task::JoinHandle};

pub use node::Node;
pub use payload::{Metric, Payload, Value};

use crate::{
    clock::Clock,
    link::{
        Link, LinkEvent, LinkEvents,
        mqtt::{Announcement, Random, link_as},
    },
    rate::Bucket,
    settings::BrokerSettings,
};

/// Births a second that hosts are given, and ten seconds' worth at once.
const BIRTHS_PER_S: u32 = 1;

/// The task's other end.
#[derive(Debug)]
pub struct Sparkplug {
    reports: watch::Sender<Option<Reported>>,
    task: JoinHandle<()>,
}

impl Sparkplug {
    /// Starts the task, which connects at the first report.
    pub fn start(node: Node, broker: BrokerSettings, client_id: String, clock: Arc<dyn Clock>, random: Random) -> Self {
        let (reports, received) = watch::channel(None);
        let task = tokio::spawn(run(node, broker, client_id, clock, random, received));
        Self { reports, task }
    }

    /// This is what the device reports now.
    pub fn reported(&self, report: &Reported) {
        self.reports.send_replace(Some(report.clone()));
    }

    /// Has the task say goodbye; it ends then.
    pub fn end(self) -> JoinHandle<()> {
        self.task
    }
}

async fn run(
    node: Node,
    broker: BrokerSettings,
    client_id: String,
    clock: Arc<dyn Clock>,
    random: Random,
    mut reports: watch::Receiver<Option<Reported>>,
) {
    if reports.changed().await.is_err() {
        return;
    }
    let commands = node.commands();
    let node = Arc::new(Mutex::new(node));
    let named = node.clone();
    let announce = move |_session: &str| Announcement { birth: None, farewell: lock(&named).connecting() };
    let (link, events, task) = link_as(broker, client_id, Box::new(announce), clock.clone(), random);
    let serving = tokio::spawn(task);
    if let Err(error) = link.subscribe(vec![commands]) {
        tracing::error!(%error, "commands of Sparkplug are not subscribed to");
    }
    let births = Bucket::new(BIRTHS_PER_S, clock.mono());
    let speaker = Speaker { node, link: &link, clock: &*clock, heard: false, births };
    speaker.speak(reports, events).await;
    let _ = serving.await;
}

/// Who speaks for the node.
struct Speaker<'a> {
    node: Arc<Mutex<Node>>,
    link: &'a dyn Link,
    clock: &'a dyn Clock,
    /// The broker has taken the subscription to commands.
    heard: bool,
    births: Bucket,
}

impl Speaker<'_> {
    async fn speak(mut self, mut reports: watch::Receiver<Option<Reported>>, mut events: LinkEvents) {
        self.learn(&mut reports);
        let mut going = true;
        loop {
            tokio::select! {
                changed = reports.changed(), if going => match changed {
                    Ok(()) => self.learn(&mut reports),
                    Err(_) => {
                        going = false;
                        self.link.close();
                    }
                },
                event = events.recv() => match event {
                    Some(event) => self.happened(event),
                    None => return,
                },
            }
            if going && self.heard {
                self.say();
            }
        }
    }

    fn learn(&self, reports: &mut watch::Receiver<Option<Reported>>) {
        if let Some(report) = &*reports.borrow_and_update() {
            lock(&self.node).reported(report);
        }
    }

    fn happened(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Subscribed { .. } => self.heard = true,
            LinkEvent::SubscribeRefused { error, .. } => {
                tracing::warn!(%error, "Sparkplug hears no commands: a host cannot ask for a birth");
                self.heard = true;
            }
            LinkEvent::Down { .. } => self.heard = false,
            LinkEvent::Message(message) => {
                let mut node = lock(&self.node);
                if node.heard(&message.topic, &message.payload) && self.births.take(self.clock.mono()) {
                    tracing::info!("a host asks for a birth");
                    node.rebirth();
                }
            }
            // Of the certificate the device's own connection tells.
            LinkEvent::Up { .. }
            | LinkEvent::Acked { .. }
            | LinkEvent::PublishRefused { .. }
            | LinkEvent::Certificate { .. } => {}
        }
    }

    fn say(&self) {
        let mut node = lock(&self.node);
        // With less room what is due waits for the next report.
        if self.link.room() < node.most() {
            return;
        }
        let now = u64::try_from(self.clock.wall_ms()).unwrap_or(0);
        for message in node.messages(now) {
            if let Err(error) = self.link.publish(message) {
                tracing::warn!(%error, "a message of Sparkplug was not sent; a birth follows");
                return node.rebirth();
            }
        }
    }
}

/// No value is left half-changed by a panic under this lock.
fn lock(node: &Mutex<Node>) -> std::sync::MutexGuard<'_, Node> {
    node.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
