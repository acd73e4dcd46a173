//! What a local run prints: a line a frame and the summary to one writer, the module's log to another.
//!
//! Invariants: with JSON each line is one object; without, control characters that a guest or a file name brings are shown
//! as escapes, so that nothing but this program steers the terminal.

use std::{
    fmt::Write as _,
    io::{self, Write},
};

use sanderling_protocol::worker::Fault;
use sanderling_runtime::FrameReport;
use serde_json::{Map, Value, json};

use super::{
    heard::{Record, Said},
    summary::{Summary, fault_words},
};
use crate::say::plain;

/// Of a record that is shown to people, so many characters.
const SHOWN: usize = 400;

/// What a line is about.
#[derive(Clone, Copy, Debug)]
pub(crate) enum About<'a> {
    /// The start of the guest.
    Start,
    /// A frame: its number and its file.
    Frame(u64, &'a str),
    /// The end of the guest.
    Stop,
}

/// What became of it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Became<'a> {
    /// The guest handled the frame.
    Done(&'a FrameReport),
    /// The guest was started or stopped.
    Passed,
    /// The frame did not reach the guest.
    Refused(&'a str),
    /// The guest is over.
    Fault(&'a Fault),
}

/// Prints.
pub(crate) struct Printer<'a> {
    /// Takes frames and the summary.
    pub(crate) out: &'a mut dyn Write,
    /// Takes the module's log.
    pub(crate) log: &'a mut dyn Write,
    /// Objects instead of words.
    pub(crate) json: bool,
}

impl Printer<'_> {
    /// Prints what became of something, with what the guest said meanwhile.
    ///
    /// # Errors
    /// Those of the writers.
    pub(crate) fn line(&mut self, about: About<'_>, became: Became<'_>, said: &Said) -> io::Result<()> {
        for (level, text) in &said.lines {
            let level = ["error", "warn", "info", "debug", "trace"].get(usize::from(*level)).unwrap_or(&"trace");
            writeln!(self.log, "{level}: {}", plain(text))?;
        }
        if said.left_out > 0 {
            writeln!(self.log, "{} records and lines of one frame are not shown: they are too many", said.left_out)?;
        }
        // Of starting and stopping only what is out of the ordinary.
        if matches!(became, Became::Passed) && said.records.is_empty() {
            return Ok(());
        }
        if self.json {
            return writeln!(self.out, "{}", object(about, became, &said.records));
        }
        writeln!(self.out, "{}", plain(&words(about, became, &said.records)))
    }

    /// Prints the last line, or the last lines.
    ///
    /// # Errors
    /// Those of the writer.
    pub(crate) fn summary(&mut self, summary: &Summary) -> io::Result<()> {
        if self.json {
            return writeln!(self.out, "{}", json!(summary));
        }
        writeln!(self.out)?;
        summary.to_string().lines().try_for_each(|line| writeln!(self.out, "{}", plain(line)))
    }
}

fn object(about: About<'_>, became: Became<'_>, records: &[Record]) -> Value {
    let mut line = Map::new();
    let mut put = |key: &str, value: Value| _ = line.insert(key.to_owned(), value);
    match about {
        About::Start => put("what", json!("start")),
        About::Stop => put("what", json!("stop")),
        About::Frame(seq, file) => {
            put("what", json!("frame"));
            put("seq", json!(seq));
            put("file", json!(file));
        }
    }
    match became {
        Became::Done(FrameReport { fuel, took_ns, memory_bytes, .. }) => {
            put("outcome", json!("done"));
            put("took_ns", json!(took_ns));
            put("fuel", json!(fuel));
            put("memory_bytes", json!(memory_bytes));
        }
        Became::Passed => put("outcome", json!("done")),
        Became::Refused(why) => {
            put("outcome", json!("refused"));
            put("why", json!(why));
        }
        Became::Fault(fault) => {
            put("outcome", json!("fault"));
            put("fault", json!(fault));
        }
    }
    let records =
        records.iter().map(|Record { channel, payload }| json!({ "channel": channel, "payload": value(payload) }));
    put("records", records.collect());
    Value::Object(line)
}

/// JSON as it is, text as text, and other bytes as `{"hex": …}`.
fn value(payload: &[u8]) -> Value {
    serde_json::from_slice(payload).unwrap_or_else(|_| match std::str::from_utf8(payload) {
        Ok(text) => json!(text),
        Err(_) => json!({ "hex": hex(payload) }),
    })
}

/// Two digits a byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        _ = write!(text, "{byte:02x}");
        text
    })
}

fn words(about: About<'_>, became: Became<'_>, records: &[Record]) -> String {
    let mut words = match about {
        About::Start => "start".to_owned(),
        About::Stop => "stop".to_owned(),
        About::Frame(seq, file) => format!("{seq:>6}  {file}"),
    };
    match became {
        Became::Done(FrameReport { fuel, took_ns, .. }) => {
            words.push_str(&format!("  {} us  fuel {fuel}", took_ns / 1000));
        }
        Became::Passed => {}
        Became::Refused(why) => words.push_str(&format!("  refused: {why}")),
        Became::Fault(fault) => words.push_str(&format!("  fault: {}", fault_words(fault, None))),
    }
    for Record { channel, payload } in records {
        let text = std::str::from_utf8(payload).map_or_else(|_| hex(payload), str::to_owned);
        match text.char_indices().nth(SHOWN).and_then(|(end, _)| text.get(..end)) {
            Some(shown) => words.push_str(&format!("  {channel} {shown} … ({} bytes)", payload.len())),
            None => words.push_str(&format!("  {channel} {text}")),
        }
    }
    words
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sanderling_protocol::worker::FaultCode;

    fn print(json: bool, about: About<'_>, became: Became<'_>, said: &Said) -> (String, String) {
        let (mut out, mut log) = (Vec::new(), Vec::new());
        Printer { out: &mut out, log: &mut log, json }.line(about, became, said).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(log).unwrap())
    }

    fn said(payloads: &[&[u8]]) -> Said {
        let record = |payload: &&[u8]| Record { channel: "c".into(), payload: payload.to_vec() };
        let mut said = Said::default();
        said.records = payloads.iter().map(record).collect();
        said.lines.push((1, "hot\x1b[2J".into()));
        said
    }

    const REPORT: FrameReport = FrameReport { fuel: 12, took_ns: 3_456, ended_ns: 0, memory_bytes: 65_536 };

    #[test]
    fn a_frame_is_one_line_that_cannot_steer_the_terminal() {
        let said = said(&[b"{\"a\":\n1}", b"\xff\x00", "x".repeat(1000).as_bytes()]);
        let (out, log) = print(false, About::Frame(7, "a\x07.png"), Became::Done(&REPORT), &said);
        let shown = "x".repeat(SHOWN);
        assert_eq!(
            out,
            format!("     7  a\\u{{7}}.png  3 us  fuel 12  c {{\"a\":\\n1}}  c ff00  c {shown} … (1000 bytes)\n")
        );
        assert_eq!(log, "warn: hot\\u{1b}[2J\n");
    }

    #[test]
    fn a_frame_is_one_object() {
        let (out, _) =
            print(true, About::Frame(7, "a.png"), Became::Done(&REPORT), &said(&[b"{\"a\": 1}", b"text", b"\xff"]));
        let wanted = json!({
            "what": "frame", "seq": 7, "file": "a.png", "outcome": "done", "took_ns": 3_456, "fuel": 12,
            "memory_bytes": 65_536, "records": [
                { "channel": "c", "payload": { "a": 1 } },
                { "channel": "c", "payload": "text" },
                { "channel": "c", "payload": { "hex": "ff" } },
            ],
        });
        assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), wanted);
    }

    #[test]
    fn refusals_and_faults_say_why() {
        let fault = Fault { trap: Some("unreachable".into()), ..Fault::new(FaultCode::Trap, "it trapped") };
        let frame = About::Frame(1, "a.png");
        let silent = Said::default();
        assert!(print(false, frame, Became::Refused("too dark"), &silent).0.contains("refused: too dark"));
        assert!(print(false, frame, Became::Fault(&fault), &silent).0.contains("trap (unreachable): it trapped"));
        let line: Value = serde_json::from_str(&print(true, frame, Became::Fault(&fault), &silent).0).unwrap();
        assert_eq!((&line["outcome"], &line["fault"]["code"]), (&json!("fault"), &json!("trap")));
        let line: Value = serde_json::from_str(&print(true, frame, Became::Refused("dark"), &silent).0).unwrap();
        assert_eq!((&line["outcome"], &line["why"]), (&json!("refused"), &json!("dark")));
        assert_eq!(print(true, About::Start, Became::Passed, &silent).0, "");
    }
}
