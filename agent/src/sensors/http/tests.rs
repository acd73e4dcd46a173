use std::net::SocketAddr;

use sanderling_guest::frame::{Format, Kind};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, UnixStream},
};

use super::*;
use crate::sensors::{
    PixelFormat,
    fake::{Bench, until},
};

fn settings(port: u16) -> HttpSettings {
    HttpSettings {
        address: Address::Loopback(SocketAddr::from(([127, 0, 0, 1], port))),
        token: None,
        raw: None,
        rate_hz: 100.0,
        max_frame: 100_000,
    }
}

async fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).await.unwrap().local_addr().unwrap().port()
}

async fn connect(port: u16) -> TcpStream {
    for _ in 0..1000 {
        if let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await {
            return stream;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    unreachable!("it does not listen")
}

async fn exchange(port: u16, head: &str, body: &[u8]) -> String {
    let mut stream = connect(port).await;
    let length = body.len();
    let head = format!("{head}\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // What refuses a body does not read it.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn post(port: u16, media_type: &str, body: &[u8]) -> String {
    exchange(port, &format!("POST /frames HTTP/1.1\r\nContent-Type: {media_type}"), body).await
}

#[tokio::test]
async fn what_is_posted_is_given_as_what_its_type_says() {
    let port = free_port().await;
    let raw = RawImage { width: 4, height: 2, pixel: PixelFormat::Gray8 };
    let settings = HttpSettings { raw: Some(raw), ..settings(port) };
    Bench::default()
        .run(Box::new(Http::new(settings)), async |bench| {
            let large = vec![0xff; 90_000];
            let posted: [(&str, &[u8]); 5] = [
                ("image/jpeg", &large),
                ("image/png", b"png"),
                ("application/json; charset=utf-8", b"{\"a\":1}"),
                ("application/octet-stream", &[1; 8]),
                ("text/csv", b"1,2\n3,4\n5,6\n"),
            ];
            for (media_type, body) in posted {
                let answer = post(port, media_type, body).await;
                assert!(answer.starts_with("HTTP/1.1 204 "), "{media_type}: {answer}");
            }
            let frames = bench.frames();
            let kinds: Vec<_> = frames.iter().map(|(header, _)| (header.kind, header.format)).collect();
            let image = |format| (Kind::Image, format);
            let expected = [
                image(Format::Jpeg),
                image(Format::Png),
                (Kind::Json, Format::None),
                image(Format::Gray8),
                (Kind::Series, Format::F32),
            ];
            assert_eq!(kinds, expected);
            assert_eq!(frames[0].1, large);
            assert_eq!((frames[3].0.width, frames[3].0.height), (4, 2));
            assert_eq!((frames[4].0.width, frames[4].0.channels, frames[4].0.rate_mhz), (3, 2, 100_000));
            assert_eq!(bench.report().error, None);
        })
        .await;
}

#[tokio::test]
async fn what_is_no_frame_is_answered_in_words_and_counted() {
    let port = free_port().await;
    Bench::default()
        .run(Box::new(Http::new(settings(port))), async |bench| {
            let long = vec![0; 100_001];
            let cases = [
                (post(port, "application/json", b"{").await, "400", "not JSON"),
                (post(port, "application/octet-stream", b"").await, "400", "empty"),
                (post(port, "image/webp", b"x").await, "415", "image/jpeg"),
                (exchange(port, "POST / HTTP/1.1", b"x").await, "415", "are taken"),
                (post(port, "image/png", &long).await, "413", "max_frame"),
                (exchange(port, "GET /frames HTTP/1.1", b"").await, "405", "by POST"),
                (exchange(port, "POST /other HTTP/1.1", b"").await, "404", "/frames"),
            ];
            for (answer, status, words) in &cases {
                assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")) && answer.contains(words), "{answer}");
            }
            assert_eq!(bench.count(), 0);
            assert!(bench.report().error.unwrap().contains(&format!("({} refused", cases.len())));
        })
        .await;
}

#[tokio::test]
async fn a_body_of_unknown_length_is_taken_and_held_to_the_limit() {
    let port = free_port().await;
    Bench::default()
        .run(Box::new(Http::new(settings(port))), async |bench| {
            let chunked = async |pieces: usize| {
                let mut stream = connect(port).await;
                let head = "POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n";
                let piece = format!("{:x}\r\n{}\r\n", 30_000, "x".repeat(30_000));
                let _ = stream.write_all([head, &piece.repeat(pieces), "0\r\n\r\n"].concat().as_bytes()).await;
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
                String::from_utf8(answer).unwrap()
            };
            assert!(chunked(3).await.starts_with("HTTP/1.1 204 "));
            assert!(chunked(4).await.starts_with("HTTP/1.1 413 "));
            assert_eq!(bench.frames().len(), 1);
            assert_eq!(bench.frames()[0].1.len(), 90_000);
        })
        .await;
}

#[tokio::test]
async fn without_the_token_nothing_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "secret\n").unwrap();
    let port = free_port().await;
    let settings = HttpSettings { token: Some(file.clone()), ..settings(port) };
    assert!(Http::probe(&settings).unwrap().contains("nobody listens"));
    Bench::default()
        .run(Box::new(Http::new(settings.clone())), async |bench| {
            let json = "POST / HTTP/1.1\r\nContent-Type: application/json";
            for wrong in ["", "\r\nAuthorization: Bearer secre", "\r\nAuthorization: Bearer secret2"] {
                let answer = exchange(port, &format!("{json}{wrong}"), b"{}").await;
                assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
            }
            assert_eq!(bench.count(), 0);
            let answer = exchange(port, &format!("{json}\r\nAuthorization: Bearer secret"), b"{}").await;
            assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
            assert!(Http::probe(&settings).unwrap().contains("takes connections"));
        })
        .await;
    std::fs::write(&file, "\n").unwrap();
    assert!(Http::probe(&settings).unwrap_err().contains("is empty"));
}

#[tokio::test]
async fn bodies_that_do_not_come_keep_no_more_than_their_places() {
    let port = free_port().await;
    Bench::default()
        .run(Box::new(Http::new(settings(port))), async |bench| {
            let mut waiting = Vec::new();
            for _ in 0..MOST_BODIES {
                let mut stream = connect(port).await;
                let head =
                    "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: 2\r\n\r\nx";
                stream.write_all(head.as_bytes()).await.unwrap();
                waiting.push(stream);
            }
            // The server may be at their heads still.
            let mut answer = String::new();
            for _ in 0..1000 {
                answer = post(port, "application/json", b"{}").await;
                if answer.starts_with("HTTP/1.1 503 ") {
                    break;
                }
            }
            assert!(answer.contains("send it again"), "{answer}");
            let before = bench.count();
            waiting[0].write_all(b"y").await.unwrap();
            until(|| bench.count() == before + 1).await;
            assert!(post(port, "application/json", b"{}").await.starts_with("HTTP/1.1 204 "));
        })
        .await;
}

#[tokio::test]
async fn a_unix_socket_does_too_and_an_address_in_use_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("frames.sock");
    let unix = HttpSettings { address: Address::Unix(path.clone()), ..settings(1) };
    Bench::default()
        .run(Box::new(Http::new(unix)), async |bench| {
            until(|| path.exists()).await;
            let mut stream = UnixStream::connect(&path).await.unwrap();
            let request = "POST / HTTP/1.0\r\nContent-Type: image/png\r\nContent-Length: 1\r\n\r\nx";
            stream.write_all(request.as_bytes()).await.unwrap();
            until(|| bench.count() == 1).await;
        })
        .await;
    let taken = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = taken.local_addr().unwrap().port();
    Bench::default()
        .run(Box::new(Http::new(settings(port))), async |bench| {
            until(|| bench.report().error.is_some_and(|error| error.contains("cannot be listened on"))).await;
            drop(taken);
            until(|| bench.report().error.is_none()).await;
        })
        .await;
}
