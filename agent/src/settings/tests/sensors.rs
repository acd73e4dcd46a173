//! Sensors of all kinds, and the examples of the documents.

use super::{load, refused};
use crate::{
    sensors::{SimulateSettings, Simulated, SysfsFormat},
    settings::{SensorSettings, Settings, SettingsError},
};

const DOCUMENT: &str = include_str!("../../../../docs/sensors.md");

/// The examples of the document.
fn examples() -> Vec<&'static str> {
    DOCUMENT.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect()
}

#[test]
fn the_examples_of_the_document_are_accepted() {
    let examples = examples();
    assert!(examples.len() >= 8, "{}", examples.len());
    for example in examples {
        match load(example, &[]) {
            Ok(settings) => assert_eq!(settings.sensors.len(), 1, "{example}"),
            Err(SettingsError::Feature { .. }) => {}
            Err(error) => unreachable!("{example}\n{error}"),
        }
    }
}

#[test]
fn each_kind_has_a_section_with_an_example() {
    for kind in ["replay", "simulate", "socket", "sysfs", "iio", "gpio", "v4l2"] {
        let section = DOCUMENT.split("\n## ").find(|section| section.starts_with(&format!("{kind}\n")));
        assert!(section.is_some_and(|section| section.contains(&format!("kind = \"{kind}\""))), "{kind}");
    }
}

fn sensor(text: &str) -> SensorSettings {
    let settings: Settings = load(&format!("[sensor.x]\n{text}"), &[]).unwrap();
    settings.sensors.into_values().next().unwrap()
}

#[test]
fn what_is_not_said_of_a_sensor_has_a_default() {
    let SensorSettings::Simulate(SimulateSettings { seed: 0, of: Simulated::Signal(signal) }) =
        sensor("kind = \"simulate\"\nsignal = {}")
    else {
        unreachable!()
    };
    assert_eq!((signal.rate_hz, signal.window, signal.channels.len(), signal.anomaly_s), (1000.0, 1000, 1, 0.5));
    let SensorSettings::Sysfs(sysfs) = sensor("kind = \"sysfs\"\nfiles = [{ path = \"/sys/x/temp1_input\" }]") else {
        unreachable!()
    };
    assert_eq!((sysfs.interval.as_secs(), sysfs.format), (1, SysfsFormat::Series));
    assert_eq!((sysfs.files[0].name.as_str(), sysfs.files[0].scale), ("temp1_input", 1.0));
}

#[cfg(all(feature = "gpio", feature = "iio", feature = "v4l2"))]
#[test]
fn what_is_not_said_of_a_device_has_a_default() {
    use crate::sensors::{CameraPixel, GpioBias, GpioEdges, IioMode};
    let SensorSettings::Iio(iio) = sensor("kind = \"iio\"\ndevice = \"adxl345\"") else { unreachable!() };
    assert_eq!((iio.window, iio.buffer, iio.mode, iio.raw, iio.timestamp), (256, 1024, IioMode::Auto, false, true));
    let SensorSettings::Gpio(gpio) = sensor("kind = \"gpio\"\nlines = [\"A\"]") else { unreachable!() };
    assert_eq!((gpio.edges, gpio.bias, gpio.active_low, gpio.debounce), (GpioEdges::Both, GpioBias::AsIs, false, None));
    let SensorSettings::V4l2(v4l2) = sensor("kind = \"v4l2\"") else { unreachable!() };
    assert_eq!((v4l2.width, v4l2.height, v4l2.buffers, v4l2.fps), (640, 480, 4, None));
    assert_eq!(v4l2.pixel, CameraPixel::ALL);
    // What cannot be in this size, or is too large, is not asked for.
    let SensorSettings::V4l2(odd) = sensor("kind = \"v4l2\"\nwidth = 1621\nheight = 1235") else { unreachable!() };
    assert_eq!(odd.pixel, [CameraPixel::Gray8, CameraPixel::Gray16, CameraPixel::Mjpeg]);
}

#[test]
fn values_that_cannot_be_are_refused_with_what_is_allowed() {
    let always: &[(&str, &str)] = &[
        ("kind = \"simulate\"", "a table `signal` or a table `scene`"),
        ("kind = \"simulate\"\nsignal = {}\nscene = {}", "one of the two"),
        ("kind = \"simulate\"\nsignal = { rate_hz = 0.0 }", "samples/s"),
        ("kind = \"simulate\"\nsignal = { rate_hz = 1e6, window = 999 }", "at least 1000"),
        ("kind = \"simulate\"\nsignal = { rate_hz = 6e5, window = 10000, channels = [{}, {}] }", "in all channels"),
        ("kind = \"simulate\"\nsignal = { channels = [] }", "1 to 32 channels"),
        ("kind = \"simulate\"\nsignal = { channels = [{ hz = nan }] }", "from -1e9"),
        ("kind = \"simulate\"\nsignal = { window = 1048576, channels = [{}, {}] }", "limits.max_frame_bytes"),
        ("kind = \"simulate\"\nsignal = { anomalies_per_min = 121.0 }", "0 to 120"),
        ("kind = \"simulate\"\nscene = { pixel = \"nv12\" }", "\"gray8\" or \"rgb8\""),
        ("kind = \"simulate\"\nscene = { rate = 100.0 }", "at most 65.1 frames/s"),
        ("kind = \"simulate\"\nscene = { defects = 1.5 }", "0 to 1"),
        ("kind = \"simulate\"\nscene = { color = true }", "unknown field"),
        ("kind = \"sysfs\"\nfiles = []", "1 to 64 files"),
        ("kind = \"sysfs\"\nfiles = [{ path = \"temp\" }]", "begin with /"),
        ("kind = \"sysfs\"\nfiles = [{ path = \"/a/t\" }, { path = \"/b/t\" }]", "different names"),
        ("kind = \"sysfs\"\nfiles = [{ path = \"/a/t\", name = \"a\\\"b\" }]", "different names"),
        ("kind = \"sysfs\"\nfiles = [{ path = \"/a/t\", scale = inf }]", "finite"),
        ("kind = \"sysfs\"\nfiles = [{ path = \"/a/t\" }]\ninterval_s = 0.0", "0.01 to 86400"),
        ("kind = \"camera\"", "unknown variant"),
    ];
    for (text, expected) in always {
        let error = refused(&format!("[sensor.x]\n{text}"));
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[cfg(all(feature = "gpio", feature = "iio", feature = "v4l2"))]
#[test]
fn values_that_no_device_has_are_refused_with_what_is_allowed() {
    let devices: &[(&str, &str)] = &[
        ("kind = \"iio\"", "missing field `device`"),
        ("kind = \"iio\"\ndevice = \"../x\"", "without /"),
        ("kind = \"iio\"\ndevice = \"a\"\nchannels = [\"\"]", "1 to 64 characters"),
        ("kind = \"iio\"\ndevice = \"a\"\nwindow = 0", "1 to 1048576 samples"),
        ("kind = \"iio\"\ndevice = \"a\"\nwindow = 1048576\nchannels = [\"x\", \"y\"]", "limits.max_frame_bytes"),
        ("kind = \"iio\"\ndevice = \"a\"\nmode = \"dma\"", "`auto`, `buffer`, `poll`"),
        ("kind = \"gpio\"\nlines = []", "1 to 64 lines"),
        ("kind = \"gpio\"\nlines = [3]", "numbers beside `chip`"),
        ("kind = \"gpio\"\nlines = [\"A\", \"A\"]", "each line once"),
        ("kind = \"gpio\"\nchip = \"../mem\"\nlines = [3]", "gpiochip0"),
        ("kind = \"gpio\"\nlines = [\"A\"]\nbias = \"up\"", "`pull-up`"),
        ("kind = \"gpio\"\nlines = [\"A\"]\ndebounce_ms = -1.0", "0 to 60000 ms"),
        ("kind = \"v4l2\"\ndevice = \"video0\"", "begins with /"),
        ("kind = \"v4l2\"\nwidth = 641\npixel = [\"yuyv\"]", "even widths"),
        ("kind = \"v4l2\"\nwidth = 1920\nheight = 1080\npixel = [\"rgb8\"]", "limits.max_frame_bytes"),
        ("kind = \"v4l2\"\npixel = []", "at least one format"),
        ("kind = \"v4l2\"\nbuffers = 1", "2 to 32"),
        ("kind = \"v4l2\"\nfps = 0.0", "0.1 to 1000 images/s"),
        ("kind = \"v4l2\"\ncontrols = { gain = 1.5 }", "i32"),
    ];
    for (text, expected) in devices {
        let error = refused(&format!("[sensor.x]\n{text}"));
        assert!(error.contains(expected), "{text}: {error}");
    }
}
