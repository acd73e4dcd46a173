//! What the host makes of images: pixels from compressed ones, tensors, and compressed ones again.

use std::fs;

use sanderling_guest::{
    frame::{Format, FrameHeader, Kind},
    image::{Color, Element, Filter, ImageOp, Layout},
};
use sanderling_protocol::deployment::Decode;
use sanderling_runtime::image::{DecodeLimits, Preparer, decode_frame};

use crate::{
    expected::{Found, agrees, digest, repository},
    guest::bits,
};

const LIMIT: usize = 64 << 20;
/// The means and deviations that most networks were trained with.
const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const SCALE: [f32; 3] = [1.0 / 0.229, 1.0 / 0.224, 1.0 / 0.225];
const QUALITIES: [u8; 3] = [30, 75, 95];

/// The image in a file, decoded.
pub(crate) fn decoded(path: &str, decode: Decode) -> (FrameHeader, Vec<u8>) {
    let content = fs::read(repository(path)).unwrap();
    let format = if path.ends_with(".png") { Format::Png } else { Format::Jpeg };
    let len = u32::try_from(content.len()).unwrap();
    let header = FrameHeader { kind: Kind::Image, format, ..FrameHeader::new("cam0", len) };
    pixels(&header, &content, decode)
}

/// A compressed frame, decoded.
fn pixels(header: &FrameHeader, content: &[u8], decode: Decode) -> (FrameHeader, Vec<u8>) {
    let mut pixels = Vec::new();
    let header = decode_frame(header, content, decode, &DecodeLimits::default(), &mut pixels).unwrap().unwrap();
    (header, pixels)
}

/// Images of each format of raw pixels, of noise and of ramps, which reach all numbers that a sample can have.
fn raw() -> Vec<(String, FrameHeader, Vec<u8>)> {
    let (width, height) = (50_usize, 38_usize);
    let formats = [
        (Format::Gray8, width, width * height),
        (Format::Rgb8, 3 * width, 3 * width * height),
        (Format::Bgr8, 3 * width, 3 * width * height),
        (Format::Yuyv, 2 * width, 2 * width * height),
        (Format::Nv12, width, width * height * 3 / 2),
        (Format::Gray16, 2 * width, 2 * width * height),
    ];
    let mut all = Vec::new();
    for (format, stride, len) in formats {
        let noise: Vec<u8> = bits(5).take(len).map(|bits| bits.to_le_bytes()[7]).collect();
        let ramp: Vec<u8> = (0..len).map(|at| u8::try_from(at * 7 % 256).unwrap()).collect();
        for (name, content) in [("noise", noise), ("ramp", ramp)] {
            let [width, height, stride, len] =
                [width, height, stride, len].map(|number| u32::try_from(number).unwrap());
            let header =
                FrameHeader { kind: Kind::Image, format, width, height, stride, ..FrameHeader::new("cam0", len) };
            all.push((format!("{name} {format:?}"), header, content));
        }
    }
    all
}

/// Operations that differ in all that an operation can say.
fn operations() -> Vec<(&'static str, ImageOp)> {
    let gray = ImageOp::gray(64, 64);
    let rgb = ImageOp { color: Color::Rgb, mean: MEAN, scale: SCALE, ..ImageOp::gray(33, 21) };
    let plain = ImageOp { mean: [0.0; 3], scale: [0.0; 3], ..rgb };
    vec![
        ("gray f32 bilinear", ImageOp { mean: [0.5; 3], scale: [4.0; 3], ..gray }),
        ("rgb f32 bilinear", rgb),
        ("bgr f32 area nhwc", ImageOp { color: Color::Bgr, layout: Layout::Nhwc, filter: Filter::Area, ..rgb }),
        ("rgb f16 area", ImageOp { element: Element::F16, filter: Filter::Area, ..rgb }),
        ("rgb u8 nearest", ImageOp { element: Element::U8, filter: Filter::Nearest, ..plain }),
        (
            "gray i8 area of a crop",
            ImageOp { color: Color::Gray, element: Element::I8, filter: Filter::Area, crop: [4, 6, 40, 30], ..plain },
        ),
        ("rgb u8 of the same size", ImageOp { element: Element::U8, width: 50, height: 38, ..plain }),
    ]
}

fn tensor(header: &FrameHeader, content: &[u8], op: &ImageOp) -> Vec<u8> {
    let mut out = vec![0; op.tensor_len()];
    Preparer::new(LIMIT).prepare(header, content, op, &mut out).unwrap();
    out
}

#[test]
fn tensors_have_the_same_bits() {
    let mut found = Found::new();
    let mut images = raw();
    for name in ["000-grass", "001-gravel", "002-brick"] {
        let (header, content) = decoded(&format!("modules/surface-defect/images/held-out/{name}.png"), Decode::Gray8);
        images.push((name.to_owned(), header, content));
    }
    for (name, header, content) in &images {
        for (operation, op) in operations() {
            found.insert(format!("{name}, {operation}"), digest(&tensor(header, content, &op)));
        }
    }
    agrees("tensors", &found);
}

#[test]
fn decoders_give_the_same_pixels() {
    let mut found = Found::new();
    let mut files: Vec<String> = fs::read_dir(repository("runtime/testdata"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".png") || (name.ends_with(".jpg") && name != "cmyk.jpg"))
        .map(|name| format!("runtime/testdata/{name}"))
        .collect();
    files.push("modules/surface-defect/images/held-out/000-grass.png".to_owned());
    for file in files {
        for decode in [Decode::Gray8, Decode::Rgb8] {
            let (_, pixels) = decoded(&file, decode);
            found.insert(format!("{file}, {decode:?}"), digest(&pixels));
        }
    }
    agrees("decoded", &found);
}

/// Larger ones than the files have, of all that a colour can be, in what the host itself encodes as evidence.
#[test]
fn evidence_is_encoded_to_the_same_bytes_and_decoded_to_the_same_pixels() {
    let mut found = Found::new();
    for (name, header, content) in raw() {
        for quality in QUALITIES {
            let encoded = Preparer::new(LIMIT).evidence(&header, &content, [0; 4], quality, 64 * 1024);
            let (jpeg, used) = encoded.unwrap();
            let len = u32::try_from(jpeg.len()).unwrap();
            let header = FrameHeader { kind: Kind::Image, format: Format::Jpeg, ..FrameHeader::new("cam0", len) };
            let (_, pixels) = pixels(&header, &jpeg, Decode::Rgb8);
            let what = format!("{used}: {} bytes {}, pixels {}", jpeg.len(), digest(&jpeg), digest(&pixels));
            found.insert(format!("{name}, quality {quality}"), what);
        }
    }
    agrees("evidence", &found);
}
