//! Starts a process that inherits exactly what it is given, and ends with this one.
//!
//! Purpose: a worker gets its descriptors from number 3 on, in the order given, and nothing else: an empty environment, standard input
//! and output on `/dev/null`, standard error on a pipe that is read here. It leads a session and so a process group of its own, without a
//! terminal, and is killed when the thread that started it ends.
//!
//! Invariants: no other descriptor of this process survives the exec; those that someone opened without close-on-exec
//! are marked so before the fork. A [`Process`] that is dropped is killed and reaped.
//!
//! Failure modes: the program is absent or not executable; the kernel is out of processes or descriptors.
//!
//! Limits: Linux. Where the kernel has no pidfd (before 5.3), the exit is looked for every few milliseconds.

#![allow(unsafe_code)]

use std::{
    fs::File,
    io,
    mem::ManuallyDrop,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use rustix::{
    io::FdFlags,
    process::{Pid, PidfdFlags, Signal},
};
use tokio::{io::unix::AsyncFd, net::unix::pipe};

/// The number of the first descriptor that the process inherits beyond standard input, output and error.
const FIRST: RawFd = 3;
const POLL: Duration = Duration::from_millis(5);

/// A process that ends when this is dropped.
pub(super) struct Process {
    child: Option<Child>,
    pid: Pid,
    // Readable when the process has ended.
    end: Option<AsyncFd<OwnedFd>>,
}

/// Starts `program` with `inherited` as its descriptors 3 and up. The second value is its standard error.
///
/// # Errors
/// What the kernel says, where the program cannot be executed included.
pub(super) fn spawn(
    program: &Path,
    arguments: &[&str],
    inherited: &[BorrowedFd<'_>],
) -> io::Result<(Process, pipe::Receiver)> {
    let (errors, errors_end) = io::pipe()?;
    let mut command = Command::new(program);
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors_end);
    let beyond = FIRST + RawFd::try_from(inherited.len()).map_err(io::Error::other)?;
    // The fork's own pipe must not lie where the inherited descriptors will be.
    let _taken = occupy_below(beyond)?;
    let sources =
        inherited.iter().map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, beyond)).collect::<Result<Vec<_>, _>>()?;
    keep_others_back();
    let parent = rustix::process::getpid();
    // SAFETY: between fork and exec the closure only makes system calls: it neither allocates nor locks. The targets
    // lie below every descriptor of ours that is still needed, and are never closed by their owner here.
    unsafe {
        command.pre_exec(move || {
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            if rustix::process::getppid() != Some(parent) {
                return Err(rustix::io::Errno::SRCH.into());
            }
            rustix::process::setsid()?;
            for (source, target) in sources.iter().zip(FIRST..) {
                let mut target = ManuallyDrop::new(OwnedFd::from_raw_fd(target));
                rustix::io::dup2(source, &mut target)?;
            }
            Ok(())
        });
    }
    let child = command.spawn()?;
    let pid = Pid::from_child(&child);
    let mut process = Process { child: Some(child), pid, end: None };
    if let Ok(end) = rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK) {
        // SAFETY: the descriptor is owned, and stays open for as long as it is registered.
        process.end = unsafe { AsyncFd::register(end) }.ok();
    }
    Ok((process, pipe::Receiver::from_owned_fd(errors.into())?))
}

/// Fills the free descriptors below `beyond` until the returned files are dropped.
fn occupy_below(beyond: RawFd) -> io::Result<Vec<File>> {
    let mut taken = Vec::new();
    loop {
        let file = File::open("/dev/null")?;
        if file.as_raw_fd() >= beyond {
            return Ok(taken);
        }
        taken.push(file);
    }
}

/// Marks descriptors that others opened, or that this process inherited itself, as close-on-exec.
fn keep_others_back() {
    match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok()))
            .for_each(keep_back),
        Err(_) => (FIRST..1024).for_each(keep_back),
    }
}

fn keep_back(number: RawFd) {
    if number < FIRST {
        return;
    }
    // SAFETY: used for two fcntl at once; if the number is not open by then, they fail and change nothing.
    let fd = unsafe { BorrowedFd::borrow_raw(number) };
    if rustix::io::fcntl_getfd(fd).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)) {
        let _ = rustix::io::fcntl_setfd(fd, FdFlags::CLOEXEC);
    }
}

impl Process {
    /// Its id.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Ends it and what it may have started.
    pub(super) fn kill(&mut self) {
        if let Some(child) = &mut self.child {
            // While it is not reaped, its number is not given to another.
            if matches!(child.try_wait(), Ok(None)) {
                let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
                let _ = child.kill();
            }
        }
    }

    /// How it ended, once it has.
    ///
    /// # Errors
    /// What the kernel says, as when someone else reaped it.
    pub(super) async fn exited(&mut self) -> io::Result<ExitStatus> {
        loop {
            let child = self.child.as_mut().ok_or_else(|| io::Error::other("the process was given up"))?;
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            match &self.end {
                Some(end) => {
                    let mut ready = end.readable().await?;
                    if child.try_wait()?.is_none() {
                        ready.clear_ready();
                    }
                }
                None => tokio::time::sleep(POLL).await,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        let Some(mut child) = self.child.take() else { return };
        if matches!(child.try_wait(), Ok(None)) {
            // Killed, but not gone yet. Waiting here would stop everything else.
            let _ = std::thread::Builder::new().name("reaper".into()).spawn(move || child.wait());
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        os::fd::AsFd,
        os::unix::{fs::PermissionsExt, net::UnixStream, process::ExitStatusExt},
        path::PathBuf,
    };

    fn script(folder: &tempfile::TempDir, text: &str) -> PathBuf {
        let path = folder.path().join("worker");
        let mut file = File::create(&path).unwrap();
        file.write_all(format!("#!/bin/sh\n{text}\n").as_bytes()).unwrap();
        file.set_permissions(PermissionsExt::from_mode(0o755)).unwrap();
        path
    }

    fn pair() -> (UnixStream, UnixStream) {
        UnixStream::pair().unwrap()
    }

    async fn read_all(mut from: UnixStream) -> String {
        tokio::task::spawn_blocking(move || {
            let mut text = String::new();
            from.read_to_string(&mut text).unwrap();
            text
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn the_process_inherits_exactly_the_descriptors_it_is_given() {
        let folder = tempfile::tempdir().unwrap();
        // A descriptor that someone forgot to mark.
        let stray = File::open("/dev/null").unwrap();
        rustix::io::fcntl_setfd(&stray, FdFlags::empty()).unwrap();
        let program = script(&folder, "exec ls /proc/self/fd >&3");
        let (ours, theirs) = pair();
        let file = File::open("/dev/zero").unwrap();
        let (mut process, _errors) = spawn(&program, &[], &[theirs.as_fd(), file.as_fd(), file.as_fd()]).unwrap();
        drop(theirs);
        let listed = read_all(ours).await;
        let mut numbers: Vec<u32> = listed.split_whitespace().map(|n| n.parse().unwrap()).collect();
        numbers.sort_unstable();
        // `ls` itself has the folder open on 6.
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6]);
        assert_eq!(process.exited().await.unwrap().code(), Some(0));
    }

    #[tokio::test]
    async fn each_descriptor_has_the_number_of_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(&folder, "cat <&4 >&3; cat <&5 >&3; readlink /proc/self/fd/0 /proc/self/fd/1 >&3");
        let (ours, theirs) = pair();
        let files: Vec<File> = ["one", "two"]
            .iter()
            .map(|name| {
                std::fs::write(folder.path().join(name), format!("{name}\n")).unwrap();
                File::open(folder.path().join(name)).unwrap()
            })
            .collect();
        let inherited: Vec<_> = std::iter::once(theirs.as_fd()).chain(files.iter().map(AsFd::as_fd)).collect();
        let (mut process, _errors) = spawn(&program, &[], &inherited).unwrap();
        drop(theirs);
        let said = read_all(ours).await;
        assert!(said.starts_with("one\ntwo\n/dev/null\n"), "{said}");
        process.exited().await.unwrap();
    }

    #[tokio::test]
    async fn its_environment_is_empty_and_session_and_group_are_its_own() {
        let folder = tempfile::tempdir().unwrap();
        // The group, the session, and the terminal.
        let program = script(&folder, "tr '\\0' '\\n' </proc/$$/environ >&3; cut -d' ' -f5-7 /proc/$$/stat >&3");
        let (ours, theirs) = pair();
        let (mut process, _errors) = spawn(&program, &[], &[theirs.as_fd()]).unwrap();
        drop(theirs);
        let pid = process.pid();
        assert_eq!(read_all(ours).await.trim(), format!("{pid} {pid} 0"));
        process.exited().await.unwrap();
    }

    #[tokio::test]
    async fn a_killed_process_tells_its_signal() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(&folder, "exec sleep 1000");
        let (mut process, _errors) = spawn(&program, &[], &[]).unwrap();
        process.kill();
        assert_eq!(process.exited().await.unwrap().signal(), Some(9));
        process.kill();
    }

    #[tokio::test]
    async fn a_dropped_process_ends_with_its_children() {
        let folder = tempfile::tempdir().unwrap();
        let program = script(&folder, "sleep 1000 & echo started >&3; wait");
        let (mut ours, theirs) = pair();
        let (process, _errors) = spawn(&program, &[], &[theirs.as_fd()]).unwrap();
        drop(theirs);
        let mut started = [0; 8];
        ours.read_exact(&mut started).unwrap();
        drop(process);
        // The end of the stream comes when both shell and child, who hold the other end, are gone.
        assert_eq!(read_all(ours).await, "");
    }

    #[tokio::test]
    async fn says_what_keeps_a_program_from_starting() {
        let error = spawn(Path::new("/does/not/exist"), &[], &[]).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
