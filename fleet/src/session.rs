//! Reading and writing retained messages over one connection to the broker.
//!
//! A broker cannot list, and says nothing where there is nothing. A window of topics is subscribed to, then a message of our own is
//! sent that comes back to us: brokers deliver to one client in order, so what did not come before it is not retained. Where a broker
//! does not keep that order, something is taken for absent that is there; it is then sent once more, which harms nothing.
//!
//! Limits: a window of [`WINDOW_TOPICS`] topics and about [`WINDOW_BYTES`], since a broker drops what its queue for one client
//! does not hold (Mosquitto: max_inflight + max_queued messages); 16 publishes in flight; 30 s for an answer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, Incoming, PubAckReason, PublishNotice, PublishOptions,
    PublishResult, QoS, SubscribeFilterInput, SubscribeReasonCode,
};
use sanderling_protocol::topics::Topics;
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::timeout,
};

use crate::{connection::Connection, progress::Progress};

/// The most topics that are subscribed to at once.
pub(crate) const WINDOW_TOPICS: usize = 32;
/// The most bytes that are asked for at once, as far as they are known before.
pub(crate) const WINDOW_BYTES: u64 = 1024 * 1024;
const IN_FLIGHT: usize = 16;
const ANSWER: Duration = Duration::from_secs(30);
/// When nothing comes for so long, the message that comes back is sent again: a full queue may have dropped it.
const QUIET: Duration = Duration::from_secs(2);
const GOODBYE: Duration = Duration::from_secs(2);

/// A message as the broker retains it.
pub(crate) struct Retained {
    /// Its topic.
    pub(crate) topic: String,
    /// Its payload.
    pub(crate) payload: Vec<u8>,
}

type Listener = Arc<Mutex<Option<Sender<Retained>>>>;

/// A connection under way.
pub(crate) struct Session {
    client: AsyncClient,
    listener: Listener,
    echo: String,
    echoes: u64,
}

/// Does `work` with a connection and closes it; `doing` says what it is, for when the broker is lost meanwhile.
pub(crate) async fn with<T>(
    connection: Connection,
    topics: &Topics,
    doing: &str,
    work: impl AsyncFnOnce(&mut Session) -> Result<T>,
) -> Result<T> {
    let Connection { client, events } = connection;
    let listener = Listener::default();
    let mut polling = tokio::spawn(poll(events, Arc::clone(&listener)));
    let mut session = Session { client, listener, echo: format!("{}/fleet/echo", topics.prefix()), echoes: 0 };
    let done = tokio::select! {
        biased;
        lost = &mut polling => {
            return Err(anyhow!("the broker was lost while {doing}: {}; run it again, it goes on where it was", lost?));
        }
        done = work(&mut session) => done,
    };
    if done.is_ok() && session.client.disconnect().await.is_ok() {
        // Without it the broker would not see the goodbye; its error says only that the connection is closed.
        timeout(GOODBYE, &mut polling).await.ok();
    }
    polling.abort();
    done
}

async fn poll(mut events: EventLoop, listener: Listener) -> ConnectionError {
    loop {
        match events.poll().await {
            Ok(Event::Incoming(Incoming::Publish(message))) => {
                let deliver = listener.lock().unwrap_or_else(PoisonError::into_inner).clone();
                if let Some(deliver) = deliver {
                    let topic = String::from_utf8_lossy(&message.topic).into_owned();
                    // An error says that nobody listens any longer.
                    deliver.send(Retained { topic, payload: message.payload.to_vec() }).await.ok();
                }
            }
            Ok(_) => {}
            Err(error) => return error,
        }
    }
}

impl Session {
    /// The retained messages of these topics, by topic. No more than a window of them.
    pub(crate) async fn read(&mut self, topics: &[String]) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut found = BTreeMap::new();
        self.listen(topics, |message| {
            if topics.contains(&message.topic) {
                found.insert(message.topic, message.payload);
            }
        })
        .await?;
        // What a topic carries that was cleared while we listened.
        found.retain(|_, payload| !payload.is_empty());
        Ok(found)
    }

    /// Whatever the broker retains under a filter, as far as its queue holds it.
    pub(crate) async fn sweep(&mut self, filter: String, each: impl FnMut(Retained)) -> Result<()> {
        self.listen(&[filter], each).await
    }

    async fn listen(&mut self, filters: &[String], mut each: impl FnMut(Retained)) -> Result<()> {
        let (deliver, mut arrive) = mpsc::channel(WINDOW_TOPICS);
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(deliver);
        if self.echoes == 0 {
            self.subscribe(std::slice::from_ref(&self.echo)).await?;
        }
        // The client sends publishes before subscriptions that it was given earlier: only an answered one comes before the echo.
        {
            let mut subscribed = std::pin::pin!(self.subscribe(filters));
            loop {
                tokio::select! {
                    answered = &mut subscribed => break answered?,
                    Some(message) = arrive.recv() => each(message),
                }
            }
        }
        self.until_echo(&mut arrive, &mut each).await?;
        self.client.unsubscribe_many(filters.iter().cloned()).await?;
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = None;
        Ok(())
    }

    async fn subscribe(&self, filters: &[String]) -> Result<()> {
        let wanted = filters.iter().map(|filter| SubscribeFilterInput::new(filter.clone(), QoS::AtLeastOnce));
        let answer = self.client.subscribe_many_tracked(wanted).await?.wait_async();
        let answer = timeout(ANSWER, answer).await.context("the broker does not answer a subscription")?;
        granted(filters, &answer.context("the subscription was not answered")?.return_codes)
    }

    /// Hands on what arrives, until a message of our own has come back.
    async fn until_echo(&mut self, arrive: &mut Receiver<Retained>, each: &mut impl FnMut(Retained)) -> Result<()> {
        self.echoes += 1;
        let mark = self.echoes.to_string();
        self.send_echo(&mark).await?;
        let mut silent = Duration::ZERO;
        loop {
            match timeout(QUIET, arrive.recv()).await {
                Ok(Some(message)) if message.topic != self.echo => {
                    silent = Duration::ZERO;
                    each(message);
                }
                Ok(Some(message)) if message.payload == mark.as_bytes() => return Ok(()),
                Ok(Some(_)) => {}
                Ok(None) => bail!("the connection to the broker ended"),
                Err(_) if silent >= ANSWER => bail!(
                    "the broker did not deliver a message on {} within {} s; check that its access list lets the operator read and write there",
                    self.echo,
                    ANSWER.as_secs()
                ),
                Err(_) => {
                    silent += QUIET;
                    self.send_echo(&mark).await?;
                }
            }
        }
    }

    async fn send_echo(&self, mark: &str) -> Result<()> {
        let options = PublishOptions::new(QoS::AtLeastOnce);
        Ok(self.client.publish(self.echo.clone(), mark.to_owned(), options).await?)
    }

    /// Publishes retained messages, 16 at once, and waits until all are acknowledged. An empty payload clears a topic. Gives the
    /// bytes of the payloads.
    pub(crate) async fn send<'m>(
        &mut self,
        messages: impl Iterator<Item = Result<(&'m str, Vec<u8>)>>,
        progress: &mut Progress,
    ) -> Result<u64> {
        let mut waiting = VecDeque::with_capacity(IN_FLIGHT);
        let mut sent = 0;
        for message in messages {
            let (topic, payload) = message?;
            if waiting.len() == IN_FLIGHT {
                settle(waiting.pop_front(), progress).await?;
            }
            let length = payload.len() as u64;
            sent += length;
            let options = PublishOptions::new(QoS::AtLeastOnce).retain(true);
            let notice = self.client.publish_tracked(topic.to_owned(), payload, options).await?;
            waiting.push_back((notice, topic, length));
        }
        while !waiting.is_empty() {
            settle(waiting.pop_front(), progress).await?;
        }
        Ok(sent)
    }
}

fn granted(filters: &[String], codes: &[SubscribeReasonCode]) -> Result<()> {
    let refused = filters.iter().zip(codes).find(|(_, code)| !matches!(code, SubscribeReasonCode::Success(_)));
    match refused {
        None => Ok(()),
        Some((filter, code)) => bail!(
            "the broker refuses to read {filter}: {code:?}; check its access list for the common name of the operator's certificate"
        ),
    }
}

async fn settle(sent: Option<(PublishNotice, &str, u64)>, progress: &mut Progress) -> Result<()> {
    let Some((notice, topic, length)) = sent else { return Ok(()) };
    let result = notice.wait_async().await.with_context(|| format!("{topic} was not acknowledged"))?;
    if let PublishResult::Qos1(acknowledged) = result
        && !matches!(acknowledged.reason, PubAckReason::Success | PubAckReason::NoMatchingSubscribers)
    {
        bail!(
            "the broker refuses {topic}: {:?}; check its access list for the common name of the operator's certificate",
            acknowledged.reason
        );
    }
    progress.add(length);
    Ok(())
}
