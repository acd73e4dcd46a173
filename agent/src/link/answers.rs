//! What a connection has asked of its broker and not been answered.
//!
//! Each function here waits for one kind of answer, for ever where nothing was asked.

use std::{collections::VecDeque, future::Future, pin::Pin};

use rumqttc::{PublishNoticeError, SubAck, SubscribeNoticeError, UnsubAck, UnsubscribeNoticeError};
use tokio::time::Sleep;

/// An answer of the broker.
pub(super) type Answer<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// A PUBLISH without its PUBACK.
pub(super) struct Outstanding {
    pub(super) topic: String,
    pub(super) token: Option<u64>,
    pub(super) answer: Answer<Result<(), PublishNoticeError>>,
}

/// A SUBSCRIBE without its SUBACK.
pub(super) struct Subscribing {
    pub(super) topics: Vec<String>,
    pub(super) answer: Answer<Result<SubAck, SubscribeNoticeError>>,
}

pub(super) async fn front(outstanding: &mut VecDeque<Outstanding>) -> Result<(), PublishNoticeError> {
    match outstanding.front_mut() {
        Some(first) => first.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn subscribed(subscribing: &mut Option<Subscribing>) -> Result<SubAck, SubscribeNoticeError> {
    match subscribing {
        Some(subscribing) => subscribing.answer.as_mut().await,
        None => std::future::pending().await,
    }
}

pub(super) async fn unsubscribed(unsubscribing: &mut Option<Answer<Result<UnsubAck, UnsubscribeNoticeError>>>) {
    match unsubscribing {
        Some(answer) => {
            // Messages that still come are ignored by whoever unsubscribed, so a refusal changes nothing.
            let _ = answer.as_mut().await;
        }
        None => std::future::pending().await,
    }
}

/// Waits until a timer runs out.
pub(super) async fn due(timer: &mut Option<Pin<Box<Sleep>>>) {
    match timer {
        Some(sleep) => sleep.as_mut().await,
        None => std::future::pending().await,
    }
}
