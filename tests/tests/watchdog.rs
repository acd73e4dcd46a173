//! A real agent tells its service manager that it lives, and does so no more while a thread of its disk hangs.

#![cfg(all(target_os = "linux", target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{fs, os::unix::net::UnixDatagram, time::Duration};

use nix::{
    sys::{
        ptrace::{self, Options},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};
use sanderling_tests::{PATIENCE, Process, Site};

/// As `WatchdogSec` would say; a thread may take twice that for one job.
const WATCHDOG: Duration = Duration::from_secs(1);
const ALIVE: &str = "WATCHDOG=1";

/// A thread that is stopped where it is, as in a system call that does not return; it goes on when this is dropped.
struct Hanging(Pid);

impl Hanging {
    fn new(agent: &Process, name: &str) -> Self {
        let tasks = fs::read_dir(format!("/proc/{}/task", agent.pid())).unwrap().map(|task| task.unwrap().path());
        let is =
            |task: &std::path::PathBuf| fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm.trim() == name);
        let thread = { tasks }.find(is).unwrap_or_else(|| panic!("no thread {name}"));
        let thread = Pid::from_raw(thread.file_name().unwrap().to_str().unwrap().parse().unwrap());
        ptrace::seize(thread, Options::empty()).unwrap();
        ptrace::interrupt(thread).unwrap();
        waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
        Self(thread)
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = ptrace::detach(self.0, None);
    }
}

/// The service manager's end.
struct Manager(UnixDatagram);

impl Manager {
    /// The next message within a time.
    fn next(&self, limit: Duration) -> Option<String> {
        self.0.set_read_timeout(Some(limit)).unwrap();
        let mut message = [0; 1024];
        let length = self.0.recv(&mut message).ok()?;
        Some(String::from_utf8_lossy(&message[..length]).trim().to_owned())
    }

    fn wait_for(&self, wanted: &str) {
        while !self.next(PATIENCE).unwrap_or_else(|| panic!("no {wanted}")).contains(wanted) {}
    }
}

#[test]
fn no_sign_of_life_is_given_while_a_thread_of_the_disk_hangs() {
    let mut site = Site::new();
    let device = site.device("gw-1");
    device.lay_clock("clock", 50.0);
    let path = device.runtime("notify.sock");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    let agent = device.start_with(|command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    });
    manager.wait_for("READY=1");
    let digest = site.roll_out_ticks(b'a');
    site.observer.wait_active(&device.id, digest);
    for (at, (thread, part)) in
        [("keeper", "the thread that keeps the disk"), ("spool", "the thread that keeps the outbox")]
            .into_iter()
            .enumerate()
    {
        manager.wait_for(ALIVE);
        manager.wait_for(ALIVE);
        let hanging = Hanging::new(&agent, thread);
        manager.wait_for(&format!("STATUS={part} has not got on for"));
        while let Some(message) = manager.next(2 * WATCHDOG) {
            assert!(!message.contains(ALIVE), "a sign of life though {part} hangs");
        }
        agent.wait_for_lines(Duration::ZERO, &["does not get on", part], 1);
        drop(hanging);
        manager.wait_for(ALIVE);
        agent.wait_for_lines(PATIENCE, &["gets on again"], at + 1);
    }
    // A broker that is away is no reason to be restarted.
    site.broker.stop();
    for _ in 0..10 {
        manager.wait_for(ALIVE);
    }
}
