use std::os::unix::fs::PermissionsExt;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    task::LocalSet,
};

use super::*;

const BOUNDS: Bounds = Bounds { connections: 2, head: 1024, buffer: 8192, patience: Duration::from_secs(10) };

fn any_port() -> Address {
    Address::Loopback(SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// Answers with the length of the body.
async fn served(address: &Address, bounds: Bounds, test: impl AsyncFnOnce(u16)) {
    let listener = Listener::bind(address).await.unwrap();
    let port = listener.local_addr().map_or(0, |address| address.port());
    let server = serve(listener, bounds, async |request| match body(request, 100).await {
        Ok(body) => text(StatusCode::OK, body.len().to_string()),
        Err(error) => text(StatusCode::PAYLOAD_TOO_LARGE, error.to_string()),
    });
    let local = LocalSet::new();
    let running = async {
        tokio::select! {
            () = server => {}
            () = test(port) => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(20), local.run_until(running)).await.unwrap();
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &str) -> String {
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // What refuses without reading all of it may reset the connection after its answer.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8(answer).unwrap()
}

async fn ask(port: u16, request: &str) -> String {
    exchange(TcpStream::connect(("127.0.0.1", port)).await.unwrap(), request).await
}

#[tokio::test]
async fn answers_on_loopback_and_nowhere_else() {
    served(&any_port(), BOUNDS, async |port| {
        let request = "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc";
        let answer = ask(port, request).await;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\n3"), "{answer}");
    })
    .await;
    for address in ["0.0.0.0:0", "192.0.2.1:80", "[::]:0"] {
        let error = Listener::bind(&Address::Loopback(address.parse().unwrap())).await.unwrap_err();
        assert!(error.to_string().contains("127.0.0.1 or [::1]"), "{error}");
    }
}

#[tokio::test]
async fn answers_on_a_unix_socket_of_mode_0660() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("http.sock");
    served(&Address::Unix(path.clone()), BOUNDS, async |_| {
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        let stream = UnixStream::connect(&path).await.unwrap();
        let answer = exchange(stream, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 403"), "{answer}");
        let stream = UnixStream::connect(&path).await.unwrap();
        let answer = exchange(stream, "GET / HTTP/1.0\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    })
    .await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_name_of_somebody_else_leads_nowhere() {
    served(&any_port(), BOUNDS, async |port| {
        for (host, status) in [
            ("evil.example", 403),
            ("localhost.evil.example:80", 403),
            ("127.0.0.1.evil.example", 403),
            ("", 403),
            ("localhost:9464", 200),
            ("LOCALHOST", 200),
            ("127.0.0.1:1", 200),
            ("[::1]:1", 200),
        ] {
            let answer = ask(port, &format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{host}: {answer}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_head_or_a_body_that_is_too_long_is_refused() {
    served(&any_port(), BOUNDS, async |port| {
        let long = "x".repeat(2000);
        let answer = ask(port, &format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 431 "), "{answer}");
        let announced = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 101\r\nConnection: close\r\n\r\n";
        let answer = ask(port, announced).await;
        assert!(answer.contains("413") && answer.contains("longer than 100 bytes"), "{answer}");
        let chunk = format!("50\r\n{}\r\n", "x".repeat(0x50)).repeat(2);
        let chunked =
            format!("POST / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}0\r\n\r\n");
        let answer = ask(port, &chunked).await;
        assert!(answer.contains("413") && answer.contains("longer than 100 bytes"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn who_is_silent_makes_room_for_others() {
    let bounds = Bounds { patience: Duration::from_millis(300), ..BOUNDS };
    served(&any_port(), bounds, async |port| {
        let _silent = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _silent_too = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // Both places are taken; this one is served when one of them is given up.
        let answer = ask(port, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    })
    .await;
}

/// A connection whose answers are of this length, and the client's end of it.
fn connected(length: usize) -> (impl Future<Output = ()>, tokio::io::DuplexStream) {
    let (client, server) = tokio::io::duplex(1024);
    let handler = Rc::new(move |request| async move {
        let _ = body(request, 100).await;
        text(StatusCode::OK, vec![b'x'; length])
    });
    (connection(Box::new(server), BOUNDS, handler), client)
}

#[tokio::test(start_paused = true)]
async fn no_connection_outlives_its_patience_whatever_the_other_end_does() {
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n";
    for (what, sent) in [("nothing", ""), ("half a head", &head[..20]), ("half a body", &format!("{head}x"))] {
        let (served, mut client) = connected(10);
        client.write_all(sent.as_bytes()).await.unwrap();
        tokio::time::timeout(2 * BOUNDS.patience, served).await.unwrap_or_else(|_| panic!("{what}"));
    }
    let (served, mut client) = connected(1_000_000);
    client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    tokio::time::timeout(2 * BOUNDS.patience, served).await.expect("an answer that nobody takes");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_goes_on_asking_is_kept() {
    let (served, mut client) = connected(1);
    let asking = async {
        for _ in 0..10 {
            client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
            let mut answer = [0; 512];
            let length = client.read(&mut answer).await.unwrap();
            assert!(answer[..length].ends_with(b"\r\n\r\nx"));
            sleep(BOUNDS.patience / 2).await;
        }
    };
    tokio::select! {
        () = served => panic!("it was closed"),
        () = asking => {}
    }
}
