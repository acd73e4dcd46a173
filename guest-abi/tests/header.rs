//! Holds `include/sanderling.h` to the layouts of this crate: a C program fills the structures, and their bytes must read back here.

use std::{path::Path, process::Command};

use sanderling_guest::{
    errno,
    frame::{Format, FrameHeader, HEADER, Kind},
    image::{Color, Element, Filter, ImageOp, Layout, OP, RECT},
    state,
    tensor::INFO,
};

const PROGRAM: &str = r#"
#include <stddef.h>
#include <stdio.h>
#include "sanderling.h"

#define SIZE(type) printf("%zu\n", sizeof(type))
#define NUMBER(name) printf("%d\n", (int)(name))

static void bytes(const void *at, size_t count) {
    for (size_t i = 0; i < count; i++) printf("%02x", ((const unsigned char *)at)[i]);
    printf("\n");
}

int main(void) {
    sanderling_frame_header frame = { 1, -2, 3, 4, SANDERLING_KIND_SERIES, SANDERLING_FORMAT_I32, 5, 6, 7, 8, 9, 10, "cam0", {0} };
    sanderling_image_op op = { {1, 2, 3, 4}, 5, 6, SANDERLING_COLOR_BGR, SANDERLING_LAYOUT_NHWC, SANDERLING_ELEMENT_F16,
        SANDERLING_FILTER_AREA, {0.5f, 0.25f, 0.125f}, {2.0f, 4.0f, 8.0f}, {0} };
    bytes(&frame, sizeof frame);
    bytes(&op, sizeof op);
    SIZE(sanderling_output_info);
    SIZE(sanderling_time);
    SIZE(sanderling_rect);
    NUMBER(SANDERLING_ABI);
    NUMBER(SANDERLING_ENOENT); NUMBER(SANDERLING_E2BIG); NUMBER(SANDERLING_EAGAIN); NUMBER(SANDERLING_EACCES);
    NUMBER(SANDERLING_EFAULT); NUMBER(SANDERLING_EINVAL); NUMBER(SANDERLING_ENOSPC); NUMBER(SANDERLING_ENODATA);
    NUMBER(SANDERLING_KIND_BYTES); NUMBER(SANDERLING_KIND_JSON); NUMBER(SANDERLING_KIND_IMAGE);
    NUMBER(SANDERLING_FORMAT_NONE); NUMBER(SANDERLING_FORMAT_GRAY8); NUMBER(SANDERLING_FORMAT_RGB8); NUMBER(SANDERLING_FORMAT_BGR8);
    NUMBER(SANDERLING_FORMAT_YUYV); NUMBER(SANDERLING_FORMAT_NV12); NUMBER(SANDERLING_FORMAT_GRAY16); NUMBER(SANDERLING_FORMAT_JPEG);
    NUMBER(SANDERLING_FORMAT_PNG); NUMBER(SANDERLING_FORMAT_F32); NUMBER(SANDERLING_FORMAT_I16);
    NUMBER(SANDERLING_COLOR_GRAY); NUMBER(SANDERLING_COLOR_RGB); NUMBER(SANDERLING_LAYOUT_NCHW); NUMBER(SANDERLING_ELEMENT_F32);
    NUMBER(SANDERLING_STATE_MAX_KEY); NUMBER(SANDERLING_STATE_MAX_VALUE); NUMBER(SANDERLING_STATE_MAX_KEYS);
    NUMBER(SANDERLING_ELEMENT_U8); NUMBER(SANDERLING_ELEMENT_I8); NUMBER(SANDERLING_FILTER_NEAREST); NUMBER(SANDERLING_FILTER_BILINEAR);
    return 0;
}
"#;

fn expected() -> Vec<String> {
    let frame = FrameHeader {
        seq: 1,
        captured_unix_ns: -2,
        captured_mono_ns: 3,
        kind: Kind::Series,
        format: Format::I32,
        width: 5,
        height: 6,
        stride: 7,
        channels: 8,
        rate_mhz: 9,
        dropped: 10,
        ..FrameHeader::new("cam0", 4)
    };
    let op = ImageOp {
        crop: [1, 2, 3, 4],
        width: 5,
        height: 6,
        color: Color::Bgr,
        layout: Layout::Nhwc,
        element: Element::F16,
        filter: Filter::Area,
        mean: [0.5, 0.25, 0.125],
        scale: [2.0, 4.0, 8.0],
    };
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let numbers = [INFO as i32, 16, RECT as i32, sanderling_guest::ABI]
        .into_iter()
        .chain([errno::ENOENT, errno::E2BIG, errno::EAGAIN, errno::EACCES, errno::EFAULT, errno::EINVAL, errno::ENOSPC])
        .chain([errno::ENODATA])
        .chain([Kind::Bytes, Kind::Json, Kind::Image].map(|kind| kind as i32))
        .chain([Format::None, Format::Gray8, Format::Rgb8, Format::Bgr8, Format::Yuyv].map(|format| format as i32))
        .chain([Format::Nv12, Format::Gray16, Format::Jpeg, Format::Png, Format::F32, Format::I16].map(|f| f as i32))
        .chain([Color::Gray as i32, Color::Rgb as i32, Layout::Nchw as i32, Element::F32 as i32])
        .chain([state::MAX_KEY, state::MAX_VALUE, state::MAX_KEYS].map(|most| most as i32))
        .chain([Element::U8 as i32, Element::I8 as i32, Filter::Nearest as i32, Filter::Bilinear as i32]);
    assert_eq!((frame.to_bytes().len(), op.to_bytes().len()), (HEADER, OP));
    [hex(&frame.to_bytes()), hex(&op.to_bytes())].into_iter().chain(numbers.map(|number| number.to_string())).collect()
}

#[test]
fn the_c_header_has_the_same_layouts_and_numbers() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("header");
    std::fs::create_dir_all(&folder).expect("the test's folder");
    let (source, program) = (folder.join("layouts.c"), folder.join("layouts"));
    std::fs::write(&source, PROGRAM).expect("the C source");
    let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("include");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    let compiled = Command::new(compiler)
        .args(["-std=c11", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([&include, &source])
        .arg("-o")
        .arg(&program)
        .status()
        .expect("a C compiler, as `cc` or in CC");
    assert!(compiled.success(), "include/sanderling.h does not compile");
    let printed = Command::new(&program).output().expect("the compiled program").stdout;
    let lines: Vec<String> = String::from_utf8_lossy(&printed).lines().map(str::to_owned).collect();
    assert_eq!(lines, expected());
}
