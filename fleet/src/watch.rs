//! Watching the fleet: what devices report and emit, as it comes; with `--json` a line each: `{"device", "what", "body"}`. The records of
//! a batch are told one by one, as if each had come alone.

use std::io::Write;

use anyhow::{Context, Result};
use rumqttc::{Event, Incoming, QoS};
use sanderling_protocol::{
    batch,
    reported::{Drops, Reported, Status},
    topics::{DeviceId, Topics},
};
use serde_json::Value;

use crate::{connection::Connection, say::plain};

/// What to watch, and how to print it.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct WatchOptions {
    /// Only this device.
    #[arg(long)]
    pub(crate) device: Option<DeviceId>,
    /// Leave after this many messages.
    #[arg(long)]
    pub(crate) count: Option<usize>,
}

/// Prints until the connection ends, the count is reached, or the reader goes away.
pub(crate) async fn watch(connection: Connection, topics: &Topics, options: &WatchOptions, json: bool) -> Result<()> {
    let Connection { client, mut events } = connection;
    let device = options.device.as_ref().map_or("+", DeviceId::as_str);
    let filters = ["status", "reported", "event", "data/#", "batch/#"].map(|rest| {
        rumqttc::SubscribeFilter::new(format!("{}/device/{device}/{rest}", topics.prefix()), QoS::AtLeastOnce)
    });
    client.subscribe_many(filters).await?;
    let mut left = options.count.unwrap_or(usize::MAX);
    while left > 0 {
        let event = events.poll().await.context("the broker was lost; start `sanderling watch` again")?;
        let Event::Incoming(Incoming::Publish(message)) = event else { continue };
        let topic = String::from_utf8_lossy(&message.topic).into_owned();
        let Some((device, what)) = topics.parse_device(&topic) else { continue };
        let lines = lines(&device, what, &message.payload, json);
        if lines.iter().try_for_each(|line| writeln!(std::io::stdout(), "{line}")).is_err() {
            break;
        }
        left -= 1;
    }
    client.disconnect().await.ok();
    Ok(())
}

/// The lines of a message: one, or one for each record of a batch.
fn lines(device: &DeviceId, what: &str, payload: &[u8], json: bool) -> Vec<String> {
    let Some(channel) = what.strip_prefix(batch::TOPIC).filter(|rest| rest.starts_with('/')) else {
        return vec![line(device, what, payload, json)];
    };
    match batch::decode(payload) {
        Ok(records) => {
            let what = format!("data{channel}");
            records.iter().map(|record| line(device, &what, &record.payload, json)).collect()
        }
        Err(error) => vec![line(device, what, error.to_string().as_bytes(), json)],
    }
}

/// One line, whatever the device or a guest put into it.
fn line(device: &DeviceId, what: &str, payload: &[u8], json: bool) -> String {
    if json {
        let body: Value = serde_json::from_slice(payload)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(payload).into_owned()));
        return serde_json::json!({ "device": device, "what": what, "body": body }).to_string();
    }
    plain(&format!("{device}  {}", describe(what, payload)))
}

/// A message in words.
fn describe(what: &str, payload: &[u8]) -> String {
    let text = || String::from_utf8_lossy(payload).into_owned();
    match what {
        "status" => serde_json::from_slice(payload).map_or_else(
            |_| text(),
            |status: Status| format!("{} (agent {})", if status.online { "online" } else { "offline" }, status.agent),
        ),
        "reported" => serde_json::from_slice(payload).map_or_else(|_| text(), |report: Reported| summary(&report)),
        what => format!("{what}  {}", text()),
    }
}

/// What kept frames from a module, where something did.
fn causes(drops: &Drops) -> String {
    let named =
        drops.by_cause().into_iter().filter(|(_, count)| *count > 0).map(|(cause, count)| format!("{count} {cause}"));
    let named = named.collect::<Vec<_>>().join(", ");
    if named.is_empty() { named } else { format!(" ({named})") }
}

fn summary(report: &Reported) -> String {
    let mut words = match &report.deployment {
        None => "no deployment".to_owned(),
        Some(deployment) => {
            let state = serde_json::to_value(deployment.state).ok();
            let state = state.as_ref().and_then(Value::as_str).unwrap_or("?").to_owned();
            let why = deployment.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
            format!("deployment {} version {} {state}{why}", deployment.name, deployment.version)
        }
    };
    for module in &report.modules {
        let state = serde_json::to_value(module.state).ok();
        let state = state.as_ref().and_then(Value::as_str).unwrap_or("?");
        words.push_str(&format!("; {} {state}, {} frames, {} dropped", module.name, module.frames, module.dropped));
        words.push_str(&causes(&module.drops));
        if module.restarts > 0 {
            words.push_str(&format!(", started again {} times", module.restarts));
        }
        if let Some(fault) = &module.fault {
            words.push_str(&format!(", last fault {fault}"));
        }
        if let Some(at) = module.next_restart {
            words.push_str(&format!(", started again at {at}"));
        }
        if !module.unconfined.is_empty() {
            let missing: Vec<&str> = module.unconfined.iter().map(|missing| missing.measure.name()).collect();
            words.push_str(&format!(", without {}", missing.join(", ")));
        }
    }
    if let Some(refused) = report.refused.last() {
        words.push_str(&format!("; refused {}: {}", refused.what, refused.why));
    }
    if report.outbox.records > 0 {
        words.push_str(&format!("; {} records wait", report.outbox.records));
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_told_record_by_record() {
        let mut builder = batch::BatchBuilder::default();
        assert!(builder.push(1, 0, b"one") && builder.push(2, 0, b"2"));
        let told = |payload: &[u8]| lines(&"gw-1".parse().unwrap(), "batch/m/c", payload, false);
        assert_eq!(told(&builder.finish()), ["gw-1  data/m/c  one", "gw-1  data/m/c  2"]);
        assert_eq!(told(b""), ["gw-1  batch/m/c  a batch without its header"]);
    }

    #[test]
    fn what_a_guest_emits_stays_one_line_and_steers_no_terminal() {
        let line = |json| line(&"gw-1".parse().unwrap(), "data/m/c", b"a\x1b[2J\nb\xff", json);
        assert_eq!(line(false), "gw-1  data/m/c  a\\u{1b}[2J\\nb\u{fffd}");
        let value: Value = serde_json::from_str(&line(true)).unwrap();
        assert_eq!(value["body"], "a\u{1b}[2J\nb\u{fffd}");
        assert!(!line(true).chars().any(char::is_control));
    }
}
