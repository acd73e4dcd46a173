//! The worker program as its supervisor sees it: spawned with the descriptors of `protocol::worker`, fed through the ring.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic)]

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd, RawFd},
        unix::{net::UnixStream, process::CommandExt, process::ExitStatusExt},
    },
    process::{Child, Command, Stdio},
    ptr::{NonNull, null_mut},
    time::Duration,
};

use rustix::{
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create},
    mm::{MapFlags, ProtFlags, mmap},
};
use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::{
    deployment::{Execution, Limits},
    digest::Digest,
    worker::{
        Blob, FIRST_BLOB_FD, Fault, FaultCode, FromWorker, Inbox, Measure, Metric, RING_FD, Ready, SOCKET_FD, Start,
        ToWorker,
        ring::{Producer, region_len},
    },
};

/// Patience for anything that the worker is waited for.
const PATIENCE: Duration = Duration::from_secs(30);

const ECHO: &str = r#"
    (data (i32.const 0) "echo")
    (func (export "sanderling_buffer") (param i32) (result i32) (i32.const 64))
    (func (export "sanderling_frame") (result i32)
        (call $emit (i32.const 0) (i32.const 4) (i32.const 64) (i32.const 4)))
    (func (export "sanderling_stop") (drop (call $log (i32.const 2) (i32.const 0) (i32.const 4))))"#;

fn module(body: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
            (import "sanderling_v1" "log" (func $log (param i32 i32 i32) (result i32)))
            (import "sanderling_v1" "metric_add" (func $count (param i32 i32 f64) (result i32)))
            (import "sanderling_v1" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
            (import "sanderling_v1" "state_set" (func $set (param i32 i32 i32 i32) (result i32)))
            (import "sanderling_v1" "state_delete" (func $delete (param i32 i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "sanderling_abi") (result i32) (i32.const 1)) {body})"#
    );
    wat::parse_str(text).unwrap()
}

/// What a worker said, owned.
#[derive(Debug, PartialEq)]
enum Heard {
    Ready(Ready),
    Running,
    Emit {
        seq: u64,
        channel: String,
        payload: Vec<u8>,
    },
    Log(String),
    Done(u64),
    Refused(u64),
    Denied(String),
    State(Vec<u8>, Option<Vec<u8>>),
    Metric(String, Metric),
    Fault(Fault),
    Stopped,
    /// The socket was closed.
    End,
}

struct Worker {
    child: Child,
    socket: UnixStream,
    inbox: Inbox,
    ring: Producer,
    flight: File,
}

impl Worker {
    fn spawn(wasm: &[u8], limits: Limits) -> Self {
        Self::spawn_with(wasm, limits, |_| {})
    }

    fn spawn_with(wasm: &[u8], limits: Limits, change: impl FnOnce(&mut Command)) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        let (memory, ring) = shared_ring(64 * 1024, 64);
        let blob = blob(wasm);
        let flight = memfd_create("flight", MemfdFlags::CLOEXEC).unwrap();
        ftruncate(&flight, u64::from(limits.capsule_kib) << 10).unwrap();
        let wanted: [(RawFd, RawFd); 4] = [
            (theirs.as_raw_fd(), SOCKET_FD),
            (memory.as_raw_fd(), RING_FD),
            (blob.as_raw_fd(), FIRST_BLOB_FD),
            (flight.as_raw_fd(), FIRST_BLOB_FD + 1),
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_sanderling-worker"));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        // SAFETY: between fork and exec only system calls are made, on descriptors that stay open until `spawn` returns.
        unsafe {
            command.pre_exec(move || {
                rustix::process::setsid()?;
                place(wanted)
            })
        };
        change(&mut command);
        let child = command.spawn().unwrap();
        let mut worker = Self { child, socket: ours, inbox: Inbox::default(), ring, flight: File::from(flight) };
        worker.say(&ToWorker::Start(Box::new(Start {
            name: "echo".into(),
            module: Blob { sha256: Digest::of(wasm), length: wasm.len() as u64 },
            models: Vec::new(),
            execution: Execution::Reactor,
            inputs: Vec::new(),
            config: "null".into(),
            grants: vec!["emit:echo".parse().unwrap(), "state:100".parse().unwrap()],
            limits,
        })));
        worker
    }

    /// Spawns a worker and brings its guest up to its first frame.
    fn running(body: &str, limits: Limits) -> Self {
        let mut worker = Self::spawn(&module(body), limits);
        let ready = worker.hear();
        assert!(matches!(&ready, Heard::Ready(ready) if ready.memory_bytes == 65536), "{ready:?}");
        worker.say(&ToWorker::Begin);
        assert_eq!(worker.hear(), Heard::Running);
        worker
    }

    fn say(&mut self, message: &ToWorker) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.socket.write_all(&bytes).unwrap();
    }

    fn frame(&mut self, seq: u64, content: &[u8]) {
        let header = FrameHeader { seq, ..FrameHeader::new("cam0", u32::try_from(content.len()).unwrap()) };
        self.push(&[&header.to_bytes(), content]);
    }

    fn push(&mut self, parts: &[&[u8]]) {
        if self.ring.push(parts).unwrap() {
            self.say(&ToWorker::Wake);
        }
    }

    fn hear(&mut self) -> Heard {
        loop {
            if let Some(message) = self.inbox.next().unwrap() {
                return match FromWorker::decode(message).unwrap() {
                    FromWorker::Ready(ready) => Heard::Ready(ready),
                    FromWorker::Running => Heard::Running,
                    FromWorker::Emit { seq, channel, payload } => {
                        Heard::Emit { seq, channel: channel.into(), payload: payload.into() }
                    }
                    FromWorker::Log { text, .. } => Heard::Log(text.into()),
                    FromWorker::FrameDone(done) => Heard::Done(done.seq),
                    FromWorker::FrameRefused { seq, .. } => Heard::Refused(seq),
                    FromWorker::Denied { function } => Heard::Denied(function.into()),
                    FromWorker::StateSet { key, value } => Heard::State(key.into(), Some(value.into())),
                    FromWorker::StateDelete { key } => Heard::State(key.into(), None),
                    FromWorker::Metric { name, metric } => Heard::Metric(name.into(), metric),
                    FromWorker::Fault(fault) => Heard::Fault(fault),
                    FromWorker::Stopped => Heard::Stopped,
                };
            }
            match self.socket.read(self.inbox.space()).unwrap() {
                0 => return Heard::End,
                count => self.inbox.filled(count),
            }
        }
    }

    /// Waits for the end, and holds the worker to its silence on standard output.
    fn end(mut self) -> std::process::ExitStatus {
        let mut said = Vec::new();
        self.child.stdout.take().unwrap().read_to_end(&mut said).unwrap();
        assert!(said.is_empty(), "a worker never writes to standard output");
        self.child.wait().unwrap()
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn shared_ring(largest: usize, records: usize) -> (OwnedFd, Producer) {
    let memory = memfd_create("ring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    let length = region_len(largest, records).next_multiple_of(4096);
    ftruncate(&memory, length as u64).unwrap();
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).unwrap();
    // SAFETY: a new mapping, which is never unmapped.
    let base = unsafe {
        mmap(null_mut(), length, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, memory.as_fd(), 0).unwrap()
    };
    // SAFETY: mapped above, and the worker is the only other side.
    let producer = unsafe { Producer::attach(NonNull::new(base.cast()).unwrap(), length).unwrap() };
    (memory, producer)
}

fn blob(bytes: &[u8]) -> OwnedFd {
    let mut path = tempfile::NamedTempFile::new().unwrap();
    path.write_all(bytes).unwrap();
    OwnedFd::from(File::open(path.path()).unwrap())
}

/// Puts descriptors where the worker expects them; first out of the way, so that none is overwritten.
fn place<const N: usize>(wanted: [(RawFd, RawFd); N]) -> std::io::Result<()> {
    use rustix::io::{dup2, fcntl_dupfd_cloexec};
    // SAFETY: the descriptors are open in the parent and so in the child.
    let borrow = |fd| unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    let mut parked = [const { None }; N];
    for (slot, (from, _)) in parked.iter_mut().zip(&wanted) {
        *slot = Some(fcntl_dupfd_cloexec(borrow(*from), 64)?);
    }
    for (slot, (_, to)) in parked.into_iter().zip(wanted) {
        let Some(parked) = slot else { continue };
        // SAFETY: `to` is given away for good below, and never closed here.
        let mut place = unsafe { <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(to) };
        dup2(&parked, &mut place)?;
        std::mem::forget(place);
    }
    Ok(())
}

#[test]
fn what_led_to_a_fault_can_be_read_when_the_worker_is_gone() {
    use sanderling_protocol::flight::{Basis, Header};
    use std::os::unix::fs::FileExt;

    let read = |worker: &Worker| {
        let length = usize::try_from(worker.flight.metadata().unwrap().len()).unwrap();
        let mut region = vec![0; length];
        worker.flight.read_exact_at(&mut region, 0).unwrap();
        let header = Header::read(&region, length).unwrap().unwrap();
        let frame = header.frame.map(|(at, length)| region[at..at + length].to_vec());
        (header.basis, frame)
    };
    let traps = r#"(func (export "sanderling_frame") (result i32) (unreachable))"#;
    let mut worker = Worker::running(traps, Limits::default());
    worker.frame(1, b"content");
    assert!(matches!(worker.hear(), Heard::Fault(Fault { code: FaultCode::Trap, .. })));
    worker.child.wait().unwrap();
    assert_eq!(read(&worker), (Basis::Instance, Some(b"content".to_vec())));

    let mut worker = Worker::running(ECHO, Limits::default());
    worker.frame(1, b"1234 and more");
    while worker.hear() != Heard::Done(1) {}
    worker.child.kill().unwrap();
    worker.child.wait().unwrap();
    assert_eq!(read(&worker), (Basis::Instance, Some(b"1234 and more".to_vec())));
}

#[test]
fn echoes_frames_from_the_ring_and_stops_as_asked() {
    let mut worker = Worker::running(ECHO, Limits { emit_per_s: 100_000, ..Limits::default() });
    for round in 0..50u64 {
        for index in 0..20 {
            worker.frame(round * 20 + index, format!("{index:04} and the rest").as_bytes());
        }
        for index in 0..20 {
            let seq = round * 20 + index;
            let payload = format!("{index:04}").into_bytes();
            assert_eq!(worker.hear(), Heard::Emit { seq, channel: "echo".into(), payload });
            assert_eq!(worker.hear(), Heard::Done(seq));
        }
    }
    worker.say(&ToWorker::Stop);
    assert_eq!(worker.hear(), Heard::Log("echo".into()));
    assert_eq!(worker.hear(), Heard::Stopped);
    assert_eq!(worker.hear(), Heard::End);
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn takes_frames_that_came_one_by_one_while_it_slept() {
    let mut worker = Worker::running(ECHO, Limits { emit_per_s: 100_000, ..Limits::default() });
    for seq in 0..200 {
        worker.frame(seq, b"abcd");
        assert!(matches!(worker.hear(), Heard::Emit { .. }));
        assert_eq!(worker.hear(), Heard::Done(seq));
    }
    worker.say(&ToWorker::Stop);
    assert!(matches!(worker.hear(), Heard::Log(_)));
    assert_eq!(worker.hear(), Heard::Stopped);
}

#[test]
fn begins_with_what_its_module_kept_and_says_what_each_call_changes_before_its_end() {
    // Keeps the first two bytes of what `k` had as `l`, and deletes `k`; a second frame traps after it has changed something.
    let body = r#"(data (i32.const 0) "kl") (global $frames (mut i32) (i32.const 0))
        (func (export "sanderling_frame") (result i32)
            (drop (call $delete (i32.const 0) (i32.const 1)))
            (drop (call $set (i32.const 1) (i32.const 1) (i32.const 8) (i32.const 1)))
            (global.set $frames (i32.add (global.get $frames) (i32.const 1)))
            (if (i32.eq (global.get $frames) (i32.const 2)) (then (unreachable)))
            (i32.const 0))
        (func (export "sanderling_start") (result i32)
            (drop (call $get (i32.const 0) (i32.const 1) (i32.const 8) (i32.const 2)))
            (call $set (i32.const 1) (i32.const 1) (i32.const 8) (i32.const 2)))"#;
    let mut worker = Worker::spawn(&module(body), Limits::default());
    assert!(matches!(worker.hear(), Heard::Ready(_)));
    worker.say(&ToWorker::State { key: b"k".to_vec(), value: b"value".to_vec() });
    worker.say(&ToWorker::Begin);
    assert_eq!(worker.hear(), Heard::State(b"l".to_vec(), Some(b"va".to_vec())));
    assert_eq!(worker.hear(), Heard::Running);
    worker.frame(1, b"");
    assert_eq!(worker.hear(), Heard::State(b"k".to_vec(), None));
    assert_eq!(worker.hear(), Heard::State(b"l".to_vec(), Some(b"v".to_vec())));
    assert_eq!(worker.hear(), Heard::Done(1));
    worker.frame(2, b"");
    assert!(matches!(worker.hear(), Heard::Fault(_)), "and no change");
}

#[test]
fn tells_what_has_changed_of_its_metrics_at_once_and_then_every_two_seconds_and_at_its_end() {
    let body = r#"(data (i32.const 0) "seen") (func (export "sanderling_frame") (result i32)
        (call $count (i32.const 0) (i32.const 4) (f64.const 1)))"#;
    let mut worker = Worker::running(body, Limits::default());
    let counted = |value: f64| Heard::Metric("seen".into(), Metric::Counter(value));
    worker.frame(1, b"");
    let (first, second) = (worker.hear(), worker.hear());
    assert!([&first, &second].contains(&&Heard::Done(1)) && [first, second].contains(&counted(1.0)));
    worker.frame(2, b"");
    assert_eq!(worker.hear(), Heard::Done(2));
    assert_eq!(worker.hear(), counted(2.0), "though no frame comes");
    worker.frame(3, b"");
    assert_eq!(worker.hear(), Heard::Done(3));
    worker.say(&ToWorker::Stop);
    assert_eq!(worker.hear(), counted(3.0));
    assert_eq!(worker.hear(), Heard::Stopped);
}

#[test]
fn a_dry_start_ends_with_stop_and_nothing_has_run() {
    let body = format!(r#"{ECHO} (func (export "sanderling_start") (result i32) (unreachable))"#);
    let mut worker = Worker::spawn(&module(&body), Limits::default());
    assert!(matches!(worker.hear(), Heard::Ready(_)));
    worker.say(&ToWorker::Stop);
    assert_eq!(worker.hear(), Heard::Stopped);
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn a_stop_that_comes_while_it_loads_is_answered_when_it_has_loaded() {
    let mut worker = Worker::spawn(&module(ECHO), Limits::default());
    worker.say(&ToWorker::Stop);
    assert!(matches!(worker.hear(), Heard::Ready(_)));
    assert_eq!(worker.hear(), Heard::Stopped);
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn a_trapping_guest_is_a_fault_that_names_frame_and_export() {
    let mut worker =
        Worker::running(r#"(func (export "sanderling_frame") (result i32) (unreachable))"#, Limits::default());
    worker.frame(41, b"x");
    let Heard::Fault(fault) = worker.hear() else { panic!("no fault") };
    assert_eq!((fault.code, fault.trap.as_deref(), fault.seq), (FaultCode::Trap, Some("unreachable"), Some(41)));
    assert_eq!(fault.export.as_deref(), Some("sanderling_frame"));
    assert_eq!(worker.hear(), Heard::End);
    assert_eq!(worker.end().code(), Some(1));
}

#[test]
fn bytes_that_are_not_wasm_are_an_init_fault() {
    let mut worker = Worker::spawn(b"\x7fELF not wasm", Limits::default());
    assert!(matches!(worker.hear(), Heard::Fault(Fault { code: FaultCode::Init, .. })));
    assert_eq!(worker.end().code(), Some(1));
}

#[test]
fn an_endless_loop_ends_at_its_deadline() {
    let spin = r#"(func (export "sanderling_frame") (result i32) (loop $l (br $l)) (unreachable))"#;
    let limits = Limits { deadline_ms: 50, fuel_per_frame: 1 << 50, ..Limits::default() };
    let mut worker = Worker::running(spin, limits);
    worker.frame(1, b"x");
    assert!(matches!(worker.hear(), Heard::Fault(Fault { code: FaultCode::Deadline, .. })));
    assert_eq!(worker.end().code(), Some(1));
}

#[test]
fn the_rings_stop_request_interrupts_a_running_guest() {
    let spin = r#"(data (i32.const 0) "echo") (func (export "sanderling_frame") (result i32)
        (drop (call $log (i32.const 2) (i32.const 0) (i32.const 4))) (loop $l (br $l)) (unreachable))"#;
    let limits = Limits { deadline_ms: 600_000, fuel_per_frame: 1 << 50, ..Limits::default() };
    let mut worker = Worker::running(spin, limits);
    worker.frame(1, b"x");
    assert_eq!(worker.hear(), Heard::Log("echo".into()), "the line comes while the guest still runs");
    worker.ring.request_stop();
    assert_eq!(worker.hear(), Heard::Stopped);
    assert_eq!(worker.end().code(), Some(0));
}

#[test]
fn a_record_that_is_no_frame_is_refused_and_the_guest_goes_on() {
    let mut worker = Worker::running(ECHO, Limits::default());
    worker.push(&[b"short"]);
    assert_eq!(worker.hear(), Heard::Refused(0));
    let mut header = FrameHeader { seq: 5, ..FrameHeader::new("cam0", 4) }.to_bytes();
    header[28] = 99;
    worker.push(&[&header, b"abcd"]);
    assert_eq!(worker.hear(), Heard::Refused(5));
    worker.frame(6, b"abcd");
    assert!(matches!(worker.hear(), Heard::Emit { seq: 6, .. }));
}

#[test]
fn a_killed_worker_closes_its_socket_without_a_word() {
    let mut worker = Worker::running(ECHO, Limits::default());
    worker.child.kill().unwrap();
    assert_eq!(worker.hear(), Heard::End);
    assert_eq!(worker.end().signal(), Some(9));
}

#[test]
fn a_worker_ends_when_its_supervisor_closes_the_socket() {
    let mut worker = Worker::running(ECHO, Limits::default());
    worker.socket.shutdown(std::net::Shutdown::Both).unwrap();
    assert_eq!(worker.child.wait().unwrap().code(), Some(2));
}

#[test]
fn a_worker_is_confined_before_it_is_ready() {
    let mut worker = Worker::spawn(&module(ECHO), Limits { memory_mib: 3, native_memory_mib: 8, ..Limits::default() });
    let Heard::Ready(ready) = worker.hear() else { panic!("not ready") };
    let proc = format!("/proc/{}", worker.child.id());
    let read = |file: &str| std::fs::read_to_string(format!("{proc}/{file}")).unwrap();
    let status = read("status");
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    };
    let nothing = "0000000000000000";
    for (name, value) in
        [("NoNewPrivs", "1"), ("Seccomp", "2"), ("Seccomp_filters", "1"), ("Umask", "0777"), ("Threads", "1")]
    {
        assert_eq!(field(name), value, "{name}");
    }
    for name in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(field(name), nothing, "{name}");
    }
    let limits = read("limits");
    let limit = |name: &str| {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(limit("Max open files"), "0");
    assert_eq!(limit("Max core file size"), "0");
    let most = limit("Max address space").parse::<u64>().unwrap();
    let taken = field("VmSize").trim_end_matches(" kB").parse::<u64>().unwrap() << 10;
    assert!(most - taken < 40 << 20, "{taken} bytes of {most} are taken; the deployment gives 3 and 8 MiB");
    assert_eq!(read("oom_score_adj").trim().parse::<i32>().unwrap().max(500), 500);
    assert_eq!(u32::from_str_radix(read("coredump_filter").trim(), 16), Ok(0));
    assert_eq!(std::fs::read_link(format!("{proc}/cwd")).unwrap().to_str(), Some("/"));
    assert_eq!(read("environ"), "");
    let own = worker.child.id().to_string();
    let stat: Vec<String> = read("stat").split(' ').map(str::to_owned).collect();
    assert_eq!(stat[4..7], [own.clone(), own, "0".to_owned()], "group, session and terminal");
    // The ring is mapped and the module read, and both are closed by then.
    for number in [RING_FD, FIRST_BLOB_FD] {
        assert!(std::fs::read_link(format!("{proc}/fd/{number}")).is_err(), "{number} is still open");
    }
    let landlock = [Measure::Files, Measure::Network, Measure::Scopes];
    assert!(ready.unconfined.iter().all(|missing| landlock.contains(&missing.measure)), "{:?}", ready.unconfined);
    worker.say(&ToWorker::Stop);
    assert_eq!(worker.hear(), Heard::Stopped);
}

#[test]
fn a_worker_tells_what_it_was_not_given() {
    let wasm = module(ECHO);
    let mut worker = Worker::spawn_with(&wasm, Limits::default(), |command| {
        command.env("SECRET", "x");
    });
    let Heard::Ready(ready) = worker.hear() else { panic!("not ready") };
    let missing = ready.unconfined.iter().find(|missing| missing.measure == Measure::Environment).unwrap();
    assert!(missing.why.contains("1 variable"), "{missing}");
}

#[test]
fn started_by_hand_it_says_so_on_standard_error() {
    let output = Command::new(env!("CARGO_BIN_EXE_sanderling-worker")).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("sanderling-agent"));
}

#[test]
fn by_hand_it_tells_its_version_and_what_it_is_for() {
    let said = |argument: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_sanderling-worker")).arg(argument).output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{argument}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(said("--version"), format!("sanderling-worker {}\n", env!("CARGO_PKG_VERSION")));
    let help = said("--help");
    assert!(help.contains("sanderling-agent") && help.contains("--try MEASURE"), "{help}");
}
