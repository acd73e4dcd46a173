use super::SensorSettings;
use crate::{
    sensors::{Content, ProcessFrames},
    settings::tests::{load, refused},
};

fn sensor(table: &str) -> SensorSettings {
    load(&format!("[sensor.s]\n{table}"), &[]).unwrap().sensors.remove("s").unwrap()
}

#[test]
#[cfg(feature = "serial")]
fn a_serial_port_speaks_as_most_do_unless_it_is_told() {
    use crate::sensors::{DataBits, Parity, StopBits};
    let SensorSettings::Serial(plain) = sensor("kind = 'serial'\ndevice = '/dev/ttyUSB0'") else { unreachable!() };
    assert_eq!((plain.port.baud, plain.port.parity, plain.port.data_bits), (9600, Parity::None, DataBits::Eight));
    assert_eq!(
        (plain.lines.delimiter, plain.lines.max_line, plain.lines.content),
        (b"\n".to_vec(), 4096, Content::Bytes)
    );
    let SensorSettings::Serial(told) = sensor(
        "kind = 'serial'\ndevice = '/dev/ttyS1'\nbaud = 57600\ndata_bits = 7\nparity = 'odd'\nstop_bits = 2\n\
         flow_control = 'hardware'\ndelimiter = [3, 255]\nmax_line = 20\nformat = 'csv'\nrate_hz = 50.0",
    ) else {
        unreachable!()
    };
    assert_eq!((told.port.baud, told.port.parity, told.port.stop_bits), (57_600, Parity::Odd, StopBits::Two));
    assert_eq!((told.lines.delimiter, told.lines.content), (vec![3, 255], Content::Csv { rate_hz: 50.0 }));
}

#[test]
#[cfg(feature = "modbus")]
fn points_take_from_the_table_what_they_do_not_say_themselves() {
    use crate::sensors::modbus::{Function, ModbusFormat, ValueType, Way, WordOrder};
    let SensorSettings::Modbus(plc) = sensor(
        "kind = 'modbus'\naddress = 'plc.example'\nunit = 7\nword_order = 'little'\ninterval_s = 0.5\nformat = 'json'\n\
         [[sensor.s.point]]\nname = 'a'\naddress = 100\ntype = 'f32'\nscale = 0.1\n\
         [[sensor.s.point]]\nname = 'b'\nfunction = 'coil'\naddress = 65535\nunit = 8\n",
    ) else {
        unreachable!()
    };
    assert_eq!(plc.way, Way::Tcp { host: "plc.example".into(), port: 502 });
    assert_eq!((plc.interval, plc.timeout), (std::time::Duration::from_millis(500), std::time::Duration::from_secs(1)));
    assert_eq!(plc.format, ModbusFormat::Json);
    let (a, b) = (&plc.points[0], &plc.points[1]);
    assert_eq!((a.unit, a.function, a.value, a.order), (7, Function::Holding, ValueType::F32, WordOrder::Little));
    assert_eq!((a.count, a.scale, a.offset), (1, 0.1, 0.0));
    assert_eq!((b.unit, b.function, b.address), (8, Function::Coil, 65_535));
    let point = "[[sensor.s.point]]\nname = 'a'\naddress = 0";
    for (address, host, port) in [("10.0.0.1:1502", "10.0.0.1", 1502), ("[::1]", "::1", 502), ("[::1]:503", "::1", 503)]
    {
        let text = format!("kind = 'modbus'\naddress = '{address}'\n{point}");
        let SensorSettings::Modbus(plc) = sensor(&text) else { unreachable!() };
        assert_eq!(plc.way, Way::Tcp { host: host.into(), port });
    }
    let SensorSettings::Modbus(rtu) = sensor(&format!("kind = 'modbus'\ndevice = '/dev/ttyS0'\n{point}")) else {
        unreachable!()
    };
    let Way::Rtu(port) = rtu.way else { unreachable!() };
    assert_eq!((port.baud, port.parity), (19_200, crate::sensors::Parity::Even));
}

#[test]
fn a_topic_is_taken_from_a_broker_of_its_own_or_the_agents() {
    let SensorSettings::Mqtt(same) = sensor("kind = 'mqtt'\nbroker = 'same'\ntopic = 'press/+'") else {
        unreachable!()
    };
    let broker = load("", &[]).unwrap().broker;
    let tls = same.tls.unwrap();
    assert_eq!((&same.host, same.port, &tls.ca), (&broker.host, broker.port, &broker.ca));
    assert_eq!(tls.identity, Some((broker.cert, broker.key)));
    assert!(same.client_id.ends_with(".s") && same.acknowledged && same.format.is_none());
    let SensorSettings::Mqtt(own) = sensor(
        "kind = 'mqtt'\nhost = 'localhost'\nusername = 'u'\npassword_file = '/p'\ntopic = '#'\nqos = 0\nformat = 'json'",
    ) else {
        unreachable!()
    };
    assert_eq!((own.port, own.tls, own.acknowledged, own.format), (1883, None, false, Some(Content::Json)));
    assert_eq!((own.login, own.max_frame), (Some(("u".into(), "/p".into())), 256 << 10));
    let SensorSettings::Mqtt(tls) = sensor("kind = 'mqtt'\nhost = 'x'\nca = '/ca'\ntopic = 't'") else {
        unreachable!()
    };
    assert_eq!((tls.port, tls.tls.unwrap().identity), (8883, None));
}

#[test]
fn a_command_gives_lines_unless_it_gives_frames() {
    let SensorSettings::Process(lines) = sensor("kind = 'process'\ncommand = ['/bin/x', '-v']\nformat = 'json'") else {
        unreachable!()
    };
    let ProcessFrames::Lines(cut) = lines.frames else { unreachable!() };
    assert_eq!((cut.content, lines.always, lines.folder.to_str()), (Content::Json, false, Some("/")));
    let SensorSettings::Process(frames) = sensor(
        "kind = 'process'\ncommand = ['/bin/x']\nframes = 'length-prefixed'\nmax_frame = 5000\nalways = true\n\
         [sensor.s.environment]\nA = 'b'",
    ) else {
        unreachable!()
    };
    assert_eq!(frames.frames, ProcessFrames::LengthPrefixed { max_frame: 5000 });
    assert!(frames.always && frames.environment["A"] == "b");
}

#[test]
#[cfg(feature = "http")]
fn frames_are_posted_on_this_machine_alone() {
    use crate::http::Address;
    let SensorSettings::Http(tcp) = sensor("kind = 'http'\nlisten = '[::1]:8080'") else { unreachable!() };
    assert_eq!(tcp.address, Address::Loopback("[::1]:8080".parse().unwrap()));
    let SensorSettings::Http(unix) = sensor("kind = 'http'\npath = 'post.sock'\ntoken_file = '/t'") else {
        unreachable!()
    };
    assert_eq!(unix.address, Address::Unix("/run/sanderling/post.sock".into()));
    for listen in ["0.0.0.0:8080", "192.0.2.1:80", "localhost:8080", "127.0.0.1", "127.0.0.1:0"] {
        let error = refused(&format!("[sensor.s]\nkind = 'http'\nlisten = '{listen}'"));
        assert!(error.contains("`sensor.s.listen`") && error.contains("this machine alone"), "{error}");
    }
}

#[test]
fn what_a_table_may_not_hold_is_named() {
    let point = "[[sensor.s.point]]\nname = 'a'\naddress = 0\n";
    let modbus = |more: &str| format!("kind = 'modbus'\naddress = 'x'\n{more}");
    let mqtt = |more: &str| format!("kind = 'mqtt'\nhost = 'x'\ntopic = 't'\n{more}");
    let process = |more: &str| format!("kind = 'process'\ncommand = ['/bin/x']\n{more}");
    let mut cases = vec![
        (mqtt("qos = 2"), "qos"),
        (mqtt("cert = '/c'"), "key"),
        (mqtt("cert = '/c'\nkey = '/k'"), "ca"),
        (mqtt("username = 'u'"), "password_file"),
        (mqtt("broker = 'same'"), "host"),
        (mqtt("format = 'raw'"), "raw"),
        (mqtt("rate_hz = 1.0"), "rate_hz"),
        (mqtt("keep_alive_s = 31"), "keep_alive_s"),
        ("kind = 'mqtt'\nhost = 'x'\ntopic = 'a/#/b'".to_owned(), "topic"),
        ("kind = 'mqtt'\ntopic = 'a'".to_owned(), "host"),
        ("kind = 'process'\ncommand = []".to_owned(), "command"),
        ("kind = 'process'\ncommand = ['ls -l']".to_owned(), "command"),
        (process("max_frame = 5"), "max_frame"),
        (process("frames = 'length-prefixed'\nmax_line = 5"), "max_line"),
        (process("delimiter = ''"), "delimiter"),
        (process("max_line = 0"), "max_line"),
        (process("folder = 'x'"), "folder"),
        (process("environment = { 'A=B' = 'c' }"), "environment"),
    ];
    if cfg!(feature = "modbus") {
        cases.extend([
            (modbus(""), "point"),
            (modbus(&format!("device = '/dev/x'\n{point}")), "device"),
            (modbus(&format!("baud = 9600\n{point}")), "baud"),
            (modbus(&format!("interval_s = 0.0\n{point}")), "interval_s"),
            (modbus(&point.repeat(2)), "point.name"),
            (modbus(&format!("{point}count = 126")), "point.count"),
            (modbus(&format!("{point}count = 32\ntype = 'f64'")), "point.count"),
            (modbus(&format!("{point}count = 0")), "point.count"),
            (modbus(&format!("{point}function = 'coil'\ncount = 2001")), "point.count"),
            (modbus(&format!("{point}function = 'discrete'\ntype = 'u16'")), "point.type"),
            (modbus(&format!("{point}scale = nan")), "point.scale"),
            (modbus("[[sensor.s.point]]\nname = 'a'\naddress = 65535\ntype = 'u32'"), "point.address"),
            (modbus("[[sensor.s.point]]\nname = 'a b'\naddress = 1"), "point.name"),
            (format!("kind = 'modbus'\n{point}"), "address"),
            (format!("kind = 'modbus'\naddress = 'x:y'\n{point}"), "address"),
            ("kind = 'serial'\ndevice = 'ttyS0'".to_owned(), "device"),
            ("kind = 'serial'\ndevice = '/dev/ttyS0'\nbaud = 0".to_owned(), "baud"),
            ("kind = 'serial'\ndevice = '/dev/ttyS0'\ndata_bits = 9".to_owned(), "data_bits"),
        ]);
    }
    for (table, key) in cases {
        let error = refused(&format!("[sensor.s]\n{table}"));
        assert!(error.contains(&format!("`sensor.s.{key}`")) && error.contains("allowed: "), "{table}: {error}");
    }
    let error = refused("[sensor.s]\nkind = 'process'\ncommand = ['/x']\nshell = true");
    assert!(error.contains("shell"), "{error}");
}
