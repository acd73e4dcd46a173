//! A child process whose output is kept line by line.
//!
//! It is killed by its handle when it is dropped; when a test fails, the end of its output is shown.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{Deadline, until};

/// So many lines are shown of a process when a test fails.
const SHOWN: usize = 80;

#[derive(Default)]
struct Lines {
    held: Mutex<Vec<String>>,
    came: Condvar,
}

/// A child process.
pub struct Process {
    name: String,
    child: Child,
    lines: Arc<Lines>,
}

impl Process {
    /// Starts a program. `name` is how it is called in failures.
    pub fn start(name: impl Into<String>, command: &mut Command) -> Self {
        let name = name.into();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("could not start {name}: {error}"));
        let lines = Arc::new(Lines::default());
        if let Some(output) = child.stdout.take() {
            keep(output, lines.clone());
        }
        if let Some(output) = child.stderr.take() {
            keep(output, lines.clone());
        }
        Self { name, child, lines }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Its output so far.
    pub fn lines(&self) -> Vec<String> {
        self.lines.held.lock().unwrap().clone()
    }

    /// Waits for a line of output that contains all of these words, and gives it.
    pub fn wait_for_line(&self, limit: Duration, words: &[&str]) -> String {
        self.wait_for_lines(limit, words, 1)
    }

    /// Waits for so many such lines, counted from the start of the process, and gives the last of them.
    pub fn wait_for_lines(&self, limit: Duration, words: &[&str], count: usize) -> String {
        let deadline = Deadline::after(limit);
        let mut held = self.lines.held.lock().unwrap();
        loop {
            let mut fitting = held.iter().filter(|line| words.iter().all(|word| line.contains(word)));
            if let Some(line) = fitting.nth(count.saturating_sub(1)) {
                return line.clone();
            }
            let Some(left) = deadline.left() else {
                drop(held);
                panic!("{} did not say {words:?} {count} times within {limit:?}", self.name);
            };
            held = self.lines.came.wait_timeout(held, left).unwrap().0;
        }
    }

    /// Ends it as a power cut would: SIGKILL.
    pub fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Asks it to end with SIGTERM, and waits.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        signal(self.pid(), Signal::TERM);
        self.wait(limit)
    }

    /// Waits for its end.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        until(limit, || self.child.try_wait().unwrap())
            .unwrap_or_else(|| panic!("{} did not end within {limit:?}", self.name))
    }

    /// Ends a process that it has started, with SIGKILL, as the kernel does when memory runs out.
    pub fn kill_child(&self, pid: u32) {
        self.signal_child(pid, Signal::KILL);
    }

    /// Holds a process that it has started, with SIGSTOP: from then on it does nothing at all, and is still there.
    pub fn hold_child(&self, pid: u32) {
        self.signal_child(pid, Signal::STOP);
    }

    fn signal_child(&self, pid: u32, with: Signal) {
        assert!(self.children().contains(&pid), "{pid} is no child of {}", self.name);
        signal(pid, with);
    }

    /// Waits until a process that it has started is gone.
    pub fn wait_gone(&self, pid: u32, limit: Duration) {
        let gone = until(limit, || (!self.children().contains(&pid)).then_some(()));
        assert!(gone.is_some(), "{pid}, started by {}, is still there after {limit:?}", self.name);
    }

    /// The processes that it has started and that still run, by id.
    pub fn children(&self) -> Vec<u32> {
        let path = format!("/proc/{0}/task/{0}/children", self.pid());
        let listed = std::fs::read_to_string(path).unwrap_or_default();
        let program = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
        // One that has not become another program yet holds up its parent when it is stopped.
        let own = program(self.pid());
        let children = listed.split_ascii_whitespace().filter_map(|pid| pid.parse().ok());
        children.filter(|pid| program(*pid) != own).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let lines = self.lines();
            eprintln!("--- the end of what {} said:", self.name);
            for line in lines.iter().skip(lines.len().saturating_sub(SHOWN)) {
                eprintln!("{line}");
            }
        }
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        // An error means that it has ended already.
        let _ = kill_process(pid, signal);
    }
}

fn keep(output: impl Read + Send + 'static, lines: Arc<Lines>) {
    std::thread::spawn(move || {
        let mut reader = BufReader::new(output);
        let mut line = Vec::new();
        while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
            let text = String::from_utf8_lossy(&line).trim_end().to_owned();
            lines.held.lock().unwrap().push(text);
            lines.came.notify_all();
            line.clear();
        }
    });
}
