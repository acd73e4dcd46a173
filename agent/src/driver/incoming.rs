//! What the link tells: connections, messages, acknowledgements.

use std::collections::VecDeque;

use super::{Connection, Driver};
use crate::{
    certificate,
    link::{LinkError, LinkEvent},
    sync::{Capacity, Event, Message},
};

impl Driver {
    pub(super) fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up { session, broker, .. } => {
                tracing::info!(%session, "connected");
                self.epoch += 1;
                self.counts.connects += 1;
                self.spool.link_up();
                self.connection = Some(Connection { session, asking: false, more: true, unsent: VecDeque::new() });
                self.pace.forget();
                self.publishers.link_up();
                self.decide(Event::LinkUp(Capacity {
                    messages: broker.receive_maximum,
                    packet: broker.maximum_packet,
                }));
            }
            LinkEvent::Down { error, retry_in } => {
                tracing::debug!(%error, ?retry_in, "not connected");
                // A connection that gives way to another is no failure.
                self.counts.link_failures += u64::from(error != LinkError::Renewed);
                if self.connection.take().is_some() {
                    self.spool.link_down();
                    self.decide(Event::LinkDown);
                }
                self.notify.status(&format!("not connected: {error}"));
                self.status.clear();
            }
            LinkEvent::Certificate { expires, refused } => {
                self.certificate_expires = expires;
                self.pace.touch(self.mono());
                if let Some(error) = refused {
                    tracing::warn!(%error, "a new certificate is not used");
                    self.decide(Event::Refused { what: "certificate".into(), why: error.to_string() });
                }
                self.warn_of_expiry();
            }
            LinkEvent::Message(message) => self.message(message),
            LinkEvent::Acked { token } => {
                self.spool.acked(token);
                self.more_records();
            }
            LinkEvent::PublishRefused { token, error } => {
                tracing::warn!(%error, "a record was refused");
                self.spool.refused(token);
                self.more_records();
                self.decide(Event::Refused { what: "publish".into(), why: error.to_string() });
            }
            LinkEvent::Subscribed { topics } => tracing::trace!(?topics, "subscribed"),
            LinkEvent::SubscribeRefused { topic, error } => {
                tracing::warn!(%topic, %error, "a subscription was refused");
                self.decide(Event::Refused { what: topic, why: error.to_string() });
            }
        }
    }

    /// A certificate is renewed by people or their programs: they are told in time.
    pub(super) fn warn_of_expiry(&self) {
        let Some(expires) = self.certificate_expires else { return };
        let days = expires.saturating_sub(self.unix()).div_euclid(86_400);
        if days < certificate::WARN_DAYS {
            tracing::warn!(days, "this device's certificate expires soon; renew it, and it is used without a restart");
        }
    }

    pub(super) fn message(&mut self, message: crate::link::Message) {
        if self.publishers.heard(&message.topic, &message.payload) {
            return;
        }
        if let Some(what) = self.topics.parse_published(&message.topic) {
            self.count_message(&what, message.payload.len());
            return self.decide(Event::Message(Message { what, payload: message.payload }));
        }
        match self.topics.parse_device(&message.topic) {
            Some((device, rest)) if device == self.settings.device => {
                if let Some(name) = rest.strip_prefix("cmd/") {
                    self.command(name, &message);
                }
            }
            _ => tracing::debug!(topic = %message.topic, "a message that was not asked for"),
        }
    }
}
