//! Log lines arrive in the journal as fields: at a journal that this test plays, in a mount namespace of its own.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::BTreeMap,
    os::unix::{fs::MetadataExt, net::UnixDatagram},
    process::{Command, Stdio},
    time::Duration,
};

use sanderling_agent::{logging, settings::LogLevel};

const PLAYED: &str = "SANDERLING_TEST_JOURNAL";

/// The process that logs: this test again, where its journal is the played one.
fn log_something() {
    let error = std::fs::metadata("/dev/stderr").unwrap();
    let stream = format!("{}:{}", error.dev(), error.ino());
    logging::init(LogLevel::Debug, Some(&stream)).unwrap();
    tracing::info!(device = "gw-1", retry_in_ms = 250_u64, "the link is up");
    tracing::warn!("one\ntwo");
    tracing::error!(%stream, "bad");
    tracing::debug!(target: "sanderling_agent", "detail");
    tracing::info!(detail = "d".repeat(1 << 20), "long");
}

/// `NAME=value\n`, or `NAME\n`, the length and the value, where that may have lines of its own.
fn fields(mut datagram: &[u8]) -> BTreeMap<String, String> {
    let mut fields = BTreeMap::new();
    while let Some(end) = datagram.iter().position(|byte| *byte == b'\n') {
        let (line, rest) = datagram.split_at(end);
        let line = String::from_utf8(line.to_vec()).unwrap();
        datagram = &rest[1..];
        if let Some((name, value)) = line.split_once('=') {
            fields.insert(name.to_owned(), value.to_owned());
        } else {
            let (length, rest) = datagram.split_first_chunk::<8>().unwrap();
            let (value, rest) = rest.split_at(usize::try_from(u64::from_le_bytes(*length)).unwrap());
            fields.insert(line, String::from_utf8(value.to_vec()).unwrap());
            datagram = &rest[1..];
        }
    }
    fields
}

#[test]
fn log_lines_arrive_in_the_journal_with_their_fields_and_priorities() {
    if std::env::var_os(PLAYED).is_some() {
        return log_something();
    }
    let folder = tempfile::tempdir().unwrap();
    let journal = UnixDatagram::bind(folder.path().join("socket")).unwrap();
    journal.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && \
                  mount --bind \"$1\" /run/systemd/journal && exec \"$2\" --nocapture";
    let mut namespace = Command::new("unshare");
    namespace.args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"]);
    namespace.arg(folder.path()).arg(std::env::current_exe().unwrap()).env(PLAYED, "1");
    let output = namespace.stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("unshare: ") {
        // A machine that gives no namespaces shows nothing here.
        println!("not tried: {said}");
        return;
    }
    assert!(output.status.success(), "{said}");
    let mut logged = Vec::new();
    while logged.len() < 5 {
        let mut datagram = [0; 8192];
        let length = journal.recv(&mut datagram).unwrap();
        logged.push(fields(&datagram[..length]));
    }
    let [up, lines, bad, detail, long] = &logged[..] else { panic!("{logged:?}") };
    let of = |line: &BTreeMap<String, String>, name: &str| line.get(name).cloned().unwrap_or_default();
    let message = "the link is up device=\"gw-1\" retry_in_ms=250";
    assert_eq!((of(up, "MESSAGE"), of(up, "PRIORITY")), (message.to_owned(), "6".to_owned()));
    assert_eq!((of(up, "SANDERLING_DEVICE"), of(up, "SANDERLING_RETRY_IN_MS")), ("gw-1".to_owned(), "250".to_owned()));
    assert!(of(up, "CODE_FILE").ends_with("journal.rs") && !of(up, "TARGET").is_empty(), "{up:?}");
    assert_eq!((of(lines, "MESSAGE"), of(lines, "PRIORITY")), ("one\ntwo".to_owned(), "4".to_owned()));
    assert_eq!((of(bad, "PRIORITY"), of(detail, "PRIORITY")), ("3".to_owned(), "7".to_owned()));
    assert!(of(long, "MESSAGE").starts_with("long detail=\"ddd") && of(long, "MESSAGE").len() == 4096, "{long:?}");
    for line in &logged {
        assert_eq!(of(line, "SYSLOG_IDENTIFIER"), "sanderling-agent");
    }
    assert!(!said.contains("the link is up"), "it is not written to standard error as well: {said}");
}
