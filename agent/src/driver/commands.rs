//! Answers commands. They diagnose; none changes what runs.
//!
//! Invariants: a command that the broker kept (retained) is not carried out; an answer goes to the response topic alone.
//!
//! Limits: [`PER_S`] commands a second, and ten seconds' worth at once. What comes beyond is not carried out; once a second somebody is told
//! so, and the rest is only counted, so that a flood costs neither answers nor a log.

use std::time::Duration;

use sanderling_protocol::command::{Answer, CapsuleRequest, Command, Logging, ModuleRequest, Restarted};
use serde_json::json;

use super::{
    Driver,
    capsules::{Asked, Question, refusal},
    keeper::Job,
    logs::LINES_PER_S,
};
use crate::{
    link::{Message, Publish, Response},
    rate::Bucket,
    sync::Event,
};

/// Commands a second that are carried out.
const PER_S: u32 = 5;
/// Answers a second that say that there were too many.
const REFUSALS_PER_S: u32 = 1;
/// A response topic is at most this long, in bytes.
const MAX_TOPIC: usize = 512;
/// A command's name is cut to this many characters: what a topic says goes into log and answer.
const MAX_NAME: usize = 64;

/// How many commands may come.
#[derive(Debug)]
pub(super) struct Rates {
    taken: Bucket,
    refused: Bucket,
    unanswered: u64,
}

impl Rates {
    /// Nothing came yet.
    pub(super) fn new(now: Duration) -> Self {
        Self { taken: Bucket::new(PER_S, now), refused: Bucket::new(REFUSALS_PER_S, now), unanswered: 0 }
    }

    /// Whether one more may be carried out; where not, the answer, unless there were too many of those too.
    fn take(&mut self, now: Duration) -> Result<(), Option<Answer>> {
        if self.taken.take(now) {
            return Ok(());
        }
        if !self.refused.take(now) {
            self.unanswered += 1;
            return Err(None);
        }
        let before = std::mem::take(&mut self.unanswered);
        let error =
            format!("too many commands: {PER_S} a second are carried out; {before} before this one went unanswered");
        Err(Some(refusal(error)))
    }
}

impl Driver {
    pub(super) fn command(&mut self, name: &str, message: &Message) {
        let name: String = name.chars().take(MAX_NAME).collect();
        if message.retained {
            return tracing::debug!(name, "a command that was kept by the broker is not carried out");
        }
        let answer = match self.rates.take(self.clock.mono()) {
            Ok(()) => match Command::parse(&name, &message.payload) {
                Ok(command) => self.obey(command, &message.response),
                Err(error) => Some(refusal(error.to_string())),
            },
            Err(Some(answer)) => Some(answer),
            Err(None) => return,
        };
        tracing::info!(name, ok = answer.as_ref().is_none_or(|answer| answer.ok), "command");
        if let (Some(answer), Some(response)) = (answer, &message.response) {
            self.answer(response, &answer);
        }
    }

    /// The answer; `None` where it comes later.
    fn obey(&mut self, command: Command, asked: &Asked) -> Option<Answer> {
        let done = |body| Some(Answer { ok: true, error: None, body });
        let later = |question| Job::Capsules(question, asked.clone());
        match command {
            Command::Capsules => {
                self.keeper.give(later(Question::List));
                None
            }
            Command::Capsule(CapsuleRequest { id, offset }) => {
                self.keeper.give(later(Question::Piece { id, offset }));
                None
            }
            Command::Capture(request) => self.capture(&request, asked.clone()),
            Command::Ping => {
                let uptime = self.mono();
                done(Some(json!({ "agent": env!("CARGO_PKG_VERSION"), "uptime_s": whole_seconds(uptime) })))
            }
            Command::Refresh => {
                self.decide(Event::Refresh);
                done(None)
            }
            Command::Restart(ModuleRequest { module }) => match self.works.restart(self.sync.generation(), &module) {
                Ok(before) => {
                    self.pace.touch(self.mono());
                    let restarted = Restarted { module, was: before.state, restarts: before.restarts };
                    done(serde_json::to_value(restarted).ok())
                }
                Err(error) => Some(refusal(error)),
            },
            Command::Logs(request) => {
                let lease_s = self.gathered.borrow_mut().logs.begin(request, self.mono());
                done(serde_json::to_value(Logging { lease_s, lines_per_s: LINES_PER_S }).ok())
            }
            Command::Report => {
                let Some(report) = self.build_report() else { return done(None) };
                self.pace.published(&report, self.mono());
                self.publish_report(&report);
                done(serde_json::to_value(&report).ok())
            }
        }
    }

    pub(super) fn answer(&self, response: &Response, answer: &Answer) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_commands_costs_neither_work_nor_answers() {
        let mut rates = Rates::new(Duration::ZERO);
        let mut flood = |now| {
            let taken: Vec<_> = (0..1000).map(|_| rates.take(now)).collect();
            let count =
                |wanted: fn(&Result<(), Option<Answer>>) -> bool| taken.iter().filter(|one| wanted(one)).count();
            (count(|one| one.is_ok()), count(|one| matches!(one, Err(Some(_)))))
        };
        assert_eq!(flood(Duration::ZERO), (50, 10), "ten seconds' worth");
        assert_eq!(flood(Duration::from_secs(1)), (5, 1));
        let told = rates.take(Duration::from_secs(2)).and_then(|()| rates.take(Duration::from_secs(2)));
        assert_eq!(told, Ok(()), "who is patient is heard");
    }

    #[test]
    fn who_is_refused_learns_why_and_how_many_were() {
        let mut rates = Rates::new(Duration::ZERO);
        let told: Vec<Answer> = (0..70).filter_map(|_| rates.take(Duration::ZERO).err().flatten()).collect();
        assert_eq!(told.len(), 10);
        let later = Duration::from_secs(1);
        let told = (0..6).find_map(|_| rates.take(later).err().flatten()).and_then(|answer| answer.error);
        assert!(
            told.as_ref().is_some_and(|text| text.contains("5 a second") && text.contains("10 before")),
            "{told:?}"
        );
    }
}
