//! One connection, from CONNECT to its end.
//!
//! Two futures share the task: one polls the client and hands on what comes, the other hands messages to the client and
//! waits for their acknowledgements. Neither ever waits inside a call of the client, so the client is always polled.
//!
//! The watchdog: where something is outstanding (a publish, a SUBSCRIBE) and nothing was acknowledged for two
//! keep-alives, the connection is given up, whatever the client believes of it.
//!
//! A broker may turn the client's pings off. Then the end of a subscription that never was is told to it once a keep-alive,
//! which it has to acknowledge, and the watchdog does the rest.

mod renewal;

use std::{collections::VecDeque, pin::Pin, time::Duration};

use rumqttc::{
    AsyncClient, ClientError, EventLoop, PublishNoticeError, PublishOptions, PublishProperties, QoS, SubAck,
    SubscribeFilterInput, SubscribeNoticeError, UnsubAck, UnsubscribeNoticeError,
};
use tokio::{
    sync::mpsc,
    time::{Sleep, sleep},
};

use super::{
    BrokerLimits, LinkError, LinkEvent, MAX_OUTSTANDING, Publish, Qos,
    answers::{Answer, Outstanding, Subscribing, due, front, subscribed, unsubscribed},
    classify::{self, publish_refused, subscribe_refused},
    credentials::Credentials,
    intake::{Came, poll},
    shared::{Control, Shared},
};
use crate::settings::BrokerSettings;
use renewal::{Renewal, left};

/// How long the goodbye may take.
const GOODBYE: Duration = Duration::from_secs(2);
/// What a PUBLISH has beside topic, payload and correlation data, at most, in bytes.
const HEADER: usize = 64;

/// How a connection ended.
#[derive(Debug)]
pub(super) enum End {
    /// It could not be made, or broke.
    Lost(LinkError),
    /// The agent closed it, or nobody takes the events any more.
    Closed,
    /// It gave way to one with renewed credentials.
    Renewed,
}

/// What outlives a connection.
pub(super) struct Ground<'a> {
    pub(super) broker: &'a BrokerSettings,
    pub(super) shared: &'a Shared,
    pub(super) events: &'a mpsc::Sender<LinkEvent>,
    pub(super) credentials: &'a mut Credentials,
}

pub(super) struct Connection<'a> {
    broker: &'a BrokerSettings,
    shared: &'a Shared,
    events: &'a mpsc::Sender<LinkEvent>,
    credentials: &'a mut Credentials,
    /// Runs out when the files of certificate, key and CA are to be looked at, once the connection stands.
    look: Option<Pin<Box<Sleep>>>,
    renewal: Renewal,
    client: AsyncClient,
    session: String,
    /// The topic of birth and will.
    status: String,
    birth: Option<Publish>,
    farewell: Option<Publish>,
    up: bool,
    limits: BrokerLimits,
    /// In the order in which they were sent, which is the order of their acknowledgements (MQTT-4.6.0-2).
    outstanding: VecDeque<Outstanding>,
    subscribing: Option<Subscribing>,
    unsubscribing: Option<Answer<Result<UnsubAck, UnsubscribeNoticeError>>>,
    /// Runs out when nothing was acknowledged for too long.
    stall: Pin<Box<Sleep>>,
    /// Runs out when the broker is to be asked whether it is there, where the client does not ping.
    probe: Option<Pin<Box<Sleep>>>,
}

/// Nobody takes the events.
struct Unheard;

impl<'a> Connection<'a> {
    pub(super) fn new(
        on: Ground<'a>,
        client: AsyncClient,
        session: String,
        birth: Option<Publish>,
        farewell: Publish,
    ) -> Self {
        let Ground { broker, shared, events, credentials } = on;
        let stall = Box::pin(sleep(patience(broker)));
        Self {
            broker,
            shared,
            events,
            credentials,
            look: None,
            renewal: Renewal::Not,
            client,
            session,
            status: farewell.topic.clone(),
            birth,
            farewell: Some(farewell),
            up: false,
            limits: BrokerLimits::default(),
            outstanding: VecDeque::new(),
            subscribing: None,
            unsubscribing: None,
            stall,
            probe: None,
        }
    }

    /// Connects and serves until the end.
    pub(super) async fn run(mut self, events: EventLoop) -> End {
        let (sender, mut came) = mpsc::channel(1);
        let client = poll(events, sender, self.broker.keep_alive, &self.shared.pulse);
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
        if matches!(self.renewal, Renewal::Left(_)) {
            return End::Renewed;
        }
        End::Lost(classify::lost(&error, self.up, self.broker))
    }

    async fn serve(&mut self, came: &mut mpsc::Receiver<Came>) -> End {
        loop {
            if self.shared.closing() && !self.say_goodbye() {
                return End::Closed;
            }
            if matches!(self.renewal, Renewal::Calm) && self.waits().is_none() && !self.give_way() {
                return End::Renewed;
            }
            let handled = match self.hand_over().await {
                Err(Unheard) => Err(Unheard),
                Ok(()) => match self.step(came).await {
                    Ok(Step::GiveUp(error)) => return End::Lost(error),
                    Ok(Step::GiveWay) => return End::Renewed,
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
            result = front(&mut self.outstanding) => return self.published(result).await,
            result = subscribed(&mut self.subscribing) => self.subscribed(result).await?,
            () = unsubscribed(&mut self.unsubscribing) => {
                self.unsubscribing = None;
                self.progress();
            }
            Some(event) = came.recv() => return self.came(event).await,
            () = self.shared.work.notified() => {}
            () = &mut self.stall, if waits => return Ok(Step::GiveUp(self.no_progress())),
            () = due(&mut self.probe) => self.probe(),
            () = due(&mut self.look) => self.look().await?,
            () = left(&mut self.renewal) => return Ok(Step::GiveWay),
        }
        Ok(Step::Done)
    }

    /// Gives the client what waits, as far as the bounds allow.
    async fn hand_over(&mut self) -> Result<(), Unheard> {
        if !self.up || self.farewell.is_none() || !matches!(self.renewal, Renewal::Not) {
            return Ok(());
        }
        let most = usize::try_from(self.limits.maximum_packet).unwrap_or(usize::MAX);
        while self.unsubscribing.is_none() {
            let Some(control) = self.shared.next_control(self.subscribing.is_none(), most) else { break };
            match control {
                Control::Subscribe(topics) => self.subscribe(topics).await?,
                Control::Unsubscribe(topics) => self.unsubscribe(topics),
            }
        }
        while self.outstanding.len() < usize::from(MAX_OUTSTANDING) {
            let Some(publish) = self.shared.next_publish() else { break };
            self.publish(publish).await?;
        }
        Ok(())
    }

    async fn subscribe(&mut self, topics: Vec<String>) -> Result<(), Unheard> {
        let (topics, forbidden) = topics.into_iter().partition::<Vec<_>, _>(|topic| self.may_subscribe(topic));
        for topic in forbidden {
            // To ask all the same would end the connection.
            self.not_subscribed(topic, "the broker takes no wildcards, or no packet of that length").await?;
        }
        if topics.is_empty() {
            return self.announce().await;
        }
        self.begin_waiting();
        let filters = topics.iter().map(|topic| SubscribeFilterInput::new(topic.clone(), QoS::AtLeastOnce));
        match self.client.try_subscribe_many_tracked(filters) {
            Ok(notice) => self.subscribing = Some(Subscribing { topics, answer: Box::pin(notice.wait_async()) }),
            Err(error) => {
                let reason = in_words(&error);
                for topic in topics {
                    self.not_subscribed(topic, &reason).await?;
                }
            }
        }
        Ok(())
    }

    fn may_subscribe(&self, topic: &str) -> bool {
        let length = u32::try_from(topic.len() + HEADER).unwrap_or(u32::MAX);
        length <= self.limits.maximum_packet && (self.limits.wildcards_available || !topic.contains(['+', '#']))
    }

    async fn not_subscribed(&mut self, topic: String, reason: &str) -> Result<(), Unheard> {
        let error = LinkError::SubscribeRefused { topic: topic.clone(), reason: reason.to_owned() };
        tracing::warn!(%error, "a subscription was refused");
        self.tell(LinkEvent::SubscribeRefused { topic, error }).await
    }

    fn unsubscribe(&mut self, topics: Vec<String>) {
        self.begin_waiting();
        match self.client.try_unsubscribe_many_tracked(topics) {
            Ok(notice) => self.unsubscribing = Some(Box::pin(notice.wait_async())),
            Err(error) => tracing::debug!(reason = in_words(&error), "topics could not be unsubscribed"),
        }
    }

    /// Makes the broker answer, where the client does not ping.
    fn probe(&mut self) {
        self.probe = Some(Box::pin(sleep(self.broker.keep_alive)));
        if self.waits().is_none() && self.may_subscribe(&self.status) {
            self.unsubscribe(vec![self.status.clone()]);
        }
    }

    async fn publish(&mut self, publish: Publish) -> Result<(), Unheard> {
        let Publish { topic, payload, retain, qos, token, correlation } = publish;
        let length = topic.len() + payload.len() + correlation.as_ref().map_or(0, bytes::Bytes::len) + HEADER;
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let max = u64::from(self.limits.maximum_packet);
        if length > max {
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

    async fn published(&mut self, result: Result<(), PublishNoticeError>) -> Result<Step, Unheard> {
        let Some(Outstanding { topic, token, .. }) = self.outstanding.pop_front() else { return Ok(Step::Done) };
        self.progress();
        match (result, token) {
            (Ok(()), Some(token)) => self.tell(LinkEvent::Acked { token }).await?,
            (Ok(()), None) => {}
            (Err(error), token) => match publish_refused(&topic, &error) {
                // Whoever wants it sent sends it again on the next connection, which follows the backoff.
                Some(overloaded @ LinkError::Overloaded { .. }) => return Ok(Step::GiveUp(overloaded)),
                Some(refused) => self.refused(token, refused).await?,
                None => {}
            },
        }
        Ok(Step::Done)
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

    async fn came(&mut self, event: Came) -> Result<Step, Unheard> {
        match event {
            Came::Message(message) => self.tell(LinkEvent::Message(message)).await?,
            Came::Up { session_present, limits } => {
                if let Some(lack) = limits.lack() {
                    return Ok(Step::GiveUp(lack));
                }
                self.limits = limits;
                self.probe = (limits.keep_alive == Some(0)).then(|| Box::pin(sleep(self.broker.keep_alive)));
                self.up = true;
                self.credentials.stood();
                self.look = Some(Box::pin(sleep(self.broker.reload)));
                if !self.shared.up() {
                    self.announce().await?;
                }
                tracing::info!(session = self.session, "the link is up");
                let session = self.session.clone();
                self.tell_of_certificate().await?;
                self.tell(LinkEvent::Up { session, session_present, broker: limits }).await?;
            }
        }
        Ok(Step::Done)
    }

    /// Publishes the farewell and disconnects; false where there is nobody to say it to.
    fn say_goodbye(&mut self) -> bool {
        let Some(farewell) = self.farewell.take() else { return true };
        if !self.up {
            return false;
        }
        let options = PublishOptions::at_least_once().retain(farewell.retain);
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

/// What follows from what happened.
enum Step {
    Done,
    /// The connection is of no use.
    GiveUp(LinkError),
    /// Another one is to take its place.
    GiveWay,
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
