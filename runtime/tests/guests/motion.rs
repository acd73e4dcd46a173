//! `motion` (C++): what moves before a camera.

use sanderling_runtime::{Format, FrameHeader, Kind};
use serde_json::{Value, json};

use crate::support::Rig;

const WIDTH: u32 = 128;
const HEIGHT: u32 = 96;

fn motion(config: Value) -> Rig {
    Rig::new("motion", "motion", &config)
}

/// Gives an even image with a bright rectangle to the guest.
fn look(rig: &mut Rig, seq: u64, level: u8, bright: Option<[u32; 4]>) -> Vec<Value> {
    let lit = |x: u32, y: u32| {
        bright.is_some_and(|[left, top, w, h]| (left..left + w).contains(&x) && (top..top + h).contains(&y))
    };
    let pixel = |at: u32| if lit(at % WIDTH, at / WIDTH) { 255 } else { level };
    let image: Vec<u8> = (0..WIDTH * HEIGHT).map(pixel).collect();
    let header = FrameHeader {
        seq,
        kind: Kind::Image,
        format: Format::Gray8,
        width: WIDTH,
        height: HEIGHT,
        stride: WIDTH,
        ..FrameHeader::new("gate", WIDTH * HEIGHT)
    };
    rig.frame(&header, &image).unwrap()
}

fn states(records: &[Value]) -> Vec<&str> {
    records.iter().map(|record| record["state"].as_str().unwrap()).collect()
}

#[test]
fn says_when_something_begins_to_move_where_and_when_it_is_still() {
    let mut rig = motion(json!({ "hold": 3, "adaptation": 0 }));
    let mut records = Vec::new();
    for seq in 0..12 {
        let bright = (5..7).contains(&seq).then_some([20 + 2 * seq as u32, 40, 16, 8]);
        records.extend(look(&mut rig, seq, 100, bright));
    }
    assert_eq!(states(&records), ["begin", "move", "end"]);
    let area = f64::from(16 * 8) / f64::from(WIDTH * HEIGHT);
    let found = records[0]["area"].as_f64().unwrap();
    assert!((found - area).abs() < 1e-6, "{found}, not {area}");
    assert_eq!(records[0]["box"], json!([30, 40, 16, 8]));
    assert_eq!((&records[0]["seq"], &records[0]["sensor"]), (&json!(5), &json!("gate")));
    assert_eq!((&records[1]["box"], &records[2]["box"]), (&json!([32, 40, 16, 8]), &Value::Null));
    assert_eq!(records[2]["seq"], 9, "still for three frames");
}

#[test]
fn slow_changes_of_light_are_no_motion_and_sudden_ones_are_a_new_scene() {
    let mut rig = motion(json!({}));
    for seq in 0..100 {
        assert_eq!(look(&mut rig, seq, 60 + seq as u8, None), [] as [Value; 0], "frame {seq}");
    }
    let records = look(&mut rig, 100, 240, None);
    assert_eq!((states(&records), &records[0]["area"]), (vec!["scene"], &json!(1)));
    for seq in 101..110 {
        assert_eq!(look(&mut rig, seq, 240, None), [] as [Value; 0], "frame {seq}");
    }
}

#[test]
fn what_is_smaller_or_fainter_than_asked_for_is_no_motion() {
    let mut rig = motion(json!({ "area": 0.02, "difference": 100 }));
    for seq in 0..4 {
        look(&mut rig, seq, 100, None);
    }
    assert_eq!(look(&mut rig, 4, 100, Some([0, 0, 14, 14])), [] as [Value; 0]);
    assert_eq!(states(&look(&mut rig, 5, 100, Some([0, 0, 20, 20]))), ["begin"]);
    let mut rig = motion(json!({ "difference": 200 }));
    for seq in 0..4 {
        look(&mut rig, seq, 100, None);
    }
    assert_eq!(look(&mut rig, 4, 100, Some([0, 0, 60, 60])), [] as [Value; 0], "155 levels brighter");
}

#[test]
fn a_configuration_that_does_not_fit_is_refused_in_words() {
    for (config, words) in [
        (json!([1]), "not an object"),
        (json!({ "with": 64 }), "no key \"with\"; it has width height"),
        (json!({ "hold": 3, "width": 321 }), "width is not a number from 1 to 320"),
        (json!({ "area": "0.1" }), "area is not a number"),
        (json!({ "area": { "a,}": [1, 2] }, "hold": 1 }), "area is not a number"),
        (json!({ "hold": null }), "hold is not a number from 1 to 100000"),
        (json!({ "hold": 3, "x": "x".repeat(1024) }), "longer than 1024"),
    ] {
        let (fault, log) = Rig::refused("motion", &config);
        assert_eq!(fault.guest_code, Some(1001), "{config}");
        assert!(log.contains(words), "{config}: {log}");
    }
    motion(Value::Null);
    motion(json!({ "hold": 2e0, "adaptation": 0.125 }));
}

#[test]
fn what_is_no_image_is_a_fault_of_its_own() {
    let text = FrameHeader { kind: Kind::Json, ..FrameHeader::new("gate", 2) };
    let mut rig = motion(json!({}));
    assert_eq!(rig.frame(&text, b"{}").unwrap_err().guest_code, Some(2));
    assert!(rig.log().contains("takes images"));
}
