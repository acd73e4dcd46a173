//! Programs that may take until a moment, and are ended then.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{RecvTimeoutError, channel},
    thread,
};

use anyhow::{Context, Result};

use crate::clock::Deadline;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself.
    Status(ExitStatus),
    /// Its time was over.
    Ended,
}

/// Runs a program until `deadline` at most; `line` sees each line that it prints. What it says on standard error goes to ours.
///
/// It ends when its output does: what the program itself started is waited for as long as that may print there.
pub(super) fn run(command: &mut Command, deadline: Deadline, mut line: impl FnMut(&str)) -> Result<End> {
    let name = command.get_program().to_string_lossy().into_owned();
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = child.with_context(|| format!("could not start {name}"))?;
    let output = child.stdout.take().context("the program has no output")?;
    let (sender, lines) = channel();
    // It ends with the output, or when nobody listens any more.
    thread::spawn(move || {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    loop {
        match lines.recv_timeout(deadline.left()) {
            Ok(text) => line(&text),
            Err(RecvTimeoutError::Disconnected) => {
                return child.wait().map(End::Status).with_context(|| format!("could not wait for {name}"));
            }
            Err(RecvTimeoutError::Timeout) => {
                end(&mut child).with_context(|| format!("could not end {name}"))?;
                return Ok(End::Ended);
            }
        }
    }
}

fn end(child: &mut Child) -> std::io::Result<()> {
    child.kill()?;
    child.wait().map(|_| ())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn shell(text: &str, limit: Duration) -> (End, Vec<String>) {
        let mut lines = Vec::new();
        let end =
            run(Command::new("sh").args(["-c", text]), Deadline::after(limit), |line| lines.push(line.to_owned()));
        (end.unwrap(), lines)
    }

    #[test]
    fn what_ends_in_time_is_heard_to_its_end() {
        let (end, lines) = shell("echo one; echo two; exit 3", Duration::from_secs(30));
        assert!(matches!(end, End::Status(status) if status.code() == Some(3)), "{end:?}");
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn what_does_not_end_is_ended() {
        let (end, lines) = shell("echo one; exec sleep 1000", Duration::from_secs(1));
        assert_eq!((end, lines), (End::Ended, vec!["one".to_owned()]));
    }
}
