#![allow(clippy::unwrap_used)]

use std::{path::Path, sync::Arc};

mod cuts;
mod flapping;
mod offline;
mod old;
mod sending;

use super::*;
use crate::{
    state::{Row, RowKey},
    store::sim::{Fault, SimDisk},
};

const DATA: &str = "data/scratch/defects";

fn settings() -> OutboxSettings {
    OutboxSettings {
        max_bytes: 1 << 20,
        event_max_bytes: 4096,
        commit_interval: Duration::from_millis(100),
        drain: DrainSettings::default(),
    }
}

fn at(ms: u64) -> Now {
    Now { wall_ms: 1_800_000_000_000 + ms as i64, mono: Duration::from_millis(ms) }
}

fn open(folder: &Path) -> Outbox {
    Outbox::open(Database::open(folder).unwrap(), settings()).unwrap()
}

fn memory() -> Outbox {
    Outbox::open(Database::in_memory().unwrap(), settings()).unwrap()
}

fn policy(keep: Keep, records: u64) -> Channel {
    // Payloads here have one byte.
    Channel { keep, max_bytes: records * size(DATA, b"x"), ..Channel::default() }
}

fn push(outbox: &mut Outbox, payloads: impl IntoIterator<Item = u8>) {
    for payload in payloads {
        assert!(matches!(outbox.push(DATA, Bytes::from(vec![payload]), at(0)).unwrap(), Pushed::Kept { .. }));
    }
}

fn sent(outbox: &mut Outbox) -> Vec<u8> {
    outbox.next_unsent(100, at(0)).unwrap().iter().map(|record| record.payload[0]).collect()
}

#[test]
fn records_leave_in_order_and_stay_until_they_are_acknowledged() {
    let mut outbox = memory();
    push(&mut outbox, 0..5);
    let first = outbox.next_unsent(2, at(1)).unwrap();
    assert_eq!(first.iter().map(|record| record.payload[0]).collect::<Vec<_>>(), [0, 1]);
    assert_eq!(first[0].channel, DATA);
    assert_eq!(sent(&mut outbox), [2, 3, 4]);
    assert!(sent(&mut outbox).is_empty());
    assert_eq!(outbox.figures().records, 5);
    outbox.acked(first[0].id, at(2));
    outbox.acked(first[0].id, at(2));
    assert_eq!(outbox.figures().records, 4);
    outbox.link_down();
    assert_eq!(sent(&mut outbox), [1, 2, 3, 4]);
}

#[test]
fn an_acknowledged_record_never_touches_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = open(folder.path());
    push(&mut outbox, [1]);
    let record = outbox.next_unsent(1, at(1)).unwrap().remove(0);
    outbox.acked(record.id, at(2));
    outbox.tick(at(100)).unwrap();
    drop(outbox);
    assert_eq!(open(folder.path()).figures(), reported::Outbox::default());
}

#[test]
fn a_record_is_on_disk_when_it_is_due() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = open(folder.path());
    assert_eq!(outbox.due(at(0)), None);
    push(&mut outbox, [1, 2]);
    assert_eq!(outbox.due(at(30)), Some(Duration::from_millis(70)));
    outbox.tick(at(99)).unwrap();
    assert_eq!(outbox.due(at(99)), Some(Duration::from_millis(1)));
    outbox.tick(at(100)).unwrap();
    assert_eq!(outbox.due(at(100)), None);
    drop(outbox);
    let mut outbox = open(folder.path());
    assert_eq!(outbox.figures().records, 2);
    push(&mut outbox, [3]);
    assert_eq!(sent(&mut outbox), [1, 2, 3]);
}

#[test]
fn many_records_are_committed_before_they_are_due() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = open(folder.path());
    push(&mut outbox, 0..COMMIT_RECORDS as u8 + 1);
    drop(outbox);
    assert_eq!(open(folder.path()).figures().records, COMMIT_RECORDS as u64);
}

#[test]
fn nothing_unacknowledged_is_lost_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = open(folder.path());
    push(&mut outbox, 0..4);
    outbox.flush().unwrap();
    let records = outbox.next_unsent(3, at(1)).unwrap();
    outbox.acked(records[1].id, at(1));
    outbox.flush().unwrap();
    drop(outbox);
    assert_eq!(sent(&mut open(folder.path())), [0, 2, 3]);
}

#[test]
fn discards_the_oldest_when_the_channel_keeps_the_newest() {
    for on_disk in [false, true] {
        let mut outbox = memory();
        outbox.configure([(DATA.to_owned(), policy(Keep::Newest, 3))]);
        push(&mut outbox, 0..3);
        if on_disk {
            outbox.flush().unwrap();
        }
        assert_eq!(outbox.push(DATA, Bytes::from_static(&[3]), at(1)).unwrap(), Pushed::Kept { dropped: 1 });
        push(&mut outbox, [4]);
        assert_eq!(sent(&mut outbox), [2, 3, 4]);
        assert_eq!((outbox.figures().records, outbox.figures().dropped), (3, 2));
    }
}

#[test]
fn refuses_the_new_when_the_channel_keeps_the_oldest() {
    let mut outbox = memory();
    outbox.configure([(DATA.to_owned(), policy(Keep::Oldest, 2))]);
    push(&mut outbox, 0..2);
    assert_eq!(outbox.push(DATA, Bytes::from_static(&[2]), at(1)).unwrap(), Pushed::Dropped);
    assert_eq!(sent(&mut outbox), [0, 1]);
    assert_eq!(outbox.figures().dropped, 1);
}

#[test]
fn records_with_the_link_are_not_dropped_for_newer_ones() {
    let mut outbox = memory();
    outbox.configure([(DATA.to_owned(), policy(Keep::Newest, 2))]);
    push(&mut outbox, 0..2);
    assert_eq!(sent(&mut outbox), [0, 1]);
    assert_eq!(outbox.push(DATA, Bytes::from_static(&[2]), at(1)).unwrap(), Pushed::Dropped);
}

#[test]
fn what_was_dropped_does_not_come_back() {
    let mut outbox = memory();
    outbox.configure([(DATA.to_owned(), policy(Keep::Newest, 3))]);
    push(&mut outbox, 0..3);
    outbox.flush().unwrap();
    assert_eq!(outbox.next_unsent(1, at(0)).unwrap().len(), 1);
    push(&mut outbox, [3]);
    outbox.link_down();
    assert_eq!(sent(&mut outbox), [0, 2, 3]);
}

#[test]
fn all_data_channels_share_one_bound_and_events_have_their_own() {
    let bound = OutboxSettings { max_bytes: 4 * size(DATA, b"x"), ..settings() };
    let mut outbox = Outbox::open(Database::in_memory().unwrap(), bound).unwrap();
    push(&mut outbox, 0..3);
    let other = "data/other/channel".to_owned();
    outbox.push(&other, Bytes::from_static(b"o"), at(0)).unwrap();
    assert_eq!(outbox.push(&other, Bytes::from_static(b"p"), at(0)).unwrap(), Pushed::Kept { dropped: 1 });
    outbox.push(EVENT, Bytes::from_static(b"e"), at(0)).unwrap();
    assert_eq!(sent(&mut outbox)[0], b'e');
    assert_eq!(outbox.figures().records, 5);
}

#[test]
fn channels_take_turns() {
    let mut outbox = memory();
    push(&mut outbox, [1, 2, 3]);
    for payload in [11, 12] {
        outbox.push("data/z/z", Bytes::from(vec![payload]), at(0)).unwrap();
    }
    assert_eq!(sent(&mut outbox), [1, 11, 2, 12, 3]);
}

#[test]
fn drops_what_is_too_old_by_the_clock_that_is_right() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = open(folder.path());
    let week = Channel::default().max_age_s * 1000;
    push(&mut outbox, [1]);
    outbox.flush().unwrap();
    // The wall clock was set 50 years ahead; a record of this run does not age by it.
    let set = Now { wall_ms: at(0).wall_ms + 50 * 52 * week as i64, mono: Duration::from_secs(60) };
    assert_eq!(outbox.next_unsent(1, set).unwrap().len(), 1);
    outbox.link_down();
    assert_eq!(outbox.next_unsent(1, at(week + 1)).unwrap(), []);
    assert_eq!(outbox.figures().dropped, 1);
    push(&mut outbox, [2]);
    outbox.flush().unwrap();
    drop(outbox);
    let mut outbox = open(folder.path());
    let later = Now { wall_ms: at(week + 1).wall_ms, mono: Duration::ZERO };
    assert_eq!(outbox.next_unsent(1, later).unwrap(), []);
    assert_eq!(outbox.figures().dropped, 2);
}

#[test]
fn the_count_of_drops_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut outbox = open(folder.path());
    outbox.configure([(DATA.to_owned(), policy(Keep::Oldest, 1))]);
    push(&mut outbox, [1]);
    outbox.push(DATA, Bytes::from_static(b"x"), at(0)).unwrap();
    outbox.flush().unwrap();
    drop(outbox);
    assert_eq!(open(folder.path()).figures().dropped, 1);
}

#[test]
fn a_record_that_the_broker_refuses_is_counted() {
    let mut outbox = memory();
    push(&mut outbox, [1]);
    let record = outbox.next_unsent(1, at(0)).unwrap().remove(0);
    outbox.refused(record.id, at(0));
    outbox.refused(record.id, at(0));
    assert_eq!((outbox.figures().records, outbox.figures().dropped), (0, 1));
}

#[test]
fn what_is_with_the_link_is_bounded_in_bytes() {
    let mut outbox = memory();
    for _ in 0..16 {
        outbox.push(DATA, Bytes::from(vec![0; 60_000]), at(0)).unwrap();
    }
    let records = outbox.next_unsent(100, at(0)).unwrap();
    assert_eq!(records.len() as u64, UNACKED_BYTES / 60_000 + 1);
    outbox.acked(records[0].id, at(0));
    assert_eq!(outbox.next_unsent(100, at(0)).unwrap().len(), 1);
}

fn on(disk: &SimDisk) -> (Database, Outbox) {
    let database = Database::open_on(Arc::new(disk.clone()), Path::new("/state")).unwrap();
    (database.clone(), Outbox::open(database, settings()).unwrap())
}

#[test]
fn on_a_full_disk_records_wait_in_memory_and_no_more_than_fit_there() {
    let disk = SimDisk::new(1);
    let (database, mut outbox) = on(&disk);
    disk.fail_after(0, Fault::NoSpace, true);
    let mut failures = 0;
    for _ in 0..20 {
        failures += u32::from(outbox.push(DATA, Bytes::from(vec![0; 60_000]), at(0)).is_err());
    }
    let kept = MEMORY_BYTES / 60_000;
    assert_eq!(failures, 1, "the next attempt waits");
    assert_eq!((outbox.figures().records, outbox.figures().dropped), (kept, 20 - kept));
    assert!(outbox.tick(at(100)).is_err());
    assert_eq!(outbox.due(at(100)), Some(Duration::from_millis(200)), "tried again later, not at once");
    disk.heal();
    outbox.tick(at(300)).unwrap();
    assert_eq!(outbox.unstored(), 0);
    drop((outbox, database));
    disk.power_cycle();
    assert_eq!(on(&disk).1.figures().records, kept);
}

#[test]
fn the_wait_after_failures_is_bounded() {
    let disk = SimDisk::new(1);
    let (_database, mut outbox) = on(&disk);
    disk.fail_after(0, Fault::Broken, true);
    push(&mut outbox, [1]);
    let mut now = at(100);
    for _ in 0..20 {
        assert!(outbox.tick(now).is_err());
        let due = outbox.due(now).unwrap();
        assert!(due <= LONGEST_WAIT);
        now = Now { mono: now.mono + due, ..now };
    }
    assert_eq!(outbox.due(now), Some(Duration::ZERO));
}

#[test]
fn what_is_stored_after_a_failure_survives_a_power_cut_whichever_change_failed() {
    let mut failed = 0;
    for (change, seed) in (0..12).flat_map(|change| (0..10).map(move |seed| (change, seed))) {
        let disk = SimDisk::new(seed);
        let (database, mut outbox) = on(&disk);
        disk.fail_after(change, Fault::NoSpace, false);
        push(&mut outbox, 0..3);
        if outbox.flush().is_err() {
            failed += 1;
            outbox.flush().unwrap();
        }
        drop((outbox, database));
        disk.power_cycle();
        assert_eq!(on(&disk).1.figures().records, 3, "change {change}, disk {seed}");
    }
    assert!(failed > 30, "{failed}");
}

#[test]
fn what_is_on_disk_is_sent_while_the_disk_takes_no_writes() {
    for fault in Fault::ALL {
        let disk = SimDisk::new(1);
        let (_database, mut outbox) = on(&disk);
        push(&mut outbox, 0..3);
        outbox.flush().unwrap();
        disk.fail_after(0, fault, true);
        push(&mut outbox, 3..5);
        assert!(outbox.flush().is_err());
        assert_eq!(sent(&mut outbox), [0, 1, 2, 3, 4], "{fault:?}");
    }
}

#[test]
fn a_commit_that_failed_and_was_done_brings_nothing_back_that_was_acknowledged() {
    let mut failed = 0;
    // Its write fails, or its sync, and more or less of it is done.
    for (changes, seed) in (0..2).flat_map(|changes| (0..20).map(move |seed| (changes, seed))) {
        let disk = SimDisk::new(seed);
        let (database, mut outbox) = on(&disk);
        push(&mut outbox, 0..2);
        outbox.flush().unwrap();
        push(&mut outbox, 2..4);
        disk.fail_after(changes, Fault::Broken, false);
        failed += u32::from(outbox.flush().is_err());
        let records = outbox.next_unsent(100, at(0)).unwrap();
        assert_eq!(records.iter().map(|record| record.payload[0]).collect::<Vec<_>>(), [0, 1, 2, 3]);
        records.iter().for_each(|record| outbox.acked(record.id, at(0)));
        assert_eq!(outbox.figures().records, 0);
        disk.heal();
        outbox.flush().unwrap();
        drop((outbox, database));
        let (_database, mut outbox) = on(&disk);
        assert_eq!((outbox.figures().records, sent(&mut outbox)), (0, vec![]), "{changes}");
    }
    assert_eq!(failed, 40);
}

fn rows(number: u8) -> Rows {
    let key = RowKey { trial: None, module: "m".into(), key: [1].into() };
    [(key, Row::Value([number][..].into()))].into()
}

#[test]
fn records_outlive_a_damaged_database_and_modules_state_does_not() {
    let disk = SimDisk::new(1);
    let (_database, mut outbox) = on(&disk);
    push(&mut outbox, 0..3);
    outbox.push_frame(vec![(DATA.to_owned(), Bytes::from_static(&[3]))], rows(1), at(0)).unwrap();
    outbox.flush().unwrap();
    outbox.push_frame(vec![(DATA.to_owned(), Bytes::from_static(&[4]))], rows(2), at(0)).unwrap();
    // The log takes it, the database does not.
    disk.fail_after(2, Fault::Broken, false);
    assert!(outbox.flush().is_err());
    disk.damage(Path::new("/state/state.redb"), |bytes| bytes.fill(7)).unwrap();
    assert!(outbox.flush().is_err(), "it is set aside");
    assert_eq!(sent(&mut outbox), [0, 1, 2, 3, 4]);
    assert!(outbox.rows_lost());
    outbox.flush().unwrap();
    assert_eq!((outbox.figures().records, outbox.figures().dropped), (5, 0));
    drop((_database, outbox));
    disk.power_cycle();
    assert_eq!(sent(&mut on(&disk).1), [0, 1, 2, 3, 4]);
}

#[test]
fn a_frame_s_records_and_state_are_there_together_at_every_cut() {
    let mut there = [0; 2];
    for (cut, seed) in (0..40).flat_map(|cut| (0..8).map(move |seed| (cut, seed))) {
        let disk = SimDisk::new(seed);
        let (database, mut outbox) = on(&disk);
        push(&mut outbox, [0]);
        outbox.flush().unwrap();
        disk.cut_after(cut);
        outbox.push_frame(vec![(DATA.to_owned(), Bytes::from_static(&[1]))], rows(9), at(0)).unwrap();
        let stored = outbox.flush().is_ok();
        drop((outbox, database));
        disk.power_cycle();
        let (database, mut outbox) = on(&disk);
        let kept = !crate::state::table::load(&database).unwrap().is_empty();
        let expected: &[u8] = if kept { &[0, 1] } else { &[0] };
        assert_eq!(sent(&mut outbox), expected, "cut {cut}, seed {seed}");
        assert!(kept || !stored);
        there[usize::from(kept)] += 1;
        // And so after what follows.
        outbox.push_frame(vec![(DATA.to_owned(), Bytes::from_static(&[2]))], rows(8), at(0)).unwrap();
        outbox.flush().unwrap();
        drop((outbox, database));
        disk.power_cycle();
        assert_eq!(sent(&mut on(&disk).1), [expected, &[2]].concat(), "cut {cut}, seed {seed}");
    }
    assert!(there[0] > 20 && there[1] > 20, "{there:?}");
}
