//! Answers commands. They diagnose; none changes what runs.
//!
//! Invariants: a command that the broker kept (retained) is not carried out; an answer goes to the response topic alone.

use std::time::Duration;

use sanderling_protocol::command::{Answer, Command};
use serde_json::json;

use super::Driver;
use crate::{
    link::{Message, Publish, Response},
    sync::Event,
};

/// A response topic is at most this long, in bytes.
const MAX_TOPIC: usize = 512;
/// A command's name is cut to this many characters: what a topic says goes into log and answer.
const MAX_NAME: usize = 64;

impl Driver {
    pub(super) fn command(&mut self, name: &str, message: &Message) {
        let name: String = name.chars().take(MAX_NAME).collect();
        if message.retained {
            return tracing::debug!(name, "a command that was kept by the broker is not carried out");
        }
        let answer = match Command::parse(&name, &message.payload) {
            Ok(command) => self.obey(command),
            Err(error) => Answer { ok: false, error: Some(error.to_string()), body: None },
        };
        tracing::info!(name, ok = answer.ok, "command");
        if let Some(response) = &message.response {
            self.answer(response, &answer);
        }
    }

    fn obey(&mut self, command: Command) -> Answer {
        let done = |body| Answer { ok: true, error: None, body };
        match command {
            Command::Ping => {
                let uptime = self.mono();
                done(Some(json!({ "agent": env!("CARGO_PKG_VERSION"), "uptime_s": whole_seconds(uptime) })))
            }
            Command::Refresh => {
                self.decide(Event::Refresh);
                done(None)
            }
            Command::Report => {
                let Some(report) = self.build_report() else { return done(None) };
                self.pace.published(&report, self.mono());
                self.publish_report(&report);
                done(serde_json::to_value(&report).ok())
            }
        }
    }

    fn answer(&self, response: &Response, answer: &Answer) {
        let topic = &response.topic;
        if topic.is_empty() || topic.len() > MAX_TOPIC || topic.contains(['+', '#', '\0']) {
            return tracing::warn!("an answer was asked for on what is not a topic");
        }
        let payload = match serde_json::to_vec(answer) {
            Ok(payload) => payload,
            Err(error) => return tracing::error!(%error, "the answer has no JSON form"),
        };
        let publish = Publish::new(topic.clone(), payload).with_correlation(response.correlation.clone());
        if let Err(error) = self.link.publish(publish) {
            tracing::warn!(%error, "the answer was not sent");
        }
    }
}

fn whole_seconds(time: Duration) -> u64 {
    time.as_secs()
}
