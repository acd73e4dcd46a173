//! `aggregate` (Zig): windows of a series as a few numbers.

use sanderling_runtime::{Format, FrameHeader, Kind};
use serde_json::{Value, json};

use crate::support::{Rig, noise, of_series, series};

const ALL: [&str; 11] = ["count", "sum", "min", "max", "mean", "stddev", "first", "last", "p0", "p50", "p97.5"];

fn aggregate(config: Value) -> Rig {
    Rig::new("aggregate", "aggregates", &config)
}

/// What the functions of [`ALL`] are, by the book.
fn by_the_book(values: &[f64]) -> Vec<f64> {
    let count = values.len() as f64;
    let sum: f64 = values.iter().sum();
    let mean = sum / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let percentile = |rank: f64| {
        let place = rank / 100.0 * (count - 1.0);
        let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
        below + (above - below) * place.fract()
    };
    let stddev = (squares / (count - 1.0)).sqrt();
    let (first, last) = (values[0], values[values.len() - 1]);
    let ends = [sorted[0], sorted[sorted.len() - 1], mean, stddev, first, last];
    [&[count, sum][..], &ends, &[0.0, 50.0, 97.5].map(percentile)].concat()
}

#[test]
fn windows_of_samples_are_as_by_the_book_however_the_frames_are_cut() {
    let channels: Vec<Vec<f32>> = (1..=3).map(|seed| noise(seed).map(|x| x * 1e4 + 5e4).take(1000).collect()).collect();
    let interleaved: Vec<f32> = (0..3000).map(|at| channels[at % 3][at / 3]).collect();
    for rows in [1, 64, 250, 1000] {
        let mut rig = aggregate(json!({ "window_samples": 250, "functions": ALL, "names": ["x", "y"] }));
        let mut records = Vec::new();
        for (index, frame) in interleaved.chunks(rows * 3).enumerate() {
            let end = (index * rows + frame.len() / 3 - 1) as u64;
            let (header, content) = series(index as u64, frame, 3, 1000, 100_000 + end);
            records.extend(rig.frame(&header, &content).unwrap());
        }
        assert_eq!(records.len(), 12, "{rows} rows a frame");
        for (index, record) in records.iter().enumerate() {
            let (window, channel) = (index / 3, index % 3);
            assert_eq!((&record["channel"], &record["sensor"]), (&json!(channel), &json!("line")));
            assert_eq!(record.get("name"), [Some(&json!("x")), Some(&json!("y")), None][channel]);
            let from = 100_000 + window * 250;
            assert_eq!((&record["from_unix_ms"], &record["to_unix_ms"]), (&json!(from), &json!(from + 249)));
            let values: Vec<f64> =
                channels[channel][window * 250..][..250].iter().map(|value| f64::from(*value)).collect();
            for (name, wanted) in ALL.into_iter().zip(by_the_book(&values)) {
                let found = record[name].as_f64().unwrap();
                assert!(
                    (found - wanted).abs() <= wanted.abs() * 1e-12,
                    "{name} of window {index}: {found}, not {wanted}"
                );
            }
            assert_eq!(record.get("partial"), None);
        }
    }
}

#[test]
fn windows_of_time_begin_at_multiples_of_their_length() {
    let mut rig = aggregate(json!({ "window_s": 0.1, "functions": ["count", "first"] }));
    let (header, content) = series(1, &[1.0; 130], 1, 1000, 1_000_150);
    let records = rig.frame(&header, &content).unwrap();
    let window = |record: &Value| ["from_unix_ms", "to_unix_ms", "count"].map(|key| record[key].as_u64().unwrap());
    assert_eq!(records.iter().map(window).collect::<Vec<_>>(), [[1_000_000, 1_000_100, 79]]);
    // A gap ends the window that was open, and skips those of which nothing was seen.
    let (header, content) = series(2, &[2.0], 1, 1000, 1_000_950);
    let records = rig.frame(&header, &content).unwrap();
    assert_eq!(records.iter().map(window).collect::<Vec<_>>(), [[1_000_100, 1_000_200, 51]]);
    rig.guest.stop().unwrap();
    let records = rig.records();
    assert_eq!(records.iter().map(window).collect::<Vec<_>>(), [[1_000_900, 1_001_000, 1]]);
    assert_eq!((&records[0]["partial"], &records[0]["first"]), (&json!(true), &json!(2)));
}

#[test]
fn what_is_no_number_is_left_out_and_what_is_not_defined_is_null() {
    let mut rig = aggregate(json!({ "window_samples": 1, "functions": ["count", "mean", "stddev"] }));
    let (header, content) = series(1, &[f32::NAN, f32::INFINITY, 3.0], 1, 1000, 10_000);
    let records = rig.frame(&header, &content).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0]["mean"], &records[0]["stddev"]), (&json!(3), &Value::Null));
}

#[test]
fn very_large_and_very_small_numbers_stay_numbers() {
    let mut rig = aggregate(json!({ "window_samples": 1, "functions": ["max"] }));
    let samples = [f32::MAX, f32::MIN_POSITIVE, -1e-20, 0.1, -0.0];
    let (header, content) = series(1, &samples, 1, 1000, 10_000);
    for (record, wanted) in rig.frame(&header, &content).unwrap().iter().zip(samples.map(f64::from)) {
        let found = record["max"].as_f64().unwrap();
        assert!((found - wanted).abs() <= wanted.abs() * 1e-15, "{found}, not {wanted}");
    }
}

#[test]
fn a_window_whose_samples_have_no_room_ends_early_and_says_so() {
    let (mut rig, started) =
        Rig::with("aggregate", "aggregates", &json!({ "window_s": 3600, "functions": ["count", "p50"] }), |spec| {
            spec.limits.memory_mib = 1;
        });
    started.unwrap();
    let samples: Vec<f32> = noise(1).take(50_000).collect();
    let mut counted = 0;
    for seq in 0..5 {
        let (header, content) = series(seq, &samples, 1, 1_000_000, 7_300_000 + seq * 50);
        for record in rig.frame(&header, &content).unwrap() {
            assert_eq!(record["partial"], true);
            counted += record["count"].as_u64().unwrap();
        }
    }
    assert!(counted > 0, "250000 samples of 8 bytes do not fit into 1 MiB");
    rig.guest.stop().unwrap();
    counted += rig.records().iter().map(|record| record["count"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(counted, 250_000, "each sample is in one window");
}

#[test]
fn reads_integers_and_keeps_sensors_apart() {
    let mut rig = aggregate(json!({ "window_samples": 2, "functions": ["sum"] }));
    let content: Vec<u8> = [-5_i16].into_iter().flat_map(i16::to_le_bytes).collect();
    let header = |sensor: &str| FrameHeader { format: Format::I16, ..of_series(sensor, 2, 1, 1000, 10_000) };
    assert_eq!(rig.frame(&header("a"), &content).unwrap(), [] as [Value; 0]);
    assert_eq!(rig.frame(&header("b"), &content).unwrap(), [] as [Value; 0]);
    let records = rig.frame(&header("a"), &content).unwrap();
    assert_eq!((&records[0]["sensor"], &records[0]["sum"]), (&json!("a"), &json!(-10)));
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_in_words() {
    for (config, words) in [
        (Value::Null, "does not fit"),
        (json!({}), "either window_s or window_samples"),
        (json!({ "window_s": 1, "window_samples": 1 }), "either window_s or window_samples"),
        (json!({ "window_s": 1e9 }), "window_s is not a number from 0.001 to 604800"),
        (json!({ "window_samples": -1 }), "does not fit"),
        (json!({ "window": 1 }), "UnknownField"),
        (json!({ "window_s": 1, "functions": ["median"] }), "unknown function median"),
        (json!({ "window_s": 1, "functions": ["p101"] }), "unknown function p101"),
        (json!({ "window_s": 1, "functions": vec!["min"; 33] }), "more than 32"),
        (json!({ "window_samples": 2_000_000, "functions": ["p50"] }), "window_samples smaller"),
    ] {
        let (fault, log) = Rig::refused("aggregate", &config);
        assert_eq!(fault.guest_code, Some(1001), "{config}");
        assert!(log.contains(words), "{config}: {log}");
    }
}

#[test]
fn what_is_no_series_is_a_fault_that_says_so() {
    let mut rig = aggregate(json!({ "window_s": 1 }));
    let image = FrameHeader { kind: Kind::Image, format: Format::Gray8, ..FrameHeader::new("cam", 4) };
    assert_eq!(rig.frame(&image, b"1234").unwrap_err().guest_code, Some(1));
    assert!(rig.log().contains("takes series"));
}
