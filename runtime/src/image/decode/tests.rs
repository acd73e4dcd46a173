#![allow(clippy::unwrap_used)]

use super::*;

macro_rules! files {
    ($($name:literal),*) => { [$(($name, include_bytes!(concat!("../../../testdata/", $name)).as_slice())),*] };
}

const FILES: [(&str, &[u8]); 12] = files![
    "rgb.png",
    "gray.png",
    "rgba.png",
    "gray_alpha.png",
    "palette.png",
    "bits.png",
    "gray16.png",
    "rgb.jpg",
    "rgb420.jpg",
    "gray.jpg",
    "progressive.jpg",
    "cmyk.jpg"
];

fn header(name: &str, bytes: &[u8]) -> FrameHeader {
    let format = if name.ends_with("png") { Format::Png } else { Format::Jpeg };
    // What a sensor says about the size of a compressed image does not count.
    FrameHeader {
        kind: Kind::Image,
        format,
        width: 7,
        seq: 42,
        ..FrameHeader::new("cam0", u32::try_from(bytes.len()).unwrap())
    }
}

fn decode(name: &str, bytes: &[u8], to: Decode) -> Result<(FrameHeader, Vec<u8>), DecodeError> {
    let mut out = vec![1, 2, 3];
    let limits = DecodeLimits { max_bytes: 1 << 20, ..DecodeLimits::default() };
    decode_frame(&header(name, bytes), bytes, to, &limits, &mut out).map(|header| (header.unwrap(), out))
}

#[test]
fn decodes_what_pillow_decodes() {
    let wanted: serde_json::Value = serde_json::from_str(include_str!("../../../testdata/decoded.json")).unwrap();
    for (name, bytes) in FILES {
        for (key, to, format, channels) in
            [("gray", Decode::Gray8, Format::Gray8, 1), ("rgb", Decode::Rgb8, Format::Rgb8, 3)]
        {
            let (header, pixels) = decode(name, bytes, to).unwrap();
            assert_eq!((header.width, header.height, header.stride), (19, 13, 19 * channels), "{name}");
            assert_eq!((header.format, header.len, header.seq), (format, 19 * 13 * channels, 42), "{name}");
            let pillow: Vec<u8> = serde_json::from_value(wanted["files"][name][key].clone()).unwrap();
            assert_eq!(pixels.len(), pillow.len());
            let off = pixels.iter().zip(&pillow).map(|(is, was)| is.abs_diff(*was)).max().unwrap();
            // PNG is exact. JPEG decoders may differ in rounding, more so where chroma is enlarged.
            let most = match name {
                "rgb420.jpg" => 12,
                "cmyk.jpg" => 4,
                name if name.ends_with("jpg") => 3,
                _ => 0,
            };
            assert!(off <= most, "{name} {key}: off by {off}");
        }
    }
}

#[test]
fn a_cut_image_is_refused_or_whole_at_every_byte() {
    for (name, bytes) in FILES {
        for to in [Decode::Gray8, Decode::Rgb8] {
            let whole = decode(name, bytes, to).unwrap();
            for end in 0..bytes.len() {
                match decode(name, &bytes[..end], to) {
                    Ok((_, pixels)) => assert_eq!(pixels, whole.1, "{name} cut to {end} shows something else"),
                    Err(error) => assert!(!error.to_string().is_empty()),
                }
            }
            assert!(decode(name, &bytes[..bytes.len() / 2], to).is_err(), "{name}");
        }
    }
}

#[test]
fn damaged_images_never_panic() {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize
    };
    let rounds = 4_000;
    for (name, bytes) in FILES {
        for _ in 0..rounds {
            let mut damaged = bytes.to_vec();
            for _ in 0..=next() % 4 {
                let at = next() % damaged.len();
                damaged[at] = u8::try_from(next() % 256).unwrap();
            }
            if let Ok((header, pixels)) = decode(name, &damaged, Decode::Rgb8) {
                assert_eq!(pixels.len(), header.len as usize);
            }
        }
    }
}

#[test]
fn refuses_absurd_dimensions_before_it_allocates() {
    let (_, png) = FILES[1];
    let mut png = png.to_vec();
    png[16..24].copy_from_slice(&[0x40, 0, 0, 0, 0x40, 0, 0, 0]);
    // The header's checksum is right again.
    let sum = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&sum.to_be_bytes());
    let refused = decode("gray.png", &png, Decode::Gray8);
    assert!(matches!(refused, Err(DecodeError::TooLarge { width: 0x4000_0000, .. })), "{refused:?}");

    for (name, bytes) in FILES {
        if name.ends_with("jpg") {
            let mut jpeg = bytes.to_vec();
            let at = jpeg.windows(2).position(|pair| pair == [0xff, 0xc0] || pair == [0xff, 0xc2]).unwrap();
            jpeg[at + 5..at + 9].fill(0xff);
            let refused = decode(name, &jpeg, Decode::Rgb8);
            assert!(matches!(refused, Err(DecodeError::TooLarge { width: 0xffff, .. })), "{name} {refused:?}");
        }
    }
}

#[test]
fn holds_an_image_to_both_limits() {
    let bytes = FILES[0].1;
    let mut out = Vec::new();
    for limits in [
        DecodeLimits { max_pixels: 19 * 13 - 1, ..DecodeLimits::default() },
        DecodeLimits { max_bytes: 19 * 13 * 4 - 1, ..DecodeLimits::default() },
    ] {
        let refused = decode_frame(&header("rgb.png", bytes), bytes, Decode::Rgb8, &limits, &mut out);
        assert!(matches!(refused, Err(DecodeError::TooLarge { .. })), "{refused:?}");
    }
    let exact = DecodeLimits { max_pixels: 19 * 13, max_bytes: 19 * 13 * 4 };
    assert!(decode_frame(&header("rgb.png", bytes), bytes, Decode::Rgb8, &exact, &mut out).is_ok());
}

#[test]
fn counts_the_coefficients_of_a_progressive_image() {
    let (name, bytes) = FILES[10];
    let limits = DecodeLimits { max_bytes: 19 * 13 * 9 - 1, ..DecodeLimits::default() };
    let refused = decode_frame(&header(name, bytes), bytes, Decode::Rgb8, &limits, &mut Vec::new());
    assert!(matches!(refused, Err(DecodeError::TooLarge { per_pixel: 9, .. })), "{refused:?}");
}

#[test]
fn keeps_the_buffer_from_frame_to_frame() {
    let mut out = Vec::new();
    let limits = DecodeLimits::default();
    for round in 0..3 {
        for (name, bytes) in FILES {
            let before = out.as_ptr();
            decode_frame(&header(name, bytes), bytes, Decode::Rgb8, &limits, &mut out).unwrap();
            assert!(round == 0 || out.as_ptr() == before, "{name}");
        }
    }
}

#[test]
fn hands_over_what_is_not_compressed_or_not_to_be_decoded() {
    let (name, bytes) = FILES[0];
    let limits = DecodeLimits::default();
    let mut out = vec![9];
    assert_eq!(decode_frame(&header(name, bytes), bytes, Decode::None, &limits, &mut out), Ok(None));
    let raw = FrameHeader { format: Format::Gray8, ..header(name, bytes) };
    assert_eq!(decode_frame(&raw, bytes, Decode::Rgb8, &limits, &mut out), Ok(None));
    let other = FrameHeader { kind: Kind::Bytes, ..header(name, bytes) };
    assert_eq!(decode_frame(&other, bytes, Decode::Rgb8, &limits, &mut out), Ok(None));
    assert_eq!(out, [9]);
}

#[test]
fn reads_an_image_that_is_padded_with_zeros() {
    let (name, bytes) = FILES[7];
    let padded = [bytes, &[0; 10_000]].concat();
    assert_eq!(decode(name, &padded, Decode::Rgb8).unwrap().1, decode(name, bytes, Decode::Rgb8).unwrap().1);
}

/// Cuts the segments with this marker out.
fn without(bytes: &[u8], marker: u8) -> Vec<u8> {
    let (mut out, mut at) = (bytes[..2].to_vec(), 2);
    while bytes[at + 1] != 0xda {
        let end = at + 2 + usize::from(u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]));
        if bytes[at + 1] != marker {
            out.extend_from_slice(&bytes[at..end]);
        }
        at = end;
    }
    out.extend_from_slice(&bytes[at..]);
    out
}

#[test]
fn motion_jpeg_without_its_tables_is_decoded_with_the_standard_ones() {
    for (name, bytes) in FILES.iter().filter(|(name, _)| ["rgb.jpg", "rgb420.jpg", "gray.jpg"].contains(name)) {
        let bare = without(bytes, TABLES);
        assert!(bare.len() < bytes.len());
        for to in [Decode::Gray8, Decode::Rgb8] {
            assert_eq!(decode(name, &bare, to), decode(name, bytes, to), "{name}");
        }
        // Without the tables that no standard names it stays refused.
        assert!(matches!(decode(name, &without(&bare, 0xdb), Decode::Gray8), Err(DecodeError::Jpeg(_))), "{name}");
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0_u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}
