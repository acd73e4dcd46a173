#![allow(clippy::unwrap_used)]

use std::{path::PathBuf, sync::Arc};

use super::*;
use crate::{
    clock::SystemClock,
    sinks::fake::record,
    store::{
        disk::{Access, SystemDisk},
        sim::{Fault, SimDisk},
    },
};

const PATH: &str = "/logs/log.jsonl";

fn settings(max_bytes: u64, keep: u32) -> FileSettings {
    FileSettings { path: PathBuf::from(PATH), max_bytes, keep, sync: FileSync::Interval }
}

struct Bench {
    disk: SimDisk,
    writer: Writer,
    now: Duration,
}

impl Bench {
    fn new(settings: FileSettings) -> Self {
        Self::on(SimDisk::new(1), settings)
    }

    fn on(disk: SimDisk, settings: FileSettings) -> Self {
        let mut writer = Writer::new("log".into(), settings, Arc::new(disk.clone()), Arc::default());
        writer.turn(Duration::ZERO);
        Self { disk, writer, now: Duration::ZERO }
    }

    fn emit(&mut self, number: usize) {
        self.writer.tally.came();
        self.writer.take(&record("m", "c", format!("{{\"n\":{number}}}").as_bytes()));
        self.writer.turn(self.now);
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.writer.turn(self.now);
    }

    fn dropped(&self, cause: Cause) -> u64 {
        self.writer.tally.report().dropped.get(cause.name()).copied().unwrap_or(0)
    }
}

/// The numbers of the records in a file, each on a whole line.
fn numbers(bytes: &[u8]) -> Vec<u64> {
    let text = std::str::from_utf8(bytes).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    let number =
        |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["payload"]["n"].as_u64().unwrap();
    text.lines().map(number).collect()
}

fn read(disk: &SimDisk, path: &str) -> Vec<u64> {
    numbers(&disk.peek(path.as_ref()).unwrap())
}

/// What is in all files, the oldest first.
fn read_all(disk: &SimDisk) -> Vec<u64> {
    let mut files = disk.files();
    files.sort_by_key(|path| std::cmp::Reverse(path.to_str().unwrap().strip_prefix(PATH).unwrap().to_owned()));
    files.iter().flat_map(|path| numbers(&disk.peek(path).unwrap())).collect()
}

#[test]
fn records_are_lines_in_their_order_and_files_are_rotated() {
    let mut bench = Bench::new(settings(4096, 2));
    for number in 0..200 {
        bench.emit(number);
    }
    let files: Vec<_> = bench.disk.files().into_iter().map(|path| path.to_str().unwrap().to_owned()).collect();
    assert_eq!(files, [PATH, "/logs/log.jsonl.1", "/logs/log.jsonl.2"]);
    for file in &files {
        assert!(bench.disk.peek(file.as_ref()).unwrap().len() <= 4096);
    }
    let all = read_all(&bench.disk);
    assert_eq!(all.last(), Some(&199));
    assert!(all.windows(2).all(|pair| pair[1] == pair[0] + 1), "none is missing between the first and the last");
    assert!((100..200).contains(&all.len()), "the oldest file is gone");
}

#[test]
fn nothing_is_kept_of_a_full_file_where_none_is_to_be() {
    let mut bench = Bench::new(settings(4096, 0));
    for number in 0..100 {
        bench.emit(number);
    }
    assert_eq!(bench.disk.files(), [PathBuf::from(PATH)]);
    assert_eq!(read(&bench.disk, PATH).last(), Some(&99));
}

#[test]
fn a_line_that_is_longer_than_a_file_is_dropped_and_the_next_one_is_not() {
    let mut bench = Bench::new(settings(4096, 1));
    bench.writer.take(&record("m", "c", &[b'x'; 5000]));
    bench.emit(1);
    assert_eq!((bench.dropped(Cause::TooLong), read(&bench.disk, PATH)), (1, vec![1]));
}

#[test]
fn a_full_disk_delays_lines_drops_what_is_too_much_and_tears_none() {
    for fault in Fault::ALL {
        let mut bench = Bench::new(settings(1 << 20, 1));
        bench.emit(0);
        bench.disk.fail_after(0, fault, true);
        let mut taken = 1;
        while bench.dropped(Cause::Disk) == 0 {
            bench.emit(taken);
            taken += 1;
        }
        let error = bench.writer.tally.report().error.unwrap();
        assert!(error.starts_with("file /logs/log.jsonl: "), "{error}");
        bench.pass(Duration::from_secs(30));
        assert!(bench.writer.tally.report().error.is_some());
        bench.disk.heal();
        bench.pass(crate::backoff::LONGEST);
        assert_eq!(bench.writer.tally.report().error, None);
        bench.emit(taken);
        let found = read(&bench.disk, PATH);
        assert_eq!(found.len() as u64, bench.writer.tally.report().records - 1, "{fault:?}");
        assert_eq!(found.last(), Some(&(taken as u64)));
        assert!(found[..found.len() - 1].iter().copied().eq(0..found.len() as u64 - 1), "in order");
    }
}

#[test]
fn a_write_that_fails_anywhere_loses_no_line_and_doubles_none() {
    for fault in Fault::ALL {
        for change in 0..40 {
            let mut bench = Bench::new(settings(4096, 100));
            bench.disk.fail_after(change, fault, false);
            for number in 0..150 {
                bench.emit(number);
                bench.pass(Duration::from_secs(2));
            }
            bench.pass(crate::backoff::LONGEST);
            let all = read_all_numbered(&bench.disk);
            assert!(all.iter().copied().eq(0..150), "{fault:?} at change {change}: {all:?}");
        }
    }
}

/// As [`read_all`], for more than nine files.
fn read_all_numbered(disk: &SimDisk) -> Vec<u64> {
    let mut files = disk.files();
    let age = |path: &PathBuf| {
        path.to_str().unwrap().strip_prefix(PATH).unwrap().trim_start_matches('.').parse().unwrap_or(0_u32)
    };
    files.sort_by_key(|path| std::cmp::Reverse(age(path)));
    files.iter().flat_map(|path| numbers(&disk.peek(path).unwrap())).collect()
}

#[test]
fn what_was_synced_survives_a_power_cut_and_a_torn_line_is_cut_off() {
    for seed in 0..300 {
        let mut bench = Bench::on(SimDisk::new(seed), settings(4096, 100));
        for number in 0..30 {
            bench.emit(number);
        }
        bench.pass(SYNC_EVERY);
        bench.emit(30);
        bench.disk.cut_after(0);
        bench.emit(31);
        bench.disk.power_cycle();
        let mut bench = Bench::on(bench.disk, settings(4096, 100));
        assert_eq!(bench.writer.tally.report().error, None, "seed {seed}");
        bench.emit(99);
        let found = read(&bench.disk, PATH);
        assert!(found[..30].iter().copied().eq(0..30), "seed {seed}: {found:?}");
        assert_eq!(found.last(), Some(&99));
    }
}

#[test]
fn a_torn_line_is_cut_off_however_long_and_what_is_somebody_elses_is_not_touched() {
    let whole = b"{\"at_ms\":1,\"payload\":{\"n\":1}}\n".to_vec();
    let long = [b"{\"at_ms\":2,\"text\":\"".to_vec(), vec![b'x'; 20_000]].concat();
    for torn in [&b"{"[..], b"{\"at_ms\"", &long, b"\0\0\0", b"{\"at_ms\":\0\0"] {
        for before in [&whole[..], b""] {
            let disk = SimDisk::new(1);
            disk.make_folder("/logs".as_ref()).unwrap();
            let content = [before, torn].concat();
            disk.open(PATH.as_ref(), Access::Make).unwrap().write_at(&content, 0).unwrap();
            let bench = Bench::on(disk, settings(1 << 20, 1));
            assert_eq!(bench.writer.tally.report().error, None, "{torn:?}");
            assert_eq!(bench.disk.peek(PATH.as_ref()).unwrap(), before);
        }
    }
    for theirs in [&b"precious"[..], b"line\nprecious", &[b'x'; 400_000]] {
        let disk = SimDisk::new(1);
        disk.make_folder("/logs".as_ref()).unwrap();
        disk.open(PATH.as_ref(), Access::Make).unwrap().write_at(theirs, 0).unwrap();
        let mut bench = Bench::on(disk, settings(1 << 20, 1));
        bench.emit(1);
        assert!(bench.writer.tally.report().error.unwrap().contains("did not write"));
        assert_eq!(bench.disk.peek(PATH.as_ref()).unwrap(), theirs);
    }
}

#[test]
fn a_thread_writes_all_that_it_was_given_before_the_sink_ends() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/log.jsonl");
    let settings = FileSettings { path: path.clone(), sync: FileSync::Never, ..settings(1 << 20, 1) };
    let (guard, mut ended) = tokio::sync::mpsc::channel(1);
    let clock = Arc::new(SystemClock::new());
    let sink = FileSink::start("log", settings, Arc::new(SystemDisk), clock, guard).unwrap();
    for number in 0..500 {
        sink.take(&record("m", "c", format!("{{\"n\":{number}}}").as_bytes()));
    }
    drop(sink);
    assert_eq!(ended.blocking_recv(), None);
    assert!(numbers(&std::fs::read(&path).unwrap()).into_iter().eq(0..500));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn with_interval_nothing_waits_longer_than_that_for_the_disk() {
    let mut bench = Bench::new(settings(1 << 20, 1));
    bench.emit(1);
    assert_eq!(bench.writer.due(bench.now), SYNC_EVERY);
    bench.pass(SYNC_EVERY);
    assert_eq!(bench.writer.due(bench.now), IDLE);
}
