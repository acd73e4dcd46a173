#![allow(clippy::unwrap_used)]

use std::fs;

use super::*;

mod sensors;

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
pub(super) fn load(more: &str, fragments: &[(&str, &str)]) -> Result<Settings, SettingsError> {
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("agent.toml");
    fs::write(&main, format!("{MAIN}{more}")).unwrap();
    fs::create_dir(folder.path().join("agent.toml.d")).unwrap();
    for (name, text) in fragments {
        fs::write(folder.path().join("agent.toml.d").join(name), text).unwrap();
    }
    Settings::load(&main)
}

pub(super) fn refused(more: &str) -> String {
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

/// Runs where a feature is off: `cargo test -p sanderling-agent --no-default-features --lib settings`.
#[test]
fn a_kind_that_this_build_leaves_out_is_refused_with_the_feature_to_build() {
    let left_out = [
        (cfg!(not(feature = "gpio")), "gpio"),
        (cfg!(not(feature = "http")), "http"),
        (cfg!(not(feature = "iio")), "iio"),
        (cfg!(not(feature = "modbus")), "modbus"),
        (cfg!(not(feature = "serial")), "serial"),
        (cfg!(not(feature = "v4l2")), "v4l2"),
    ];
    for (_, kind) in left_out.iter().filter(|(out, _)| *out) {
        let error = load("", &[("10.toml", &format!("[sensor.x]\nkind = \"{kind}\"\nany = [1]\n"))]).unwrap_err();
        let expected =
            format!("this build has no \"{kind}\" sensors; build sanderling-agent with the feature `{kind}`");
        assert!(error.to_string().contains(&expected), "{error}");
        assert!(error.to_string().contains("10.toml") && error.to_string().contains("sensor.x"), "{error}");
    }
}

#[test]
fn the_examples_of_the_documents_are_what_they_say() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sinks.md");
    let text = fs::read_to_string(page).unwrap();
    let examples: Vec<&str> = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let settings = load(&examples.concat(), &[]).unwrap();
    let named: Vec<&str> = settings.sinks.keys().map(String::as_str).collect();
    assert_eq!(named, ["gate", "live", "log"]);
    let SinkSettings::Gpio(gate) = &settings.sinks["gate"] else { unreachable!() };
    assert_eq!((gate.pulse, gate.delay), (Duration::from_millis(40), Duration::from_millis(350)));
    assert_eq!(gate.when.as_ref().unwrap().fits(br#"{"label":"defect"}"#), Some(true));
    // Each key of each kind is told of, and each default is what the page says.
    let defaults = "[sink.log]\nkind = 'file'\npath = 'x'\n[sink.gate]\nkind = 'gpio'\nline = 'x'\n\
                    [sink.live]\nkind = 'socket'\npath = 'x'\n";
    let settings = load(defaults, &[]).unwrap();
    let SinkSettings::File(log) = &settings.sinks["log"] else { unreachable!() };
    assert_eq!((log.max_bytes, log.keep), (16_777_216, 4));
    let SinkSettings::Gpio(gate) = &settings.sinks["gate"] else { unreachable!() };
    assert_eq!((gate.pulse, gate.delay, gate.min_gap), (Duration::from_millis(50), Duration::ZERO, Duration::ZERO));
    let SinkSettings::Socket(live) = &settings.sinks["live"] else { unreachable!() };
    assert_eq!(live.max_clients, 8);
    for told in [
        "| `path` |",
        "| `max_bytes` | 16777216",
        "| `keep` | 4 ",
        "| `sync` | `\"never\"`",
        "| `chip` |",
        "| `line` |",
        "| `active_low` | false",
        "| `pulse_ms` | 50 ",
        "| `delay_ms` | 0 ",
        "| `min_gap_ms` | 0 ",
        "| `when` |",
        "| `max_clients` | 8 ",
        "| `format` | `\"lines\"`",
    ] {
        assert!(text.contains(told), "{told}");
    }
}

#[test]
fn sinks_are_read_as_they_are_meant() {
    let settings = load(
        r#"
        [paths]
        state = "/state"
        runtime = "/runtime"
        [sink.log]
        kind = "file"
        path = "log.jsonl"
        max_bytes = 4096
        keep = 0
        sync = "interval"
        [sink.live]
        kind = "socket"
        path = "live.sock"
        format = "frames"
        [sink.by-number]
        kind = "gpio"
        chip = "/dev/gpiochip1"
        line = 17
        active_low = true
        pulse_ms = 0.5
        when = { pointer = "/score", above = 1 }
        [sink.by-name]
        kind = "gpio"
        line = "REJECT"
        when = { pointer = "/ok", is = false }
        "#,
        &[("10.toml", "[sink.live]\nkind = 'socket'\npath = '/elsewhere'\n")],
    )
    .unwrap();
    let SinkSettings::File(log) = &settings.sinks["log"] else { unreachable!() };
    assert_eq!((log.path.to_str(), log.max_bytes, log.keep), (Some("/state/log.jsonl"), 4096, 0));
    assert_eq!(log.sync, crate::sinks::FileSync::Interval);
    let SinkSettings::Socket(live) = &settings.sinks["live"] else { unreachable!() };
    assert_eq!((live.path.to_str(), live.format), (Some("/elsewhere"), crate::sinks::SocketFormat::Lines));
    let gpio = |name: &str| match &settings.sinks[name] {
        SinkSettings::Gpio(gpio) => gpio.clone(),
        _ => unreachable!(),
    };
    let gate = gpio("by-number");
    assert_eq!(gate.at.to_string(), "line 17 of /dev/gpiochip1");
    assert_eq!((gate.active_low, gate.pulse), (true, Duration::from_micros(500)));
    let fits = |name: &str, record: &[u8]| gpio(name).when.unwrap().fits(record);
    assert_eq!([fits("by-number", b"{\"score\":2}"), fits("by-number", b"{\"score\":1}")], [Some(true), Some(false)]);
    assert_eq!([fits("by-name", b"{\"ok\":false}"), fits("by-name", b"{\"ok\":0}")], [Some(true), Some(false)]);
    assert_eq!(gpio("by-name").at.to_string(), "line \"REJECT\"");
}

#[test]
fn a_sink_that_is_not_right_is_an_error_with_its_key() {
    let gpio = |more: &str| format!("[sink.s]\nkind = 'gpio'\n{more}");
    for (text, key) in [
        ("[sink.mqtt]\nkind = 'file'\npath = 'x'".to_owned(), "sink.mqtt"),
        ("[sink.\"a b\"]\nkind = 'file'\npath = 'x'".to_owned(), "sink.a b"),
        ("[sink.s]\nkind = 'file'\npath = '/'".to_owned(), "sink.s.path"),
        ("[sink.s]\nkind = 'file'\npath = 'x'\nmax_bytes = 4095".to_owned(), "sink.s.max_bytes"),
        ("[sink.s]\nkind = 'file'\npath = 'x'\nkeep = 1001".to_owned(), "sink.s.keep"),
        ("[sink.s]\nkind = 'socket'\npath = 'x'\nmax_clients = 0".to_owned(), "sink.s.max_clients"),
        (format!("[sink.s]\nkind = 'socket'\npath = '{}'", "x".repeat(108)), "sink.s.path"),
        (gpio("line = 1"), "sink.s.line"),
        (gpio("line = ''"), "sink.s.line"),
        (gpio("line = 'x'\npulse_ms = 0"), "sink.s.pulse_ms"),
        (gpio("line = 'x'\ndelay_ms = 60001"), "sink.s.delay_ms"),
        (gpio("line = 'x'\nmin_gap_ms = -1"), "sink.s.min_gap_ms"),
        (gpio("line = 'x'\nwhen = { pointer = 'label', is = 1 }"), "sink.s.when.pointer"),
        (gpio("line = 'x'\nwhen = { pointer = '/label' }"), "sink.s.when"),
        (gpio("line = 'x'\nwhen = { pointer = '/label', is = 1, above = 1 }"), "sink.s.when"),
    ] {
        let error = refused(&text);
        assert!(error.contains(&format!("`{key}`")) && error.contains("allowed: "), "{text}: {error}");
    }
    let error = refused("[sink.s]\nkind = 'files'");
    assert!(error.contains("files") && error.contains("`file`"), "{error}");
    let error = refused("[sink.s]\nkind = 'file'\npath = 'x'\nsync = 'always'");
    assert!(error.contains("always") && error.contains("interval"), "{error}");
    let many: String = (0..=MAX_SINKS).map(|n| format!("[sink.s{n}]\nkind = 'file'\npath = 'x'\n")).collect();
    assert!(refused(&many).contains("at most 16"));
}

#[test]
fn home_assistant_is_told_where_the_configuration_says_so() {
    assert_eq!(load("", &[]).unwrap().publish.home_assistant, None);
    let told = load("[publish.home_assistant]", &[]).unwrap().publish.home_assistant.unwrap();
    assert_eq!((told.discovery_prefix.as_str(), told.channels.len()), ("homeassistant", 0));
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/home-assistant.md");
    let page = fs::read_to_string(page).unwrap();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let told = load(example, &[]).unwrap().publish.home_assistant.unwrap();
    assert_eq!(told.channels, [("scratch".to_owned(), "defects".to_owned())], "the example of the documents");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/home-assistant.md");
    let page = fs::read_to_string(page).unwrap();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let told = load(example, &[]).unwrap().publish.home_assistant.unwrap();
    assert_eq!(told.channels, [("scratch".to_owned(), "defects".to_owned())], "the example of the documents");
    let text = "[publish.home_assistant]\ndiscovery_prefix = 'ha/lab'\nchannels = ['scratch/defects']";
    let told = load(text, &[]).unwrap().publish.home_assistant.unwrap();
    assert_eq!((told.discovery_prefix.as_str(), &told.channels[0].1[..]), ("ha/lab", "defects"));
    for (text, key) in [
        ("discovery_prefix = '#'", "publish.home_assistant.discovery_prefix"),
        ("channels = ['defects']", "publish.home_assistant.channels"),
        ("channels = ['a/b/c']", "publish.home_assistant.channels"),
    ] {
        let error = refused(&format!("[publish.home_assistant]\n{text}"));
        assert!(error.contains(&format!("`{key}`")) && error.contains("allowed: "), "{text}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let main = folder.path().join("agent.toml");
    fs::write(&main, MAIN.replace("gw-1", "gw.1") + "[publish.home_assistant]").unwrap();
    assert!(Settings::load(&main).unwrap_err().to_string().contains("has no `.`"));
}

#[test]
fn sparkplug_is_spoken_where_the_configuration_says_so_and_the_agent_can() {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/sparkplug.md")).unwrap();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    if cfg!(not(feature = "sparkplug")) {
        let error = refused(example);
        assert!(error.contains("`publish.sparkplug`") && error.contains("feature `sparkplug`"), "{error}");
        return;
    }
    let told = load(example, &[]).unwrap().publish.sparkplug.unwrap();
    assert_eq!((told.group.as_str(), told.edge_node.as_deref()), ("plant", Some("line-1")));
    let told = load("[publish.sparkplug]", &[]).unwrap().publish.sparkplug.unwrap();
    assert_eq!((told.group.as_str(), told.edge_node), ("sanderling", None));
    let error = refused("[publish.sparkplug]\ngroup = 'a/b'");
    assert!(error.contains("`publish.sparkplug.group`") && error.contains("allowed: "), "{error}");
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

#[test]
fn the_example_that_is_shipped_is_a_configuration() {
    let settings = Settings::load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/dist/agent.toml"))).unwrap();
    assert_eq!(settings.device.as_str(), "gw-1");
    assert!(settings.metrics.is_some() && settings.sensors.contains_key("cam0"));
}
