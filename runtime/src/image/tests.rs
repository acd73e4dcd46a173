#![allow(clippy::unwrap_used)]

use proptest::{prelude::*, sample::select};
use sanderling_guest::{
    frame::{Format, Kind},
    image::{Color, Element, Filter, Layout, MAX_SIDE},
};

use super::{reference::tensor, *};

const LIMIT: usize = 64 << 20;
const FORMATS: [Format; 6] = [Format::Gray8, Format::Rgb8, Format::Bgr8, Format::Gray16, Format::Yuyv, Format::Nv12];
const ELEMENTS: [(Layout, Element); 8] = [
    (Layout::Nchw, Element::F32),
    (Layout::Nhwc, Element::F32),
    (Layout::Nchw, Element::F16),
    (Layout::Nhwc, Element::F16),
    (Layout::Nchw, Element::U8),
    (Layout::Nhwc, Element::U8),
    (Layout::Nchw, Element::I8),
    (Layout::Nhwc, Element::I8),
];

fn image(format: Format, width: u32, height: u32, stride: u32, bytes: &[u8]) -> FrameHeader {
    let len = u32::try_from(bytes.len()).unwrap();
    FrameHeader { kind: Kind::Image, format, width, height, stride, ..FrameHeader::new("cam0", len) }
}

/// The bytes of a row without a gap.
fn tight(format: Format, width: u32) -> u32 {
    match format {
        Format::Rgb8 | Format::Bgr8 => 3 * width,
        Format::Gray16 => 2 * width,
        Format::Yuyv => 4 * width.div_ceil(2),
        Format::Nv12 => 2 * width.div_ceil(2),
        _ => width,
    }
}

fn operation(
    crop: [u32; 4],
    (width, height): (u32, u32),
    color: Color,
    layout: Layout,
    element: Element,
    filter: Filter,
) -> ImageOp {
    let floats = matches!(element, Element::F32 | Element::F16);
    let (mean, scale) = if floats { ([0.485, 0.456, 0.406], [4.3668, 4.4643, 4.4444]) } else { ([0.0; 3], [0.0; 3]) };
    ImageOp { crop, width, height, color, layout, element, filter, mean, scale }
}

/// Numbers without a pattern, always the same.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_u32;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    (0..len).map(|_| next()).collect()
}

fn prepare(header: &FrameHeader, bytes: &[u8], op: &ImageOp) -> Result<Vec<u8>, ImageError> {
    let mut out = vec![0xaa; op.tensor_len()];
    Preparer::new(LIMIT).prepare(header, bytes, op, &mut out).map(|()| out)
}

#[test]
fn converts_normalises_and_lays_out_every_format_as_the_reference_does() {
    let (width, height) = (11_u32, 7_u32);
    let mut cases = 0;
    for format in FORMATS {
        // Gaps of whole pixels and of bytes, and none.
        for gap in [0, 1, 3] {
            let stride = tight(format, width) + gap;
            let bytes = noise((stride * (height + height.div_ceil(2))) as usize);
            let header = image(format, width, height, stride, &bytes);
            for crop in [[0, 0, width, height], [1, 1, 6, 5], [10, 6, 1, 1], [0, 3, width, 2]] {
                for (width, height) in [(crop[2], crop[3]), (crop[2], 3), (5, crop[3]), (4, 9)] {
                    for color in [Color::Gray, Color::Rgb, Color::Bgr] {
                        for (layout, element) in ELEMENTS {
                            for filter in [Filter::Nearest, Filter::Bilinear, Filter::Area] {
                                let op = operation(crop, (width, height), color, layout, element, filter);
                                let wanted = tensor(&header, &bytes, &op);
                                assert_eq!(prepare(&header, &bytes, &op).unwrap(), wanted, "{format:?} {gap} {op:?}");
                                cases += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(cases, 6 * 3 * 4 * 4 * 3 * ELEMENTS.len() * 3);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn any_size_crop_and_stride_gives_what_the_reference_gives(
        (format, filter, color, kind) in (
            select(&FORMATS[..]),
            select(&[Filter::Nearest, Filter::Bilinear, Filter::Area][..]),
            select(&[Color::Gray, Color::Rgb, Color::Bgr][..]),
            select(&ELEMENTS[..]),
        ),
        (width, height, gap) in (1_u32..200, 1_u32..40, 0_u32..9),
        (left, top, right, bottom) in (0.0..1.0, 0.0..1.0, 0.0..1.0, 0.0..1.0),
        size in (1_u32..90, 1_u32..60),
    ) {
        let stride = tight(format, width) + gap;
        let bytes = noise((stride * (height + height.div_ceil(2))) as usize);
        let header = image(format, width, height, stride, &bytes);
        let part = |from: f64, to: f64, side: u32| {
            let first = (from * f64::from(side)) as u32;
            (first, 1 + (to * f64::from(side - first - 1)).round() as u32)
        };
        let ((x, width), (y, height)) = (part(left, right, width), part(top, bottom, height));
        let op = operation([x, y, width, height], size, color, kind.0, kind.1, filter);
        prop_assert_eq!(prepare(&header, &bytes, &op).unwrap(), tensor(&header, &bytes, &op), "{:?} {:?}", format, op);
    }
}

#[test]
fn takes_the_whole_frame_and_a_tight_stride_for_zeros() {
    let bytes = noise(12);
    let op = ImageOp { element: Element::U8, scale: [0.0; 3], ..ImageOp::gray(4, 3) };
    assert_eq!(prepare(&image(Format::Gray8, 4, 3, 0, &bytes), &bytes, &op).unwrap(), bytes);
}

#[test]
fn resizes_as_pillow_does() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../testdata/resize.json")).unwrap();
    let bytes = |value: &serde_json::Value| -> Vec<u8> { serde_json::from_value(value.clone()).unwrap() };
    let number = |value: &serde_json::Value| u32::try_from(value.as_u64().unwrap()).unwrap();
    let (width, height) = (number(&vectors["width"]), number(&vectors["height"]));
    let mut preparer = Preparer::new(LIMIT);
    for case in vectors["cases"].as_array().unwrap() {
        for (name, format, color, channels) in
            [("gray", Format::Gray8, Color::Gray, 1), ("rgb", Format::Rgb8, Color::Rgb, 3)]
        {
            let frame = bytes(&vectors[name]);
            let crop: [u32; 4] = serde_json::from_value(case["crop"].clone()).unwrap();
            let op = ImageOp {
                crop,
                width: number(&case["size"][0]),
                height: number(&case["size"][1]),
                color,
                layout: Layout::Nhwc,
                element: Element::U8,
                filter: match case["filter"].as_str().unwrap() {
                    "nearest" => Filter::Nearest,
                    "bilinear" => Filter::Bilinear,
                    _ => Filter::Area,
                },
                mean: [0.0; 3],
                scale: [0.0; 3],
            };
            let mut out = vec![0; op.tensor_len()];
            let header = image(format, width, height, width * channels, &frame);
            preparer.prepare(&header, &frame, &op, &mut out).unwrap();
            let wanted = bytes(&case[name]);
            assert_eq!(out.len(), wanted.len());
            let off = out.iter().zip(&wanted).map(|(is, was)| is.abs_diff(*was)).max().unwrap();
            let most = if op.filter == Filter::Nearest { 0 } else { 1 };
            assert!(off <= most, "{name} {} {:?} {:?}: off by {off}", case["filter"], crop, case["size"]);
        }
    }
}

#[test]
fn pixels_outside_of_the_crop_do_not_bleed_in() {
    let mut bytes = vec![255; 16 * 16];
    for y in 4..12 {
        bytes[y * 16 + 4..y * 16 + 12].fill(0);
    }
    for filter in [Filter::Nearest, Filter::Bilinear, Filter::Area] {
        let op = ImageOp { crop: [4, 4, 8, 8], filter, ..ImageOp::gray(3, 5) };
        let out = prepare(&image(Format::Gray8, 16, 16, 16, &bytes), &bytes, &op).unwrap();
        assert!(out.iter().all(|byte| *byte == 0), "{filter:?}");
    }
}

#[test]
fn a_preparer_that_was_used_gives_the_same_as_a_new_one() {
    let mut used = Preparer::new(LIMIT);
    for (format, side, size) in
        [(Format::Yuyv, 40, 30), (Format::Yuyv, 8, 5), (Format::Gray16, 40, 7), (Format::Yuyv, 8, 5)]
    {
        let bytes = noise((side * side * 2) as usize);
        let header = image(format, side, side, 0, &bytes);
        let op = ImageOp { color: Color::Rgb, ..ImageOp::gray(size, size) };
        let mut out = vec![0; op.tensor_len()];
        used.prepare(&header, &bytes, &op, &mut out).unwrap();
        assert_eq!(out, prepare(&header, &bytes, &op).unwrap(), "{format:?} {side}");
    }
}

#[test]
fn keeps_so_many_plans_and_lets_go_of_the_one_not_used_for_longest() {
    let bytes = noise(64);
    let header = image(Format::Gray8, 8, 8, 8, &bytes);
    let mut preparer = Preparer::new(LIMIT);
    let mut ask = |width: u32| {
        let op = ImageOp::gray(width, 3);
        preparer.prepare(&header, &bytes, &op, &mut vec![0; op.tensor_len()]).unwrap();
        preparer.plans.iter().map(|plan| plan.key.width).collect::<Vec<_>>()
    };
    (1..4).for_each(|width| drop(ask(width)));
    assert_eq!(ask(4), [1, 2, 3, 4]);
    assert_eq!(ask(1), [2, 3, 4, 1]);
    assert_eq!(ask(5), [3, 4, 1, 5]);
    assert_eq!(ask(2), [4, 1, 5, 2]);
    assert_eq!(preparer.plans.len(), MAX_PLANS);
}

#[test]
fn refuses_frames_that_are_shorter_than_they_claim() {
    let bytes = noise(64);
    let op = ImageOp::gray(2, 2);
    let most = u32::MAX;
    for (format, width, height, stride) in [
        (Format::Gray8, 9, 8, 9),
        (Format::Gray8, 8, 8, 9),
        (Format::Gray8, 8, 8, 7),
        (Format::Gray8, most, most, most),
        (Format::Gray8, 1, 2, most),
        (Format::Gray8, 1, most, 1),
        (Format::Rgb8, most, 1, 0),
        (Format::Rgb8, 8, 3, 0),
        (Format::Bgr8, most, most, 1),
        (Format::Gray16, most, most, 0),
        (Format::Gray16, 33, 1, 0),
        (Format::Yuyv, most, most, most),
        (Format::Yuyv, 33, 1, 0),
        (Format::Nv12, most, most, 0),
        (Format::Nv12, 8, 6, 8),
        (Format::Nv12, 8, most, 8),
    ] {
        let header = image(format, width, height, stride, &bytes);
        let refused = prepare(&header, &bytes, &op);
        assert!(matches!(refused, Err(ImageError::Short { .. })), "{format:?} {width} {height} {stride} {refused:?}");
    }
    // The same with one row less fits.
    assert!(prepare(&image(Format::Nv12, 8, 4, 8, &bytes), &bytes, &op).is_ok());
}

#[test]
fn refuses_what_is_not_pixels() {
    let bytes = noise(64);
    let op = ImageOp::gray(2, 2);
    for format in [Format::None, Format::Jpeg, Format::Png, Format::F32] {
        assert_eq!(prepare(&image(format, 8, 8, 8, &bytes), &bytes, &op), Err(ImageError::NotPixels));
    }
    let series = FrameHeader { kind: Kind::Series, ..image(Format::Gray8, 8, 8, 8, &bytes) };
    assert_eq!(prepare(&series, &bytes, &op), Err(ImageError::NotPixels));
    assert_eq!(prepare(&image(Format::Gray8, 0, 8, 8, &bytes), &bytes, &op), Err(ImageError::NotPixels));
    assert_eq!(prepare(&image(Format::Gray8, 8, 0, 8, &bytes), &bytes, &op), Err(ImageError::NotPixels));
}

#[test]
fn refuses_crops_outside_of_the_frame() {
    let bytes = noise(64);
    let header = image(Format::Gray8, 8, 8, 8, &bytes);
    for crop in [
        [0, 0, 9, 8],
        [0, 0, 8, 9],
        [8, 0, 1, 1],
        [0, 8, 1, 1],
        [7, 7, 2, 1],
        [u32::MAX, 0, 1, 1],
        [0, u32::MAX, u32::MAX, u32::MAX],
        [1, 1, u32::MAX, 1],
        [0, 0, 0, 1],
    ] {
        let op = ImageOp { crop, ..ImageOp::gray(2, 2) };
        assert!(matches!(prepare(&header, &bytes, &op), Err(ImageError::Crop { .. })), "{crop:?}");
    }
}

#[test]
fn holds_its_buffers_to_the_limit_and_the_place_to_the_tensor() {
    let bytes = noise(64);
    let header = image(Format::Gray8, 8, 8, 8, &bytes);
    let op = ImageOp { element: Element::U8, scale: [0.0; 3], ..ImageOp::gray(MAX_SIDE, 64) };
    let mut out = vec![0; op.tensor_len()];
    let refused = Preparer::new(1000).prepare(&header, &bytes, &op, &mut out);
    assert!(matches!(refused, Err(ImageError::TooLarge { limit: 1000, .. })), "{refused:?}");
    let short = Preparer::new(LIMIT).prepare(&header, &bytes, &op, &mut out[1..]);
    assert!(matches!(short, Err(ImageError::Length { .. })), "{short:?}");
}
