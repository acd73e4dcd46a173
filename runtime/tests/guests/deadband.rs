//! `deadband` (AssemblyScript): report by exception.

use sanderling_runtime::{Format, FrameHeader, Kind};
use serde_json::{Value, json};

use crate::support::{Rig, noise, of_series, series};

fn deadband(config: Value) -> Rig {
    Rig::new("deadband", "changes", &config)
}

/// Value and cause of each record.
fn changes(records: &[Value]) -> Vec<(f64, &str)> {
    records
        .iter()
        .map(|record| (record["value"].as_f64().unwrap_or(f64::NAN), record["cause"].as_str().unwrap()))
        .collect()
}

#[test]
fn reports_the_first_value_and_those_that_leave_the_band_for_each_channel() {
    let mut rig = deadband(json!({ "band": 1.5, "channels": [{ "name": "flow \"in\"" }, { "band": 10 }] }));
    let (header, content) = series(7, &[1.0, 0.0, 2.0, 9.0, 2.5, 11.0, 3.0, 5.0], 2, 1000, 10_000);
    let records = rig.frame(&header, &content).unwrap();
    let record = |channel, unix_ms, value, cause| {
        let mut record = json!({ "seq": 7, "sensor": "line", "channel": channel, "unix_ms": unix_ms, "value": value, "cause": cause });
        if channel == 0 {
            record["name"] = "flow \"in\"".into();
        }
        record
    };
    assert_eq!(
        records,
        [
            record(0, 9_997, json!(1), "first"),
            record(1, 9_997, json!(0), "first"),
            record(1, 9_999, json!(11), "change"),
            record(0, 10_000, json!(3), "change"),
        ],
        "2.5 is within 1.5 of 1; 3 is not"
    );
}

#[test]
fn the_wider_of_the_absolute_and_the_relative_band_counts() {
    let mut rig = deadband(json!({ "band": 1, "percent": 10 }));
    let (header, content) = series(1, &[2.0, 2.9, 3.1, 100.0, 109.0, 91.0, 110.5, 0.0, 0.5, -1.5], 1, 1000, 10_000);
    let records = rig.frame(&header, &content).unwrap();
    let values: Vec<f64> = changes(&records).into_iter().map(|(value, _)| value).collect();
    assert_eq!(values, [2.0, 3.1_f32.into(), 100.0, 110.5, 0.0, -1.5]);
}

#[test]
fn a_change_waits_for_the_shortest_interval_and_silence_ends_with_the_longest() {
    let mut rig = deadband(json!({ "band": 1, "min_interval_s": 0.005, "max_interval_s": 0.02 }));
    let mut samples = vec![5.0; 60];
    samples[0] = 0.0;
    // Comes back before it may be reported, and is not.
    samples[8] = 9.0;
    let (header, content) = series(1, &samples, 1, 1000, 60_000);
    let records = rig.frame(&header, &content).unwrap();
    let times: Vec<i64> = records.iter().map(|record| record["unix_ms"].as_i64().unwrap() - 59_941).collect();
    assert_eq!(times, [0, 5, 25, 45]);
    assert_eq!(changes(&records), [(0.0, "first"), (5.0, "change"), (5.0, "interval"), (5.0, "interval")]);
}

#[test]
fn what_is_no_number_is_said_once_and_so_is_the_value_after_it() {
    let mut rig = deadband(json!({ "band": 100 }));
    let (header, content) = series(1, &[1.0, f32::NAN, f32::INFINITY, 2.0, 3.0], 1, 1000, 10_000);
    let records = rig.frame(&header, &content).unwrap();
    assert_eq!(records[1]["value"], Value::Null);
    let causes: Vec<&str> = changes(&records).into_iter().map(|(_, cause)| cause).collect();
    assert_eq!(causes, ["first", "invalid", "change"]);
}

#[test]
fn goes_on_from_frame_to_frame_for_each_sensor_and_reads_integers() {
    let mut rig = deadband(json!({ "band": 2 }));
    let content: Vec<u8> = [100_i16, 101, -100].into_iter().flat_map(i16::to_le_bytes).collect();
    let header = FrameHeader { format: Format::I16, ..of_series("a", content.len(), 1, 1000, 10_000) };
    assert_eq!(changes(&rig.frame(&header, &content).unwrap()), [(100.0, "first"), (-100.0, "change")]);
    assert_eq!(rig.frame(&FrameHeader { len: 2, ..header }, &content[4..]).unwrap(), [] as [Value; 0]);
    let content: Vec<u8> = [-100_i32, 1 << 30].into_iter().flat_map(i32::to_le_bytes).collect();
    let header = FrameHeader { format: Format::I32, ..of_series("b", content.len(), 1, 0, 10_000) };
    let wide = f64::from(1 << 30);
    assert_eq!(changes(&rig.frame(&header, &content).unwrap()), [(-100.0, "first"), (wide, "change")]);
}

#[test]
fn a_value_that_comes_too_fast_is_reported_as_soon_as_there_is_room() {
    let (mut rig, started) = Rig::with("deadband", "changes", &json!({}), |spec| spec.limits.emit_per_s = 2);
    started.unwrap();
    let (header, content) = series(1, &[1.0, 2.0, 3.0, 4.0], 1, 1000, 10_000);
    assert_eq!(changes(&rig.frame(&header, &content).unwrap()), [(1.0, "first"), (2.0, "change")]);
    rig.clock.advance(1_000_000_000);
    let (header, content) = series(2, &[4.0], 1, 1000, 11_000);
    assert_eq!(changes(&rig.frame(&header, &content).unwrap()), [(4.0, "change")]);
}

#[test]
fn whoever_keeps_the_last_report_is_never_further_off_than_the_band() {
    for (seed, cut) in [(1, 1), (2, 7), (3, 100)] {
        let mut rig = deadband(json!({ "band": 0.5 }));
        let samples: Vec<f32> = noise(seed)
            .scan(0.0, |sum, step| {
                *sum += step;
                Some(*sum)
            })
            .take(700)
            .collect();
        let (mut reported, mut records) = (f64::NAN, 0);
        for (index, frame) in samples.chunks(cut).enumerate() {
            let (header, content) = series(index as u64, frame, 1, 1000, 10_000 + (index * cut) as u64);
            let found = rig.frame(&header, &content).unwrap();
            records += found.len();
            if let Some(last) = found.last() {
                reported = last["value"].as_f64().unwrap();
            }
            assert!((f64::from(frame[frame.len() - 1]) - reported).abs() <= 0.5, "seed {seed}, frame {index}");
        }
        assert!(records < 350, "seed {seed}: {records} of 700 values are no exception");
    }
}

#[test]
fn its_memory_does_not_grow_with_the_frames() {
    let mut rig = deadband(json!({}));
    let samples: Vec<f32> = noise(1).take(64).collect();
    let mut run = |frames: u64| {
        for seq in 0..frames {
            let (header, content) = series(seq, &samples, 4, 1000, 10_000 + seq);
            rig.frame(&header, &content).unwrap();
        }
        rig.guest.memory_bytes()
    };
    let early = run(200);
    assert_eq!(run(2_000), early, "6400 more records need no more memory");
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_in_words() {
    for (config, words) in [
        (json!([]), "not an object"),
        (json!({ "bnd": 1 }), "no key \"bnd\""),
        (json!({ "band": -1 }), "band is not a number from 0"),
        (json!({ "band": "1" }), "band is not a number"),
        (json!({ "percent": 101 }), "percent is not a number from 0 to 100"),
        (json!({ "min_interval_s": 2, "max_interval_s": 1 }), "max_interval_s is shorter"),
        (json!({ "channels": {} }), "channels is not a list"),
        (json!({ "channels": [1] }), "not an object"),
        (json!({ "channels": [{ "unit": "bar" }] }), "no key \"unit\""),
        (json!({ "channels": [{ "name": 1 }] }), "not a text"),
    ] {
        let (fault, log) = Rig::refused("deadband", &config);
        assert_eq!(fault.guest_code, Some(1001), "{config}");
        assert!(log.contains(words), "{config}: {log}");
    }
}

#[test]
fn what_is_no_series_and_what_is_not_granted_are_faults_of_its_own() {
    let image = FrameHeader { kind: Kind::Image, format: Format::Gray8, ..FrameHeader::new("cam", 4) };
    assert_eq!(deadband(json!({})).frame(&image, b"1234").unwrap_err().guest_code, Some(2));
    let (mut rig, started) = Rig::with("deadband", "other", &json!({}), |_| {});
    started.unwrap();
    let (header, content) = series(1, &[1.0], 1, 1000, 10_000);
    assert_eq!(rig.frame(&header, &content).unwrap_err().guest_code, Some(3));
}
