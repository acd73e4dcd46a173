//! A guest for tests that makes the calls it is told to, and shows what they answered and what they wrote.

use std::{fmt::Write as _, sync::Arc};

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::{deployment::Limits, worker::Fault};

use crate::{FakeClock, FrameBytes, Guest, LoadSpec, NamedModel, Outcome, Ports, Recorder, Said, SeededRandom};

/// The guest's memory: one page.
pub(in crate::host) const PAGE: i32 = 65_536;
/// Where the answers stand.
const ANSWERS: usize = 61_440;
const CHANNEL: usize = 65_000;

const IMPORTS: &str = r#"
  (import "wasi_ephemeral_nn" "load" (func $load (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "load_by_name" (func $load_by_name (param i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "init_execution_context" (func $init_execution_context (param i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "set_input" (func $set_input (param i32 i32 i32) (result i32)))
  (import "wasi_ephemeral_nn" "compute" (func $compute (param i32) (result i32)))
  (import "wasi_ephemeral_nn" "get_output" (func $get_output (param i32 i32 i32 i32 i32) (result i32)))
  (import "sanderling_v1" "nn_output_info" (func $nn_output_info (param i32 i32 i32) (result i32)))
  (import "sanderling_v1" "nn_input_image" (func $nn_input_image (param i32 i32 i32) (result i32)))
  (import "sanderling_v1" "image_tensor" (func $image_tensor (param i32 i32 i32) (result i32)))
  (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
"#;

/// What a guest is given.
pub(in crate::host) struct Rig {
    pub(in crate::host) models: Vec<NamedModel>,
    pub(in crate::host) data: Vec<(usize, Vec<u8>)>,
    pub(in crate::host) infer: bool,
    /// Whether the guest may bring models.
    pub(in crate::host) load: bool,
    pub(in crate::host) native_memory_mib: u32,
    pub(in crate::host) frame: (FrameHeader, Vec<u8>),
    /// Where the calls are made from: `frame`, `start` (sanderling_start) or `section` (the start section).
    pub(in crate::host) from: &'static str,
    /// How far the clock moves each time it is read, in nanoseconds.
    pub(in crate::host) step: u64,
}

impl Default for Rig {
    fn default() -> Self {
        Self {
            models: vec![],
            data: vec![],
            infer: true,
            load: false,
            native_memory_mib: 16,
            frame: (FrameHeader::new("cam0", 0), vec![]),
            from: "frame",
            step: 0,
        }
    }
}

/// What became of it.
#[derive(Debug)]
pub(in crate::host) struct Ran {
    pub(in crate::host) answers: Vec<i32>,
    pub(in crate::host) memory: Vec<u8>,
    pub(in crate::host) denied: Vec<&'static str>,
    pub(in crate::host) log: Vec<String>,
    /// Fuel that the frame took.
    pub(in crate::host) fuel: u64,
}

impl Ran {
    pub(in crate::host) fn words(&self, at: usize, count: usize) -> Vec<u32> {
        self.memory[at..at + 4 * count].as_chunks::<4>().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect()
    }

    pub(in crate::host) fn floats(&self, at: usize, count: usize) -> Vec<f32> {
        self.words(at, count).into_iter().map(f32::from_bits).collect()
    }
}

/// Loads a guest that makes `calls`, each a function and its arguments, and gives it one frame.
pub(in crate::host) fn try_run(rig: Rig, calls: &[String]) -> Result<Ran, Fault> {
    let mut text = format!("(module {IMPORTS} (memory (export \"memory\") 1)");
    write!(text, "(data (i32.const {CHANNEL}) \"out\")").unwrap();
    for (at, bytes) in &rig.data {
        let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        write!(text, "(data (i32.const {at}) \"{escaped}\")").unwrap();
    }
    let mut body = String::new();
    for (index, call) in calls.iter().enumerate() {
        let mut words = call.split_whitespace();
        let function = words.next().unwrap();
        let arguments: String = words.map(|word| format!("(i32.const {word})")).collect();
        write!(body, "(i32.store (i32.const {}) (call ${function} {arguments}))", ANSWERS + 4 * index).unwrap();
    }
    let emit = format!("(drop (call $emit (i32.const {CHANNEL}) (i32.const 3) (i32.const 0) (i32.const {PAGE})))");
    let (frame, start, section) = match rig.from {
        "frame" => (body, String::new(), String::new()),
        "start" => (String::new(), body, String::new()),
        _ => (String::new(), String::new(), body),
    };
    write!(
        text,
        r#"(func $section {section}) (start $section)
        (func (export "sanderling_abi") (result i32) (i32.const 1))
        (func (export "sanderling_start") (result i32) {start} (i32.const 0))
        (func (export "sanderling_frame") (result i32) {frame} {emit} (i32.const 0)))"#
    )
    .unwrap();
    let module = wat::parse_str(&text).unwrap();
    let said = Recorder::default();
    let ports = Ports {
        clock: Arc::new(FakeClock::with_step(rig.step)),
        output: Box::new(said.clone()),
        random: Box::new(SeededRandom::new(1)),
        stop: Box::new(|| false),
    };
    let mut grants = vec!["emit:out".parse().unwrap()];
    if rig.infer {
        grants.push("infer".parse().unwrap());
    }
    if rig.load {
        grants.push("infer:load".parse().unwrap());
    }
    let limits = Limits { native_memory_mib: rig.native_memory_mib, ..Limits::default() };
    let spec = LoadSpec { module: &module, models: rig.models, grants, limits, ..LoadSpec::default() };
    let mut guest = Guest::load(spec, ports)?;
    guest.start()?;
    let (header, bytes) = rig.frame;
    let outcome = guest.frame(&FrameHeader { len: bytes.len() as u32, ..header }, FrameBytes::Owned(bytes))?;
    let Outcome::Done(done) = outcome else { unreachable!("{outcome:?}") };
    let mut ran = Ran { answers: vec![], memory: vec![], denied: vec![], log: vec![], fuel: done.fuel };
    for said in said.take() {
        match said {
            Said::Emit { payload, .. } => ran.memory = payload,
            Said::Log { text, .. } => ran.log.push(text),
            Said::Denied(function) => ran.denied.push(function),
        }
    }
    ran.answers = ran.words(ANSWERS, calls.len()).into_iter().map(u32::cast_signed).collect();
    Ok(ran)
}

/// As [`try_run`], for guests that are not expected to fail.
pub(in crate::host) fn run(rig: Rig, calls: &[&str]) -> Ran {
    let calls: Vec<String> = calls.iter().map(|call| (*call).to_owned()).collect();
    try_run(rig, &calls).unwrap()
}

/// A model of `testdata`.
pub(in crate::host) fn model(name: &str, bytes: &[u8]) -> NamedModel {
    NamedModel { name: name.to_owned(), bytes: Arc::from(bytes) }
}

/// Little-endian words.
pub(in crate::host) fn words(words: &[i32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// Little-endian floats.
pub(in crate::host) fn floats(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|float| float.to_le_bytes()).collect()
}
