use std::{fs, io::Write, os::unix::fs::OpenOptionsExt};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use super::*;
use crate::sensors::fake::{Bench, until};

/// A device as the kernel shows it, in a folder, with a FIFO as its character device.
struct Fake {
    folder: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let fake = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir_all(fake.path("sys/iio:device0")).unwrap();
        fs::create_dir_all(fake.path("dev")).unwrap();
        fake.put("iio:device0/name", "adxl345\n");
        fake
    }

    /// With a buffer of three channels of 13 bits and a timestamp.
    fn buffered() -> Self {
        let fake = Self::new();
        for folder in ["scan_elements", "buffer", "trigger"] {
            fs::create_dir(fake.path("sys/iio:device0").join(folder)).unwrap();
        }
        fs::create_dir(fake.path("sys/trigger0")).unwrap();
        fake.put("trigger0/name", "timer");
        fake.put("trigger0/sampling_frequency", "100");
        fake.put("iio:device0/trigger/current_trigger", "");
        for (index, axis) in ["accel_x", "accel_y", "accel_z"].iter().enumerate() {
            fake.put(&format!("iio:device0/scan_elements/in_{axis}_en"), "1");
            fake.put(&format!("iio:device0/scan_elements/in_{axis}_index"), &format!("{index}\n"));
            fake.put(&format!("iio:device0/scan_elements/in_{axis}_type"), "le:s13/16>>0\n");
        }
        fake.put("iio:device0/scan_elements/in_timestamp_en", "0");
        fake.put("iio:device0/scan_elements/in_timestamp_index", "3");
        fake.put("iio:device0/scan_elements/in_timestamp_type", "le:s64/64>>0");
        fake.put("iio:device0/in_accel_scale", "0.5");
        fake.put("iio:device0/in_accel_x_offset", "2");
        fake.put("iio:device0/buffer/enable", "1");
        fake.put("iio:device0/buffer/length", "2");
        fake.put("iio:device0/buffer/watermark", "1");
        mknodat(CWD, fake.path("dev/iio:device0"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        fake
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn put(&self, file: &str, content: &str) {
        fs::write(self.path("sys").join(file), content).unwrap();
    }

    fn get(&self, file: &str) -> String {
        fs::read_to_string(self.path("sys/iio:device0").join(file)).unwrap()
    }

    fn roots(&self) -> Roots {
        Roots { sysfs: self.path("sys"), dev: self.path("dev") }
    }

    fn sensor(&self, settings: IioSettings) -> Box<Iio> {
        Box::new(Iio { settings, roots: self.roots() })
    }

    /// The kernel's end of the character device, once the sensor has opened the other.
    async fn kernel(&self) -> fs::File {
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap();
        let path = self.path("dev/iio:device0");
        // Opened once: a writer that comes and goes is the end of the file for the sensor.
        let opened = std::cell::RefCell::new(None);
        until(|| {
            let runs = self.get("buffer/enable") == "1" && self.get("buffer/length") != "2";
            let open = || fs::File::options().write(true).custom_flags(nonblocking).open(&path).ok();
            opened.replace(runs.then(open).flatten());
            opened.borrow().is_some()
        })
        .await;
        opened.into_inner().unwrap()
    }
}

fn settings() -> IioSettings {
    IioSettings {
        device: "adxl345".into(),
        channels: Vec::new(),
        window: 2,
        mode: IioMode::Auto,
        rate_hz: None,
        trigger: None,
        buffer: 64,
        raw: false,
        timestamp: true,
        max_frame: 1 << 20,
    }
}

fn scan(values: [i16; 3], time: i64) -> Vec<u8> {
    let mut scan: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    scan.extend_from_slice(&[0xee; 2]);
    scan.extend_from_slice(&time.to_le_bytes());
    scan
}

fn floats(content: &[u8]) -> Vec<f32> {
    content.chunks_exact(4).map(|value| f32::from_le_bytes(value.try_into().unwrap())).collect()
}

#[tokio::test]
async fn scans_become_windows_however_they_are_torn() {
    let fake = Fake::buffered();
    let settings = IioSettings { rate_hz: Some(200.0), trigger: Some("timer".into()), ..settings() };
    assert!(probe(&settings, &fake.roots()).unwrap().contains("3 channels, through its buffer"));
    assert_eq!(fake.get("scan_elements/in_timestamp_en"), "0", "a probe sets nothing");
    let bench = Bench::default();
    bench
        .run(fake.sensor(settings), async |bench| {
            let mut kernel = fake.kernel().await;
            assert_eq!(fake.get("trigger/current_trigger"), "timer");
            assert_eq!(fs::read_to_string(fake.path("sys/trigger0/sampling_frequency")).unwrap(), "200");
            assert_eq!(
                (fake.get("scan_elements/in_timestamp_en"), fake.get("buffer/length")),
                ("1".into(), "64".into())
            );
            let all: Vec<u8> = (0..6).flat_map(|n| scan([n, -n, 0x0fff], i64::from(n) * 1000)).collect();
            for part in all.chunks(7) {
                kernel.write_all(part).unwrap();
                tokio::task::yield_now().await;
            }
            until(|| bench.count() == 3).await;
            assert_eq!((bench.report().error, bench.pool().made()), (None, 1));
        })
        .await;
    let (header, content) = &bench.frames()[1];
    assert_eq!((header.kind, header.format, header.width, header.channels), (Kind::Series, Format::F32, 2, 3));
    assert_eq!((header.rate_mhz, header.captured_unix_ns), (200_000, 3000), "the time of its last sample");
    assert_eq!(floats(content), [2.0, -1.0, 2047.5, 2.5, -1.5, 2047.5]);
    assert_eq!(fake.get("buffer/enable"), "0", "the buffer is stopped when the sensor ends");
}

#[tokio::test]
async fn some_channels_can_be_had_raw() {
    let fake = Fake::buffered();
    let channels = vec!["accel_z".into(), "accel_x".into()];
    let settings = IioSettings { channels, raw: true, window: 1, timestamp: false, ..settings() };
    let bench = Bench::default();
    bench
        .run(fake.sensor(settings), async |bench| {
            let mut kernel = fake.kernel().await;
            let enabled = ["accel_x", "accel_y", "accel_z", "timestamp"]
                .map(|name| fake.get(&format!("scan_elements/in_{name}_en")));
            assert_eq!(enabled, ["1", "0", "1", "0"]);
            kernel.write_all(&[1, 0, 0xff, 0xff]).unwrap();
            until(|| bench.count() == 1).await;
        })
        .await;
    let (header, content) = &bench.frames()[0];
    assert_eq!((header.format, header.channels, content.as_slice()), (Format::I16, 2, [1, 0, 0xff, 0xff].as_slice()));
}

#[tokio::test]
async fn a_device_that_goes_is_reported_and_taken_up_again() {
    let fake = Fake::buffered();
    Bench::default()
        .run(fake.sensor(settings()), async |bench| {
            let kernel = fake.kernel().await;
            fake.put("iio:device0/buffer/length", "2");
            drop(kernel);
            until(|| bench.report().error.is_some_and(|error| error.contains("the device is gone"))).await;
            let mut kernel = fake.kernel().await;
            kernel.write_all(&[scan([1, 2, 3], 5), scan([4, 5, 6], 6)].concat()).unwrap();
            until(|| bench.count() == 1).await;
            assert_eq!(bench.report().error, None);
        })
        .await;
}

#[tokio::test]
async fn the_buffer_stops_while_nobody_wants_frames() {
    let fake = Fake::buffered();
    Bench::default()
        .run(fake.sensor(settings()), async |bench| {
            let mut kernel = fake.kernel().await;
            bench.want(false);
            kernel.write_all(&scan([1, 2, 3], 5)).unwrap();
            until(|| fake.get("buffer/enable") == "0").await;
            bench.want(true);
            until(|| fake.get("buffer/enable") == "1").await;
        })
        .await;
}

#[tokio::test]
async fn a_device_without_a_buffer_is_polled() {
    let fake = Fake::new();
    fake.put("iio:device0/in_voltage0_raw", "100");
    fake.put("iio:device0/in_voltage_scale", "0.25");
    fake.put("iio:device0/in_temp_input", "21500");
    let settings = IioSettings { rate_hz: Some(500.0), ..settings() };
    assert!(probe(&settings, &fake.roots()).unwrap().contains("2 channels, polled"));
    let bench = Bench::default();
    bench
        .run(fake.sensor(settings.clone()), async |bench| {
            until(|| bench.count() >= 2).await;
            assert_eq!(bench.pool().made(), 1);
            fs::remove_file(fake.path("sys/iio:device0/in_voltage0_raw")).unwrap();
            until(|| bench.report().error.is_some_and(|error| error.contains("in_voltage0_raw"))).await;
            fake.put("iio:device0/in_voltage0_raw", "-4");
            until(|| bench.report().error.is_none()).await;
        })
        .await;
    let (header, content) = &bench.frames()[0];
    assert_eq!((header.width, header.channels, header.rate_mhz), (2, 2, 500_000));
    assert_eq!(floats(content), [21_500.0, 25.0, 21_500.0, 25.0]);
    let bench = Bench::default();
    let raw = IioSettings { raw: true, window: 1, channels: vec!["voltage0".into()], ..settings };
    bench.run(fake.sensor(raw), async |bench| until(|| bench.count() > 0).await).await;
    assert_eq!(
        (bench.frames()[0].0.format, bench.frames()[0].1.clone()),
        (Format::I32, (-4_i32).to_le_bytes().to_vec())
    );
}

#[test]
fn what_is_not_there_is_named_with_what_is() {
    let fake = Fake::buffered();
    let refused = |settings: IioSettings| probe(&settings, &fake.roots()).unwrap_err().to_string();
    let error = refused(IioSettings { device: "bme280".into(), ..settings() });
    assert!(error.contains("bme280") && error.contains("iio:device0 (adxl345)"), "{error}");
    let error = refused(IioSettings { channels: vec!["gyro_x".into()], ..settings() });
    assert!(error.contains("gyro_x") && error.contains("accel_x, accel_y, accel_z"), "{error}");
    let device = Device::find("iio:device0", &fake.roots()).unwrap();
    let error = device.prepare(&IioSettings { trigger: Some("button".into()), ..settings() }).unwrap_err().to_string();
    assert!(error.contains("button") && error.contains("timer"), "{error}");
    let error = device.prepare(&IioSettings { rate_hz: Some(1.0), ..settings() }).unwrap_err().to_string();
    assert!(error.contains("rate_hz"), "{error}");
    fs::remove_dir_all(fake.path("sys/iio:device0/scan_elements")).unwrap();
    assert!(refused(IioSettings { mode: IioMode::Buffer, ..settings() }).contains("no buffer"));
}

#[test]
fn the_largest_frame_is_that_of_the_channels_that_are_there() {
    let fake = Fake::buffered();
    assert_eq!(fake.sensor(settings()).largest_frame(), 3 * 16 * 2);
    let away = IioSettings { device: "away".into(), ..settings() };
    assert_eq!(fake.sensor(away).largest_frame(), 1 << 20);
}
