//! What the machine says of its memory: a port, since decisions are made from it.
//!
//! Failure modes: what cannot be read is not known, and the decision goes on without it.

use std::{cell::Cell, fs};

/// Says how much memory there is, and who holds it.
pub trait Memory {
    /// What could be given to new processes without swapping, in bytes; `None` where the kernel does not say.
    fn available(&self) -> Option<u64>;

    /// What a process holds in memory, in bytes; 0 where it is gone.
    fn resident(&self, pid: u32) -> u64;
}

/// The machine, as `/proc` describes it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine;

impl Memory for Machine {
    fn available(&self) -> Option<u64> {
        kib(&fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")
    }

    fn resident(&self, pid: u32) -> u64 {
        let status = fs::read_to_string(format!("/proc/{pid}/status"));
        status.ok().and_then(|status| kib(&status, "VmRSS:")).unwrap_or(0)
    }
}

impl Machine {
    /// What a process holds in memory, in bytes, and which measure that is: its share of it (`pss`), or, where the kernel does not tell that of
    /// the process, all that it maps (`rss`). `None` where it is gone.
    pub fn held(&self, pid: u32) -> Option<(&'static str, u64)> {
        let share = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
        let share = share.and_then(|rollup| kib(&rollup, "Pss:")).filter(|bytes| *bytes > 0);
        share.map(|bytes| ("pss", bytes)).or_else(|| Some(("rss", self.resident(pid))).filter(|(_, bytes)| *bytes > 0))
    }
}

/// The line `name   123 kB` of a file in `/proc`, in bytes.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let (number, unit) = line.trim().split_once(' ')?;
    let number: u64 = number.parse().ok().filter(|_| unit == "kB")?;
    number.checked_mul(1024)
}

/// A machine that says what it is told to.
#[derive(Clone, Debug, Default)]
pub struct FakeMemory {
    available: Cell<Option<u64>>,
    resident: Cell<u64>,
}

impl FakeMemory {
    /// From now on this much is available, and each process holds so much.
    pub fn set(&self, available: Option<u64>, resident: u64) {
        self.available.set(available);
        self.resident.set(resident);
    }
}

impl Memory for FakeMemory {
    fn available(&self) -> Option<u64> {
        self.available.get()
    }

    fn resident(&self, _pid: u32) -> u64 {
        self.resident.get()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_the_kernel_writes() {
        let meminfo = "MemTotal:        8005000 kB\nMemFree:          100 kB\nMemAvailable:    2048 kB\n";
        assert_eq!(kib(meminfo, "MemAvailable:"), Some(2 << 20));
        assert_eq!(kib(meminfo, "SwapTotal:"), None);
        for damaged in
            ["MemAvailable:", "MemAvailable: x kB", "MemAvailable: 1 MB", "MemAvailable: 99999999999999999 kB"]
        {
            assert_eq!(kib(damaged, "MemAvailable:"), None, "{damaged}");
        }
    }

    #[test]
    fn knows_this_machine_and_this_process() {
        assert!(Machine.available().unwrap() > 0);
        assert!(Machine.resident(std::process::id()) > 64 * 1024);
        assert_eq!(Machine.resident(u32::MAX), 0);
        let (_, held) = Machine.held(std::process::id()).unwrap();
        assert!(held > 64 * 1024 && held <= 2 * Machine.resident(std::process::id()));
        assert_eq!(Machine.held(u32::MAX), None);
    }
}
