//! Sensors before real peers: a Modbus device of pymodbus over TCP and over a serial line, and a real Mosquitto.

#![allow(clippy::unwrap_used, clippy::panic)]

#[allow(dead_code)]
mod link_support;
mod sensor_support;

use std::{path::PathBuf, time::Duration};

use link_support::{
    misbehaving::{self, Script},
    mosquitto::Mosquitto,
    pki::Pki,
    proxy::Proxy,
};
use rumqttc::{
    AsyncClient, Broker, Event, MqttOptions, Packet, PublishOptions, PublishProperties, TlsConfiguration, Transport,
};
use sanderling_agent::{
    sensors::{
        Content, DataBits, FlowControl, Mqtt, MqttSettings, Parity, PortSettings, StopBits,
        fake::{Bench, until},
        modbus::{Function, Modbus, ModbusFormat, ModbusSettings, Point, ValueType, Way, WordOrder},
    },
    tls::TlsFiles,
};
use sanderling_guest::frame::{Format, Kind};
use sensor_support::{Device, Line, Plain, free_port};

fn point(name: &str, function: Function, address: u16, count: u16, value: ValueType) -> Point {
    Point {
        name: name.into(),
        unit: 1,
        function,
        address,
        count,
        value,
        order: WordOrder::Big,
        scale: 1.0,
        offset: 0.0,
    }
}

fn modbus(way: Way, points: Vec<Point>, format: ModbusFormat) -> Box<Modbus> {
    let (interval, timeout) = (Duration::from_millis(20), Duration::from_millis(1000));
    Box::new(Modbus::new(ModbusSettings { way, points, interval, timeout, format }))
}

fn text(bench: &Bench, index: usize) -> String {
    String::from_utf8(bench.frames()[index].1.clone()).unwrap()
}

#[tokio::test]
async fn modbus_tcp_reads_every_table_of_a_device_that_comes_and_goes() {
    let port = free_port();
    let points = vec![
        point("words", Function::Holding, 10, 3, ValueType::U16),
        Point { scale: 0.5, offset: -1.0, ..point("half", Function::Holding, 13, 1, ValueType::I16) },
        point("long", Function::Holding, 20, 1, ValueType::U32),
        point("float", Function::Holding, 200, 1, ValueType::F32),
        Point { order: WordOrder::Little, ..point("swapped", Function::Holding, 202, 1, ValueType::F32) },
        point("input", Function::Input, 7, 1, ValueType::U16),
        point("coils", Function::Coil, 3, 2, ValueType::U16),
        point("third", Function::Discrete, 9, 1, ValueType::U16),
        // As many as one request asks for.
        point("many", Function::Coil, 100, 2000, ValueType::U16),
    ];
    let way = Way::Tcp { host: "localhost".into(), port };
    Bench::default()
        .run(modbus(way, points, ModbusFormat::Json), async |bench| {
            until(|| bench.report().error.is_some_and(|error| error.contains("no Modbus device answers"))).await;
            let device = Device::tcp(port);
            until(|| bench.count() > 0).await;
            let read = text(bench, 0);
            let expected = r#"{"words":[10,11,12],"half":5.5,"long":1310741,"float":1.5,"swapped":1.5,"input":1007,"coils":[false,true],"third":true,"many":[true,false,"#;
            assert_eq!(&read[..expected.len()], expected);
            assert_eq!(bench.report().error, None);
            drop(device);
            until(|| bench.report().error.is_some()).await;
            let before = bench.count();
            let _device = Device::tcp(port);
            until(|| bench.count() > before && bench.report().error.is_none()).await;
        })
        .await;
}

#[tokio::test]
async fn modbus_tcp_names_what_a_device_refuses() {
    let port = free_port();
    let _device = Device::tcp(port);
    let points = vec![point("beyond", Function::Holding, 203, 2, ValueType::U16)];
    Bench::default()
        .run(modbus(Way::Tcp { host: "127.0.0.1".into(), port }, points, ModbusFormat::Series), async |bench| {
            until(|| bench.report().error.is_some()).await;
            let error = bench.report().error.unwrap();
            assert!(
                error.contains("holding registers 203 to 204") && error.contains("illegal data address"),
                "{error}"
            );
        })
        .await;
}

fn rtu(device: PathBuf) -> Way {
    Way::Rtu(PortSettings {
        device,
        baud: 115_200,
        data_bits: DataBits::Eight,
        parity: Parity::None,
        stop_bits: StopBits::One,
        flow: FlowControl::None,
    })
}

#[tokio::test]
async fn modbus_rtu_reads_a_device_over_a_serial_line() {
    let line = Line::new();
    let device = Device::rtu(&line.other);
    let points = vec![
        point("words", Function::Holding, 0, 100, ValueType::U16),
        point("float", Function::Holding, 200, 1, ValueType::F32),
        point("coils", Function::Coil, 0, 9, ValueType::U16),
    ];
    let one = line.one.clone();
    Bench::default()
        .run(modbus(rtu(one), points, ModbusFormat::Series), async |bench| {
            until(|| bench.count() >= 3).await;
            let (header, content) = bench.frames().remove(2);
            assert_eq!((header.kind, header.channels, header.rate_mhz), (Kind::Series, 110, 50_000));
            let values: Vec<f32> =
                content.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
            let words = (0..100).map(|word| word as f32);
            let coils = (0..9).map(|coil| if coil % 2 == 0 { 1.0 } else { 0.0 });
            assert_eq!(values, words.chain([1.5]).chain(coils).collect::<Vec<_>>());
            assert_eq!(bench.report().error, None);
            drop(device);
            until(|| bench.report().error.is_some()).await;
            let error = bench.report().error.unwrap();
            assert!(error.contains("of unit 1: no answer within 1 s"), "{error}");
            let before = bench.count();
            let _device = Device::rtu(&line.other);
            until(|| bench.count() > before && bench.report().error.is_none()).await;
        })
        .await;
}

fn mqtt(pki: &Pki, port: u16, topic: &str) -> MqttSettings {
    MqttSettings {
        host: "localhost".into(),
        port,
        client_id: "gw-1.cam0".into(),
        tls: Some(TlsFiles { ca: pki.ca(), identity: Some(pki.device("gw-1")) }),
        login: None,
        topic: topic.into(),
        acknowledged: true,
        format: None,
        raw: None,
        max_frame: 10_000,
        keep_alive: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
    }
}

/// A client that publishes.
struct Publisher(AsyncClient);

impl Publisher {
    async fn connect(pki: &Pki, port: u16) -> Self {
        let (cert, key) = pki.device("press");
        let config = sanderling_agent::tls::load(&pki.ca(), Some((&cert, &key))).unwrap().config;
        let mut options = MqttOptions::new("press", Broker::tcp("localhost", port));
        options.set_transport(Transport::tls_with_config(TlsConfiguration::Rustls(config)));
        let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
        let (up, is_up) = tokio::sync::oneshot::channel();
        tokio::spawn(async move {
            let mut up = Some(up);
            while let Ok(event) = events.poll().await {
                if let (Event::Incoming(Packet::ConnAck(_)), Some(up)) = (event, up.take()) {
                    let _ = up.send(());
                }
            }
        });
        is_up.await.unwrap();
        Self(client)
    }

    async fn publish(&self, topic: &str, media_type: Option<&str>, payload: &[u8]) {
        let properties =
            PublishProperties { content_type: media_type.map(str::to_owned), ..PublishProperties::default() };
        let options = PublishOptions::at_least_once().properties(properties);
        self.0.publish_tracked(topic, payload.to_vec(), options).await.unwrap().wait_completion_async().await.unwrap();
    }

    /// Publishes until the sensor is seen to be subscribed.
    async fn reach(&self, bench: &Bench) {
        let before = bench.count();
        while bench.count() == before {
            self.publish("data/press", None, b"reach").await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The frames beside those of [`Publisher::reach`].
fn frames(bench: &Bench) -> Vec<(Kind, Format, Vec<u8>)> {
    let frames = bench.frames().into_iter().map(|(header, content)| (header.kind, header.format, content));
    frames.filter(|(_, _, content)| content != b"reach").collect()
}

#[tokio::test]
async fn mqtt_messages_are_frames_of_the_type_that_they_name() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    Bench::default()
        .run(Box::new(Mqtt::new(mqtt(&pki, broker.port, "data/+"))), async |bench| {
            let publisher = Publisher::connect(&pki, broker.port).await;
            publisher.reach(bench).await;
            publisher.publish("data/a", Some("image/jpeg"), &[7; 10_000]).await;
            publisher.publish("data/b", Some("application/json"), b"{\"a\":1}").await;
            publisher.publish("data/c", Some("text/csv"), b"1,2").await;
            publisher.publish("data/c", Some("application/json"), b"{\"a\":").await;
            publisher.publish("data/d", Some("something/else"), b"d").await;
            until(|| frames(bench).len() == 4).await;
            let expected = [
                (Kind::Image, Format::Jpeg, vec![7; 10_000]),
                (Kind::Json, Format::None, b"{\"a\":1}".to_vec()),
                (Kind::Series, Format::F32, [1f32, 2.0].map(f32::to_le_bytes).concat()),
                (Kind::Bytes, Format::None, b"d".to_vec()),
            ];
            assert_eq!(frames(bench), expected);
            let error = bench.report().error.unwrap();
            assert!(error.contains("data/c was left out: it is not JSON") && error.contains("(1 refused"), "{error}");
        })
        .await;
}

#[tokio::test]
async fn mqtt_messages_that_are_too_long_end_no_connection() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let settings = MqttSettings { format: Some(Content::Bytes), ..mqtt(&pki, broker.port, "data/press") };
    Bench::default()
        .run(Box::new(Mqtt::new(settings)), async |bench| {
            let publisher = Publisher::connect(&pki, broker.port).await;
            publisher.reach(bench).await;
            publisher.publish("data/press", None, &[1; 10_001]).await;
            // The broker holds this one back.
            publisher.publish("data/press", None, &[2; 60_000]).await;
            publisher.publish("data/press", None, &[3; 10_000]).await;
            until(|| frames(bench).len() == 1).await;
            assert_eq!(frames(bench)[0].2, [3; 10_000]);
            let error = bench.report().error.unwrap();
            assert!(error.contains("10001 bytes; at most 10000") && error.contains("(1 refused"), "{error}");
        })
        .await;
}

#[tokio::test]
async fn mqtt_comes_back_with_its_broker_and_says_what_is_wrong_meanwhile() {
    let pki = Pki::new();
    let mut broker = Mosquitto::start(&pki);
    Bench::default()
        .run(Box::new(Mqtt::new(mqtt(&pki, broker.port, "data/press"))), async |bench| {
            Publisher::connect(&pki, broker.port).await.reach(bench).await;
            broker.stop();
            until(|| bench.report().error.is_some_and(|error| error.contains("no broker answers"))).await;
            broker.restart();
            Publisher::connect(&pki, broker.port).await.reach(bench).await;
            assert_eq!(bench.report().error, None);
        })
        .await;
}

#[tokio::test]
async fn mqtt_reports_a_topic_that_the_broker_refuses_and_a_broker_that_it_does_not_trust() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    // Mosquitto's own access control lists let a client subscribe to anything, and send it nothing.
    let strict = misbehaving::start(&pki, Script::Suback(0x87));
    Bench::default()
        .run(Box::new(Mqtt::new(mqtt(&pki, strict, "forbidden/x"))), async |bench| {
            until(|| bench.report().error.is_some()).await;
            let error = bench.report().error.unwrap();
            assert!(error.contains("refused the subscription to forbidden/x: not authorized"), "{error}");
        })
        .await;
    let stranger = Pki::new();
    let tls = Some(TlsFiles { ca: stranger.ca(), identity: Some(pki.device("gw-1")) });
    let settings = MqttSettings { tls, ..mqtt(&pki, broker.port, "data/x") };
    Bench::default()
        .run(Box::new(Mqtt::new(settings)), async |bench| {
            until(|| bench.report().error.is_some()).await;
            let error = bench.report().error.unwrap();
            assert!(error.starts_with("TLS with localhost") && error.contains("check `ca`"), "{error}");
        })
        .await;
}

#[tokio::test]
async fn mqtt_gives_up_a_broker_that_falls_silent() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    let proxy = Proxy::start(broker.port).await;
    let second = Duration::from_secs(1);
    let settings = MqttSettings { keep_alive: second, connect_timeout: second, ..mqtt(&pki, proxy.port, "data/press") };
    Bench::default()
        .run(Box::new(Mqtt::new(settings)), async |bench| {
            let publisher = Publisher::connect(&pki, broker.port).await;
            publisher.reach(bench).await;
            proxy.silence(true);
            until(|| bench.report().error.is_some()).await;
            let error = bench.report().error.unwrap();
            assert!(error.contains("is silent"), "{error}");
            proxy.silence(false);
            publisher.reach(bench).await;
        })
        .await;
}

#[tokio::test]
async fn mqtt_is_connected_only_while_somebody_wants_its_frames() {
    let pki = Pki::new();
    let broker = Mosquitto::start(&pki);
    Bench::default()
        .run(Box::new(Mqtt::new(mqtt(&pki, broker.port, "data/press"))), async |bench| {
            let publisher = Publisher::connect(&pki, broker.port).await;
            publisher.reach(bench).await;
            bench.want(false);
            // Sent until one is not taken: the sensor has left.
            loop {
                let before = bench.count();
                publisher.publish("data/press", None, b"reach").await;
                if tokio::time::timeout(Duration::from_millis(200), until(|| bench.count() > before)).await.is_err() {
                    break;
                }
            }
            assert_eq!(bench.report().error, None);
            bench.want(true);
            publisher.reach(bench).await;
        })
        .await;
}

#[tokio::test]
async fn mqtt_without_tls_shows_a_password() {
    let broker = Plain::start("press", "right");
    let with = |password: &str| MqttSettings {
        host: "127.0.0.1".into(),
        tls: None,
        login: Some(("press".into(), broker.file(password, &format!("{password}\n")))),
        ..mqtt(&Pki::new(), broker.port, "data/press")
    };
    assert!(Mqtt::probe(&with("right")).is_ok());
    let publisher = async {
        let mut options = MqttOptions::new("other", Broker::tcp("127.0.0.1", broker.port));
        options.set_credentials("press", "right");
        let (client, mut events) = AsyncClient::builder(options).capacity(64).build();
        tokio::spawn(async move { while events.poll().await.is_ok() {} });
        Publisher(client)
    };
    Bench::default().run(Box::new(Mqtt::new(with("right"))), async |bench| publisher.await.reach(bench).await).await;
    Bench::default()
        .run(Box::new(Mqtt::new(with("wrong"))), async |bench| {
            until(|| bench.report().error.is_some()).await;
            let error = bench.report().error.unwrap();
            assert!(error.contains("refused the connection: not authorized"), "{error}");
        })
        .await;
    let none = MqttSettings { login: Some(("press".into(), "/does/not/exist".into())), ..with("right") };
    assert!(Mqtt::probe(&none).unwrap_err().contains("password_file"));
}
