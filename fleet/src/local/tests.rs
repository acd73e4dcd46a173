//! Runs of small guests, from arguments to printed lines.

use std::fs;

use clap::Parser;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    options: RunOptions,
}

/// A guest that emits the first four bytes of a frame, and traps on a frame that begins with `t`.
const ECHO: &str = r#"(module
    (import "sanderling_v1" "frame_read" (func $read (param i32 i32 i32) (result i32)))
    (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
    (import "sanderling_v1" "log" (func $log (param i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "echo")
    (func (export "sanderling_abi") (result i32) (i32.const 1))
    (func (export "sanderling_start") (result i32) (call $log (i32.const 2) (i32.const 0) (i32.const 4)))
    (func (export "sanderling_frame") (result i32)
        (drop (call $read (i32.const 0) (i32.const 16) (i32.const 4)))
        (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 116)) (then unreachable))
        (drop (call $emit (i32.const 0) (i32.const 4) (i32.const 16) (i32.const 4)))
        (i32.const 0)))"#;

struct Ran {
    lines: Vec<Value>,
    log: String,
    result: Result<bool>,
}

impl Ran {
    fn summary(&self) -> &Value {
        self.lines.last().unwrap()
    }
}

fn run(module: &[u8], files: &[(&str, &[u8])], words: &str) -> Ran {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("m.wasm"), module).unwrap();
    let frames = folder.path().join("frames");
    fs::create_dir(&frames).unwrap();
    for (name, content) in files {
        fs::write(frames.join(name), content).unwrap();
    }
    let mut line = vec!["run".to_owned(), folder.path().join("m.wasm").display().to_string()];
    line.extend(["--frames".to_owned(), frames.display().to_string()]);
    line.extend(words.split_whitespace().map(|word| word.replace('%', &folder.path().display().to_string())));
    let options = Line::try_parse_from(line).unwrap().options;
    let (mut out, mut log) = (Vec::new(), Vec::new());
    let result = run_to(&options, Printer { out: &mut out, log: &mut log, json: true });
    let lines = String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Ran { lines, log: String::from_utf8(log).unwrap(), result }
}

fn echo(files: &[(&str, &[u8])], words: &str) -> Ran {
    run(&wat::parse_str(ECHO).unwrap(), files, words)
}

#[test]
fn a_line_for_each_frame_and_a_summary() {
    let ran = echo(&[("b.bin", b"beta"), ("a.bin", b"alpha")], "--grant emit:echo");
    assert!(ran.result.unwrap());
    let seen: Vec<_> = ran.lines.iter().map(|line| (&line["seq"], &line["records"][0]["payload"])).collect();
    assert_eq!(seen[0], (&json!(1), &json!("alph")));
    assert_eq!(seen[1], (&json!(2), &json!("beta")));
    let summary = ran.lines.last().unwrap();
    assert_eq!(summary["what"], "summary");
    assert_eq!((&summary["ok"], &summary["frames"], &summary["done"]), (&json!(true), &json!(2), &json!(2)));
    assert_eq!(summary["records"], json!({ "echo": 2 }));
    assert!(summary["fuel"]["min"].as_u64().unwrap() > 0);
    assert_eq!(summary["memory_bytes"]["max"], 65_536);
    assert_eq!(ran.log, "info: echo\n");
}

#[test]
fn records_without_a_grant_are_counted_as_denied() {
    let ran = echo(&[("a.bin", b"alpha"), ("b.bin", b"beta")], "--grant emit:other");
    assert!(ran.result.as_ref().is_ok_and(|ok| *ok));
    assert_eq!(ran.lines[0]["records"], json!([]));
    assert_eq!(ran.summary()["denied"], json!({ "emit": 2 }));
    assert_eq!(ran.summary()["records"], json!({}));
}

#[test]
fn goes_on_after_a_fault_and_ends_with_an_error() {
    let files: &[(&str, &[u8])] = &[("a.bin", b"trap"), ("b.bin", b"beta"), ("c.bin", b"trap"), ("d.bin", b"done")];
    let ran = echo(files, "--grant emit:echo --restarts 1");
    assert!(!ran.result.as_ref().unwrap());
    let outcomes: Vec<_> = ran.lines.iter().map(|line| line["outcome"].as_str().unwrap_or("-")).collect();
    assert_eq!(outcomes, ["fault", "done", "fault", "-"]);
    let faults = ran.summary()["faults"].as_array().unwrap();
    assert_eq!(faults.len(), 2);
    assert_eq!((&faults[1]["code"], &faults[1]["seq"]), (&json!("trap"), &json!(3)));
    assert_eq!(faults[1]["export"], "sanderling_frame");
    assert!(faults[1]["file"].as_str().unwrap().ends_with("c.bin"));
    assert_eq!(ran.summary()["files_left"], 1);
}

#[test]
fn what_is_no_module_is_a_fault_at_the_start() {
    let ran = run(b"not wasm", &[("a.bin", b"x")], "");
    assert!(!ran.result.as_ref().unwrap());
    assert_eq!((&ran.lines[0]["what"], &ran.lines[0]["outcome"]), (&json!("start"), &json!("fault")));
    assert_eq!((&ran.summary()["faults"][0]["code"], &ran.summary()["files_left"]), (&json!("init"), &json!(1)));
}

#[test]
fn frames_that_do_not_decode_are_refused() {
    let ran = echo(&[("a.png", b"not a picture"), ("b.png", b"")], "");
    assert!(ran.result.as_ref().unwrap());
    assert_eq!(ran.lines[0]["outcome"], "refused");
    assert!(ran.lines[0]["why"].as_str().unwrap().contains("PNG"));
    assert!(ran.lines[1]["why"].as_str().unwrap().contains("empty"));
    assert_eq!((&ran.summary()["refused"], &ran.summary()["done"]), (&json!(2), &json!(0)));
    assert_eq!(ran.summary()["took_ns"], Value::Null);
}

#[test]
fn names_what_cannot_be_read() {
    let error = |ran: Ran| format!("{:#}", ran.result.unwrap_err());
    let file: &[(&str, &[u8])] = &[("a.bin", b"x")];
    assert!(error(echo(&[], "")).contains("--frames"));
    assert!(error(echo(file, "--config %/m.wasm")).contains("m.wasm is not JSON"));
    assert!(error(echo(file, "--model a=%/absent.onnx")).contains("absent.onnx"));
    assert!(error(echo(file, "--model a=%/m.wasm --model a=%/m.wasm")).contains("two models"));
    assert!(error(echo(file, "--frames %/absent")).contains("absent"));
    assert!(error(echo(file, "--dump-tensors %/m.wasm")).contains("--dump-tensors"));
}

/// A guest that counts frames in its state and emits the count; a frame that begins with `t` traps after that.
const COUNT: &str = r#"(module
    (import "sanderling_v1" "frame_read" (func $read (param i32 i32 i32) (result i32)))
    (import "sanderling_v1" "emit" (func $emit (param i32 i32 i32 i32) (result i32)))
    (import "sanderling_v1" "state_get" (func $get (param i32 i32 i32 i32) (result i32)))
    (import "sanderling_v1" "state_set" (func $set (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 0) "count") (data (i32.const 8) "0")
    (func (export "sanderling_abi") (result i32) (i32.const 1))
    (func (export "sanderling_frame") (result i32)
        (drop (call $get (i32.const 0) (i32.const 5) (i32.const 8) (i32.const 1)))
        (i32.store8 (i32.const 8) (i32.add (i32.load8_u (i32.const 8)) (i32.const 1)))
        (drop (call $set (i32.const 0) (i32.const 5) (i32.const 8) (i32.const 1)))
        (drop (call $read (i32.const 0) (i32.const 16) (i32.const 4)))
        (if (i32.eq (i32.load8_u (i32.const 16)) (i32.const 116)) (then unreachable))
        (call $emit (i32.const 0) (i32.const 5) (i32.const 8) (i32.const 1))))"#;

#[test]
fn state_stays_over_faults_of_a_run_and_in_its_file_over_runs() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("kept.json").display().to_string();
    let words = format!("--grant emit:count --grant state:100 --state {file}");
    let module = wat::parse_str(COUNT).unwrap();
    let counts = |ran: &Ran| -> Vec<String> {
        let records = ran.lines.iter().filter_map(|line| line["records"].get(0));
        records.map(|record| record["payload"].to_string()).collect()
    };
    let files: &[(&str, &[u8])] = &[("a.bin", b"one"), ("b.bin", b"trap"), ("c.bin", b"done")];
    let ran = run(&module, files, &words);
    assert!(!ran.result.as_ref().unwrap());
    assert_eq!(counts(&ran), ["1", "2"], "the frame that faulted does not count");
    let ran = run(&module, &[("a.bin", b"more")], &words);
    assert_eq!(counts(&ran), ["3"]);
    let saved: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(saved, json!([{ "key": "count", "value": "3" }]));
    let ran = run(&module, &[("a.bin", b"x")], "--grant emit:count");
    assert_eq!(ran.summary()["denied"], json!({ "state_get": 1, "state_set": 1 }));
}

#[test]
fn faults_and_where_asked_all_frames_are_recorded_and_come_again() {
    use sanderling_protocol::capsule::Capsule;
    use sanderling_runtime::replay::replay;

    let module = wat::parse_str(ECHO).unwrap();
    let files: &[(&str, &[u8])] = &[("a.bin", b"alpha"), ("b.bin", b"trap"), ("c.bin", b"last")];
    for (words, wanted) in [("", [Some(2)].as_slice()), ("--record-all", &[None, Some(2), None])] {
        let folder = TempDir::new().unwrap();
        let ran = run(&module, files, &format!("--grant emit:echo --record {} {words}", folder.path().display()));
        assert!(!ran.result.unwrap());
        let mut capsules: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        capsules.sort();
        let seqs = capsules.iter().map(|file| {
            let bytes = fs::read(file).unwrap();
            let capsule = Capsule::read(&bytes).unwrap();
            let spec = crate::replay::spec(&capsule.manifest, &module);
            let replayed = replay(capsule.record, &spec, None).unwrap();
            assert!(replayed.is_same() && replayed.frames == 1 + u64::from(words.is_empty()), "{replayed:?}");
            capsule.manifest.fault.and_then(|fault| fault.seq)
        });
        assert_eq!(seqs.collect::<Vec<_>>(), wanted, "{words}");
    }
}
