//! HTTP/1.1 for programs on this machine: on loopback or a Unix socket, and within bounds.
//!
//! Purpose: whoever answers requests gives [`serve`] a function from request to response; connections, their number, their time and
//! their buffers are looked after here.
//!
//! Invariants: no address but loopback is listened on. At most [`Bounds::connections`] are served at a time, each with a buffer of
//! [`Bounds::buffer`] bytes; more wait unaccepted. No connection lives longer than [`Bounds::patience`] without a new request,
//! whatever its other end does: one that sends its request slowly, never takes its answer or does nothing is closed.
//!
//! Failure modes: [`HttpError`] where it cannot be listened. What is wrong with one connection ends that connection.
//!
//! Limits: no TLS, no HTTP/2. A web page that a browser on this machine shows can send requests to loopback: a request whose `Host` is
//! neither `localhost` nor an address is refused, so that no name of somebody else's leads here.

use std::{
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, Response, StatusCode,
    body::{Body, Incoming},
    header::{CONTENT_TYPE, HOST},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Notify,
    task::JoinSet,
    time::sleep,
};

use crate::unix_socket;

/// How long to wait after the system refused to accept a connection.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// Headers of a request, at most.
const MOST_HEADERS: usize = 64;

/// What is answered.
pub type Answer = Response<Full<Bytes>>;

/// Why nothing is listened on.
#[derive(Debug, Error)]
pub enum HttpError {
    /// Another machine could reach it.
    #[error("{0} is not an address of this machine alone; listen on 127.0.0.1 or [::1]")]
    NotLoopback(SocketAddr),
    /// The system does not let it.
    #[error("{address} cannot be listened on: {cause}")]
    Listen {
        /// Where.
        address: Address,
        /// What the system says.
        cause: io::Error,
    },
}

/// Why there is no body of a request.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// It is too long.
    #[error("the body is longer than {0} bytes")]
    TooLong(usize),
    /// The connection ended before it, or what came is not HTTP.
    #[error("the body did not come whole: {0}")]
    Broken(String),
}

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A port on loopback.
    Loopback(SocketAddr),
    /// A Unix socket, mode 0660.
    Unix(PathBuf),
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loopback(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// What connections may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many are served at a time.
    pub connections: usize,
    /// The head of a request, in bytes.
    pub head: usize,
    /// What is read and not taken yet, in bytes; at least 8192. A body comes in pieces of at most this.
    pub buffer: usize,
    /// How long a connection lasts without a new request, body and answer included.
    pub patience: Duration,
}

/// What is listened on.
#[derive(Debug)]
pub enum Listener {
    /// A port on loopback.
    Loopback(TcpListener),
    /// A Unix socket, which is removed with this.
    Unix(unix_socket::Listening),
}

impl Listener {
    /// Listens.
    ///
    /// # Errors
    /// [`HttpError`].
    pub async fn bind(address: &Address) -> Result<Self, HttpError> {
        let failed = |cause| HttpError::Listen { address: address.clone(), cause };
        match address {
            Address::Loopback(address) if !address.ip().is_loopback() => Err(HttpError::NotLoopback(*address)),
            Address::Loopback(address) => TcpListener::bind(address).await.map(Self::Loopback).map_err(failed),
            Address::Unix(path) => unix_socket::listen(path).map(Self::Unix).map_err(failed),
        }
    }

    /// The address on loopback, with the port that the system chose where none was asked for.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match self {
            Self::Loopback(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Loopback(listener) => {
                let (stream, _) = listener.accept().await?;
                // An answer is written at once; there is nothing to wait for. Without it all is a little slower.
                let _ = stream.set_nodelay(true);
                Box::new(stream)
            }
            Self::Unix(listening) => Box::new(listening.accept().await?),
        })
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}

/// Serves requests until it is dropped, on the thread of a [`tokio::task::LocalSet`]. `handler` is called for each request; what it
/// holds of the request's body it takes with [`body`], or piece by piece.
pub async fn serve<F>(listener: Listener, bounds: Bounds, handler: impl Fn(Request<Incoming>) -> F + 'static)
where
    F: Future<Output = Answer> + 'static,
{
    let handler = Rc::new(handler);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < bounds.connections => match accepted {
                Ok(stream) => _ = connections.spawn_local(connection(stream, bounds, handler.clone())),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_AGAIN).await;
                }
            },
            _ = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Serves one connection until it ends or is given up.
async fn connection<F>(stream: Box<dyn Stream>, bounds: Bounds, handler: Rc<impl Fn(Request<Incoming>) -> F>)
where
    F: Future<Output = Answer>,
{
    let asked = Notify::new();
    let service = service_fn(|request: Request<Incoming>| {
        asked.notify_one();
        let foreign = is_foreign(&request);
        let handler = handler.clone();
        async move {
            Ok::<_, Infallible>(if foreign {
                text(StatusCode::FORBIDDEN, "ask for this machine by its address or as localhost\n")
            } else {
                handler(request).await
            })
        }
    });
    let mut served = std::pin::pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.patience)
            .max_headers(MOST_HEADERS)
            .max_header_size(bounds.head)
            .max_buf_size(bounds.buffer)
            .serve_connection(TokioIo::new(stream), service)
    );
    let mut patience = std::pin::pin!(sleep(bounds.patience));
    loop {
        tokio::select! {
            ended = &mut served => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection on this machine broke");
                }
                return;
            }
            () = asked.notified() => patience.set(sleep(bounds.patience)),
            () = &mut patience => return,
        }
    }
}

/// Whether a request was meant for another name, which somebody made lead to this machine.
fn is_foreign(request: &Request<impl Body>) -> bool {
    let Some(host) = request.headers().get(HOST) else { return false };
    let Some(host) = host.to_str().ok().and_then(|host| host.parse::<hyper::http::uri::Authority>().ok()) else {
        return true;
    };
    let name = host.host().trim_start_matches('[').trim_end_matches(']');
    !name.eq_ignore_ascii_case("localhost") && name.parse::<IpAddr>().is_err()
}

/// The whole body of a request, of at most `most` bytes.
///
/// # Errors
/// [`BodyError`].
pub async fn body(
    request: Request<impl Body<Data = Bytes, Error: Into<BoxError>>>,
    most: usize,
) -> Result<Bytes, BodyError> {
    // What is announced as too long is not read at all.
    if request.body().size_hint().lower() > u64::try_from(most).unwrap_or(u64::MAX) {
        return Err(BodyError::TooLong(most));
    }
    match Limited::new(request.into_body(), most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(BodyError::TooLong(most)),
        Err(error) => Err(BodyError::Broken(error.to_string())),
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer in words.
pub fn text(status: StatusCode, words: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(words.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("text/plain; charset=utf-8"));
    answer
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
}
