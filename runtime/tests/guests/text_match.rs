//! `text-match` (Go): lines of text as records.

use sanderling_runtime::FrameHeader;
use serde_json::{Value, json};

use crate::support::Rig;

fn text_match(config: Value) -> Rig {
    let (rig, started) = Rig::with("text-match", "matches", &config, |_| {});
    started.unwrap_or_else(|fault| panic!("{fault:?}: {}", rig.log()));
    rig
}

fn weights() -> Value {
    json!({
        "patterns": [
            { "name": "weight", "match": r"^(?P<scale>\w+) +(?P<kg>[-+0-9.]+) kg$", "numbers": ["kg"] },
            { "name": "error", "match": r"^E(?P<code>\d+)" },
        ],
    })
}

fn give(rig: &mut Rig, seq: u64, sensor: &str, text: &[u8]) -> Vec<Value> {
    let header = FrameHeader { seq, ..FrameHeader::new(sensor, u32::try_from(text.len()).unwrap()) };
    rig.frame(&header, text).unwrap()
}

#[test]
fn lines_become_records_wherever_the_frames_are_cut() {
    let text = b"A1   12.50 kg\r\nB2 -0.25 kg\nnonsense\nE42 overload\nC3 1.2.3 kg\n";
    for cut in [1, 3, 7, 1000] {
        let mut rig = text_match(weights());
        let mut records: Vec<Value> = Vec::new();
        for (seq, part) in text.chunks(cut).enumerate() {
            // Another sensor between them is another line.
            assert_eq!(give(&mut rig, seq as u64, "other", b"x"), [] as [Value; 0]);
            records.extend(give(&mut rig, seq as u64, "com1", part));
        }
        for record in &mut records {
            assert!(record.as_object_mut().unwrap().remove("seq").is_some());
        }
        assert_eq!(
            records,
            [
                json!({ "sensor": "com1", "pattern": "weight", "scale": "A1", "kg": 12.5 }),
                json!({ "sensor": "com1", "pattern": "weight", "scale": "B2", "kg": -0.25 }),
                json!({ "sensor": "com1", "pattern": "error", "code": "42" }),
                json!({ "sensor": "com1", "pattern": "weight", "scale": "C3", "kg": null }),
            ],
            "cut at {cut}"
        );
    }
}

#[test]
fn lines_that_nothing_matches_are_reported_where_that_is_asked_for() {
    let mut config = weights();
    config["unmatched"] = true.into();
    let mut rig = text_match(config);
    let records = give(&mut rig, 5, "com1", b"\nwhat \xff \"is\" this\n");
    assert_eq!(records, [json!({ "seq": 5, "sensor": "com1", "line": "what \u{fffd} \"is\" this" })]);
}

#[test]
fn a_line_without_an_end_takes_no_memory_and_the_next_one_is_read() {
    let mut rig = text_match(weights());
    let mut memory = 0;
    for seq in 0..100 {
        assert_eq!(give(&mut rig, seq, "com1", &[b'x'; 60_000]), [] as [Value; 0]);
        if seq == 20 {
            memory = rig.guest.memory_bytes();
        }
    }
    assert_eq!(rig.guest.memory_bytes(), memory);
    let records = give(&mut rig, 101, "com1", b"\nA1 1 kg\n");
    assert_eq!(records.len(), 1);
}

#[test]
fn runs_in_the_memory_that_a_deployment_gives_by_default() {
    let mut rig = text_match(weights());
    for seq in 0..500 {
        let records = give(&mut rig, seq, "com1", "A1 12.5 kg\n".repeat(20).as_bytes());
        assert_eq!(records.len(), 20);
    }
    assert!(rig.guest.memory_bytes() <= 12 << 20, "{} bytes of 16 MiB", rig.guest.memory_bytes());
}

#[test]
fn an_expression_that_other_engines_choke_on_takes_no_time() {
    let mut rig = text_match(json!({ "patterns": [{ "name": "evil", "match": "^(a+)+$" }] }));
    assert_eq!(give(&mut rig, 1, "com1", format!("{}!\n", "a".repeat(2_000)).as_bytes()), [] as [Value; 0]);
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_in_words() {
    let pattern = |entry: Value| json!({ "patterns": [entry] });
    for (config, words) in [
        (Value::Null, "no patterns"),
        (json!({ "pattern": [] }), "unknown field \"pattern\""),
        (json!({ "patterns": 1 }), "cannot unmarshal"),
        (pattern(json!({ "name": "a", "match": "(" })), "missing closing )"),
        (pattern(json!({ "name": "a", "match": "(?P<x>.)", "numbers": ["y"] })), "no group (?P<y>"),
        (pattern(json!({ "name": "a", "match": "(?P<seq>.)" })), "may not be called seq"),
    ] {
        let (fault, log) = Rig::refused("text-match", &config);
        assert_eq!(fault.guest_code, Some(1001), "{config}");
        assert!(log.contains(words), "{config}: {log}");
    }
}
