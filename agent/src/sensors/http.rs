//! A sensor that programs on this machine post frames to, by HTTP on loopback or a Unix socket.
//!
//! `POST /` or `/frames` with the frame as body; its `Content-Type` says what it is. What is accepted is answered with 204: the frame was given,
//! and what becomes of it is for the policies of the modules' inputs. Everything else is answered with a status and a sentence. What a writer did
//! wrong is counted too.
//!
//! Invariants: those of [`crate::http`]. A frame is given whole or not at all. Where a token is set, a request without it is told nothing else.
//!
//! Failure modes: an address that cannot be listened on is reported and tried again with growing pauses.
//!
//! Limits: [`MOST_WRITERS`] connections, of which [`MOST_BODIES`] may be sending a body; each body takes a block of its size. A connection on which
//! nothing is asked for [`PATIENCE`] is closed.

use std::{cell::Cell, io, io::Read, path::Path, path::PathBuf, pin::Pin, rc::Rc, time::Duration};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::{
    Method, Request, StatusCode,
    body::{Body, Incoming},
    header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE},
};

use super::{
    Content, Outlet, RawImage, Sensor,
    buffer::Buffer,
    content::{Giver, of_media_type},
};
use crate::{
    backoff::Backoff,
    http::{self, Address, Answer, Bounds, Listener, text},
};

/// Connections that are served at a time.
const MOST_WRITERS: usize = 16;
/// Bodies that are received at a time.
const MOST_BODIES: usize = 4;
/// How long a connection lasts without a new request.
const PATIENCE: Duration = Duration::from_secs(30);
const HEAD: usize = 8192;
const BUFFER: usize = 64 * 1024;
/// A token is at most this long, in bytes.
const MAX_TOKEN: u64 = 1024;

/// A sensor that programs post frames to.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpSettings {
    /// Where it listens.
    pub address: Address,
    /// The file that holds what a writer must send as `Authorization: Bearer`.
    pub token: Option<PathBuf>,
    /// What a body of the type `application/octet-stream` is.
    pub raw: Option<RawImage>,
    /// Rows a second in a body of the type `text/csv`; 0 where that is not known.
    pub rate_hz: f64,
    /// The longest body, in bytes.
    pub max_frame: usize,
}

/// The sensor.
pub struct Http {
    settings: HttpSettings,
}

impl Http {
    /// A sensor of checked settings.
    pub fn new(settings: HttpSettings) -> Self {
        Self { settings }
    }

    /// Whether the token can be read, and whether somebody listens already, as the agent does while it runs. Nothing is sent.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn probe(settings: &HttpSettings) -> Result<String, String> {
        token(settings.token.as_deref())?;
        let address = &settings.address;
        let listens = match address {
            Address::Loopback(address) => std::net::TcpStream::connect_timeout(address, Duration::from_secs(2)).is_ok(),
            Address::Unix(path) => std::os::unix::net::UnixStream::connect(path).is_ok(),
        };
        Ok(if listens { format!("{address} takes connections") } else { format!("nobody listens on {address} now") })
    }
}

impl Sensor for Http {
    fn largest_frame(&self) -> usize {
        self.settings.max_frame
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(run(self.settings, Rc::new(outlet)))
    }
}

async fn run(settings: HttpSettings, outlet: Rc<Outlet>) {
    let mut backoff = Backoff::default();
    loop {
        let desk = token(settings.token.as_deref()).map(|token| {
            let (outlet, settings) = (outlet.clone(), settings.clone());
            Rc::new(Desk { settings, token, outlet, bodies: Cell::new(0) })
        });
        let listening = match desk {
            Ok(desk) => Listener::bind(&settings.address).await.map(|at| (at, desk)).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        match listening {
            Ok((listener, desk)) => {
                outlet.well();
                let bounds = Bounds { connections: MOST_WRITERS, head: HEAD, buffer: BUFFER, patience: PATIENCE };
                http::serve(listener, bounds, move |request| answer(desk.clone(), request)).await;
            }
            Err(error) => outlet.failed(error),
        }
        backoff.wait().await;
    }
}

/// What a writer must show.
fn token(file: Option<&Path>) -> Result<Option<Vec<u8>>, String> {
    let Some(file) = file else { return Ok(None) };
    let mut bytes = Vec::new();
    let read = std::fs::File::open(file).and_then(|file| file.take(MAX_TOKEN).read_to_end(&mut bytes));
    read.map_err(|error| format!("the token in {}: {error}; see `token_file`", file.display()))?;
    let token = bytes.trim_ascii();
    if token.is_empty() {
        return Err(format!("the token in {} is empty; write one there, or leave `token_file` out", file.display()));
    }
    Ok(Some(token.to_owned()))
}

/// What requests are answered from.
struct Desk {
    settings: HttpSettings,
    token: Option<Vec<u8>>,
    outlet: Rc<Outlet>,
    bodies: Cell<usize>,
}

/// A body that is being received.
struct Place(Rc<Desk>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.bodies.set(self.0.bodies.get().saturating_sub(1));
    }
}

async fn answer(desk: Rc<Desk>, request: Request<Incoming>) -> Answer {
    match take(&desk, request).await {
        Ok(()) => {
            let mut answer = Answer::new(Bytes::new().into());
            *answer.status_mut() = StatusCode::NO_CONTENT;
            answer
        }
        Err((status, words)) => {
            // Who has not the token yet, or comes too early, gave no frame.
            if ![StatusCode::UNAUTHORIZED, StatusCode::SERVICE_UNAVAILABLE].contains(&status) {
                desk.outlet.refused(format!("a request was refused: {words}"));
            }
            let mut answer = text(status, format!("{words}\n"));
            if status == StatusCode::METHOD_NOT_ALLOWED {
                answer.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            }
            if status == StatusCode::UNAUTHORIZED {
                answer.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            answer
        }
    }
}

type Refusal = (StatusCode, String);

async fn take(desk: &Rc<Desk>, request: Request<Incoming>) -> Result<(), Refusal> {
    let content = examine(desk, &request)?;
    if desk.bodies.get() >= MOST_BODIES {
        let words = format!("{MOST_BODIES} frames are being received; send it again");
        return Err((StatusCode::SERVICE_UNAVAILABLE, words));
    }
    desk.bodies.set(desk.bodies.get() + 1);
    let _place = Place(desk.clone());
    let buffer = receive(desk, request.into_body()).await?;
    let most = desk.settings.max_frame;
    let given = Giver::new(most).give(content, &buffer, 0, buffer.held().len(), &desk.outlet);
    given.map_err(|error| (StatusCode::BAD_REQUEST, format!("the body is no frame: {error}")))?;
    desk.outlet.flush();
    Ok(())
}

/// Looks at the head of a request; what its body is, where it may come.
fn examine(desk: &Desk, request: &Request<Incoming>) -> Result<Content, Refusal> {
    let header = |name| request.headers().get(name).map_or(&b""[..], HeaderValue::as_bytes);
    if let Some(token) = &desk.token {
        let shown = header(AUTHORIZATION).strip_prefix(b"Bearer ").unwrap_or(b"");
        if !is_same(shown, token) {
            return Err((StatusCode::UNAUTHORIZED, "send the sensor's token as `Authorization: Bearer`".to_owned()));
        }
    }
    if !["/", "/frames"].contains(&request.uri().path()) {
        return Err((StatusCode::NOT_FOUND, "frames are posted to /frames".to_owned()));
    }
    if request.method() != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "frames are sent by POST".to_owned()));
    }
    let media_type = String::from_utf8_lossy(header(CONTENT_TYPE)).into_owned();
    let content = match of_media_type(&media_type, desk.settings.raw) {
        Some(Content::Csv { .. }) => Content::Csv { rate_hz: desk.settings.rate_hz },
        Some(content) => content,
        None => {
            let known = "image/jpeg, image/png, application/json, text/csv and application/octet-stream are taken";
            let named: String = media_type.chars().take(64).collect();
            return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("a `Content-Type` of {named:?}; {known}")));
        }
    };
    // What is announced as too long is not read at all.
    let announced = usize::try_from(request.body().size_hint().lower()).unwrap_or(usize::MAX);
    if announced > desk.settings.max_frame { Err(too_long(desk)) } else { Ok(content) }
}

async fn receive(desk: &Desk, mut body: Incoming) -> Result<Buffer, Refusal> {
    let lost = |error: io::Error| (StatusCode::SERVICE_UNAVAILABLE, error.to_string());
    let mut buffer = Buffer::default();
    buffer.want(usize::try_from(body.size_hint().lower()).unwrap_or(0));
    while let Some(piece) = body.frame().await {
        let broken = |error| (StatusCode::BAD_REQUEST, format!("the body did not come whole: {error}"));
        let Ok(mut piece) = piece.map_err(broken)?.into_data() else { continue };
        if buffer.held().len() + piece.len() > desk.settings.max_frame {
            return Err(too_long(desk));
        }
        while !piece.is_empty() {
            let room = buffer.room(desk.outlet.pool()).map_err(lost)?;
            let part = piece.split_to(piece.len().min(room.len()));
            if let Some(room) = room.get_mut(..part.len()) {
                room.copy_from_slice(&part);
            }
            buffer.filled(part.len());
        }
    }
    Ok(buffer)
}

fn too_long(desk: &Desk) -> Refusal {
    let words = format!("the body is longer than {} bytes, see `max_frame`", desk.settings.max_frame);
    (StatusCode::PAYLOAD_TOO_LARGE, words)
}

/// Whether both are the same, in a time that does not tell where they differ.
fn is_same(shown: &[u8], token: &[u8]) -> bool {
    let differ = shown.iter().zip(token).fold(0, |differ, (shown, token)| differ | (shown ^ token));
    shown.len() == token.len() && differ == 0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
