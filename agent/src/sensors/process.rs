//! A sensor that reads what a command writes to its standard output: lines, or frames as [`super::wire`] says.
//!
//! No shell is between: the command is a list of arguments, the first of them the path of a program. It runs while a module takes its frames,
//! or always where the settings say so; with nothing on standard input and in its environment but [`PATH`] and what the settings give. What it
//! writes to standard error goes to the log, within bounds.
//!
//! Invariants: it leads a process group of its own, which ends with the sensor. While it is not reaped, its number is not given to another.
//!
//! Failure modes: a command that cannot be started, ends, or writes what is no frame is reported and started again with growing pauses.
//! Lines that are too long, torn or not of their format are refused and counted.
//!
//! Limits: a buffer of 64 KiB, or of the largest frame. It has the rights of the agent, and is confined as that is: see docs/sensors.md.
//! Where the agent is killed without a service manager that ends its whole group, the command ends at its next line, which nobody reads.

use std::{
    collections::BTreeMap,
    io,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    pin::Pin,
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, ChildStderr, ChildStdout, Command},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    LineSettings, Outlet, Sensor,
    buffer::Buffer,
    lines::Lines,
    wire::{self, FrameError},
};
use crate::{backoff::Backoff, clock::Clock, rate::Bucket};

/// Where programs are looked for that the command starts in turn.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a command that is asked to end may take.
const GRACE: Duration = Duration::from_secs(2);
/// How often it is looked whether it has ended, once it should.
const POLL: Duration = Duration::from_millis(10);
/// A line of standard error is cut here, in bytes.
const LONGEST_WORD: usize = 512;
/// Lines of standard error a second that go to the log.
const WORDS_PER_S: u32 = 2;

/// A sensor that reads what a command writes.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessSettings {
    /// The program's path, absolute, and its arguments.
    pub command: Vec<String>,
    /// What its environment holds beside a `PATH`.
    pub environment: BTreeMap<String, String>,
    /// The folder that it runs in.
    pub folder: PathBuf,
    /// Whether it runs while no module takes the frames.
    pub always: bool,
    /// What it writes.
    pub frames: ProcessFrames,
}

/// How the output of a command is cut into frames.
#[derive(Clone, Debug, PartialEq)]
pub enum ProcessFrames {
    /// By lines.
    Lines(LineSettings),
    /// By lengths: `length: u32 LE | header: 96 bytes | content`, as on the socket of a sensor of that kind.
    LengthPrefixed {
        /// The largest content, in bytes.
        max_frame: usize,
    },
}

/// Why the command gives nothing.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error("{program} cannot be started: {cause}; check `command` and its rights", program = program.display())]
    Start { program: PathBuf, cause: io::Error },
    #[error("the command ended ({0}); it is started again")]
    Ended(String),
    #[error("the command was ended, for what it writes is no frame: {0}")]
    Frame(#[from] FrameError),
    #[error("the command was ended, for its output cannot be read: {0}")]
    Read(#[from] io::Error),
}

/// The sensor.
pub struct Process {
    settings: ProcessSettings,
}

impl Process {
    /// A sensor of checked settings.
    pub fn new(settings: ProcessSettings) -> Self {
        Self { settings }
    }

    /// Whether the program is there and may be executed; it is not.
    ///
    /// # Errors
    /// What is wrong with it, and what to do.
    pub fn probe(settings: &ProcessSettings) -> Result<String, String> {
        let program = settings.command.first().map_or("", String::as_str);
        match rustix::fs::access(program, rustix::fs::Access::EXEC_OK) {
            Ok(()) if Path::new(program).is_file() => Ok(format!("{program} is there and may be executed")),
            Ok(()) => Err(format!("{program} is no file; correct `command`")),
            Err(error) => Err(format!("{program}: {error}; check `command` and its rights")),
        }
    }
}

impl Sensor for Process {
    fn largest_frame(&self) -> usize {
        match &self.settings.frames {
            ProcessFrames::Lines(lines) => lines.largest_frame(),
            ProcessFrames::LengthPrefixed { max_frame } => *max_frame,
        }
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move { run(&self.settings, &outlet).await })
    }
}

async fn run(settings: &ProcessSettings, outlet: &Outlet) {
    let mut backoff = Backoff::default();
    loop {
        if !settings.always {
            outlet.until_wanted().await;
        }
        match serve(settings, outlet, &mut backoff).await {
            // Nobody wants it any more.
            Ok(()) => outlet.well(),
            Err(error) => {
                outlet.failed(error.to_string());
                backoff.wait().await;
            }
        }
    }
}

/// Runs the command until it ends, or nobody wants its frames.
async fn serve(settings: &ProcessSettings, outlet: &Outlet, backoff: &mut Backoff) -> Result<(), ProcessError> {
    let (mut group, output, errors) = start(settings)?;
    let mut log = JoinSet::new();
    log.spawn_local(log_errors(errors, outlet.name().to_owned(), outlet.clock().clone()));
    let unwanted = async {
        if settings.always {
            std::future::pending::<()>().await;
        }
        outlet.until_unwanted().await;
    };
    tokio::select! {
        read = read(settings, output, outlet, backoff) => read?,
        () = unwanted => {
            group.signal(Signal::TERM);
            let _ = timeout(GRACE, group.ended()).await;
            return Ok(());
        }
    }
    let Ok(ended) = timeout(GRACE, group.ended()).await else {
        return Err(ProcessError::Ended("it closed its output, and was ended".to_owned()));
    };
    // Its last word tells why.
    let word = timeout(GRACE, log.join_next()).await.ok().flatten().and_then(Result::ok).unwrap_or_default();
    let how = in_words(ended?);
    Err(ProcessError::Ended(if word.is_empty() { how } else { format!("{how}: {word}") }))
}

fn start(settings: &ProcessSettings) -> Result<(Group, ChildStdout, ChildStderr), ProcessError> {
    let program = settings.command.first().map(PathBuf::from).unwrap_or_default();
    let spawned = Command::new(&program)
        .args(settings.command.iter().skip(1))
        .env_clear()
        .env("PATH", PATH)
        .envs(&settings.environment)
        .current_dir(&settings.folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let failed = |cause| ProcessError::Start { program: program.clone(), cause };
    let mut child = spawned.map_err(failed)?;
    let lost = || failed(io::Error::other("its output is lost"));
    let (output, errors) = (child.stdout.take().ok_or_else(lost)?, child.stderr.take().ok_or_else(lost)?);
    Ok((Group { child }, output, errors))
}

/// Reads until the output ends.
async fn read(
    settings: &ProcessSettings,
    mut output: impl AsyncRead + Unpin,
    outlet: &Outlet,
    backoff: &mut Backoff,
) -> Result<(), ProcessError> {
    let mut buffer = Buffer::default();
    let mut lines = match &settings.frames {
        ProcessFrames::Lines(lines) => Some(Lines::from_the_beginning(lines.clone())),
        ProcessFrames::LengthPrefixed { .. } => None,
    };
    loop {
        let count = output.read(buffer.room(outlet.pool())?).await?;
        if count == 0 {
            break;
        }
        buffer.filled(count);
        let before = outlet.given();
        match (&mut lines, &settings.frames) {
            (Some(lines), _) => lines.give(&mut buffer, outlet),
            (None, ProcessFrames::LengthPrefixed { max_frame }) => wire::give(&mut buffer, *max_frame, outlet)?,
            (None, ProcessFrames::Lines(_)) => {}
        }
        if outlet.given() > before {
            outlet.flush();
            outlet.well();
            backoff.reset();
        }
    }
    match &mut lines {
        Some(lines) => lines.end(&mut buffer, outlet),
        None if buffer.held().is_empty() => {}
        None => outlet.refused("a frame that is torn: the command ended in the middle of it".to_owned()),
    }
    Ok(())
}

/// Writes what comes to the log, as much as is let through. The last of it.
async fn log_errors(mut errors: ChildStderr, sensor: String, clock: Arc<dyn Clock>) -> String {
    let mut bucket = Bucket::new(WORDS_PER_S, clock.mono());
    let (mut held, mut last) = (Vec::with_capacity(2 * LONGEST_WORD), String::new());
    let mut piece = [0; LONGEST_WORD];
    while let Ok(count @ 1..) = errors.read(&mut piece).await {
        for part in piece.get(..count).unwrap_or(&[]).split_inclusive(|byte| *byte == b'\n') {
            // What is beyond the longest word of a line is left out.
            held.extend(part.iter().take(LONGEST_WORD.saturating_sub(held.len())));
            if part.ends_with(b"\n") {
                say(&mut held, &mut last, &sensor, bucket.take(clock.mono()));
            }
        }
    }
    say(&mut held, &mut last, &sensor, bucket.take(clock.mono()));
    last
}

fn say(held: &mut Vec<u8>, last: &mut String, sensor: &str, aloud: bool) {
    let text = String::from_utf8_lossy(held);
    let text = text.trim();
    if !text.is_empty() {
        if aloud {
            tracing::info!(sensor, "the command says: {text}");
        }
        last.clear();
        last.push_str(text);
    }
    held.clear();
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// The command, and what it has started.
struct Group {
    child: Child,
}

impl Group {
    /// Its number, while it is not reaped.
    fn pid(&self) -> Option<Pid> {
        self.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?))
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Waits until the command has ended, and ends what it left behind.
    async fn ended(&mut self) -> io::Result<ExitStatus> {
        while let Some(pid) = self.pid() {
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if waitid(WaitId::Pid(pid), options)?.is_some() {
                self.signal(Signal::KILL);
                break;
            }
            sleep(POLL).await;
        }
        self.child.wait().await
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
