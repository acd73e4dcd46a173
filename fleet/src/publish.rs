//! Publishing the repository: every message retained, QoS 1, the timestamp last and only when all others are acknowledged.

use anyhow::{Context, Result, bail};
use indicatif::{ProgressBar, ProgressStyle};
use rumqttc::{AsyncClient, PublishOptions, PublishResult, QoS};

use crate::{connection::Connection, repo::Message};

/// How many publishes wait for their acknowledgement at once.
const IN_FLIGHT: usize = 16;

/// What was published.
#[derive(Clone, Copy, Debug, Default, serde::Serialize)]
pub(crate) struct Published {
    /// Messages.
    pub(crate) messages: usize,
    /// Their payloads, in bytes.
    pub(crate) bytes: usize,
}

/// Publishes all messages, the last one after the others are acknowledged.
pub(crate) async fn publish(connection: Connection, messages: &[Message]) -> Result<Published> {
    let Connection { client, mut events } = connection;
    let polling = tokio::spawn(async move {
        loop {
            if let Err(error) = events.poll().await {
                return error;
            }
        }
    });
    let work = async {
        let bar = progress(messages);
        if let Some((last, rest)) = messages.split_last() {
            send(&client, rest, &bar).await?;
            send(&client, std::slice::from_ref(last), &bar).await?;
        }
        bar.finish_and_clear();
        client.disconnect().await.context("could not leave the broker")?;
        Ok::<_, anyhow::Error>(())
    };
    tokio::pin!(work);
    let mut polling = polling;
    tokio::select! {
        biased;
        done = &mut work => done?,
        lost = &mut polling => bail!("the broker was lost while publishing: {}; publish again, nothing was switched", lost?),
    }
    polling.abort();
    Ok(Published { messages: messages.len(), bytes: messages.iter().map(|message| message.payload.len()).sum() })
}

async fn send(client: &AsyncClient, messages: &[Message], bar: &ProgressBar) -> Result<()> {
    let mut waiting = std::collections::VecDeque::with_capacity(IN_FLIGHT);
    for message in messages {
        if waiting.len() == IN_FLIGHT {
            settle(waiting.pop_front(), bar).await?;
        }
        let options = PublishOptions::new(QoS::AtLeastOnce).retain(true);
        let notice = client.publish_tracked(message.topic.clone(), message.payload.clone(), options).await?;
        waiting.push_back((notice, message));
    }
    while !waiting.is_empty() {
        settle(waiting.pop_front(), bar).await?;
    }
    Ok(())
}

async fn settle(sent: Option<(rumqttc::PublishNotice, &Message)>, bar: &ProgressBar) -> Result<()> {
    let Some((notice, message)) = sent else { return Ok(()) };
    let result = notice.wait_async().await.with_context(|| format!("{} was not acknowledged", message.topic))?;
    if let PublishResult::Qos1(acknowledged) = result
        && !matches!(acknowledged.reason, rumqttc::PubAckReason::Success | rumqttc::PubAckReason::NoMatchingSubscribers)
    {
        bail!(
            "the broker refuses {}: {:?}; check its access list for the common name of the operator's certificate",
            message.topic,
            acknowledged.reason
        );
    }
    bar.inc(message.payload.len() as u64);
    Ok(())
}

fn progress(messages: &[Message]) -> ProgressBar {
    let bar = ProgressBar::new(messages.iter().map(|message| message.payload.len() as u64).sum());
    if let Ok(style) = ProgressStyle::with_template("publishing {bar:32} {bytes}/{total_bytes} {eta}") {
        bar.set_style(style);
    }
    bar
}
