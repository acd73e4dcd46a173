//! Whether the broker can be reached: its name, a connection, TLS with both certificates, and MQTT.
//!
//! Invariant: the session of an agent that runs is not disturbed. A broker ends a session where another comes with its client id; so CONNECT is tried
//! only while this process has the agent's database, and with it the word that no agent runs.

use super::{Finding, Outcome, session::Session};
use crate::{
    link::{
        LinkError,
        probe::{Stage, connect, probe},
    },
    settings::Settings,
};

const AREA: &str = "broker";

/// Tries the way to the broker.
pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let stages = probe(&settings.broker).await;
    let reached = stages.last().is_some_and(|(stage, result)| *stage == Stage::Tls && result.is_ok());
    let mut findings: Vec<Finding> = stages.into_iter().map(|(stage, result)| finding(name(stage), result)).collect();
    if reached {
        // Looked at now, and held as long as it is needed: an agent that starts waits for it no longer.
        let session = Session::look(&settings.paths.state);
        let taken = match session.why_not_free() {
            None => connect(&settings.broker, &settings.device).await,
            Some(why) => Ok(format!("not tried: {why}, and a second session of this device would end the first")),
        };
        findings.push(finding("connect", taken));
    }
    findings
}

fn finding(check: &'static str, result: Result<String, LinkError>) -> Finding {
    let (outcome, says) = match result {
        Ok(says) => (Outcome::Good, says),
        Err(error) => (Outcome::Bad, error.to_string()),
    };
    Finding { area: AREA, check, outcome, says }
}

fn name(stage: Stage) -> &'static str {
    match stage {
        Stage::Name => "name",
        Stage::Tcp => "tcp",
        Stage::Tls => "tls",
    }
}
