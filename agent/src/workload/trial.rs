//! Has a worker try the measures of its confinement, one process for each, and looks how each ends.
//!
//! Purpose: only an attempt says what a kernel gives; versions and configurations do not. The processes are started as those that
//! run modules are, with the same descriptors.
//!
//! Failure modes: what is not found in force is in the answer, with what was seen instead. A process that does not end within [`LIMIT`] is
//! killed, and counts as not in force.

use std::{
    fs::File,
    io::{self, Write},
    os::{
        fd::{AsFd, AsRawFd},
        unix::{net::UnixStream, process::ExitStatusExt},
    },
    path::Path,
    process::ExitStatus,
    time::Duration,
};

use rustix::fs::MemfdFlags;
use sanderling_protocol::{
    deployment::{Deployment, SCHEMA},
    digest::Digest,
    worker::{Blob, Fault, FaultCode, Measure, Ready},
};
use tokio::{io::AsyncReadExt, time::timeout};

use super::{Blobs, ModuleSpec, Options, Staged, exit, shared::FrameRing, spawn::spawn};
use crate::settings::Confinement;

/// So long a trial may take; each takes milliseconds.
pub const LIMIT: Duration = Duration::from_secs(20);
/// Of what a worker says, so much is read, in bytes.
const MAX_WORDS: u64 = 1024;
const RING_BYTES: usize = 64 * 1024;
/// How the kernel ends a process that makes a forbidden system call (`SIGSYS`), and how one ends that aborts (`SIGABRT`).
const FORBIDDEN: i32 = 31;
const ABORTED: i32 = 6;

/// Whether this kernel gives a measure to workers of this program: why not, where it does not.
///
/// # Errors
/// What the system says where no worker can be started; nothing is known of the measure then.
pub async fn try_measure(program: &Path, measure: Measure) -> io::Result<Result<(), String>> {
    let (ours, theirs) = UnixStream::pair()?;
    // Nobody says anything: a worker of another version, which knows nothing of trials, ends at once.
    drop(ours);
    let (_ring, memory) = FrameRing::create(RING_BYTES)?;
    let blob = read_only(SMALLEST)?;
    let (mut process, mut errors) =
        spawn(program, &["--try", measure.name()], &[theirs.as_fd(), memory.as_fd(), blob.as_fd()])?;
    let mut said = Vec::new();
    let end = async {
        let status = process.exited().await?;
        // Until all that hold the pipe are gone: a process that was left behind may have something to say.
        (&mut errors).take(MAX_WORDS).read_to_end(&mut said).await?;
        Ok::<_, io::Error>(status)
    };
    let ended = timeout(LIMIT, end).await;
    let Ok(status) = ended else { return Ok(Err(format!("it did not end within {} s", LIMIT.as_secs()))) };
    Ok(judge(measure, status?, &String::from_utf8_lossy(&said)))
}

/// A file in memory that is open for reading alone, as those in the store are.
fn read_only(content: &[u8]) -> io::Result<File> {
    let mut memory = File::from(rustix::fs::memfd_create("sanderling-trial", MemfdFlags::CLOEXEC)?);
    memory.write_all(content)?;
    File::open(format!("/proc/self/fd/{}", memory.as_raw_fd()))
}

/// Has a worker that is confined as all are load the smallest module that there is, with whatever it may lack.
///
/// # Errors
/// The fault that the start of a module would end in.
pub async fn try_worker(program: &Path) -> Result<Ready, Fault> {
    let options = Options { load: LIMIT, confinement: Confinement::Report, ..Options::new(program.to_owned()) };
    let staged = Staged::load(&smallest()?, &options, &Smallest).await?;
    let ready = staged.ready.clone();
    staged.end(&options).await;
    Ok(ready)
}

/// One page of memory, and the two functions that a module must have.
const SMALLEST: &[u8] = b"\0asm\x01\0\0\0\x01\x05\x01\x60\0\x01\x7f\x03\x03\x02\0\0\x05\x03\x01\0\x01\
    \x07\x2e\x03\x06memory\x02\0\x0esanderling_abi\0\0\x10sanderling_frame\0\x01\
    \x0a\x0b\x02\x04\0\x41\x01\x0b\x04\0\x41\0\x0b";

struct Smallest;

impl Blobs for Smallest {
    fn open(&self, _digest: &Digest) -> io::Result<File> {
        read_only(SMALLEST)
    }
}

fn smallest() -> Result<ModuleSpec, Fault> {
    let document = format!(
        r#"{{"schema":"{SCHEMA}","name":"doctor","modules":[{{"name":"doctor","module":"modules/doctor/1.wasm","input":[]}}]}}"#
    );
    let failed = |error: &dyn std::fmt::Display| Fault::new(FaultCode::Init, error.to_string());
    let mut deployment = Deployment::parse(document.as_bytes()).map_err(|error| failed(&error))?;
    let module = deployment.modules.pop().ok_or_else(|| failed(&"the deployment has no module"))?;
    let wasm = Blob { sha256: Digest::of(SMALLEST), length: SMALLEST.len() as u64 };
    Ok(ModuleSpec { module, wasm, models: Vec::new(), ring_bytes: RING_BYTES })
}

fn judge(measure: Measure, status: ExitStatus, said: &str) -> Result<(), String> {
    let said = exit::clip(said.trim(), 512);
    let held = match measure {
        Measure::SystemCalls => status.signal() == Some(FORBIDDEN),
        Measure::CoreDumps => status.signal() == Some(ABORTED) && !status.core_dumped(),
        _ => status.success(),
    };
    match (held, said.is_empty()) {
        (true, true) => Ok(()),
        (_, false) => Err(said),
        (false, true) => Err(format!("the process that tried it ended otherwise than it should: {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exited(code: i32) -> ExitStatus {
        ExitStatus::from_raw(code << 8)
    }

    #[test]
    fn a_measure_holds_only_where_the_process_ends_as_it_should_and_says_nothing() {
        assert_eq!(judge(Measure::Files, exited(0), ""), Ok(()));
        assert_eq!(
            judge(Measure::Files, exited(1), "a folder could be opened\n"),
            Err("a folder could be opened".into())
        );
        assert_eq!(judge(Measure::ParentDeath, exited(0), "it lives"), Err("it lives".into()));
        assert!(judge(Measure::Session, ExitStatus::from_raw(9), "").is_err());
    }

    #[test]
    fn some_measures_show_in_the_end_that_they_bring() {
        assert_eq!(judge(Measure::SystemCalls, ExitStatus::from_raw(FORBIDDEN), ""), Ok(()));
        assert!(judge(Measure::SystemCalls, exited(0), "").is_err());
        assert_eq!(judge(Measure::CoreDumps, ExitStatus::from_raw(ABORTED), ""), Ok(()));
        assert!(judge(Measure::CoreDumps, ExitStatus::from_raw(ABORTED | 0x80), "").is_err(), "it dumped core");
    }
}
