#![allow(clippy::unwrap_used)]

use sanderling_guest::{
    frame::{Format, FrameHeader, Kind},
    image::{Color, Filter},
};

use super::{
    super::nn::testing::{PAGE, Ran, Rig, floats, model, run, try_run, words},
    *,
};

const CONV: &[u8] = include_bytes!("../../../testdata/conv.onnx");

/// A gray frame of 16 x 16 pixels; the operation at 100, the name of the model at 0.
fn rig(op: &ImageOp) -> Rig {
    let pixels: Vec<u8> = (0..=255).collect();
    let header = FrameHeader {
        kind: Kind::Image,
        format: Format::Gray8,
        width: 16,
        height: 16,
        stride: 16,
        ..FrameHeader::new("cam0", 256)
    };
    Rig {
        models: vec![model("conv", CONV)],
        data: vec![(0, b"conv".to_vec()), (100, op.to_bytes().to_vec())],
        frame: (header, pixels),
        ..Rig::default()
    }
}

const OPEN: [&str; 2] = ["load_by_name 0 4 40", "init_execution_context 0 44"];

fn calls(rig: Rig, cases: &[(String, i32)]) -> Ran {
    let opening = OPEN.iter().map(|call| ((*call).to_owned(), 0));
    let (calls, wanted): (Vec<_>, Vec<_>) = opening.chain(cases.iter().cloned()).unzip();
    let ran = try_run(rig, &calls).unwrap();
    for ((call, wanted), is) in calls.iter().zip(wanted).zip(&ran.answers) {
        assert_eq!(*is, wanted, "{call}");
    }
    ran
}

#[test]
fn writes_the_tensor_into_guest_memory() {
    let op = ImageOp { crop: [4, 8, 2, 2], mean: [0.5; 3], scale: [2.0; 3], ..ImageOp::gray(2, 2) };
    let ran = run(rig(&op), &["image_tensor 100 1000 16"]);
    assert_eq!(ran.answers, [0]);
    let wanted = [132.0, 133.0, 148.0, 149.0].map(|pixel: f32| (pixel / 255.0 - 0.5) * 2.0);
    assert_eq!(ran.floats(1000, 5), [&wanted[..], &[0.0]].concat());
}

#[test]
fn an_input_from_the_image_gives_the_same_as_one_from_memory() {
    let mut rig = rig(&ImageOp::gray(8, 8));
    rig.data.extend([(200, words(&[1, 1, 8, 8])), (300, words(&[200, 4, 1, 1000, 256]))]);
    let ran = run(
        rig,
        &[
            OPEN[0],
            OPEN[1],
            "nn_input_image 0 0 100",
            "compute 0",
            "get_output 0 0 3000 8 48",
            "image_tensor 100 1000 256",
            "set_input 0 0 300",
            "compute 0",
            "get_output 0 0 3100 8 48",
        ],
    );
    assert_eq!(ran.answers, [0; 9], "{:?}", ran.log);
    assert_eq!(ran.floats(3000, 2), ran.floats(3100, 2));
    assert_ne!(ran.floats(3000, 2), [0.0, 0.0]);
}

#[test]
fn bad_pointers_lengths_and_handles_are_errnos() {
    let op = ImageOp::gray(8, 8);
    let cases = [
        ("image_tensor 100 1000 256".to_owned(), 0),
        (format!("image_tensor 100 {} 256", PAGE - 256), 0),
        (format!("image_tensor 100 {} 256", PAGE - 255), -14),
        (format!("image_tensor 100 {PAGE} 256"), -14),
        ("image_tensor 100 -1 256".to_owned(), -14),
        ("image_tensor 100 -256 -1".to_owned(), -14),
        // A place longer than the tensor may reach outside; the tensor does not.
        ("image_tensor 100 1000 -1".to_owned(), 0),
        ("image_tensor 100 1000 255".to_owned(), -28),
        ("image_tensor 100 1000 0".to_owned(), -28),
        ("image_tensor -1 1000 256".to_owned(), -14),
        (format!("image_tensor {} 1000 256", PAGE - 63), -14),
        (format!("image_tensor {} 1000 256", PAGE - 64), -22),
        // The operation may be overwritten by its tensor.
        ("image_tensor 5000 5000 256".to_owned(), 0),
        ("nn_input_image 0 0 100".to_owned(), 0),
        ("nn_input_image 1 0 100".to_owned(), -2),
        ("nn_input_image -1 0 100".to_owned(), -2),
        ("nn_input_image 0 1 100".to_owned(), -2),
        ("nn_input_image 0 -1 100".to_owned(), -2),
        ("nn_input_image 0 0 -1".to_owned(), -14),
        (format!("nn_input_image 0 0 {}", PAGE - 63), -14),
        (format!("nn_input_image 0 0 {PAGE}"), -14),
    ];
    let mut rig = rig(&op);
    rig.data.push((5000, op.to_bytes().to_vec()));
    calls(rig, &cases);
}

#[test]
fn operations_that_do_not_fit_are_errnos() {
    let good = ImageOp::gray(8, 8);
    let integers = ImageOp { element: Element::U8, scale: [0.0; 3], ..good };
    let operations = [
        (ImageOp { crop: [0, 0, 17, 16], ..good }, -22, -22),
        (ImageOp { crop: [u32::MAX, 0, 1, 1], ..good }, -22, -22),
        // The input is gray, f32, of 8 x 8.
        (ImageOp { color: Color::Rgb, ..good }, 0, -22),
        (ImageOp { width: 9, ..good }, 0, -22),
        (ImageOp { layout: Layout::Nhwc, ..good }, 0, -22),
        (integers, 0, -22),
        (ImageOp { filter: Filter::Area, ..good }, 0, 0),
        (ImageOp { width: 0, ..good }, -22, -22),
        (ImageOp { scale: [f32::NAN; 3], ..good }, -22, -22),
        // More than the guest's memory and the limit of 16 MiB hold.
        (ImageOp { width: 4096, height: 4096, ..good }, -14, -28),
    ];
    let mut rig = rig(&good);
    let mut cases = vec![];
    for (index, (op, memory, input)) in operations.iter().enumerate() {
        let at = 6000 + 64 * index;
        rig.data.push((at, op.to_bytes().to_vec()));
        cases.push((format!("image_tensor {at} 1000 -1"), *memory));
        cases.push((format!("nn_input_image 0 0 {at}"), *input));
    }
    let ran = calls(rig, &cases);
    assert!(ran.log.iter().any(|line| line.contains("image_tensor: the crop [0, 0, 17, 16]")), "{:?}", ran.log);
}

#[test]
fn frames_that_are_not_pixels_are_errnos() {
    let op = ImageOp::gray(8, 8);
    let cases = [("image_tensor 100 1000 256".to_owned(), -61), ("nn_input_image 0 0 100".to_owned(), -61)];
    let header = rig(&op).frame.0;
    for header in [
        FrameHeader { kind: Kind::Bytes, ..header },
        FrameHeader { format: Format::Jpeg, ..header },
        FrameHeader { height: 17, ..header },
        FrameHeader { stride: u32::MAX, ..header },
        FrameHeader { width: u32::MAX, height: u32::MAX, stride: u32::MAX, ..header },
        FrameHeader { width: 0, ..header },
    ] {
        let rig = rig(&op);
        calls(Rig { frame: (header, rig.frame.1.clone()), ..rig }, &cases);
    }
}

#[test]
fn there_is_no_frame_before_the_first_one() {
    let ran = run(
        Rig { from: "start", ..rig(&ImageOp::gray(8, 8)) },
        &[OPEN[0], OPEN[1], "image_tensor 100 1000 256", "nn_input_image 0 0 100"],
    );
    assert_eq!(ran.answers, [0, 0, -61, -61]);
}

#[test]
fn a_refused_image_leaves_an_input_that_can_be_set() {
    let mut rig = rig(&ImageOp { crop: [9, 9, 9, 9], ..ImageOp::gray(8, 8) });
    let image: Vec<f32> = vec![1.0; 64];
    rig.data.extend([(200, words(&[1, 1, 8, 8])), (300, words(&[200, 4, 1, 1000, 256])), (1000, floats(&image))]);
    let ran = run(rig, &[OPEN[0], OPEN[1], "nn_input_image 0 0 100", "set_input 0 0 300", "compute 0"]);
    assert_eq!(ran.answers, [0, 0, -22, 0, 0]);
}
