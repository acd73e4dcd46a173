//! What the modules of a device log, as it comes, while a lease runs; with `--json` a line each, as the device sends it.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result};
use rumqttc::{Event, Incoming, Publish, QoS};
use sanderling_protocol::{
    command::{LogLevel, LogLine, Logging, LogsRequest},
    topics::{DeviceId, Topics},
};

use crate::{ask, connection::Connection};

/// Which lines.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct LogsOptions {
    /// Lines of this module alone.
    #[arg(long)]
    module: Option<String>,
    /// Lines of this level and of more urgent ones.
    #[arg(long, default_value = "info", value_parser = level)]
    level: LogLevel,
    /// For so many seconds; at most an hour.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    lease: u32,
    /// Leave after this many lines.
    #[arg(long)]
    count: Option<usize>,
}

fn level(name: &str) -> Result<LogLevel, String> {
    serde_json::from_value(name.into()).map_err(|_| "error, warn, info, debug or trace".to_owned())
}

/// Asks for the lines, and prints them until the lease is over, the count is reached, or the reader goes away.
pub(crate) async fn logs(
    mut connection: Connection,
    topics: &Topics,
    device: &DeviceId,
    options: LogsOptions,
    json: bool,
) -> Result<()> {
    let topic = topics.device(device, "log");
    let request = LogsRequest { lease_s: options.lease, level: options.level, module: options.module };
    connection.client.subscribe(topic.clone(), QoS::AtMostOnce).await?;
    let mut printer = Printer { topic, json, left: options.count.unwrap_or(usize::MAX) };
    let body = ask::ask(&mut connection, topics, device, "logs", serde_json::to_vec(&request)?, |message| {
        printer.take(message)
    });
    let body = body.await?.context("the answer is empty")?;
    let logging: Logging = serde_json::from_value(body).context("the answer is of another version")?;
    let lines = async {
        while printer.left > 0 {
            let event = connection.events.poll().await.context("the broker was lost; ask again")?;
            if let Event::Incoming(Incoming::Publish(message)) = event {
                printer.take(&message);
            }
        }
        Ok(())
    };
    // The end of the lease is a good end.
    let done = tokio::time::timeout(Duration::from_secs(logging.lease_s.into()), lines).await.unwrap_or(Ok(()));
    connection.client.disconnect().await.ok();
    done
}

struct Printer {
    topic: String,
    json: bool,
    left: usize,
}

impl Printer {
    fn take(&mut self, message: &Publish) {
        if self.left == 0 || message.topic != self.topic.as_bytes() {
            return;
        }
        self.left -= 1;
        let text = String::from_utf8_lossy(&message.payload);
        let line = match serde_json::from_slice::<LogLine>(&message.payload) {
            Ok(line) if !self.json => describe(&line),
            _ => text.into_owned(),
        };
        if writeln!(std::io::stdout(), "{line}").is_err() {
            self.left = 0;
        }
    }
}

/// One line for people; what a guest says may hold anything, and stays one line.
fn describe(line: &LogLine) -> String {
    let LogLine { at_ms, module, level, text, omitted } = line;
    let level = serde_json::to_value(level).ok();
    let level = level.as_ref().and_then(serde_json::Value::as_str).unwrap_or("?").to_owned();
    let omitted = if *omitted > 0 { format!("({omitted} lines were left out) ") } else { String::new() };
    format!(
        "{}.{:03} {module} {level:<5} {omitted}{}",
        at_ms.div_euclid(1000),
        at_ms.rem_euclid(1000),
        text.escape_debug()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_tells_what_was_left_out() {
        let line =
            LogLine { at_ms: 1_500, module: "m".into(), level: LogLevel::Warn, text: "a\nb\u{1b}".into(), omitted: 3 };
        assert_eq!(describe(&line), r"1.500 m warn  (3 lines were left out) a\nb\u{1b}");
    }

    #[test]
    fn knows_the_levels() {
        assert_eq!(level("trace"), Ok(LogLevel::Trace));
        assert!(level("loud").is_err_and(|error| error.contains("debug")));
    }
}
