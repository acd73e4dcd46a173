use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
};

use sanderling_guest::frame::{Format, Kind};
use tokio::sync::Notify;

use super::{
    camera::{Camera, Control, Image, configure, control_name},
    format::{FourCc, ImageError, Shape},
    *,
};
use crate::sensors::{
    PixelFormat, RawImage,
    fake::{Bench, until},
};

fn settings() -> V4l2Settings {
    V4l2Settings {
        device: "/dev/video0".into(),
        width: 4,
        height: 2,
        fps: None,
        pixel: CameraPixel::ALL.to_vec(),
        buffers: 2,
        controls: Vec::new(),
        max_frame: 1 << 20,
    }
}

/// A camera that makes some formats in one size, with rows that have gaps.
#[derive(Default)]
struct Fake {
    formats: Vec<FourCc>,
    size: (u32, u32),
    stride: u32,
    controls: Vec<Control>,
    set: Vec<(u32, i32)>,
    image: Option<Image>,
}

impl Camera for Fake {
    fn formats(&self) -> io::Result<Vec<FourCc>> {
        Ok(self.formats.clone())
    }

    fn sizes(&self, _: FourCc) -> io::Result<Vec<String>> {
        Ok(vec![format!("{} x {}", self.size.0, self.size.1)])
    }

    fn set_image(&mut self, asked: Image) -> io::Result<Image> {
        let (width, height) = self.size;
        self.image = Some(Image { width, height, stride: self.stride, ..asked });
        Ok(self.image.unwrap())
    }

    fn set_rate(&mut self, fps: f64) -> io::Result<f64> {
        Ok(fps.min(30.0))
    }

    fn controls(&self) -> io::Result<Vec<Control>> {
        Ok(self.controls.clone())
    }

    fn set_control(&mut self, id: u32, value: i32) -> io::Result<()> {
        self.set.push((id, value));
        Ok(())
    }
}

fn code(letters: &[u8; 4]) -> FourCc {
    FourCc::new(letters)
}

#[test]
fn the_first_format_that_the_camera_makes_is_taken() {
    let mut camera =
        Fake { formats: vec![code(b"MJPG"), code(b"GREY"), code(b"NV12")], size: (4, 2), stride: 8, ..Fake::default() };
    let plan = configure(&mut camera, &V4l2Settings { fps: Some(60.0), ..settings() }).unwrap();
    assert_eq!((plan.header.kind, plan.header.format, plan.header.stride), (Kind::Image, Format::Nv12, 4));
    assert_eq!(plan.shape, Shape::Rows { row: 4, rows: 3, stride: 8 });
    assert_eq!(plan.fps, Some(30.0), "what the camera says, not what it was asked for");
    let pixel = vec![CameraPixel::Mjpeg, CameraPixel::Gray8];
    let plan = configure(&mut camera, &V4l2Settings { pixel, ..settings() }).unwrap();
    assert_eq!((plan.header.format, plan.header.stride, plan.header.width), (Format::Jpeg, 0, 4));
    assert_eq!(camera.image.unwrap().format, code(b"MJPG"));
}

#[test]
fn a_format_or_size_that_is_refused_is_named_with_what_there_is() {
    let mut camera = Fake { formats: vec![code(b"YUYV"), code(b"H264")], size: (320, 240), ..Fake::default() };
    let pixel = vec![CameraPixel::Yuyv, CameraPixel::Mjpeg];
    let error = configure(&mut camera, &V4l2Settings { pixel, ..settings() }).unwrap_err().to_string();
    assert!(error.contains("does not make 4 x 2 in yuyv, mjpeg"), "{error}");
    assert!(error.contains("YUYV in 320 x 240; H264 in 320 x 240"), "{error}");
    let error = configure(&mut Fake::default(), &settings()).unwrap_err().to_string();
    assert!(error.contains("offers nothing"), "{error}");
}

#[test]
fn controls_are_set_switches_first_and_within_their_bounds() {
    let control = |id, name: &str, max, is_switch| Control { id, name: name.into(), min: 0, max, is_switch };
    let controls = vec![control(1, "exposure_time_absolute", 5000, false), control(2, "auto_exposure", 3, true)];
    let camera = || Fake { formats: vec![code(b"GREY")], size: (4, 2), controls: controls.clone(), ..Fake::default() };
    let set = |wanted: &[(&str, i32)]| {
        let wanted = wanted.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
        let mut camera = camera();
        configure(&mut camera, &V4l2Settings { controls: wanted, ..settings() }).map(|_| camera.set)
    };
    assert_eq!(set(&[("exposure_time_absolute", 156), ("auto_exposure", 1)]).unwrap(), [(2, 1), (1, 156)]);
    let error = set(&[("exposure_time_absolute", 5001)]).unwrap_err().to_string();
    assert!(error.contains("5001") && error.contains("0 to 5000"), "{error}");
    let error = set(&[("gain", 1)]).unwrap_err().to_string();
    assert!(error.contains("\"gain\"") && error.contains("exposure_time_absolute, auto_exposure"), "{error}");
}

#[test]
fn names_of_controls_are_those_that_v4l2_ctl_prints() {
    assert_eq!(control_name(b"Exposure Time, Absolute\0\0"), "exposure_time_absolute");
    assert_eq!(control_name(b"White Balance (auto)\0x"), "white_balance_auto");
    assert_eq!(control_name(b"\0"), "");
}

#[test]
fn rows_are_copied_without_their_gaps() {
    let image = RawImage { width: 2, height: 2, pixel: PixelFormat::Nv12 };
    let shape = Shape::rows(&image, 4);
    // Behind the last row there is no gap.
    let bytes = [1, 2, 0, 0, 3, 4, 0, 0, 5, 6];
    assert_eq!(shape.length(&bytes), Ok(6));
    let mut room = [9; 6];
    shape.copy(&bytes, &mut room);
    assert_eq!(room, [1, 2, 3, 4, 5, 6]);
    assert_eq!(shape.length(&bytes[..9]), Err(ImageError::Short { found: 9, needed: 10 }));
    let tight = Shape::rows(&RawImage { width: 2, height: 1, pixel: PixelFormat::Gray16 }, 0);
    assert_eq!((tight.length(&[1, 2, 3, 4, 5]), tight), (Ok(4), Shape::Rows { row: 4, rows: 1, stride: 4 }));
    let yuyv = Shape::rows(&RawImage { width: 4, height: 2, pixel: PixelFormat::Yuyv }, 8);
    assert_eq!(yuyv.length(&[0; 16]), Ok(16));
}

#[test]
fn a_jpeg_is_taken_whole_if_it_begins_like_one() {
    let shape = Shape::Jpeg { most: 5 };
    let jpeg = [0xff, 0xd8, 0xff, 0xe0, 7];
    assert_eq!(shape.length(&jpeg), Ok(5));
    assert_eq!(shape.length(&jpeg[1..]), Err(ImageError::NoJpeg));
    assert_eq!(shape.length(&[]), Err(ImageError::NoJpeg));
    assert_eq!(Shape::Jpeg { most: 4 }.length(&jpeg), Err(ImageError::Long { found: 5, most: 4 }));
}

#[test]
fn letters_are_shown_as_they_are_and_what_is_none_escaped() {
    assert_eq!((code(b"Y16 ").to_string(), code(b"MJPG").to_string()), ("Y16".into(), "MJPG".into()));
    assert_eq!(code(b"\0\n\xffA").to_string(), "\\u{0}\\n\\u{ff}A");
}

/// What a camera does next.
enum Next {
    Image(Vec<u8>),
    Damaged,
    Fails(i32),
}

/// Buffers of a camera, with its books: which the sensor has, and which are the camera's.
#[derive(Clone, Default)]
struct Buffers {
    next: Rc<RefCell<VecDeque<Next>>>,
    wake: Rc<Notify>,
    out: Rc<Cell<usize>>,
    most_out: Rc<Cell<usize>>,
}

impl Buffers {
    fn say(&self, next: Next) {
        self.next.borrow_mut().push_back(next);
        self.wake.notify_one();
    }
}

/// A view of the buffers whose content stands still while it is read.
struct View(Buffers, Vec<u8>);

impl Frames for View {
    async fn ready(&self) -> io::Result<()> {
        while self.0.next.borrow().is_empty() {
            self.0.wake.notified().await;
        }
        Ok(())
    }

    fn dequeue(&self) -> io::Result<Option<Filled>> {
        let (used, damaged) = match self.0.next.borrow_mut().pop_front() {
            None => return Ok(None),
            Some(Next::Fails(code)) => return Err(io::Error::from_raw_os_error(code)),
            Some(Next::Damaged) => (0, true),
            Some(Next::Image(image)) => (image.len(), false),
        };
        self.0.out.set(self.0.out.get() + 1);
        self.0.most_out.set(self.0.most_out.get().max(self.0.out.get()));
        Ok(Some(Filled { index: 0, used, mono_ns: Some(77), damaged }))
    }

    fn bytes<'a>(&'a self, filled: &'a Filled) -> &'a [u8] {
        self.1.get(..filled.used).unwrap_or_default()
    }

    fn queue(&self, _: Filled) -> io::Result<()> {
        self.0.out.set(self.0.out.get() - 1);
        Ok(())
    }
}

struct Faked {
    buffers: Buffers,
    plan: Plan,
    backing: Vec<u8>,
}

impl Sensor for Faked {
    fn largest_frame(&self) -> usize {
        1 << 20
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let view = View(self.buffers.clone(), self.backing);
            if let Err(error) = pump(view, &self.plan, &outlet, &mut Backoff::default()).await {
                outlet.failed(error.to_string());
            }
        })
    }
}

fn faked(buffers: &Buffers) -> Box<Faked> {
    let mut camera = Fake { formats: vec![code(b"GREY")], size: (4, 2), stride: 6, ..Fake::default() };
    let plan = configure(&mut camera, &settings()).unwrap();
    Box::new(Faked { buffers: buffers.clone(), plan, backing: (0..10).collect() })
}

#[tokio::test]
async fn images_are_given_with_their_time_and_each_buffer_goes_back() {
    let buffers = Buffers::default();
    let bench = Bench::default();
    bench
        .run(faked(&buffers), async |bench| {
            for count in 1..=20 {
                buffers.say(Next::Image((0..10).collect()));
                until(|| bench.count() == count).await;
            }
            buffers.say(Next::Image(vec![0; 9]));
            until(|| bench.report().error.is_some_and(|error| error.contains("cut on its way"))).await;
            buffers.say(Next::Damaged);
            until(|| {
                bench.report().error.is_some_and(|error| error.contains("damaged") && error.contains("2 refused"))
            })
            .await;
            buffers.say(Next::Image((0..10).collect()));
            until(|| bench.count() == 21).await;
            assert_eq!((buffers.out.get(), buffers.most_out.get(), bench.pool().made()), (0, 1, 1));
        })
        .await;
    let (header, content) = &bench.frames()[0];
    assert_eq!((header.format, header.width, header.height, header.stride), (Format::Gray8, 4, 2, 4));
    assert_eq!((header.captured_mono_ns, content.as_slice()), (77, [0, 1, 2, 3, 6, 7, 8, 9].as_slice()));
}

#[tokio::test]
async fn a_camera_that_goes_ends_the_stream_with_a_word() {
    let buffers = Buffers::default();
    Bench::default()
        .run(faked(&buffers), async |bench| {
            buffers.say(Next::Fails(19));
            until(|| bench.report().error.is_some_and(|error| error == "the camera is gone")).await;
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_camera_that_falls_silent_is_given_up() {
    Bench::default()
        .run(faked(&Buffers::default()), async |bench| {
            tokio::time::sleep(Duration::from_secs(6)).await;
            assert_eq!(bench.report().error.as_deref(), Some("the camera gave no image for 5 s"));
        })
        .await;
}

#[tokio::test]
async fn a_camera_that_is_not_there_is_reported_and_tried_again() {
    let away = V4l2Settings { device: "/dev/video999".into(), ..settings() };
    assert!(V4l2::probe(&away).unwrap_err().contains("plugged in"));
    let bench = Bench::default();
    bench.want(false);
    bench
        .run(Box::new(V4l2::new(away)), async |bench| {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert_eq!(bench.report().error, None, "nothing is opened that nobody wants");
            bench.want(true);
            until(|| bench.report().error.is_some_and(|error| error.contains("/dev/video999"))).await;
        })
        .await;
}

#[test]
fn the_largest_frame_is_that_of_the_formats_asked_for() {
    let of =
        |pixel: &[CameraPixel]| V4l2Settings { width: 640, height: 480, pixel: pixel.to_vec(), ..settings() }.largest();
    assert_eq!(of(&[CameraPixel::Gray8]), 640 * 480);
    assert_eq!(of(&[CameraPixel::Nv12, CameraPixel::Rgb8]), 640 * 480 * 3);
    assert_eq!(of(&[CameraPixel::Mjpeg]), 640 * 480 * 2);
    let small = V4l2Settings { pixel: vec![CameraPixel::Mjpeg], max_frame: 1000, ..settings() };
    assert_eq!(small.largest(), 1000);
}
