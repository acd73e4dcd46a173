//! A sensor that local programs write to: a Unix socket that takes length-prefixed frames ([`super::wire`]).
//!
//! Any number of writers up to [`MOST_WRITERS`]; their frames are numbered together, in the order in which they arrive. One that
//! writes what is no frame is disconnected, and that is counted and reported.
//!
//! Reading never stalls: frames that no module takes in time are dropped by the policy of the module's input, so a
//! slow module never holds up a writer, or another module. A writer that must not lose frames paces itself.
//!
//! Invariants: those of [`crate::unix_socket`].
//!
//! Limits: a writer holds a buffer of 64 KiB, or of its largest frame.

use std::{io, pin::Pin, rc::Rc};

use tokio::{net::UnixStream, task::JoinSet};

use super::{
    Outlet, Sensor, SocketSettings,
    buffer::Buffer,
    wire::{self, FrameError},
};
use crate::{
    backoff::Backoff,
    unix_socket::{self, Listening},
};

/// More writers than these are turned away.
const MOST_WRITERS: usize = 64;
/// Reads of one writer before others have their turn.
const TURN: usize = 8;

/// The sensor.
pub struct Socket {
    settings: SocketSettings,
}

impl Socket {
    /// A sensor of checked settings.
    pub fn new(settings: SocketSettings) -> Self {
        Self { settings }
    }
}

impl Sensor for Socket {
    fn largest_frame(&self) -> usize {
        self.settings.max_frame
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(run(self.settings, Rc::new(outlet)))
    }
}

async fn run(settings: SocketSettings, outlet: Rc<Outlet>) {
    let mut backoff = Backoff::default();
    loop {
        let why = match unix_socket::listen(&settings.path) {
            Ok(listening) => {
                outlet.well();
                backoff.reset();
                accept(&listening, settings.max_frame, &outlet).await
            }
            Err(error) => error,
        };
        outlet.failed(format!("socket {}: {why}", settings.path.display()));
        backoff.wait().await;
    }
}

/// Serves writers until the listener fails.
async fn accept(listening: &Listening, max_frame: usize, outlet: &Rc<Outlet>) -> io::Error {
    let mut writers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listening.accept() => match accepted {
                Ok(stream) if writers.len() < MOST_WRITERS => {
                    let outlet = outlet.clone();
                    writers.spawn_local(async move { serve(stream, max_frame, &outlet).await });
                }
                Ok(_) => outlet.refused(format!("more than {MOST_WRITERS} writers at once")),
                Err(error) => return error,
            },
            _ = writers.join_next(), if !writers.is_empty() => {}
        }
    }
}

async fn serve(stream: UnixStream, max_frame: usize, outlet: &Outlet) {
    let mut buffer = Buffer::default();
    loop {
        if stream.readable().await.is_err() {
            return;
        }
        let over = turn(&stream, &mut buffer, max_frame, outlet);
        outlet.flush();
        match over {
            Ok(false) => tokio::task::yield_now().await,
            Ok(true) => return,
            Err(error) => return outlet.refused(format!("a writer was disconnected: {error}")),
        }
    }
}

/// Why a writer is disconnected.
#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("it left in the middle of a frame")]
    Torn,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads for a while and gives what is whole. `true` at the end of the stream.
fn turn(stream: &UnixStream, buffer: &mut Buffer, max_frame: usize, outlet: &Outlet) -> Result<bool, ReadError> {
    for _ in 0..TURN {
        let room = buffer.room(outlet.pool())?;
        let most = room.len();
        match stream.try_read(room) {
            Ok(0) if buffer.held().is_empty() => return Ok(true),
            Ok(0) => return Err(ReadError::Torn),
            Ok(count) => {
                buffer.filled(count);
                wire::give(buffer, max_frame, outlet)?;
                if count < most {
                    return Ok(false);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sensors::fake::{Bench, until};
    use sanderling_guest::frame::{FrameHeader, Kind};
    use std::{
        fs,
        io::Write,
        os::unix::{fs::PermissionsExt, net::UnixStream as StdStream},
        path::Path,
    };

    fn settings(folder: &tempfile::TempDir, max_frame: usize) -> SocketSettings {
        SocketSettings { path: folder.path().join("frames.sock"), max_frame }
    }

    fn bytes(contents: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for content in contents {
            let header = FrameHeader { seq: 77, dropped: 5, kind: Kind::Json, ..FrameHeader::new("liar", 0) };
            wire::put(&header, content, &mut bytes);
        }
        bytes
    }

    async fn connect(path: &Path) -> StdStream {
        until(|| path.exists()).await;
        StdStream::connect(path).unwrap()
    }

    #[tokio::test]
    async fn gives_frames_under_its_own_name_and_count_however_they_are_cut() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 300_000);
        let path = settings.path.clone();
        let bench = Bench::default();
        bench
            .run(Box::new(Socket::new(settings)), async |bench| {
                let large = vec![7; 250_000];
                let all = bytes(&[b"a", b"", &large, b"b"]);
                let mut writer = connect(&path).await;
                let sent = all.clone();
                let written = tokio::task::spawn_blocking(move || {
                    for part in sent.chunks(997) {
                        writer.write_all(part).unwrap();
                    }
                    writer
                })
                .await
                .unwrap();
                until(|| bench.frames().len() == 4).await;
                let frames = bench.frames();
                assert_eq!(
                    frames.iter().map(|frame| frame.1.clone()).collect::<Vec<_>>(),
                    [b"a".to_vec(), vec![], large, b"b".to_vec()]
                );
                for (index, (header, content)) in frames.iter().enumerate() {
                    assert_eq!(header.seq, index as u64 + 1);
                    assert_eq!((header.sensor(), header.dropped, header.kind), ("cam0", 0, Kind::Json));
                    assert_eq!(header.len as usize, content.len());
                    assert!(header.captured_unix_ns > 0);
                }
                assert_eq!(bench.report().error, None);
                drop(written);
            })
            .await;
        assert!(!path.exists(), "the socket is removed when the sensor ends");
    }

    #[tokio::test]
    async fn a_bad_writer_is_disconnected_and_the_others_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 100);
        let path = settings.path.clone();
        Bench::default()
            .run(Box::new(Socket::new(settings)), async |bench| {
                let mut good = connect(&path).await;
                let mut bad = connect(&path).await;
                good.write_all(&bytes(&[b"one"])).unwrap();
                bad.write_all(&u32::MAX.to_le_bytes()).unwrap();
                until(|| bench.report().error.is_some()).await;
                let error = bench.report().error.unwrap();
                assert!(error.contains("max_frame") && error.contains("1 refused"), "{error}");
                let mut end = [0];
                assert_eq!(io::Read::read(&mut bad, &mut end).unwrap(), 0);
                good.write_all(&bytes(&[b"two"])).unwrap();
                until(|| bench.frames().len() == 2).await;
                // One that leaves in the middle of a frame.
                let mut torn = connect(&path).await;
                torn.write_all(&bytes(&[b"three"])[..50]).unwrap();
                drop(torn);
                until(|| bench.report().error.is_some_and(|error| error.contains("middle of a frame"))).await;
            })
            .await;
    }

    #[tokio::test]
    async fn replaces_a_stale_socket_with_mode_0660() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 100);
        let path = settings.path.clone();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        Bench::default()
            .run(Box::new(Socket::new(settings)), async |bench| {
                until(|| StdStream::connect(&path).is_ok()).await;
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
                assert_eq!(bench.report().error, None);
            })
            .await;
    }

    #[tokio::test]
    async fn takes_nothing_away_from_another_program_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 100);
        let path = settings.path.clone();
        let theirs = std::os::unix::net::UnixListener::bind(&path).unwrap();
        Bench::default()
            .run(Box::new(Socket::new(settings.clone())), async |bench| {
                until(|| bench.report().error.is_some_and(|error| error.contains("another program"))).await;
            })
            .await;
        drop(theirs);
        fs::remove_file(&path).unwrap();
        fs::write(&path, b"precious").unwrap();
        Bench::default()
            .run(Box::new(Socket::new(settings)), async |bench| {
                until(|| bench.report().error.is_some_and(|error| error.contains("no socket"))).await;
            })
            .await;
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[tokio::test]
    async fn steady_frames_use_the_same_memory_again() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(&folder, 1000);
        let path = settings.path.clone();
        Bench::default()
            .run(Box::new(Socket::new(settings)), async |bench| {
                let mut writer = connect(&path).await;
                for round in 1..=50 {
                    writer.write_all(&bytes(&[b"frame".as_slice(); 20])).unwrap();
                    until(|| bench.count() == 20 * round).await;
                }
                assert_eq!(bench.pool().made(), 1);
            })
            .await;
    }
}
