//! The tracer's loop: one thread that starts the agent, is told of every stop of its threads, and lets them go on.
//!
//! Only the thread that has seized a process may ask for its registers, and it waits for its own children alone, so that other
//! tests in this process keep theirs.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, PoisonError, mpsc},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    Ended, Point, SOCKET, Shared, Verdict,
    calls::{Object, recognise},
    registers::Registers,
};

/// Starts the command, which stops itself, and serves it to its end. Says its process id, or why it cannot be traced.
pub(super) fn serve(
    mut command: Command,
    state: [PathBuf; 2],
    shared: &Mutex<Shared>,
    started: &mpsc::Sender<Result<i32, String>>,
) {
    // The test that waits has gone only when it has failed.
    match seize(&mut command) {
        Err(error) => drop(started.send(Err(error))),
        Ok(process) => {
            let _ = started.send(Ok(process.as_raw()));
            Tracer { process, state, shared, failing: BTreeMap::new(), last: BTreeSet::new() }.run();
        }
    }
}

fn seize(command: &mut Command) -> Result<Pid, String> {
    let child = command.spawn().map_err(|error| error.to_string())?;
    let process = Pid::from_raw(i32::try_from(child.id()).map_err(|error| error.to_string())?);
    let stopped = waitpid(process, Some(WaitPidFlag::WUNTRACED));
    if !matches!(stopped, Ok(WaitStatus::Stopped(..))) {
        return Err(format!("it did not wait for its tracer: {stopped:?}"));
    }
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    let seized = ptrace::seize(process, options).and_then(|()| kill(process, Signal::SIGCONT));
    seized.map(|()| process).map_err(|error| {
        // Neither stays behind; an error means that it is gone.
        let _ = kill(process, Signal::SIGKILL);
        let _ = waitpid(process, None);
        error.to_string()
    })
}

struct Tracer<'a> {
    process: Pid,
    /// The state directory, as it is configured and as the kernel names it.
    state: [PathBuf; 2],
    shared: &'a Mutex<Shared>,
    /// Threads within a call that is made to fail: their registers at its beginning, and the error.
    failing: BTreeMap<Pid, (Registers, Errno)>,
    /// Threads within the last call before the kill.
    last: BTreeSet<Pid>,
}

impl Tracer<'_> {
    fn run(&mut self) {
        loop {
            // Threads that have gone meanwhile answer with errors: nothing is left to do for them.
            match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
                Ok(WaitStatus::PtraceSyscall(thread)) => {
                    let _ = self.at_call(thread);
                    let _ = ptrace::syscall(thread, None);
                }
                Ok(WaitStatus::PtraceEvent(thread, ..)) => {
                    let _ = ptrace::syscall(thread, None);
                }
                Ok(WaitStatus::Stopped(thread, signal)) => {
                    let _ = ptrace::syscall(thread, signal);
                }
                Ok(WaitStatus::Exited(gone, status)) if gone == self.process => {
                    return self.set_ended(Ended::Status(status));
                }
                Ok(WaitStatus::Signaled(gone, signal, _)) if gone == self.process => {
                    return self.set_ended(Ended::Signal(signal as i32));
                }
                Ok(_) | Err(Errno::EINTR) => {}
                Err(error) => return self.set_ended(Ended::Status(error as i32)),
            }
        }
    }

    fn set_ended(&self, ended: Ended) {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner).ended = Some(ended);
    }

    fn at_call(&mut self, thread: Pid) -> nix::Result<()> {
        match ptrace::syscall_info(thread)?.op {
            libc::PTRACE_SYSCALL_INFO_ENTRY => self.begins(thread),
            libc::PTRACE_SYSCALL_INFO_EXIT => self.ends(thread),
            _ => Ok(()),
        }
    }

    fn begins(&mut self, thread: Pid) -> nix::Result<()> {
        if self.shared.lock().unwrap_or_else(PoisonError::into_inner).plan.is_none() {
            return Ok(());
        }
        let registers = Registers::of(thread)?;
        let Some((call, object)) = recognise(self.process, &registers) else { return Ok(()) };
        let Some(on) = self.name(object) else { return Ok(()) };
        let verdict = self.shared.lock().unwrap_or_else(PoisonError::into_inner).judge(Point { call, on });
        match verdict {
            Verdict::Go => {}
            // A thread that is killed where a call begins does not carry it out.
            Verdict::KillBefore => kill(self.process, Signal::SIGKILL)?,
            Verdict::KillAfter => drop(self.last.insert(thread)),
            Verdict::Fail(errno) => {
                registers.unusable().put(thread)?;
                self.failing.insert(thread, (registers, errno));
            }
        }
        Ok(())
    }

    fn ends(&mut self, thread: Pid) -> nix::Result<()> {
        if self.last.remove(&thread) {
            kill(self.process, Signal::SIGKILL)?;
        }
        let Some((before, errno)) = self.failing.remove(&thread) else { return Ok(()) };
        Registers::of(thread)?.failed_with(before, errno).put(thread)
    }

    /// What a call is on, where it counts.
    fn name(&self, object: Object) -> Option<String> {
        match object {
            Object::Socket => Some(SOCKET.to_owned()),
            Object::File(path) => {
                let inside = self.state.iter().find_map(|state| path.strip_prefix(state).ok())?;
                Some(if inside == Path::new("") { ".".to_owned() } else { inside.display().to_string() })
            }
            Object::Other => None,
        }
    }
}
