//! A guest for each host function, which calls it with whatever it does not expect: pointers at and beyond the edge of memory, lengths
//! that reach around it, buffers over each other, handles that there are not, numbers at their ends.
//!
//! What is good is in [`rows`]; what is bad is made of it, parameter by parameter. A host function without a row fails the test.

pub mod rows;

use std::fmt::Write as _;

use rows::{Kind, Row};

use crate::{
    CHANNEL, Guest,
    signatures::{self, Signature},
};

/// The guest's memory, one page.
const SIZE: i64 = 65_536;
/// Where buffers lie, in good calls.
pub const BUFFER: i64 = 8_192;
/// The bytes at the start of memory that are as they were before each call.
const KEPT: usize = 4_096;

/// What a call must answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Must {
    /// Anything but a trap.
    Return,
    /// No error.
    Succeed,
    /// An error.
    Refuse,
}

/// One call of a host function.
#[derive(Clone, Debug)]
pub struct Call {
    /// The arguments, as text has them.
    pub text: String,
    /// What it must answer.
    pub must: Must,
    /// Whether errors of this function are negative numbers; else everything but 0 is one.
    pub negative: bool,
}

impl Call {
    /// Whether the answer is what it must be.
    pub fn holds(&self, answer: i32) -> bool {
        let refused = if self.negative { answer < 0 } else { answer != 0 };
        match self.must {
            Must::Return => true,
            Must::Succeed => !refused,
            Must::Refuse => refused,
        }
    }
}

/// A guest for each host function.
pub fn guests() -> Vec<Guest> {
    signatures::all().iter().map(guest).collect()
}

/// The host functions that have no row, or one that does not fit.
pub fn without_row() -> Vec<String> {
    let fits = |signature: &Signature| rows::of(signature).is_some_and(|row| row.fits(signature));
    signatures::all().iter().filter(|signature| !fits(signature)).map(|s| format!("{s:?}")).collect()
}

fn guest(signature: &Signature) -> Guest {
    let name = format!("calls {}.{}", signature.module, signature.name);
    let row = rows::of(signature).filter(|row| row.fits(signature));
    let calls = row.map(|row| calls(&row, signature)).unwrap_or_default();
    let tries = format!("Calls {} in {} wrong ways.", signature.name, calls.len().saturating_sub(1));
    // It ends the guest, whatever it is given.
    let end = if signature.name == "proc_exit" { "guest in sanderling_frame" } else { "survives" };
    let module = wat::parse_str(text(signature, &calls)).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut guest = Guest::new(&name, &tries, module, end);
    guest.model = Some(rows::model());
    guest.grants = rows::GRANTS.iter().map(|grant| (*grant).to_owned()).collect();
    guest.limits.deadline_ms = 60_000;
    guest.limits.emit_per_s = 10_000;
    guest.answers = calls;
    guest
}

/// The good call, and what is made of it.
fn calls(row: &Row, signature: &Signature) -> Vec<Call> {
    let good: Vec<i64> = row.kinds.iter().map(Kind::good).collect();
    let call = |values: &[i64], must| {
        let arguments = values.iter().zip(&signature.params).map(|(value, kind)| constant(kind, *value));
        Call { text: arguments.collect(), must, negative: row.negative }
    };
    let mut calls = vec![call(&good, if row.succeeds { Must::Succeed } else { Must::Return })];
    for (at, kind) in row.kinds.iter().enumerate() {
        for (values, must) in kind.bad(row.kinds.get(at + 1)) {
            let mut all = good.clone();
            for (to, value) in all.iter_mut().skip(at).zip(values) {
                *to = value;
            }
            calls.push(call(&all, if row.strict { must } else { Must::Return }));
        }
    }
    // All of them the same: buffers lie over each other.
    for value in [0, 1, 3, BUFFER, SIZE - 1, SIZE, -1, i64::from(i32::MIN), i64::from(i32::MAX)] {
        calls.push(call(&vec![value; good.len()], Must::Return));
    }
    calls
}

fn constant(kind: &str, value: i64) -> String {
    match kind {
        // Read as unsigned where it is a pointer.
        "i32" => format!("(i32.const {})", value as i32),
        "i64" => format!("(i64.const {value})"),
        "f32" | "f64" if value == i64::from(i32::MIN) => format!("({kind}.const nan)"),
        "f32" | "f64" if value == -1 => format!("({kind}.const -inf)"),
        "f32" | "f64" => format!("({kind}.const {value})"),
        other => panic!("no host function takes {other}"),
    }
}

/// Answers are gathered in a second memory, which the host does not see, and emitted at the end.
fn text(signature: &Signature, calls: &[Call]) -> String {
    let mut text = String::from("(module ");
    for (module, name, alias, params) in rows::SETUP {
        write!(text, "(import \"{module}\" \"{name}\" (func {alias} (param {params}) (result i32)))").unwrap();
    }
    let list = |what: &str, kinds: &[String]| format!("({what} {})", kinds.join(" "));
    let (params, results) = (list("param", &signature.params), list("result", &signature.results));
    let Signature { module, name, .. } = signature;
    write!(text, "(import \"{module}\" \"{name}\" (func $tried {params} {results}))").unwrap();
    text.push_str("(memory (export \"memory\") 1 1) (memory $answers 2 2)");
    for (at, bytes) in rows::data() {
        let bytes: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        write!(text, "(data (i32.const {at}) \"{bytes}\")").unwrap();
    }
    let length = 4 * calls.len();
    write!(
        text,
        "(func (export \"sanderling_abi\") (result i32) (i32.const 1))
        (func $fresh (memory.copy 0 $answers (i32.const 0) (i32.const 65536) (i32.const {KEPT})))
        (func (export \"sanderling_frame\") (result i32)
            (if (i32.load $answers (i32.const 0)) (then (return (i32.const 0))))
            (i32.store $answers (i32.const 0) (i32.const 1))
            (memory.copy $answers 0 (i32.const 65536) (i32.const 0) (i32.const {KEPT}))
            {}",
        rows::PREPARE
    )
    .unwrap();
    for (number, Call { text: arguments, .. }) in calls.iter().enumerate() {
        let at = 4 * (number + 1);
        if signature.results.is_empty() {
            write!(text, "(call $fresh) (call $tried {arguments})").unwrap();
        } else {
            write!(text, "(call $fresh) (i32.store $answers (i32.const {at}) (call $tried {arguments}))").unwrap();
        }
    }
    write!(
        text,
        "(call $fresh)
            (memory.copy 0 $answers (i32.const {BUFFER}) (i32.const 4) (i32.const {length}))
            (drop (call $emit (i32.const {}) (i32.const {}) (i32.const {BUFFER}) (i32.const {length})))
            (i32.const 0)))",
        rows::CHANNEL_AT,
        CHANNEL.len()
    )
    .unwrap();
    text
}
