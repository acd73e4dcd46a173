//! The real agent under ptrace: every system call that leaves a mark outside the process is counted over all its threads,
//! and the n-th of them is where the agent is killed, or what fails with an error of the disk.
//!
//! Purpose: a proof that cuts the power, or breaks the disk, at *each* such call and not at some.
//!
//! Invariants: calls are counted in the order in which the kernel stops the threads at them, from [`Traced::arm`] on. Workers
//! are not traced. The agent is killed by its tracer's own end, too: it outlives no test.
//!
//! Failure modes: where ptrace is refused, [`Traced::start`] fails with a sentence that says so; nothing is skipped.
//!
//! Limits: Linux with the GNU C library on x86-64 or aarch64. What is written through shared memory has no call: the agent has
//! only the rings of its workers there, no file. A kill leaves what the kernel holds of files: lost and torn writes are
//! another proof's.

mod calls;
mod registers;
mod stops;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    thread::JoinHandle,
};

pub use nix::errno::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use crate::{Device, Ground, program, unix_nanos};

/// So many records show that a version runs.
const BEFORE: usize = 2;

/// A system call that leaves a mark outside the process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The call.
    pub call: &'static str,
    /// On what: a path below the state directory, or `socket`.
    pub on: String,
}

impl Point {
    /// Whether it is a call on the state directory, and not on a socket.
    pub fn is_disk(&self) -> bool {
        self.on != SOCKET
    }

    /// The call and what it is on, with digests left out: so points of different runs can be compared.
    pub fn kind(&self) -> String {
        let (folder, name) = self.on.rsplit_once('/').map_or(("", self.on.as_str()), |(folder, name)| (folder, name));
        let plain = |part: &str| if part.len() == 64 { "<digest>".to_owned() } else { part.to_owned() };
        let name = name.split('.').map(plain).collect::<Vec<_>>().join(".");
        format!("{} {folder}{}{name}", self.call, if folder.is_empty() { "" } else { "/" })
    }
}

/// What a call on a socket is on.
const SOCKET: &str = "socket";

/// Which call is meant, counted from 1 from [`Traced::arm`] on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    /// The one of this number.
    Any(usize),
    /// The one of this number on the state directory.
    Disk(usize),
    /// Of those with this [`Point::kind`], the one of this number.
    Kind(String, usize),
}

/// What is done at the calls that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// They are counted, nothing else.
    Count,
    /// The agent is killed: before the call is carried out, or after it.
    Kill {
        /// At which call.
        at: At,
        /// Whether the call is carried out.
        after: bool,
    },
    /// The call is not carried out, and fails.
    Fail {
        /// Which call.
        at: At,
        /// The error.
        errno: Errno,
        /// Whether all calls on the state directory that follow fail too, until [`Traced::release`].
        held: bool,
    },
}

/// How an agent ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

/// What tracer and test share.
#[derive(Debug, Default)]
struct Shared {
    plan: Option<Plan>,
    points: Vec<Point>,
    /// How many of those points the plan could have meant.
    meant: usize,
    struck: Vec<Point>,
    ended: Option<Ended>,
}

/// What is to become of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Go,
    KillBefore,
    KillAfter,
    Fail(Errno),
}

impl Shared {
    fn judge(&mut self, point: Point) -> Verdict {
        let Some(plan) = &self.plan else { return Verdict::Go };
        self.points.push(point.clone());
        let (at, verdict, held) = match plan {
            Plan::Count => return Verdict::Go,
            Plan::Kill { at, after: false } => (at, Verdict::KillBefore, false),
            Plan::Kill { at, after: true } => (at, Verdict::KillAfter, false),
            Plan::Fail { at, errno, held } => (at, Verdict::Fail(*errno), *held),
        };
        let (meant, number) = match at {
            At::Any(number) => (true, *number),
            At::Disk(number) => (point.is_disk(), *number),
            At::Kind(kind, number) => (point.kind() == *kind, *number),
        };
        self.meant += usize::from(meant);
        let now = meant && self.meant == number;
        let still = held && point.is_disk() && !self.struck.is_empty();
        if now || still {
            self.struck.push(point);
            return verdict;
        }
        Verdict::Go
    }
}

/// An agent under ptrace. It is killed when this is dropped.
pub struct Traced {
    handle: rustix::fd::OwnedFd,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
    log: PathBuf,
}

impl Traced {
    /// An agent that runs A on this ground, from its state on; a mark and the time, in Unix nanoseconds, before it was
    /// started.
    pub fn on(ground: &Ground) -> (Self, usize, i64) {
        ground.reset();
        let (mark, started) = (ground.site.observer.mark(), unix_nanos());
        let agent = Self::start(&ground.device, ground.state(), None);
        ground.wait_runs(&ground.a, mark, started, BEFORE);
        (agent, mark, started)
    }

    /// Starts the agent of a device, whose state directory is `state`, armed with a plan from its first call on.
    pub fn start(device: &Device, state: &Path, plan: Option<Plan>) -> Self {
        let log = device.runtime("traced.log");
        let file = File::create(&log).unwrap();
        // The shell stops itself, is seized, and becomes the agent: so not one call is missed.
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh"]).arg(program("sanderling-agent"));
        command.arg("--config").arg(device.configuration()).env_remove("JOURNAL_STREAM").env_remove("NOTIFY_SOCKET");
        command.stdin(std::process::Stdio::null()).stdout(file.try_clone().unwrap()).stderr(file);
        let shared = Arc::new(Mutex::new(Shared { plan, ..Shared::default() }));
        let (started, outcome) = mpsc::channel();
        let thread = std::thread::spawn({
            let state = [state.to_owned(), state.canonicalize().unwrap()];
            let shared = shared.clone();
            move || stops::serve(command, state, &shared, &started)
        });
        let pid = outcome.recv().unwrap().unwrap_or_else(|error| {
            panic!(
                "the agent cannot be traced ({error}): this proof stops it at its system calls and needs ptrace; allow it, \
                 in a container with --cap-add=SYS_PTRACE or a seccomp profile that lets ptrace through"
            )
        });
        let handle = pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap();
        Self { handle, shared, thread: Some(thread), log }
    }

    /// From now on calls are counted, and this is done at them. What was counted before is forgotten.
    pub fn arm(&self, plan: Plan) {
        let mut shared = self.shared();
        *shared = Shared { plan: Some(plan), ended: shared.ended, ..Shared::default() };
    }

    /// Lets all calls through again; they are counted on.
    pub fn release(&self) {
        self.shared().plan = Some(Plan::Count);
    }

    /// The calls since [`Self::arm`], in order.
    pub fn points(&self) -> Vec<Point> {
        self.shared().points.clone()
    }

    /// The calls at which the plan was carried out.
    pub fn struck(&self) -> Vec<Point> {
        self.shared().struck.clone()
    }

    /// How it ended, once it has.
    pub fn ended(&self) -> Option<Ended> {
        self.shared().ended
    }

    /// What it logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Ends it with SIGKILL, and waits until it is gone.
    pub fn kill(mut self) -> Vec<Point> {
        self.end();
        self.struck()
    }

    fn end(&mut self) {
        // An error means that it has ended already.
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        self.end();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("--- struck at {:?}; the end of what the traced agent said:", self.struck());
            lines.iter().skip(lines.len().saturating_sub(60)).for_each(|line| eprintln!("{line}"));
        }
    }
}
