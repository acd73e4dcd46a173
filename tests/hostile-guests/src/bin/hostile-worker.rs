//! A worker that was taken over: it does to its supervisor what its "module" says, one word, and has no guest at all.
//!
//! Started as `sanderling-worker` is: the socket on descriptor 3, the ring on 4, the module on 5.

#![allow(unsafe_code, clippy::unwrap_used, clippy::panic, reason = "what it does is meant to be wrong")]

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::{fd::FromRawFd, unix::fs::FileExt, unix::net::UnixStream},
    thread::sleep,
    time::Duration,
};

use sanderling_hostile_guests::CHANNEL;
use sanderling_protocol::worker::{
    FIRST_BLOB_FD, Fault, FaultCode, FrameDone, FromWorker, Inbox, RING_FD, Ready, SOCKET_FD, ToWorker,
};

const AGE: Duration = Duration::from_secs(1000);
const FLOOD: usize = 200_000;

fn main() {
    // SAFETY: its supervisor has opened it for this process, and nothing else here takes it.
    let socket = unsafe { UnixStream::from_raw_fd(SOCKET_FD) };
    let mut word = String::new();
    File::open(format!("/proc/self/fd/{FIRST_BLOB_FD}")).unwrap().read_to_string(&mut word).unwrap();
    Hostile { socket, inbox: Inbox::default() }.act(&word);
}

struct Hostile {
    socket: UnixStream,
    inbox: Inbox,
}

impl Hostile {
    fn act(&mut self, word: &str) {
        match word {
            "silence" => {}
            "garbage" => self.raw(&(0..=255).cycle().take(100_000).collect::<Vec<u8>>()),
            "huge length" => self.raw(&[0xff; 5]),
            "no length" => self.raw(&[0; 4]),
            "half a message" => {
                self.raw(&[200, 0, 0, 0, 65, b'{']);
                return;
            }
            "deep json" => self.message(72, "[".repeat(200_000).as_bytes()),
            "wide json" => self.message(65, format!("{{\"module_us\":{}}}", "9".repeat(100_000)).as_bytes()),
            "long name" => self.message(65, format!("{{\"\\u001b[2J{}\":1}}", "x".repeat(200_000)).as_bytes()),
            "long fault" => self.say(&FromWorker::Fault(Fault {
                trap: Some("t\u{1b}[31m".repeat(3_000)),
                export: Some("e".repeat(50_000)),
                ..Fault::new(FaultCode::Guest, "\u{7}m".repeat(10_000))
            })),
            "drip" => self.drip(),
            "last words" => {
                let _ = std::io::stderr().write_all(&b"\x1b[2Jwords ".repeat(1_000_000));
                std::process::exit(3);
            }
            "closed socket" => {
                let _ = self.socket.shutdown(std::net::Shutdown::Both);
            }
            "early running" => self.say(&FromWorker::Running),
            "lines for ever, before it is ready" => self.lines_for_ever(),
            "ready for ever" => (0..FLOOD).for_each(|_| self.say(&FromWorker::Ready(Ready::default()))),
            _ => self.after_ready(word),
        }
        sleep(AGE);
    }

    /// What is done by one that has behaved so far.
    fn after_ready(&mut self, word: &str) {
        self.say(&FromWorker::Ready(Ready::default()));
        self.wait(&ToWorker::Begin);
        match word {
            "ring of lies" => self.spoil(64, &[0xff; 256]),
            "lines for ever, while it starts" => self.lines_for_ever(),
            _ => {}
        }
        self.say(&FromWorker::Running);
        match word {
            "running twice" => self.say(&FromWorker::Running),
            "stopped unasked" => self.say(&FromWorker::Stopped),
            "answer to nothing" => self.say(&done(99)),
            "answer twice" => {
                self.wait(&ToWorker::Wake);
                self.say(&done(1));
                self.say(&done(1));
            }
            "refusal of nothing" => self.say(&FromWorker::FrameRefused { seq: u64::MAX, why: "\u{1b}[2J" }),
            "foreign channel" => self.say(&FromWorker::Emit { seq: 1, channel: "secrets", payload: b"x" }),
            "record flood" => {
                (0..FLOOD).for_each(|_| self.say(&FromWorker::Emit { seq: 0, channel: CHANNEL, payload: &[7; 1000] }));
            }
            "line flood" => {
                let line = "\u{1b}line ".repeat(30_000);
                (0..1000).for_each(|_| self.say(&FromWorker::Log { level: 255, text: &line }));
            }
            "lines for ever" => self.lines_for_ever(),
            "last words for ever" => {
                let words = [b'w'; 64 * 1024];
                while std::io::stderr().write_all(&words).is_ok() {}
            }
            "denied flood" => (0..FLOOD).for_each(|n| self.say(&FromWorker::Denied { function: &format!("f{n}") })),
            "ring of lies" => {}
            "ring that is never read" => loop {
                self.spoil(64, &[0; 8]);
                sleep(Duration::from_micros(100));
            },
            "sleeps always" => loop {
                // Its supervisor must not pile up messages for one that never reads them.
                self.spoil(128, &1_u32.to_le_bytes());
                sleep(Duration::from_micros(100));
            },
            "ends" => std::process::exit(0),
            other => panic!("no worker is hostile by {other:?}"),
        }
    }

    fn say(&mut self, message: &FromWorker<'_>) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.raw(&bytes);
    }

    fn message(&mut self, tag: u8, body: &[u8]) {
        let length = u32::try_from(body.len() + 1).unwrap();
        self.raw(&[&length.to_le_bytes()[..], &[tag], body].concat());
    }

    /// Says more than anybody could hear, until it is ended.
    fn lines_for_ever(&mut self) {
        let mut lines = Vec::new();
        while lines.len() < 64 * 1024 {
            FromWorker::Log { level: 4, text: "" }.encode(&mut lines);
        }
        loop {
            self.raw(&lines);
        }
    }

    /// Writes until the supervisor has had enough.
    fn raw(&mut self, bytes: &[u8]) {
        if self.socket.write_all(bytes).is_err() {
            sleep(AGE);
        }
    }

    /// One byte at a time, slowly, all that a worker has to say first.
    fn drip(&mut self) {
        let mut bytes = Vec::new();
        FromWorker::Ready(Ready::default()).encode(&mut bytes);
        for byte in bytes {
            self.raw(&[byte]);
            sleep(Duration::from_millis(1));
        }
        self.raw(&[4, 0, 0]);
    }

    fn wait(&mut self, wanted: &ToWorker) {
        loop {
            while let Some(message) = self.inbox.next().unwrap() {
                if ToWorker::decode(message).unwrap() == *wanted {
                    return;
                }
            }
            let count = self.socket.read(self.inbox.space()).unwrap();
            if count == 0 {
                sleep(AGE);
            }
            self.inbox.filled(count);
            // A frame wakes only one that says that it sleeps.
            self.spoil(128, &1_u32.to_le_bytes());
        }
    }

    fn spoil(&self, at: u64, bytes: &[u8]) {
        let ring = OpenOptions::new().write(true).open(format!("/proc/self/fd/{RING_FD}")).unwrap();
        ring.write_all_at(bytes, at).unwrap();
    }
}

fn done(seq: u64) -> FromWorker<'static> {
    FromWorker::FrameDone(FrameDone { seq, took_ns: u64::MAX, fuel: u64::MAX, memory_bytes: u64::MAX })
}
