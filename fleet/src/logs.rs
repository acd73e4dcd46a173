//! What the modules of a device log, as it comes, while a lease runs; with `--json` a line each, as the device sends it.

use std::{io::Write, time::Duration};

use anyhow::Result;
use rumqttc::{Publish, QoS};
use sanderling_protocol::command::{LogLevel, LogLine, Logging, LogsRequest};

use crate::{line::Line, say::plain};

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
pub(crate) async fn logs(line: &mut Line, topic: String, options: LogsOptions, json: bool) -> Result<()> {
    let request = LogsRequest { lease_s: options.lease, level: options.level, module: options.module };
    line.listen(topic.clone(), QoS::AtMostOnce).await?;
    let mut printer = Printer { topic, json, left: options.count.unwrap_or(usize::MAX) };
    let logging: Logging = line.ask_beside("logs", &request, |message| printer.take(message)).await?;
    let lines = async {
        while printer.left > 0 {
            printer.take(&line.message().await?);
        }
        Ok(())
    };
    // The end of the lease is a good end.
    tokio::time::timeout(Duration::from_secs(logging.lease_s.into()), lines).await.unwrap_or(Ok(()))
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
        let line = match serde_json::from_slice::<LogLine>(&message.payload) {
            Ok(line) if self.json => serde_json::to_string(&line).unwrap_or_default(),
            Ok(line) => describe(&line),
            Err(_) => {
                let text = String::from_utf8_lossy(&message.payload);
                return eprintln!("sanderling: what came is no line of a log: {}", plain(&text));
            }
        };
        self.left -= 1;
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
    let (seconds, millis) = (at_ms.div_euclid(1000), at_ms.rem_euclid(1000));
    plain(&format!("{seconds}.{millis:03} {module} {level:<5} {omitted}{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_line_and_tells_what_was_left_out() {
        let line = LogLine {
            at_ms: 1_500,
            module: "m\r".into(),
            level: LogLevel::Warn,
            text: "\"a\"\nb\u{1b}".into(),
            omitted: 3,
        };
        assert_eq!(describe(&line), r#"1.500 m\r warn  (3 lines were left out) "a"\nb\u{1b}"#);
    }

    #[test]
    fn knows_the_levels() {
        assert_eq!(level("trace"), Ok(LogLevel::Trace));
        assert!(level("loud").is_err_and(|error| error.contains("debug")));
    }
}
