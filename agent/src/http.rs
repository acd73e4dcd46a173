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
mod tests;
