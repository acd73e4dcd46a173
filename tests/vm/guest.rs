//! What is in the machine, through QEMU's guest agent: commands and what they print.

use std::{path::Path, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use sanderling_tests::{Deadline, until};
use serde_json::{Value, json};

use crate::lines::Lines;

/// After so long without an answer it is asked again whether it is there.
const SYNC: Duration = Duration::from_secs(2);
/// How long a guest that is up may take to answer.
const ANSWER: Duration = Duration::from_secs(60);
/// How long a command may take: installing a package under emulation is the longest.
const COMMAND: Duration = Duration::from_secs(300);

/// A guest that answers.
pub(crate) struct Guest {
    agent: Lines,
}

impl Guest {
    /// Waits until the guest agent answers.
    pub(crate) fn connect(socket: &Path, limit: Duration) -> Self {
        let deadline = Deadline::after(limit);
        let mut agent = Lines::connect(socket, limit);
        let mut number = 0;
        // What is said before it listens is answered late, so each question has a number of its own.
        loop {
            assert!(deadline.left().is_some(), "the guest agent does not answer within {limit:?}");
            number += 1;
            agent.send(&json!({ "execute": "guest-sync", "arguments": { "id": number } }).to_string());
            let wanted = json!({ "return": number });
            while let Some(line) = agent.next(SYNC) {
                if serde_json::from_str::<Value>(&line).is_ok_and(|answer| answer == wanted) {
                    return Self { agent };
                }
            }
        }
    }

    /// Runs a shell script, which must succeed, and gives what it printed.
    pub(crate) fn run(&mut self, script: &str) -> String {
        let (status, output) = self.try_run(script);
        assert_eq!(status, 0, "{script}: {output}");
        output
    }

    /// Runs a shell script and gives its exit status and what it printed.
    pub(crate) fn try_run(&mut self, script: &str) -> (i64, String) {
        let arguments =
            json!({ "path": "/bin/sh", "arg": ["-c", format!("exec 2>&1; {script}")], "capture-output": true });
        let started = self.ask("guest-exec", arguments);
        let ended = until(COMMAND, || {
            let status = self.ask("guest-exec-status", json!({ "pid": started["pid"] }));
            (status["exited"] == true).then_some(status)
        });
        let ended = ended.unwrap_or_else(|| panic!("not over within {COMMAND:?}: {script}"));
        let output = STANDARD.decode(ended["out-data"].as_str().unwrap_or_default()).unwrap_or_default();
        (ended["exitcode"].as_i64().unwrap_or(-1), String::from_utf8_lossy(&output).into_owned())
    }

    /// Turns the machine off in order.
    pub(crate) fn turn_off(&mut self) {
        // It does not answer to this one.
        self.agent.send(&json!({ "execute": "guest-shutdown" }).to_string());
    }

    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        let command = json!({ "execute": command, "arguments": arguments });
        self.agent.ask(&command, ANSWER).unwrap_or_else(|| panic!("the guest agent does not answer to {command}"))
    }
}
