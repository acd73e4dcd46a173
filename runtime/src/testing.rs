//! What tests of the library share: guests written as text, on a clock that the test moves.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::{deployment::Limits, worker::Fault};

use crate::{
    FakeClock, FrameBytes, Guest, LoadSpec, Outcome, Ports, Recorder, SeededRandom,
    infer::{Inference, tract::Tract},
};

/// The imports that most guests of tests use.
pub(crate) const IMPORTS: &str = r#"
    (import "sanderling_v1" "frame_info" (func $frame_info (param i32) (result i32)))
    (import "sanderling_v1" "frame_read" (func $frame_read (param i32 i32 i32) (result i32)))
    (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
    (import "sanderling_v1" "emit_evidence" (func $emit_evidence (param i32 i32 i32 i32) (result i32)))
    (import "sanderling_v1" "log" (func $log (param i32 i32 i32) (result i32)))
    (import "sanderling_v1" "config" (func $config (param i32 i32) (result i32)))
    (import "sanderling_v1" "now" (func $now (param i32) (result i32)))
    (import "sanderling_v1" "metric_add" (func $metric_add (param i32 i32 f64) (result i32)))
    (import "sanderling_v1" "metric_set" (func $metric_set (param i32 i32 f64) (result i32)))
    (import "sanderling_v1" "state_get" (func $state_get (param i32 i32 i32 i32) (result i32)))
    (import "sanderling_v1" "state_set" (func $state_set (param i32 i32 i32 i32) (result i32)))
    (import "sanderling_v1" "state_delete" (func $state_delete (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "random_get" (func $random_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $clock_time_get (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_fdstat_get" (func $fd_fdstat_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ_sizes_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $fd_close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_seek" (func $fd_seek (param i32 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_open" (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_tell" (func $fd_tell (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pread" (func $fd_pread (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_get" (func $fd_prestat_get (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_prestat_dir_name" (func $fd_prestat_dir_name (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_filestat_get" (func $path_filestat_get (param i32 i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_unlink_file" (func $path_unlink_file (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_sync" (func $fd_sync (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "sock_shutdown" (func $sock_shutdown (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_raise" (func $proc_raise (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "sched_yield" (func $sched_yield (result i32)))
    (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll_oneoff (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $proc_exit (param i32)))"#;

/// The content of the frames that [`Rig::frame`] sends.
pub(crate) const CONTENT: &[u8] = b"0123456789";

/// A guest, and the ends of its ports.
pub(crate) struct Rig {
    pub(crate) guest: Guest,
    pub(crate) said: Recorder,
    pub(crate) clock: Arc<FakeClock>,
    pub(crate) stop: Arc<AtomicBool>,
}

/// A whole module around `body`, with one page of memory.
pub(crate) fn module(body: &str) -> Vec<u8> {
    program(&format!("(func (export \"sanderling_abi\") (result i32) (i32.const 1)) {body}"))
}

/// A whole WASI program around `body`, with one page of memory.
pub(crate) fn program(body: &str) -> Vec<u8> {
    wat::parse_str(format!("(module {IMPORTS} (memory (export \"memory\") 1) {body})")).unwrap()
}

impl Rig {
    /// Loads and starts the module around `body`.
    pub(crate) fn new(body: &str) -> Self {
        let mut rig = Self::with(body, 0, |_| {}).unwrap();
        rig.guest.start().unwrap();
        rig
    }

    /// Loads the module around `body`, on a clock that moves by `step` nanoseconds at each look.
    pub(crate) fn with(body: &str, step: u64, edit: impl FnOnce(&mut LoadSpec<'_>)) -> Result<Self, Fault> {
        Self::load(&module(body), step, edit)
    }

    /// Loads a module.
    pub(crate) fn load(module: &[u8], step: u64, edit: impl FnOnce(&mut LoadSpec<'_>)) -> Result<Self, Fault> {
        let tract = Tract::new(&Limits::default());
        Self::load_on(Arc::new(tract), module, step, edit)
    }

    /// Loads a module whose models run on `inference`.
    pub(crate) fn load_on(
        inference: Arc<dyn Inference>,
        module: &[u8],
        step: u64,
        edit: impl FnOnce(&mut LoadSpec<'_>),
    ) -> Result<Self, Fault> {
        let said = Recorder::default();
        let clock = Arc::new(FakeClock::with_step(step));
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        let ports = Ports {
            clock: Arc::clone(&clock) as _,
            output: Box::new(said.clone()),
            random: Box::new(SeededRandom::new(7)),
            stop: Box::new(move || flag.load(Ordering::Relaxed)),
        };
        let mut spec = LoadSpec {
            module,
            config: r#"{"a":1}"#.to_owned(),
            grants: vec!["emit:ok".parse().unwrap()],
            ..LoadSpec::default()
        };
        edit(&mut spec);
        Ok(Self { guest: Guest::load_with(inference, spec, ports)?, said, clock, stop })
    }

    /// Sends a frame of ten bytes with sequence number 7.
    pub(crate) fn frame(&mut self) -> Result<Outcome, Fault> {
        self.frame_of(CONTENT)
    }

    /// Sends a frame with this content.
    pub(crate) fn frame_of(&mut self, content: &[u8]) -> Result<Outcome, Fault> {
        let len = u32::try_from(content.len()).unwrap();
        let header = FrameHeader { seq: 7, ..FrameHeader::new("cam0", len) };
        self.guest.frame(&header, FrameBytes::Owned(content.to_vec()))
    }

    /// Sends a frame that must be handled.
    pub(crate) fn done(&mut self) {
        let outcome = self.frame();
        assert!(matches!(outcome, Ok(Outcome::Done(_))), "{outcome:?}");
    }
}

/// What the expression yields during `sanderling_frame`, in a guest of its own.
pub(crate) fn value_of(expression: &str) -> i32 {
    let body = format!("(func (export \"sanderling_frame\") (result i32) {expression})");
    match Rig::new(&body).frame() {
        Ok(Outcome::Done(_)) => 0,
        Ok(other) => panic!("{expression}: {other:?}"),
        Err(fault) => match fault.guest_code {
            Some(code) => code,
            None => panic!("{expression}: {fault:?}"),
        },
    }
}
