//! One connection, from CONNECT to its end.
//!
//! Two futures share the task: one polls the client and hands on what comes, the other hands messages to the client and
//! waits for their acknowledgements. Neither ever waits inside a call of the client, so the client is always polled.
//!
//! The watchdog: where something is outstanding (a publish, a SUBSCRIBE) and nothing was acknowledged for two
//! keep-alives, the connection is given up, whatever the client believes of it.

use std::{collections::VecDeque, future::Future, pin::Pin, time::Duration};

use rumqttc::{
    AsyncClient, ClientError, ConnectionError, Event, EventLoop, Packet, PublishNoticeError, PublishOptions,
    PublishProperties, QoS, SubAck, SubscribeFilterInput, SubscribeNoticeError, UnsubAck, UnsubscribeNoticeError,
};
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};

use super::{
    LinkError, LinkEvent, MAX_OUTSTANDING, Message, Publish, Qos, Response,
    classify::{self, publish_refused, subscribe_refused},
    shared::{Control, Shared},
};
use crate::settings::BrokerSettings;

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// What a PUBLISH has beside topic, payload and correlation data, at most, in bytes.
const HEADER: usize = 64;

type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// It could not be made, or broke.
    Lost(LinkError),
    /// The agent closed it, or nobody takes the events any more.
    Closed,
}

/// What the client's side hands on.
enum Came {
    Up { session_present: bool, max_packet: Option<u32> },
    Message(Message),
}

struct Outstanding {
    topic: String,
    token: Option<u64>,
    answer: Answer<Result<(), PublishNoticeError>>,
}

struct Subscribing {
    topics: Vec<String>,
    answer: Answer<Result<SubAck, SubscribeNoticeError>>,
}

pub(super) struct Connection<'a> {
    broker: &'a BrokerSettings,
    shared: &'a Shared,
    events: &'a mpsc::Sender<LinkEvent>,
    client: AsyncClient,
    session: String,
    birth: Option<Publish>,
    farewell: Option<Publish>,
    up: bool,
    max_packet: Option<u32>,
    /// In the order in which they were sent, which is the order of their acknowledgements (MQTT-4.6.0-2).
    outstanding: VecDeque<Outstanding>,
    subscribing: Option<Subscribing>,
    unsubscribing: Option<Answer<Result<UnsubAck, UnsubscribeNoticeError>>>,
    /// Runs out when nothing was acknowledged for too long.
    stall: Pin<Box<Sleep>>,
}

/// Nobody takes the events.
struct Unheard;

impl<'a> Connection<'a> {
    pub(super) fn new(
        broker: &'a BrokerSettings,
        shared: &'a Shared,
        events: &'a mpsc::Sender<LinkEvent>,
        client: AsyncClient,
        session: String,
        birth: Publish,
        farewell: Publish,
    ) -> Self {
        let stall = Box::pin(sleep(patience(broker)));
        Self {
            broker,
            shared,
            events,
            client,
            session,
            birth: Some(birth),
            farewell: Some(farewell),
            up: false,
            max_packet: None,
            outstanding: VecDeque::new(),
            subscribing: None,
            unsubscribing: None,
            stall,
        }
    }

    /// Connects and serves until the end.
    pub(super) async fn run(mut self, events: EventLoop) -> End {
        let (sender, mut came) = mpsc::channel(1);
        let broker = self.broker;
        let client = poll(events, sender, broker.keep_alive);
        tokio::pin!(client);
        let error = tokio::select! {
            // What was acknowledged before the end still counts, so this side is asked first.
            biased;
            end = self.serve(&mut came) => return end,
            error = &mut client => error,
        };
        if self.farewell.is_none() {
            // Goodbye was said; how the connection ends after it is of no interest.
            return End::Closed;
        }
        End::Lost(classify::lost(&error, self.up, self.broker))
    }

    async fn serve(&mut self, came: &mut mpsc::Receiver<Came>) -> End {
        loop {
            if self.shared.closing() && !self.say_goodbye() {
                return End::Closed;
            }
            let handled = match self.hand_over().await {
                Err(Unheard) => Err(Unheard),
                Ok(()) => match self.step(came).await {
                    Ok(Step::Stalled) => return End::Lost(self.no_progress()),
                    Ok(Step::Done) => Ok(()),
                    Err(Unheard) => Err(Unheard),
                },
            };
            if handled.is_err() {
                return End::Closed;
            }
        }
    }

    async fn step(&mut self, came: &mut mpsc::Receiver<Came>) -> Result<Step, Unheard> {
        let waits = self.waits().is_some();
        tokio::select! {
            biased;
            result = front(&mut self.outstanding) => self.published(result).await?,
            result = subscribed(&mut self.subscribing) => self.subscribed(result).await?,
            () = unsubscribed(&mut self.unsubscribing) => {
                self.unsubscribing = None;
                self.progress();
            }
            Some(event) = came.recv() => self.came(event).await?,
            () = self.shared.work.notified() => {}
            () = &mut self.stall, if waits => return Ok(Step::Stalled),
        }
        Ok(Step::Done)
    }

    /// Gives the client what waits, as far as the bounds allow.
    async fn hand_over(&mut self) -> Result<(), Unheard> {
        if !self.up || self.farewell.is_none() {
            return Ok(());
        }
        while self.unsubscribing.is_none() {
            let Some(control) = self.shared.next_control(self.subscribing.is_none()) else { break };
            self.control(control).await?;
        }
        while self.outstanding.len() < usize::from(MAX_OUTSTANDING) {
            let Some(publish) = self.shared.next_publish() else { break };
            self.publish(publish).await?;
        }
        Ok(())
    }

    async fn control(&mut self, control: Control) -> Result<(), Unheard> {
        self.begin_waiting();
        match control {
            Control::Subscribe(topics) => {
                let filters = topics.iter().map(|topic| SubscribeFilterInput::new(topic.clone(), QoS::AtLeastOnce));
                match self.client.try_subscribe_many_tracked(filters) {
                    Ok(notice) => {
                        self.subscribing = Some(Subscribing { topics, answer: Box::pin(notice.wait_async()) });
                    }
                    Err(error) => {
                        let reason = in_words(&error);
                        for topic in topics {
                            let error = LinkError::SubscribeRefused { topic: topic.clone(), reason: reason.clone() };
                            self.tell(LinkEvent::SubscribeRefused { topic, error }).await?;
                        }
                    }
                }
            }
            Control::Unsubscribe(topics) => match self.client.try_unsubscribe_many_tracked(topics) {
                Ok(notice) => self.unsubscribing = Some(Box::pin(notice.wait_async())),
                Err(error) => tracing::debug!(reason = in_words(&error), "topics could not be unsubscribed"),
            },
        }
        Ok(())
    }

    async fn publish(&mut self, publish: Publish) -> Result<(), Unheard> {
        let Publish { topic, payload, retain, qos, token, correlation } = publish;
        let length = topic.len() + payload.len() + correlation.as_ref().map_or(0, bytes::Bytes::len) + HEADER;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        if let Some(max) = self.max_packet.map(u64::from)
            && length > max
        {
            // The client would give up the whole connection, and the message would come again with the next.
            return self.refused(token, LinkError::PacketTooLong { direction: "sent", length, max }).await;
        }
        let qos = match qos {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce => QoS::AtLeastOnce,
        };
        let mut options = PublishOptions::new(qos).retain(retain);
        if let Some(correlation) = correlation {
            options = options
                .properties(PublishProperties { correlation_data: Some(correlation), ..PublishProperties::default() });
        }
        self.begin_waiting();
        match self.client.try_publish_tracked(topic.clone(), payload, options) {
            Ok(notice) => {
                let answer = Box::pin(notice.wait_completion_async());
                let token = token.filter(|_| qos == QoS::AtLeastOnce);
                self.outstanding.push_back(Outstanding { topic, token, answer });
                Ok(())
            }
            Err(error) => {
                let reason = in_words(&error);
                self.refused(token, LinkError::PublishRefused { topic, reason }).await
            }
        }
    }

    async fn refused(&mut self, token: Option<u64>, error: LinkError) -> Result<(), Unheard> {
        tracing::warn!(%error, "a message was refused");
        match token {
            Some(token) => self.tell(LinkEvent::PublishRefused { token, error }).await,
            None => Ok(()),
        }
    }

    async fn published(&mut self, result: Result<(), PublishNoticeError>) -> Result<(), Unheard> {
        let Some(Outstanding { topic, token, .. }) = self.outstanding.pop_front() else { return Ok(()) };
        self.progress();
        match (result, token) {
            (Ok(()), Some(token)) => self.tell(LinkEvent::Acked { token }).await,
            (Ok(()), None) => Ok(()),
            (Err(error), token) => match publish_refused(&topic, &error) {
                Some(error) => self.refused(token, error).await,
                None => Ok(()),
            },
        }
    }

    async fn subscribed(&mut self, result: Result<SubAck, SubscribeNoticeError>) -> Result<(), Unheard> {
        let Some(Subscribing { topics, .. }) = self.subscribing.take() else { return Ok(()) };
        self.progress();
        // Without an answer the connection is at its end, which tells why.
        let Ok(answer) = result else { return Ok(()) };
        self.announce().await?;
        let mut taken = Vec::new();
        for (topic, code) in topics.into_iter().zip(answer.return_codes) {
            match subscribe_refused(&topic, code) {
                None => taken.push(topic),
                Some(error) => {
                    tracing::warn!(%error, "a subscription was refused");
                    self.tell(LinkEvent::SubscribeRefused { topic, error }).await?;
                }
            }
        }
        if taken.is_empty() { Ok(()) } else { self.tell(LinkEvent::Subscribed { topics: taken }).await }
    }

    /// Publishes the birth, once: when the broker has taken the first subscriptions, so that who sees the device online is heard by it.
    async fn announce(&mut self) -> Result<(), Unheard> {
        match self.birth.take() {
            Some(birth) => self.publish(birth).await,
            None => Ok(()),
        }
    }

    async fn came(&mut self, event: Came) -> Result<(), Unheard> {
        match event {
            Came::Message(message) => self.tell(LinkEvent::Message(message)).await,
            Came::Up { session_present, max_packet } => {
                self.max_packet = max_packet;
                self.up = true;
                if !self.shared.up() {
                    self.announce().await?;
                }
                tracing::info!(session = self.session, "the link is up");
                self.tell(LinkEvent::Up { session: self.session.clone(), session_present }).await
            }
        }
    }

    /// Publishes the farewell and disconnects; false where there is nobody to say it to.
    fn say_goodbye(&mut self) -> bool {
        let Some(farewell) = self.farewell.take() else { return true };
        if !self.up {
            return false;
        }
        let options = PublishOptions::at_least_once().retained();
        let said = self
            .client
            .try_publish(farewell.topic, farewell.payload, options)
            .and_then(|()| self.client.try_disconnect_with_timeout(GOODBYE));
        said.is_ok()
    }

    async fn tell(&mut self, event: LinkEvent) -> Result<(), Unheard> {
        match self.events.try_send(event) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Unheard),
            Err(mpsc::error::TrySendError::Full(event)) => {
                let sent = self.events.send(event).await.map_err(|_| Unheard);
                // The broker is not to be blamed for the time that the driver took.
                self.progress();
                sent
            }
        }
    }

    fn waits(&self) -> Option<&'static str> {
        if self.subscribing.is_some() {
            Some("a subscription")
        } else if !self.outstanding.is_empty() {
            Some("a publish")
        } else {
            self.unsubscribing.as_ref().map(|_| "the end of a subscription")
        }
    }

    fn begin_waiting(&mut self) {
        if self.waits().is_none() {
            self.progress();
        }
    }

    fn progress(&mut self) {
        self.stall.set(sleep(patience(self.broker)));
    }

    fn no_progress(&self) -> LinkError {
        let what = self.waits().unwrap_or("a message");
        LinkError::NoProgress { what, seconds: patience(self.broker).as_secs() }
    }
}

enum Step {
    Done,
    Stalled,
}

fn patience(broker: &BrokerSettings) -> Duration {
    broker.keep_alive * 2
}

fn in_words(error: &ClientError) -> String {
    match error {
        ClientError::InvalidRequest(_) => "it is no valid topic".to_owned(),
        other => other.to_string(),
    }
}

async fn front(outstanding: &mut VecDeque<Outstanding>) -> Result<(), PublishNoticeError> {
    match outstanding.front_mut() {
        Some(first) => first.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn subscribed(subscribing: &mut Option<Subscribing>) -> Result<SubAck, SubscribeNoticeError> {
    match subscribing {
        Some(subscribing) => subscribing.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn unsubscribed(unsubscribing: &mut Option<Answer<Result<UnsubAck, UnsubscribeNoticeError>>>) {
    match unsubscribing {
        Some(answer) => {
            // Messages that still come are ignored by whoever unsubscribed, so a refusal changes nothing.
            let _ = answer.as_mut().await;
        }
        None => std::future::pending().await,
    }
}

/// Polls the client until its end and hands on what came. While the other side is busy, nothing more is read.
async fn poll(mut events: EventLoop, came: mpsc::Sender<Came>, keep_alive: Duration) -> ConnectionError {
    loop {
        let next = match events.poll().await {
            Err(error) => return error,
            Ok(Event::Incoming(Packet::ConnAck(answer))) => {
                // A broker may ask for a longer keep-alive; we may ping more often, and notice sooner.
                if events.options.keep_alive() > keep_alive {
                    events.options.set_keep_alive(u16::try_from(keep_alive.as_secs()).unwrap_or(30));
                }
                let max_packet = answer.properties.and_then(|properties| properties.max_packet_size);
                Came::Up { session_present: answer.session_present, max_packet }
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
