//! Tensors of the runtime against Pillow on the very same pixels.
//!
//! Pillow's `NEAREST`, `BILINEAR` and `BOX` are our nearest, bilinear and area. Nearest is the same byte by byte. The other two
//! differ by one gray level at most: Pillow rounds to 8 bits twice and lies within one gray level of the exact sum, the runtime
//! rounds once and lies within little more than half of one.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::{collections::BTreeMap, fs, process::Command};

use sanderling_guest::image::{Color, Element, Filter, ImageOp, Layout};
use sanderling_runtime::{Format, FrameHeader, Kind, image::Preparer};
use sanderling_tests::{Dice, python, source};
use serde_json::{Value, json};

const CASES: usize = 240;
/// Of the samples that a filter weighs, at most this part differs at all.
const DIFFERENT: f64 = 0.25;

#[test]
fn nearest_is_that_of_pillow_and_weighed_pixels_are_within_one_gray_level_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut dice = Dice::new(20);
    let cases: Vec<Case> = (0..CASES).map(|at| Case::draw(&mut dice, at)).collect();
    let described: Vec<Value> = cases.iter().enumerate().map(|(at, case)| case.describe(folder.path(), at)).collect();
    let list = folder.path().join("cases.json");
    fs::write(&list, Value::from(described.clone()).to_string()).unwrap();
    let script = source().join("tests/python/pillow_resize.py");
    let status = Command::new(python()).arg(script).arg(&list).status().unwrap();
    assert!(status.success(), "{status}");

    let mut preparer = Preparer::new(64 << 20);
    let mut differing: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for (case, described) in cases.iter().zip(&described) {
        let mut ours = vec![0; case.op.tensor_len()];
        preparer.prepare(&case.header, &case.pixels, &case.op, &mut ours).unwrap();
        let theirs = fs::read(described["out"].as_str().unwrap()).unwrap();
        assert_eq!(ours.len(), theirs.len());
        let most = u8::from(case.op.filter != Filter::Nearest);
        let off = ours.iter().zip(&theirs).map(|(ours, theirs)| ours.abs_diff(*theirs));
        let furthest = off.clone().max().unwrap();
        assert!(furthest <= most, "off by {furthest}: {described}");
        let (different, all) = differing.entry(case.filter()).or_default();
        *different += off.filter(|off| *off > 0).count();
        *all += ours.len();
    }
    for (filter, (different, all)) in differing {
        println!("{filter}: {different} of {all} samples differ");
        assert!(different as f64 / all as f64 <= DIFFERENT, "{filter}: {different} of {all}");
    }
}

struct Case {
    header: FrameHeader,
    pixels: Vec<u8>,
    op: ImageOp,
    /// Whether Pillow is to make colours gray; then it does so after resizing, as the runtime does.
    gray: bool,
}

impl Case {
    fn draw(dice: &mut Dice, at: usize) -> Self {
        let side = |dice: &mut Dice, most: usize| u32::try_from(1 + dice.below(most)).unwrap();
        let (width, height) = (side(dice, 300), side(dice, 200));
        let colors = at.is_multiple_of(2);
        let channels = if colors { 3 } else { 1 };
        let pixels = dice.bytes((width * height * channels) as usize);
        let mut header = FrameHeader::new("cam0", width * height * channels);
        (header.kind, header.width, header.height) = (Kind::Image, width, height);
        header.format = if colors { Format::Rgb8 } else { Format::Gray8 };
        let part = |dice: &mut Dice, side: u32| {
            let from = u32::try_from(dice.below(side as usize)).unwrap();
            (from, 1 + u32::try_from(dice.below((side - from) as usize)).unwrap())
        };
        let ((x, across), (y, down)) = (part(dice, width), part(dice, height));
        let gray = colors && dice.below(3) == 0;
        let op = ImageOp {
            crop: [x, y, across, down],
            width: side(dice, 120),
            height: side(dice, 120),
            color: if colors && !gray { Color::Rgb } else { Color::Gray },
            layout: Layout::Nhwc,
            element: Element::U8,
            filter: [Filter::Nearest, Filter::Bilinear, Filter::Area][at % 3],
            mean: [0.0; 3],
            scale: [0.0; 3],
        };
        Self { header, pixels, op, gray }
    }

    fn filter(&self) -> &'static str {
        match self.op.filter {
            Filter::Nearest => "nearest",
            Filter::Bilinear => "bilinear",
            Filter::Area => "area",
        }
    }

    fn describe(&self, folder: &std::path::Path, at: usize) -> Value {
        let (file, out) = (folder.join(format!("{at}.raw")), folder.join(format!("{at}.out")));
        fs::write(&file, &self.pixels).unwrap();
        json!({
            "file": file, "out": out, "mode": if self.header.format == Format::Rgb8 { "RGB" } else { "L" },
            "width": self.header.width, "height": self.header.height, "crop": self.op.crop,
            "size": [self.op.width, self.op.height], "filter": self.filter(), "gray": self.gray,
        })
    }
}
