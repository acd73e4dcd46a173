use sanderling_guest::{
    errno::{E2BIG, EACCES, EAGAIN, EFAULT, EINVAL, ENODATA, ENOSPC},
    frame::{Format, FrameHeader, Kind},
};
use sanderling_protocol::{deployment::Decode, worker::MAX_RECORD};

use crate::{
    FrameBytes, Said,
    image::{DecodeLimits, decode_frame},
    testing::Rig,
};

const WIDTH: u32 = 64;
const HEIGHT: u32 = 48;

fn header(format: Format, len: usize) -> FrameHeader {
    let len = u32::try_from(len).unwrap();
    FrameHeader { seq: 7, kind: Kind::Image, format, width: WIDTH, height: HEIGHT, ..FrameHeader::new("cam0", len) }
}

/// A gray ramp from left to right.
fn ramp() -> Vec<u8> {
    (0..WIDTH * HEIGHT).map(|at| (at % WIDTH * 4) as u8).collect()
}

/// Noise, which takes the most room.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u64).map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 29) as u8).collect()
}

/// A guest that calls once a frame, with the rectangle at 16 and the channel `ok` at 0.
fn rig(call: &str, rect: [u32; 4], grants: &[&str]) -> Rig {
    let rect: String = rect.iter().flat_map(|word| word.to_le_bytes()).map(|byte| format!("\\{byte:02x}")).collect();
    let body = format!(
        "(data (i32.const 0) \"ok\") (data (i32.const 16) \"{rect}\")
        (func (export \"sanderling_frame\") (result i32) (i32.sub (i32.const 0) {call}))"
    );
    let grants = grants.iter().map(|grant| grant.parse().unwrap()).collect();
    let mut rig = Rig::with(&body, 0, |spec| spec.grants = grants).unwrap();
    rig.guest.start().unwrap();
    rig
}

const GRANTED: [&str; 2] = ["evidence", "emit:ok"];
const CALL: &str = "(call $emit_evidence (i32.const 0) (i32.const 2) (i32.const 16) (i32.const 80))";

/// What the call answers on a frame, and what was emitted.
fn answer(rig: &mut Rig, header: &FrameHeader, content: &[u8]) -> (i32, Vec<Vec<u8>>) {
    // The guest returns the answer negated, and a number other than 0 is its fault.
    let code = match rig.guest.frame(header, FrameBytes::Owned(content.to_vec())) {
        Ok(_) => 0,
        Err(fault) => -fault.guest_code.unwrap(),
    };
    let records = rig.said.take().into_iter().filter_map(|said| match said {
        Said::Emit { seq, channel, payload } => {
            assert_eq!((seq, channel.as_str()), (7, "ok"));
            Some(payload)
        }
        _ => None,
    });
    (code, records.collect())
}

fn decoded(jpeg: &[u8]) -> (FrameHeader, Vec<u8>) {
    let mut pixels = Vec::new();
    let header = header(Format::Jpeg, jpeg.len());
    let header = decode_frame(&header, jpeg, Decode::Rgb8, &DecodeLimits::default(), &mut pixels).unwrap().unwrap();
    (header, pixels)
}

fn assert_near(pixels: &[u8], at: usize, wanted: [u8; 3]) {
    let found = &pixels[at * 3..at * 3 + 3];
    assert!(found.iter().zip(wanted).all(|(found, wanted)| found.abs_diff(wanted) < 12), "{found:?}, not {wanted:?}");
}

#[test]
fn the_part_of_the_frame_arrives_as_a_jpeg() {
    let mut rig = rig(CALL, [32, 8, 16, 24], &GRANTED);
    let (quality, records) = answer(&mut rig, &header(Format::Gray8, 64 * 48), &ramp());
    assert_eq!((quality, records.len()), (80, 1));
    let (header, pixels) = decoded(&records[0]);
    assert_eq!((header.width, header.height), (16, 24));
    for x in [0, 7, 15] {
        assert_near(&pixels, 5 * 16 + x, [(32 + x as u8) * 4; 3]);
    }
    assert_eq!(rig.guest.counters().emitted, 1);
}

#[test]
fn every_pixel_format_is_encoded_in_its_colours() {
    let (whole, all) = (64 * 48, |pixel: &[u8]| pixel.repeat(64 * 48));
    let red = [250, 10, 20];
    let yuyv = [81, 90, 81, 240].repeat(whole / 2);
    let nv12 = [vec![81; whole], [90, 240].repeat(whole / 4)].concat();
    for (format, content, wanted) in [
        (Format::Gray8, all(&[77]), [77; 3]),
        (Format::Rgb8, all(&red), red),
        (Format::Bgr8, all(&[20, 10, 250]), red),
        (Format::Gray16, all(&[1, 77]), [77; 3]),
        (Format::Yuyv, yuyv, [254, 0, 0]),
        (Format::Nv12, nv12, [254, 0, 0]),
    ] {
        let mut rig = rig(CALL, [0; 4], &GRANTED);
        let (quality, records) = answer(&mut rig, &header(format, content.len()), &content);
        assert_eq!((quality, records.len()), (80, 1), "{format:?}");
        let (header, pixels) = decoded(&records[0]);
        assert_eq!((header.width, header.height), (WIDTH, HEIGHT), "{format:?}");
        assert_near(&pixels, 20 * 64 + 30, wanted);
    }
}

#[test]
fn a_frame_that_is_compressed_still_is_decoded_first() {
    let mut first = rig(CALL, [0; 4], &GRANTED);
    let (_, records) = answer(&mut first, &header(Format::Gray8, 64 * 48), &ramp());
    let jpeg = &records[0];
    let mut rig = rig(CALL, [32, 8, 16, 24], &GRANTED);
    let (quality, records) = answer(&mut rig, &header(Format::Jpeg, jpeg.len()), jpeg);
    assert_eq!(quality, 80);
    let (part, pixels) = decoded(&records[0]);
    assert_eq!((part.width, part.height), (16, 24));
    assert_near(&pixels, 7, [(32 + 7) * 4; 3]);
    let (refused, records) = answer(&mut self::rig(CALL, [0; 4], &GRANTED), &header(Format::Jpeg, 9), b"not a jpg");
    assert_eq!((refused, records.len()), (-ENODATA, 0));
}

#[test]
fn the_quality_is_lowered_until_it_fits_a_record_and_no_further_than_to_a_quarter() {
    let side = |side: u32| {
        let content = noise((side * side) as usize);
        (FrameHeader { width: side, height: side, ..header(Format::Gray8, content.len()) }, content)
    };
    let (header, content) = side(400);
    let (quality, records) = answer(&mut rig(CALL, [0; 4], &GRANTED), &header, &content);
    assert!((20..80).contains(&quality), "{quality}");
    assert!(records[0].len() <= MAX_RECORD);
    assert_eq!(decoded(&records[0]).0.width, 400);
    let (header, content) = side(2000);
    let (refused, records) = answer(&mut rig(CALL, [0; 4], &GRANTED), &header, &content);
    assert_eq!((refused, records.len()), (-E2BIG, 0));
}

#[test]
fn every_argument_is_held_to_what_it_may_be() {
    let gray = header(Format::Gray8, 64 * 48);
    let outside = [(65536, 1), (65535, 2), (0, 65537), (-1, 1), (0, -1), (-1, -1), (0x7fff_ffff, 0x7fff_ffff)];
    for (ptr, len) in outside {
        let call = format!("(call $emit_evidence (i32.const {ptr}) (i32.const {len}) (i32.const 16) (i32.const 80))");
        assert_eq!(answer(&mut rig(&call, [0; 4], &GRANTED), &gray, &ramp()).0, -EFAULT, "{ptr} {len}");
    }
    for ptr in [65536 - 15, 65536, -1, -16, 0x7fff_ffff] {
        let call = format!("(call $emit_evidence (i32.const 0) (i32.const 2) (i32.const {ptr}) (i32.const 80))");
        assert_eq!(answer(&mut rig(&call, [0; 4], &GRANTED), &gray, &ramp()).0, -EFAULT, "{ptr}");
    }
    let edge = "(call $emit_evidence (i32.const 0) (i32.const 2) (i32.const 65520) (i32.const 80))";
    assert_eq!(answer(&mut rig(edge, [0; 4], &GRANTED), &gray, &ramp()).0, 80, "zeros at the edge: the whole frame");
    let long = "(call $emit_evidence (i32.const 0) (i32.const 65) (i32.const 16) (i32.const 80))";
    assert_eq!(answer(&mut rig(long, [0; 4], &GRANTED), &gray, &ramp()).0, -E2BIG);
    for quality in [0, 101, -1, i32::MIN, i32::MAX] {
        let call = format!("(call $emit_evidence (i32.const 0) (i32.const 2) (i32.const 16) (i32.const {quality}))");
        assert_eq!(answer(&mut rig(&call, [0; 4], &GRANTED), &gray, &ramp()).0, -EINVAL, "{quality}");
    }
    for rect in [[0, 0, 65, 1], [63, 0, 2, 1], [0, 0, 1, 0], [u32::MAX; 4], [64, 0, 1, 1], [0, 48, 1, 1]] {
        assert_eq!(answer(&mut rig(CALL, rect, &GRANTED), &gray, &ramp()).0, -EINVAL, "{rect:?}");
    }
}

#[test]
fn needs_a_frame_that_is_an_image() {
    let short = header(Format::Gray8, 10);
    assert_eq!(answer(&mut rig(CALL, [0; 4], &GRANTED), &short, &[0; 10]).0, -ENODATA);
    let text = FrameHeader { kind: Kind::Bytes, ..header(Format::Gray8, 64 * 48) };
    assert_eq!(answer(&mut rig(CALL, [0; 4], &GRANTED), &text, &ramp()).0, -ENODATA);
    let body = format!(
        "(data (i32.const 0) \"ok\") (func (export \"sanderling_frame\") (result i32) (i32.const 0))
        (func (export \"sanderling_start\") (result i32) (i32.add {CALL} (i32.const {ENODATA})))"
    );
    let mut rig =
        Rig::with(&body, 0, |spec| spec.grants = GRANTED.map(|grant| grant.parse().unwrap()).to_vec()).unwrap();
    rig.guest.start().unwrap();
}

#[test]
fn needs_both_grants_and_keeps_to_the_rate() {
    let gray = header(Format::Gray8, 64 * 48);
    for grants in [&["evidence", "emit:other"][..], &["emit:ok"], &[]] {
        let mut rig = rig(CALL, [0; 4], grants);
        let code = rig.guest.frame(&gray, FrameBytes::Owned(ramp())).unwrap_err().guest_code;
        assert_eq!(code, Some(EACCES), "{grants:?}");
        assert_eq!(rig.said.take(), [Said::Denied("emit_evidence")]);
    }
    let body = format!(
        "(data (i32.const 0) \"ok\") (func (export \"sanderling_frame\") (result i32)
        (drop {CALL}) (i32.add {CALL} (i32.const {EAGAIN})))"
    );
    let mut rig = Rig::with(&body, 0, |spec| {
        spec.grants = GRANTED.map(|grant| grant.parse().unwrap()).to_vec();
        spec.limits.emit_per_s = 1;
    })
    .unwrap();
    rig.guest.start().unwrap();
    rig.guest.frame(&gray, FrameBytes::Owned(ramp())).unwrap();
    assert_eq!((rig.said.take().len(), rig.guest.counters().emit_refused), (1, 1));
}

#[test]
fn pixels_beyond_the_native_memory_are_refused() {
    let side = 3000_u32;
    let content = vec![0; (side * side * 2) as usize];
    let large = FrameHeader { width: side, height: side, ..header(Format::Yuyv, content.len()) };
    let body = format!(
        "(data (i32.const 0) \"ok\") (func (export \"sanderling_frame\") (result i32)
        (i32.add {CALL} (i32.const {ENOSPC})))"
    );
    let mut rig = Rig::with(&body, 0, |spec| {
        spec.grants = GRANTED.map(|grant| grant.parse().unwrap()).to_vec();
        spec.limits.native_memory_mib = 8;
    })
    .unwrap();
    rig.guest.start().unwrap();
    rig.guest.frame(&large, FrameBytes::Owned(content)).unwrap();
}
