//! Judges payments one by one, each in an instance of its own (execution `isolated`): what one merchant's payment holds cannot reach the
//! next one's. What is known of earlier ones is how often an account paid, where the rule `velocity` asks for it.
//!
//! A frame is one payment as JSON. Each rule of the deployment's `config` that a payment meets adds to its score; the score makes the verdict:
//! `decline` from `decline` upwards, `review` from `review` upwards, else `accept`. A payment that cannot be read is never
//! accepted: its verdict is `review`, with the rule `unreadable`.
//!
//! `{"velocity": {"payments": 3, "window_s": 60, "score": 40}}` adds 40 to the fourth payment and each further one that an `account` makes within a minute. It
//! takes the grant `state:<bytes>`; 131,072 remember all 2,048 accounts that there is room for.
//!
//! On the channel `verdicts` it emits `{"seq", "id", "verdict", "score", "rules"}`, the rules by name in the order of the table in
//! `rules`.

mod config;
mod payment;
mod rules;
mod velocity;

use sanderling_guest::{
    errno,
    sdk::{self, Errno, Fault, Frame, Guest, Level},
};
use serde::Serialize;

pub use config::Config;
pub use payment::Payment;

const CHANNEL: &str = "verdicts";

/// What becomes of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may go on.
    Accept,
    /// Somebody should look at it.
    Review,
    /// It should not go on.
    Decline,
}

#[derive(Serialize)]
struct Record<'a> {
    seq: u64,
    id: Option<&'a str>,
    verdict: Verdict,
    score: u32,
    rules: &'a [&'static str],
}

/// The guest.
#[derive(Debug)]
pub struct FraudRule {
    config: Config,
}

impl Guest for FraudRule {
    fn start() -> Result<Self, Fault> {
        let config: Config = sdk::config()?;
        config.velocity.map_or(Ok(()), |_| velocity::check_grant())?;
        Ok(Self { config })
    }

    fn frame(&mut self, frame: &mut Frame) -> Result<(), Fault> {
        let seq = frame.header().seq;
        match Payment::parse(frame.bytes()?) {
            Ok(mut payment) => {
                if let Some(rule) = self.config.velocity.filter(|_| !payment.account.is_empty()) {
                    payment.recent = velocity::count(&rule, &payment)?;
                }
                let (score, rules) = rules::judge(&self.config, &payment);
                let verdict = self.config.verdict(score);
                tell(&Record { seq, id: Some(&payment.id), verdict, score, rules: &rules })
            }
            Err(why) => {
                sdk::log(Level::Warn, &format!("payment {seq} cannot be read: {why}"));
                let score = self.config.review;
                tell(&Record { seq, id: None, verdict: Verdict::Review, score, rules: &["unreadable"] })
            }
        }
    }
}

/// Whoever waits for a verdict hears of one that is lost at least in the log.
fn tell(record: &Record<'_>) -> Result<(), Fault> {
    match sdk::emit_json(CHANNEL, record) {
        Err(Errno(errno::EAGAIN)) => {
            sdk::log(Level::Error, &format!("the verdict on payment {} is lost: raise emit_per_s", record.seq));
            Ok(())
        }
        result => Ok(result?),
    }
}

sanderling_guest::guest!(FraudRule);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
