//! GET over plain HTTP, for a server on the same machine.
//!
//! HTTP/1.0 is asked for, so that a server answers in one piece and closes the connection.
//! Limits: 16 KiB and 64 lines of head, the caller's limit and one byte more of body, ten seconds of silence.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, bail};

const MAX_HEAD: u64 = 16 * 1024;
const MAX_LINES: usize = 64;
const SILENCE: Duration = Duration::from_secs(10);

/// The content at `url`: at most `limit` bytes and one more, by which the caller sees that it is too long. `None` where the
/// server says that it has nothing there.
///
/// # Errors
/// A server that does not answer, answers with another status than 200, 403 and 404, or ends before the length that it told.
pub(crate) fn get(url: &str, limit: u64) -> Result<Option<Vec<u8>>> {
    let answer = exchange(url, limit).with_context(|| url.to_owned())?;
    let mut lines = [httparse::EMPTY_HEADER; MAX_LINES];
    let mut response = httparse::Response::new(&mut lines);
    let httparse::Status::Complete(head) = response.parse(&answer).with_context(|| url.to_owned())? else {
        bail!("{url}: the server's answer ends within its head");
    };
    match response.code {
        Some(200) => {}
        Some(403 | 404) => return Ok(None),
        status => bail!("{url}: the server answers with status {status:?}"),
    }
    let body = answer.get(head..).unwrap_or_default();
    let told = response.headers.iter().find(|line| line.name.eq_ignore_ascii_case("content-length"));
    let told = told.and_then(|line| str::from_utf8(line.value).ok()?.trim().parse::<u64>().ok());
    if told.is_some_and(|told| (body.len() as u64) < told.min(limit.saturating_add(1))) {
        bail!("{url}: the server ended before the length that it told");
    }
    Ok(Some(body.iter().copied().take(usize::try_from(limit)?.saturating_add(1)).collect()))
}

fn exchange(url: &str, limit: u64) -> Result<Vec<u8>> {
    let rest = url.strip_prefix("http://").context("only http:// is spoken here")?;
    let (server, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut stream = TcpStream::connect(server)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.write_all(format!("GET /{path} HTTP/1.0\r\nHost: {server}\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    stream.take(MAX_HEAD.saturating_add(limit).saturating_add(1)).read_to_end(&mut answer)?;
    Ok(answer)
}
