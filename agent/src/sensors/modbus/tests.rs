//! A scripted device stands in for what real ones do wrong; what they do right is tested with pymodbus in `agent/tests/sensor_peers.rs`.

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::{plan::tests::point, *};
use crate::sensors::fake::{Bench, until};

/// What the device does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Device {
    /// Register `n` holds `n`, every third bit is set.
    Answers,
    Refuses(u8),
    /// One register fewer.
    AnswersShort,
    /// With the number of another request.
    AnswersAnother,
    Closes,
    Silent,
}

struct Server {
    port: u16,
    does: Rc<Cell<Device>>,
    requests: Rc<Cell<usize>>,
    connections: Rc<Cell<usize>>,
}

impl Server {
    /// Must be called within a local set.
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self {
            port,
            does: Rc::new(Cell::new(Device::Answers)),
            requests: Rc::default(),
            connections: Rc::default(),
        };
        let (does, requests, connections) = (server.does.clone(), server.requests.clone(), server.connections.clone());
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.set(connections.get() + 1);
                let _ = serve(stream, &does, &requests).await;
            }
        });
        server
    }

    fn sensor(&self, points: Vec<Point>, format: ModbusFormat) -> Box<Modbus> {
        Box::new(Modbus::new(ModbusSettings {
            way: Way::Tcp { host: "127.0.0.1".into(), port: self.port },
            points,
            interval: Duration::from_millis(5),
            timeout: Duration::from_millis(500),
            format,
        }))
    }
}

async fn serve(mut stream: TcpStream, does: &Cell<Device>, requests: &Cell<usize>) -> io::Result<()> {
    loop {
        let mut head = [0; 12];
        stream.read_exact(&mut head).await?;
        requests.set(requests.get() + 1);
        let [t1, t2, _, _, _, _, unit, function, a1, a2, c1, c2] = head;
        let (address, count) = (u16::from_be_bytes([a1, a2]), u16::from_be_bytes([c1, c2]));
        let mut body = match function {
            3 | 4 => (address..).take(count.into()).flat_map(u16::to_be_bytes).collect(),
            _ => vec![0b0100_1001; usize::from(count).div_ceil(8)],
        };
        let number = match does.get() {
            Device::AnswersAnother => [t1, t2 ^ 0x55],
            _ => [t1, t2],
        };
        match does.get() {
            Device::Closes => return Ok(()),
            Device::Silent => continue,
            Device::AnswersShort => body.truncate(body.len() - 2),
            _ => {}
        }
        let pdu = match does.get() {
            Device::Refuses(code) => vec![function | 0x80, code],
            _ => [&[function, u8::try_from(body.len()).unwrap()], &body[..]].concat(),
        };
        let length = u16::try_from(pdu.len() + 1).unwrap().to_be_bytes();
        stream.write_all(&[&number[..], &[0, 0], &length, &[unit], &pdu].concat()).await?;
    }
}

/// Runs a sensor on a device.
async fn polled(points: Vec<Point>, format: ModbusFormat, test: impl AsyncFnOnce(&Bench, &Server)) {
    let local = tokio::task::LocalSet::new();
    let run = async {
        let server = Server::start().await;
        let bench = Bench::default();
        bench.run(server.sensor(points, format), async |bench| test(bench, &server).await).await;
    };
    local.run_until(run).await;
}

fn words() -> Vec<Point> {
    vec![
        Point { name: "speed".into(), scale: 0.1, ..point(Function::Holding, 100, ValueType::U16) },
        Point { name: "levels".into(), count: 3, ..point(Function::Holding, 101, ValueType::I16) },
        Point { name: "total".into(), ..point(Function::Input, 7, ValueType::U32) },
        Point { name: "doors".into(), count: 4, ..point(Function::Coil, 0, ValueType::U16) },
    ]
}

#[tokio::test]
async fn a_poll_is_one_series_or_one_object() {
    polled(words(), ModbusFormat::Series, async |bench, server| {
        until(|| bench.count() >= 2).await;
        let (header, content) = bench.frames().remove(1);
        assert_eq!((header.kind, header.format, header.channels, header.width), (Kind::Series, Format::F32, 9, 1));
        assert_eq!(header.rate_mhz, 200_000);
        let expected = [10.0, 101.0, 102.0, 103.0, f64::from(7 * 65_536 + 8), 1.0, 0.0, 0.0, 1.0];
        let expected: Vec<u8> = expected.iter().flat_map(|number| (*number as f32).to_le_bytes()).collect();
        assert_eq!(content, expected);
        assert!(server.requests.get() <= 3 * (bench.count() + 2), "what lies together is read together");
    })
    .await;
    polled(words(), ModbusFormat::Json, async |bench, _| {
        until(|| bench.count() >= 1).await;
        let text = String::from_utf8(bench.frames().remove(0).1).unwrap();
        let expected = r#"{"speed":10.0,"levels":[101,102,103],"total":458760,"doors":[true,false,false,true]}"#;
        assert_eq!(text, expected);
    })
    .await;
}

#[test]
fn requests_on_a_serial_line_are_kept_apart_as_the_specification_says() {
    assert_eq!(silence(9600).as_micros(), 4010);
    assert_eq!(silence(115_200).as_micros(), 1750);
}

#[tokio::test]
async fn an_exception_is_named_and_polling_goes_on() {
    polled(words(), ModbusFormat::Series, async |bench, server| {
        server.does.set(Device::Refuses(2));
        until(|| bench.report().error.is_some()).await;
        let error = bench.report().error.unwrap();
        let expected =
            "holding registers 100 to 103 of unit 1: the device answers with the exception \"illegal data address\"";
        assert!(error.starts_with(expected) && error.contains("correct `address`"), "{error}");
        let (before, connections) = (bench.count(), server.connections.get());
        server.does.set(Device::Answers);
        until(|| bench.count() > before).await;
        assert_eq!((bench.report().error, server.connections.get()), (None, connections));
        server.does.set(Device::Refuses(99));
        until(|| bench.report().error.is_some_and(|error| error.contains("exception 99"))).await;
    })
    .await;
}

#[tokio::test]
async fn a_device_that_goes_or_errs_is_connected_again() {
    let cases = [
        (Device::Closes, "closed the connection"),
        (Device::Silent, "no answer within 0.5 s"),
        (Device::AnswersShort, "not as long as was asked for"),
        (Device::AnswersAnother, "that of another request"),
    ];
    for (does, says) in cases {
        polled(words(), ModbusFormat::Series, async |bench, server| {
            until(|| bench.count() > 0).await;
            server.does.set(does);
            until(|| bench.report().error.is_some()).await;
            let error = bench.report().error.unwrap();
            assert!(error.contains(says), "{does:?}: {error}");
            let before = bench.count();
            server.does.set(Device::Answers);
            until(|| bench.count() > before && bench.report().error.is_none()).await;
            assert!(server.connections.get() >= 2, "{does:?}");
        })
        .await;
    }
}

#[tokio::test]
async fn nothing_is_asked_while_nobody_wants_the_frames() {
    polled(words(), ModbusFormat::Series, async |bench, server| {
        until(|| bench.count() > 1).await;
        bench.want(false);
        let asked = server.requests.clone();
        tokio::time::timeout(Duration::from_millis(50), std::future::pending::<()>()).await.unwrap_err();
        let before = asked.get();
        tokio::time::timeout(Duration::from_millis(200), std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(asked.get(), before);
        bench.want(true);
        until(|| asked.get() > before).await;
        assert!(server.connections.get() == 2, "no connection is held meanwhile");
    })
    .await;
}

#[tokio::test]
async fn frames_take_the_same_memory_again() {
    polled(words(), ModbusFormat::Json, async |bench, _| {
        until(|| bench.count() > 1).await;
        let made = bench.pool().made();
        let before = bench.count();
        until(|| bench.count() > before + 20).await;
        assert_eq!(bench.pool().made(), made);
    })
    .await;
}

#[tokio::test]
async fn says_what_keeps_it_from_a_device() {
    let port = TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port();
    let settings = ModbusSettings {
        way: Way::Tcp { host: "127.0.0.1".into(), port },
        points: words(),
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        format: ModbusFormat::Series,
    };
    let error = Modbus::probe(&settings).unwrap_err();
    assert!(error.contains("no Modbus device answers") && error.contains("check `address`"), "{error}");
    let bench = Bench::default();
    bench
        .run(Box::new(Modbus::new(settings)), async |bench| {
            until(|| bench.report().error.is_some_and(|error| error.contains("no Modbus device answers"))).await;
        })
        .await;
}
