//! Frames of 640x480 to a tensor of 64x64: the host functions, beside resizing and normalising alone, and beside a guest that does it.

use std::marker::PhantomData;

use anyhow::{Context, Result};
use fast_image_resize::{
    FilterType, PixelTrait, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::{U8, U8x3},
};
use sanderling_guest::image::{Color, Filter, ImageOp};
use sanderling_runtime::{Format, FrameHeader, Guest, Kind};

use crate::{
    kernels::{data, give, plain, start, with_imports},
    measure::take_turns,
    report::{Budget, Row},
};

const WIDTH: u32 = 640;
const HEIGHT: u32 = 480;
const SIDE: u32 = 64;
const GRAY: ImageOp =
    ImageOp { filter: Filter::Bilinear, mean: [0.5; 3], scale: [4.0; 3], ..ImageOp::gray(SIDE, SIDE) };
const ROUNDS: usize = 51;
const TIMES: usize = 4;

/// The triangle of 20 by 15 pixels that a bilinear filter has at this scale, in two passes as in the host, in fixed point.
const RESIZES: &str = r#"
(func (export "sanderling_buffer") (param i32) (result i32) (i32.const 65536))
(func (export "sanderling_frame") (result i32)
  (local $y i32) (local $x i32) (local $k i32) (local $sum i32) (local $from i32)
  (loop $rows (local.set $x (i32.const 0))
    (loop $columns (local.set $k (i32.const 0)) (local.set $sum (i32.const 0))
      (local.set $from (i32.add (i32.mul (local.get $y) (i32.const 640)) (i32.mul (local.get $x) (i32.const 10))))
      (loop $taps
        (local.set $sum (i32.add (local.get $sum) (i32.mul
          (i32.load8_u offset=65531 (i32.add (local.get $from) (local.get $k)))
          (i32.load offset=1024 (i32.shl (local.get $k) (i32.const 2))))))
        (br_if $taps (i32.lt_u (local.tee $k (i32.add (local.get $k) (i32.const 1))) (i32.const 20))))
      (i32.store8 offset=393216 (i32.add (i32.shl (local.get $y) (i32.const 6)) (local.get $x))
        (i32.shr_u (local.get $sum) (i32.const 16)))
      (br_if $columns (i32.lt_u (local.tee $x (i32.add (local.get $x) (i32.const 1))) (i32.const 64))))
    (br_if $rows (i32.lt_u (local.tee $y (i32.add (local.get $y) (i32.const 1))) (i32.const 480))))
  (local.set $y (i32.const 0))
  (loop $rows (local.set $x (i32.const 0))
    (loop $columns (local.set $k (i32.const 0)) (local.set $sum (i32.const 0))
      (local.set $from (i32.add (local.get $x)
        (i32.shl (i32.shr_u (i32.mul (local.get $y) (i32.const 15)) (i32.const 1)) (i32.const 6))))
      (loop $taps
        (local.set $sum (i32.add (local.get $sum) (i32.mul
          (i32.load8_u offset=393216 (i32.add (local.get $from) (i32.shl (local.get $k) (i32.const 6))))
          (i32.load offset=1280 (i32.shl (local.get $k) (i32.const 2))))))
        (br_if $taps (i32.lt_u (local.tee $k (i32.add (local.get $k) (i32.const 1))) (i32.const 15))))
      (f32.store offset=458752
        (i32.shl (i32.add (i32.shl (local.get $y) (i32.const 6)) (local.get $x)) (i32.const 2))
        (f32.mul (f32.sub (f32.div (f32.convert_i32_u (i32.shr_u (local.get $sum) (i32.const 16))) (f32.const 255))
          (f32.const 0.5)) (f32.const 4)))
      (br_if $columns (i32.lt_u (local.tee $x (i32.add (local.get $x) (i32.const 1))) (i32.const 64))))
    (br_if $rows (i32.lt_u (local.tee $y (i32.add (local.get $y) (i32.const 1))) (i32.const 64))))
  (i32.const 0))"#;

/// Measures the rows.
pub(crate) fn measure() -> Result<Vec<Row>> {
    let most = Budget::RatioAtMost(1.15);
    let mut rows = gray()?;
    let color = ImageOp { color: Color::Rgb, ..GRAY };
    let what = "640x480 RGB to 64x64, image_tensor";
    rows.push(tensor("image-rgb8", what, Format::Rgb8, 3.0, &color)?.within(most));
    let what = "640x480 YUYV to RGB 64x64, image_tensor, conversion included";
    rows.push(tensor("image-yuyv", what, Format::Yuyv, 2.0, &color)?.within(most));
    let what = "640x480 NV12 to RGB 64x64, image_tensor, conversion included";
    rows.push(tensor("image-nv12", what, Format::Nv12, 1.5, &color)?.within(most));
    Ok(rows)
}

fn gray() -> Result<Vec<Row>> {
    let (header, content) = frame(Format::Gray8, 1.0);
    let model = std::fs::read(sanderling_tests::source().join("modules/surface-defect/model/surface-defect.onnx"))?;
    let mut ours = start(&input_image(&GRAY)?, Some(&model))?;
    let mut inside = start(&resizes()?, None)?;
    let mut native = Native::<U8>::new(1)?;
    let turns = take_turns(
        ROUNDS,
        TIMES,
        &mut [&mut || give(&mut ours, &header, content), &mut || native.run(content), &mut || {
            give(&mut inside, &header, content)
        }],
    )?;
    let row = |name, what, beside, reference: usize| {
        let row = Row::new(name, what, "µs", turns.median(0) * 1e6).beside(beside, turns.median(reference) * 1e6);
        row.ratio(turns.ratio(0, reference))
    };
    let native = row("image-gray8", "640x480 gray to 64x64, nn_input_image", "resized and normalised alone", 1);
    let inside = row("image-guest", "the same beside a guest that does it", "in the guest", 2);
    // Fifteen times as fast.
    let fifteenth = (1000.0_f64 / 15.0).round() / 1000.0;
    Ok(vec![native.within(Budget::RatioAtMost(1.15)), inside.within(Budget::RatioAtMost(fifteenth))])
}

fn tensor(name: &'static str, what: &str, format: Format, bytes_per_pixel: f64, op: &ImageOp) -> Result<Row> {
    let (header, content) = frame(format, bytes_per_pixel);
    let (_, rgb) = frame(Format::Rgb8, 3.0);
    let mut ours: Guest = start(&image_tensor(op)?, None)?;
    let mut native = Native::<U8x3>::new(3)?;
    let turns = take_turns(ROUNDS, TIMES, &mut [&mut || give(&mut ours, &header, content), &mut || native.run(rgb)])?;
    let row = Row::new(name, what, "µs", turns.median(0) * 1e6);
    let row = row.beside("RGB resized and normalised alone", turns.median(1) * 1e6);
    Ok(row.ratio(turns.ratio(0, 1)))
}

/// A frame of noise.
fn frame(format: Format, bytes_per_pixel: f64) -> (FrameHeader, &'static [u8]) {
    let length = f64::from(WIDTH * HEIGHT) * bytes_per_pixel;
    let content: Vec<u8> = (0..length as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let mut header = FrameHeader::new("bench", content.len() as u32);
    (header.kind, header.format, header.width, header.height) = (Kind::Image, format, WIDTH, HEIGHT);
    (header, content.leak())
}

fn input_image(op: &ImageOp) -> Result<Vec<u8>> {
    with_imports(
        r#"(import "wasi_ephemeral_nn" "load_by_name" (func $load (param i32 i32 i32) (result i32)))
        (import "wasi_ephemeral_nn" "init_execution_context" (func $context (param i32 i32) (result i32)))
        (import "sanderling_v1" "nn_input_image" (func $input (param i32 i32 i32) (result i32)))"#,
        1,
        &format!(
            r#"(data (i32.const 0) "model") (data (i32.const 1024) "{}")
            (func (export "sanderling_start") (result i32)
              (i32.or (call $load (i32.const 0) (i32.const 5) (i32.const 64))
                (call $context (i32.load (i32.const 64)) (i32.const 68))))
            (func (export "sanderling_frame") (result i32)
              (call $input (i32.load (i32.const 68)) (i32.const 0) (i32.const 1024)))"#,
            data(&op.to_bytes())
        ),
    )
}

fn image_tensor(op: &ImageOp) -> Result<Vec<u8>> {
    with_imports(
        r#"(import "sanderling_v1" "image_tensor" (func $tensor (param i32 i32 i32) (result i32)))"#,
        3,
        &format!(
            r#"(data (i32.const 1024) "{}")
            (func (export "sanderling_frame") (result i32)
              (call $tensor (i32.const 1024) (i32.const 65536) (i32.const {})))"#,
            data(&op.to_bytes()),
            op.tensor_len()
        ),
    )
}

fn resizes() -> Result<Vec<u8>> {
    let words = |weights: Vec<u32>| data(&weights.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<_>>());
    let triangle = |taps: u32, total: u32| (0..taps).map(|at| (at + 1).min(taps - at) * 65_536 / total).collect();
    let weights = format!(
        r#"(data (i32.const 1024) "{}") (data (i32.const 1280) "{}")"#,
        words(triangle(20, 110)),
        words(triangle(15, 64))
    );
    plain(9, &format!("{weights} {RESIZES}"))
}

/// What a program in Rust does without us.
struct Native<P: PixelTrait> {
    resizer: Resizer,
    options: ResizeOptions,
    small: Vec<u8>,
    pixel: PhantomData<P>,
    channels: usize,
    tensor: Vec<f32>,
}

impl<P: PixelTrait> Native<P> {
    fn new(channels: usize) -> Result<Self> {
        let tensor = vec![0.0; (SIDE * SIDE) as usize * channels];
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).use_alpha(false);
        let small = vec![0; tensor.len()];
        Ok(Self { resizer: Resizer::new(), options, small, pixel: PhantomData, channels, tensor })
    }

    fn run(&mut self, content: &[u8]) -> Result<()> {
        let from = TypedImageRef::<P>::from_buffer(WIDTH, HEIGHT, content)?;
        let mut to = TypedImage::<P>::from_buffer(SIDE, SIDE, &mut self.small)?;
        self.resizer.resize_typed(&from, &mut to, &self.options)?;
        let pixels = &self.small;
        let plane = pixels.len() / self.channels;
        for channel in 0..self.channels {
            let to = self.tensor.get_mut(channel * plane..(channel + 1) * plane).context("a plane")?;
            for (to, from) in to.iter_mut().zip(pixels.iter().skip(channel).step_by(self.channels)) {
                *to = (f32::from(*from) / 255.0 - 0.5) * 4.0;
            }
        }
        std::hint::black_box(&self.tensor);
        Ok(())
    }
}
