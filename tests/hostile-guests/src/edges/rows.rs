//! The host functions, parameter by parameter: what is good to give them.

use sanderling_guest::image::{ImageOp, OP};

use super::{BUFFER, Must, SIZE};
use crate::{CHANNEL, MODEL, SIDE, signatures::Signature};

/// Where the channel's name lies.
pub const CHANNEL_AT: i64 = 16;
const MODEL_AT: i64 = 32;
const KEY_AT: i64 = 48;
const TENSOR_AT: i64 = 128;
const DIMS_AT: i64 = 160;
const OP_AT: i64 = 192;
const VECTORS_AT: i64 = 256;
const RECTANGLE_AT: i64 = 320;
const INPUT_AT: i64 = 1024;
/// A tensor of [`SIDE`] by [`SIDE`] floats.
const INPUT: usize = 4 * SIDE as usize * SIDE as usize;

/// What the guests may do.
pub const GRANTS: [&str; 4] = ["infer", "emit:out", "state:65536", "evidence"];

/// What they import besides the function that they try: module, name, how it is called, parameters.
pub const SETUP: [(&str, &str, &str, &str); 5] = [
    ("sanderling_v1", "emit", "$emit", "i32 i32 i32 i32"),
    ("wasi_ephemeral_nn", "load_by_name", "$load", "i32 i32 i32"),
    ("wasi_ephemeral_nn", "init_execution_context", "$context", "i32 i32"),
    ("wasi_ephemeral_nn", "set_input", "$input", "i32 i32 i32"),
    ("wasi_ephemeral_nn", "compute", "$compute", "i32"),
];

/// What they do before: a model is loaded and has run, in the context 0.
pub const PREPARE: &str = "
    (drop (call $load (i32.const 32) (i32.const 1) (i32.const 512)))
    (drop (call $context (i32.const 0) (i32.const 512)))
    (drop (call $input (i32.const 0) (i32.const 0) (i32.const 128)))
    (drop (call $compute (i32.const 0)))";

/// A parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A pointer to so many bytes at a place.
    At(i64, i64),
    /// A pointer to a buffer whose length is the next parameter.
    Buffer(i64),
    /// The length of the buffer before it.
    Length(i64),
    /// A number of any meaning.
    Number(i64),
    /// A handle, of which there is only this one.
    Handle(i64),
}
use Kind::{At, Buffer, Handle, Length, Number};

/// A host function.
#[derive(Clone, Debug)]
pub struct Row {
    /// Its parameters.
    pub kinds: Vec<Kind>,
    /// Whether errors are negative.
    pub negative: bool,
    /// Whether the good call succeeds.
    pub succeeds: bool,
    /// Whether a pointer beyond memory and a handle that there is not must be refused.
    pub strict: bool,
}

impl Row {
    /// Whether it has as many parameters as the function.
    pub fn fits(&self, signature: &Signature) -> bool {
        self.kinds.len() == signature.params.len()
    }
}

impl Kind {
    /// What is good.
    pub fn good(&self) -> i64 {
        match self {
            At(place, _) | Buffer(place) => *place,
            Length(value) | Number(value) | Handle(value) => *value,
        }
    }

    /// What is bad, or strange: values for this parameter and those behind it, and what must become of the call.
    pub fn bad(&self, next: Option<&Self>) -> Vec<(Vec<i64>, Must)> {
        const ENDS: [i64; 7] = [-1, -4, -64, i32::MIN as i64, i32::MAX as i64, SIZE, SIZE + 1];
        match (self, next) {
            (At(place, bytes), _) => {
                let beyond = ENDS.into_iter().chain([SIZE - bytes + 1, SIZE - 1].into_iter().filter(|_| *bytes > 1));
                let within = [SIZE - bytes, place + 1, place + 3];
                let within = within.into_iter().map(|at| (vec![at], Must::Return));
                beyond.map(|at| (vec![at], Must::Refuse)).chain(within).collect()
            }
            (Buffer(place), Some(Length(length))) => {
                let beyond = [
                    (SIZE, 1),
                    (SIZE - 1, 2),
                    (0, SIZE + 1),
                    (-1, 1),
                    (-1, 2),
                    (0, -1),
                    (-1, -1),
                    (i64::from(i32::MAX), i64::from(i32::MAX)),
                    (i64::from(i32::MIN), i64::from(i32::MIN)),
                    (*place, -*place),
                    (*place, i64::from(i32::MIN)),
                    (SIZE - length + 1, *length),
                ];
                let within = [
                    (SIZE, 0),
                    (0, 0),
                    (SIZE - length, *length),
                    (place + 1, *length),
                    (0, SIZE),
                    (*place, 0),
                    (*place, 1),
                ];
                let within = within.into_iter().map(|(at, length)| (vec![at, length], Must::Return));
                beyond.into_iter().map(|(at, length)| (vec![at, length], Must::Refuse)).chain(within).collect()
            }
            (Handle(value), _) => {
                let others = ENDS.into_iter().chain([value + 1]);
                others.map(|value| (vec![value], Must::Refuse)).collect()
            }
            _ => ENDS.into_iter().chain([0, 1, 2, 3]).map(|value| (vec![value], Must::Return)).collect(),
        }
    }
}

fn row(negative: bool, kinds: &[Kind]) -> Row {
    Row { kinds: kinds.to_vec(), negative, succeeds: true, strict: true }
}

/// A function that answers the same to everything, or of which little can be said.
fn loose(kinds: &[Kind]) -> Row {
    Row { kinds: kinds.to_vec(), negative: false, succeeds: false, strict: false }
}

/// What is known of a host function.
pub fn of(signature: &Signature) -> Option<Row> {
    match signature.module {
        "sanderling_v1" => ours(&signature.name),
        "wasi_ephemeral_nn" => inference(&signature.name),
        _ => wasi(signature),
    }
}

fn ours(name: &str) -> Option<Row> {
    let channel = [Buffer(CHANNEL_AT), Length(CHANNEL.len() as i64)];
    let key = [Buffer(KEY_AT), Length(3)];
    let buffer = [Buffer(BUFFER), Length(256)];
    Some(match name {
        "frame_info" => row(true, &[At(BUFFER, 96)]),
        "frame_read" => row(true, &[Number(0), buffer[0], buffer[1]]),
        "emit" => row(true, &[channel[0], channel[1], buffer[0], buffer[1]]),
        // Whether the frame at hand is an image is another's matter.
        "emit_evidence" => {
            Row { succeeds: false, ..row(true, &[channel[0], channel[1], At(RECTANGLE_AT, 16), Number(80)]) }
        }
        "log" => row(true, &[Number(2), buffer[0], buffer[1]]),
        "config" => row(true, &buffer),
        // There is nothing of that key.
        "state_get" => Row { succeeds: false, ..row(true, &[key[0], key[1], buffer[0], buffer[1]]) },
        "state_set" => row(true, &[key[0], key[1], buffer[0], buffer[1]]),
        "state_delete" => Row { succeeds: false, ..row(true, &key) },
        "metric_add" | "metric_set" => row(true, &[key[0], key[1], Number(1)]),
        "now" => row(true, &[At(BUFFER, 16)]),
        "image_tensor" => {
            Row { strict: false, ..row(true, &[At(OP_AT, OP as i64), Buffer(BUFFER), Length(INPUT as i64)]) }
        }
        "nn_input_image" => row(true, &[Handle(0), Handle(0), At(OP_AT, OP as i64)]),
        "nn_output_info" => row(true, &[Handle(0), Number(0), At(BUFFER, 40)]),
        _ => return None,
    })
}

fn inference(name: &str) -> Option<Row> {
    Some(match name {
        "load" => loose(&[At(BUFFER, 8), Number(1), Number(1), Number(0), At(512, 4)]),
        "load_by_name" => row(false, &[Buffer(MODEL_AT), Length(MODEL.len() as i64), At(512, 4)]),
        "init_execution_context" => row(false, &[Handle(0), At(512, 4)]),
        "set_input" => row(false, &[Handle(0), Handle(0), At(TENSOR_AT, 20)]),
        "compute" => row(false, &[Handle(0)]),
        "get_output" => row(false, &[Handle(0), Number(0), At(BUFFER, 8), Number(64), At(512, 4)]),
        _ => return None,
    })
}

fn wasi(signature: &Signature) -> Option<Row> {
    Some(match signature.name.as_str() {
        "clock_res_get" => row(false, &[Number(1), At(BUFFER, 8)]),
        "clock_time_get" => row(false, &[Number(1), Number(0), At(BUFFER, 8)]),
        "random_get" => row(false, &[Buffer(BUFFER), Length(64)]),
        "args_sizes_get" | "environ_sizes_get" => row(false, &[At(BUFFER, 4), At(512, 4)]),
        "fd_write" => row(false, &[Number(1), At(VECTORS_AT, 16), Number(2), At(512, 4)]),
        "fd_fdstat_get" => row(false, &[Number(1), At(BUFFER, 24)]),
        // Descriptors and paths: there are none, or none that a reactor has.
        name if name.starts_with("fd_") || name.starts_with("path_") || name.starts_with("sock_") => {
            loose(&anything(signature))
        }
        "args_get" | "environ_get" | "poll_oneoff" | "proc_exit" | "proc_raise" | "sched_yield" => {
            loose(&anything(signature))
        }
        _ => return None,
    })
}

fn anything(signature: &Signature) -> Vec<Kind> {
    signature.params.iter().map(|_| Number(BUFFER)).collect()
}

/// A model with one input of [`SIDE`] by [`SIDE`] floats.
pub fn model() -> Vec<u8> {
    include_bytes!("../../../../runtime/testdata/conv.onnx").to_vec()
}

/// What lies in memory before the first call.
pub fn data() -> Vec<(i64, Vec<u8>)> {
    let words = |words: &[i64]| words.iter().flat_map(|word| (*word as i32).to_le_bytes()).collect::<Vec<u8>>();
    let side = i64::from(SIDE);
    vec![
        (CHANNEL_AT, CHANNEL.as_bytes().to_vec()),
        (MODEL_AT, MODEL.as_bytes().to_vec()),
        (KEY_AT, b"key".to_vec()),
        (TENSOR_AT, words(&[DIMS_AT, 4, 1, INPUT_AT, INPUT as i64])),
        (DIMS_AT, words(&[1, 1, side, side])),
        (OP_AT, ImageOp::gray(SIDE, SIDE).to_bytes().to_vec()),
        // Two vectors, one of them empty.
        (VECTORS_AT, words(&[BUFFER, 8, SIZE, 0])),
        (RECTANGLE_AT, words(&[0, 0, side, side])),
        (INPUT_AT, vec![0x3f; INPUT]),
    ]
}
