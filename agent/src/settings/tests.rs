#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

const MAIN: &str = r#"
device = "gw-1"
[broker]
host = "broker.example"
ca = "/etc/sanderling/ca.pem"
cert = "/etc/sanderling/gw.pem"
key = "/etc/sanderling/gw.key"
[trust]
root = "/etc/sanderling/root.json"
"#;

/// Loads the main file with `more` appended, and fragments by name.
fn load(more: &str, fragments: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("agent.toml");
    fs::write(&main, format!("{MAIN}{more}")).unwrap();
    fs::create_dir(folder.path().join("agent.toml.d")).unwrap();
    for (name, text) in fragments {
        fs::write(folder.path().join("agent.toml.d").join(name), text).unwrap();
    }
    Settings::load(&main)
}

fn refused(more: &str) -> String {
    load(more, &[]).unwrap_err().to_string()
}

#[test]
fn what_is_not_said_has_a_default() {
    let settings = load("", &[]).unwrap();
    assert_eq!(settings.device.as_str(), "gw-1");
    assert_eq!((settings.broker.port, settings.broker.keep_alive), (8883, Duration::from_secs(30)));
    assert_eq!(settings.broker.topics, Topics::default());
    assert_eq!(settings.paths.state, Path::new("/var/lib/sanderling"));
    assert_eq!(settings.pull_window_bytes, 512 << 10);
    assert_eq!(settings.outbox.commit_interval, Duration::from_millis(100));
    assert_eq!((settings.workloads.memory_bytes, settings.workloads.load), (None, Duration::from_secs(60)));
    assert_eq!(settings.workloads.confinement, Confinement::Essential);
    assert_eq!((settings.report.min_interval, settings.report.max_interval.as_secs()), (Duration::from_secs(2), 300));
    assert_eq!(settings.log_level, LogLevel::Info);
    assert!(settings.sensors.is_empty() && settings.labels.is_empty());
}

#[test]
fn fragments_override_key_by_key_in_name_order() {
    let settings = load(
        "[labels]\nsite = \"a\"\nline = \"1\"\n[sensor.cam]\nkind = \"replay\"\npath = \"/a\"\nrate = 5.0\n",
        &[
            ("20.toml", "[labels]\nline = \"3\"\n[sensor.cam]\nkind = \"socket\"\npath = \"cam.sock\"\n"),
            ("10.toml", "[labels]\nline = \"2\"\n[broker]\nport = 1\n"),
            ("30.toml.off", "nonsense"),
        ],
    )
    .unwrap();
    assert_eq!(settings.broker.port, 1);
    assert_eq!(settings.labels, BTreeMap::from([("site".into(), "a".into()), ("line".into(), "3".into())]));
    assert!(matches!(settings.sensors["cam"], SensorSettings::Socket(_)));
}

#[test]
fn an_unknown_key_is_an_error_with_file_key_and_what_is_known() {
    let error = load("", &[("10.toml", "[broker]\nhots = \"x\"\n")]).unwrap_err().to_string();
    assert!(error.contains("10.toml") && error.contains("hots") && error.contains("`host`"), "{error}");
    let error = refused("[sensor.cam]\nkind = \"replay\"\npath = \"/a\"\nrat = 1\n");
    assert!(error.contains("agent.toml") && error.contains("rat") && error.contains("rate"), "{error}");
    let error = refused("[sensor.cam]\nkind = \"webcam\"\n");
    assert!(error.contains("webcam") && error.contains("replay"), "{error}");
}

#[test]
fn a_value_out_of_range_is_an_error_with_the_file_that_says_so() {
    let error = load("", &[("10.toml", "[broker]\nkeep_alive_s = 31\n")]).unwrap_err();
    let SettingsError::Value { file, key, value, allowed } = &error else { unreachable!("{error}") };
    assert!(file.ends_with("10.toml"), "{error}");
    assert_eq!((key.as_str(), value.as_str(), allowed.as_str()), ("broker.keep_alive_s", "31", "1 to 30 s"));
    for (text, key) in [
        ("[report]\nmin_s = 10.0\nmax_s = 5.0", "report.min_s"),
        ("[outbox]\nmax_bytes = 1", "outbox.max_bytes"),
        ("[pull]\nwindow_bytes = 1", "pull.window_bytes"),
        ("[limits]\nmax_frame_bytes = 1", "limits.max_frame_bytes"),
        ("[workloads]\nmemory_mib = 0", "workloads.memory_mib"),
        ("[workloads]\nload_s = 4000", "workloads.load_s"),
        ("[capsules]\nmax = 1001", "capsules.max"),
        ("[capsules]\nmax_kib = 1", "capsules.max_kib"),
        ("[sensor.\"a b\"]\nkind = \"socket\"\npath = \"x\"", "sensor.a b"),
        ("[sensor.c]\nkind = \"replay\"", "sensor.c.path"),
        ("[sensor.c]\nkind = \"replay\"\npath = \"x\"\nrate = 0.0", "sensor.c.rate"),
        ("[sensor.c]\nkind = \"replay\"\npath = \"x\"\nrate = nan", "sensor.c.rate"),
        ("[sensor.c]\nkind = \"replay\"\npath = \"x\"\nfiles = [\"y\"]", "sensor.c.files"),
        ("[sensor.c]\nkind = \"replay\"\nfiles = []", "sensor.c.files"),
        ("[sensor.c]\nkind = \"socket\"\npath = \"x\"\nmax_frame = 0", "sensor.c.max_frame"),
        (
            "[sensor.c]\nkind = \"replay\"\npath = \"x\"\nraw = { width = 0, height = 1, pixel = \"gray8\" }",
            "sensor.c.raw",
        ),
        (
            "[sensor.c]\nkind = \"replay\"\npath = \"x\"\nraw = { width = 3, height = 2, pixel = \"nv12\" }",
            "sensor.c.raw",
        ),
        (
            "[sensor.c]\nkind = \"replay\"\npath = \"x\"\nraw = { width = 16384, height = 16384, pixel = \"rgb8\" }",
            "sensor.c.raw",
        ),
        ("[sensor.c]\nkind = \"replay\"\npath = \"x\"\ncsv = { window = 0, rate_hz = 1.0 }", "sensor.c.csv.window"),
        ("[sensor.c]\nkind = \"replay\"\npath = \"x\"\ncsv = { window = 1, rate_hz = 0.0 }", "sensor.c.csv.rate_hz"),
    ] {
        let error = refused(text);
        assert!(error.contains(&format!("`{key}`")) && error.contains("allowed: "), "{text}: {error}");
    }
}

#[test]
fn what_a_worker_must_be_confined_by_is_chosen_by_name() {
    use sanderling_protocol::worker::Measure::{Files, SystemCalls};
    let chosen = |name: &str| load(&format!("[workloads]\nconfinement = '{name}'"), &[]);
    let permits =
        |name: &str| [Files, SystemCalls].map(|missing| chosen(name).unwrap().workloads.confinement.permits(missing));
    assert_eq!(permits("all"), [false, false]);
    assert_eq!(permits("essential"), [true, false]);
    assert_eq!(permits("report"), [true, true]);
    let error = chosen("none").unwrap_err().to_string();
    assert!(error.contains("essential") && error.contains("report"), "{error}");
}

#[test]
fn sensors_are_read_as_they_are_meant() {
    let settings = load(
        r#"
        [sensor.cam]
        kind = "replay"
        files = ["/a.raw", "/b.raw"]
        rate = 25.0
        loop = false
        raw = { width = 640, height = 480, pixel = "yuyv" }
        [sensor.acc]
        kind = "replay"
        path = "/acc.csv"
        csv = { window = 256, rate_hz = 12800.0 }
        [sensor.feed]
        kind = "socket"
        path = "feed.sock"
        max_frame = 70000
        "#,
        &[],
    )
    .unwrap();
    let SensorSettings::Replay(cam) = &settings.sensors["cam"] else { unreachable!() };
    assert_eq!((cam.rate, cam.repeat, cam.files.len()), (25.0, false, 2));
    assert_eq!(cam.raw.unwrap().length(), 640 * 480 * 2);
    let SensorSettings::Replay(acc) = &settings.sensors["acc"] else { unreachable!() };
    assert_eq!((acc.csv.window, acc.rate, acc.repeat), (256, 10.0, true));
    let SensorSettings::Socket(feed) = &settings.sensors["feed"] else { unreachable!() };
    assert_eq!((feed.max_frame, feed.path.to_str()), (70_000, Some("/run/sanderling/feed.sock")));
}

#[test]
fn what_must_be_said_is_asked_for_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("agent.toml");
    let error = Settings::load(&main).unwrap_err().to_string();
    assert!(error.contains("no such file") && error.contains("provision"), "{error}");
    fs::write(&main, "").unwrap();
    let error = Settings::load(&main).unwrap_err();
    assert!(matches!(error, SettingsError::Missing { key: "broker.host", .. }), "{error}");
    fs::write(&main, MAIN.replace("root = ", "# root = ")).unwrap();
    let error = Settings::load(&main).unwrap_err();
    assert!(matches!(error, SettingsError::Missing { key: "trust.root", .. }), "{error}");
    fs::write(&main, MAIN.replace("device = ", "# device = ")).unwrap();
    let error = Settings::load(&main).unwrap_err().to_string();
    assert!(error.contains("broker.cert") && error.contains("set `device`"), "{error}");
    fs::write(&main, MAIN.replace("gw-1", "gw/1")).unwrap();
    assert!(Settings::load(&main).unwrap_err().to_string().contains("`device`"));
}

#[test]
fn the_device_is_who_its_certificate_says() {
    let folder = tempfile::tempdir().unwrap();
    let cert = folder.path().join("gw.pem");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "gw-7");
    let made = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
    fs::write(&cert, made.pem()).unwrap();
    let main = folder.path().join("agent.toml");
    let text = MAIN.replace("device = ", "# device = ").replace("/etc/sanderling/gw.pem", cert.to_str().unwrap());
    fs::write(&main, text).unwrap();
    assert_eq!(Settings::load(&main).unwrap().device.as_str(), "gw-7");
}

#[test]
fn a_file_that_is_not_toml_is_named_with_the_line() {
    let error = load("", &[("10.toml", "x = \n")]).unwrap_err().to_string();
    assert!(error.contains("10.toml") && error.contains("line 1"), "{error}");
}

#[cfg(feature = "metrics")]
#[test]
fn metrics_are_scraped_on_this_machine_alone() {
    assert_eq!(load("", &[]).unwrap().metrics, None);
    let metrics = |more: &str| load(&format!("[metrics]\n{more}\n"), &[]).unwrap().metrics.unwrap();
    assert_eq!(metrics("listen = '[::1]:9464'"), MetricsSettings::Loopback("[::1]:9464".parse().unwrap()));
    assert_eq!(metrics("path = 'm.sock'"), MetricsSettings::Unix("/run/sanderling/m.sock".into()));
    for everywhere in ["0.0.0.0:9464", "[::]:9464", "192.0.2.7:9464", "localhost:9464", "9464"] {
        let told = refused(&format!("[metrics]\nlisten = {everywhere:?}\n"));
        assert!(told.contains("`metrics.listen`") && told.contains("127.0.0.1:9464"), "{told}");
    }
    assert!(refused("[metrics]\nlisten = '127.0.0.1:1'\npath = 'x'\n").contains("one of them"));
    assert!(refused("[metrics]\n").contains("`listen` or `path`"));
}
