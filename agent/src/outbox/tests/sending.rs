//! Priorities, the rate of a backlog, and batches.

use sanderling_protocol::{
    batch::{self, BatchRecord},
    deployment::Batch,
};

use super::*;

fn with(drain: DrainSettings, disk: &SimDisk) -> Outbox {
    let database = Database::open_on(Arc::new(disk.clone()), Path::new("/state")).unwrap();
    Outbox::open(database, OutboxSettings { drain, ..settings() }).unwrap()
}

fn named(outbox: &mut Outbox, channel: &str, payloads: impl IntoIterator<Item = u8>) {
    for payload in payloads {
        outbox.push(channel, Bytes::from(vec![payload]), at(0)).unwrap();
    }
}

fn of(priority: Priority) -> Channel {
    Channel { priority, ..Channel::default() }
}

#[test]
fn events_then_high_then_normal_in_turn_and_low_when_there_is_nothing_else() {
    for on_disk in [false, true] {
        let mut outbox = memory();
        let channels = [("data/a/low", Priority::Low), ("data/b/low", Priority::Low), ("data/y/high", Priority::High)];
        outbox.configure(channels.map(|(name, priority)| (name.to_owned(), of(priority))));
        named(&mut outbox, "data/a/low", [91, 92]);
        named(&mut outbox, "data/b/low", [81]);
        named(&mut outbox, "data/m/one", [1, 3]);
        named(&mut outbox, "data/m/two", [2, 4]);
        named(&mut outbox, "data/y/high", [51, 52]);
        named(&mut outbox, EVENT, [b'e']);
        if on_disk {
            outbox.flush().unwrap();
        }
        assert_eq!(sent(&mut outbox), [b'e', 51, 52, 1, 2, 3, 4, 91, 81, 92], "on disk: {on_disk}");
    }
}

#[test]
fn a_backlog_goes_at_its_rate_and_what_is_fresh_passes_it() {
    let disk = SimDisk::new(1);
    let mut outbox = with(DrainSettings::default(), &disk);
    named(&mut outbox, DATA, 0..50);
    outbox.flush().unwrap();
    drop(outbox);
    let mut outbox = with(DrainSettings { messages: 20, bytes: 0 }, &disk);
    outbox.link_up();
    named(&mut outbox, DATA, [50]);
    named(&mut outbox, "data/z/fresh", [100]);
    named(&mut outbox, EVENT, [b'e']);
    // What is fresh and has been stored since is no backlog.
    outbox.flush().unwrap();
    let first = sent(&mut outbox);
    assert_eq!((first[0], first.len()), (b'e', 7));
    assert!(first.contains(&100));
    assert!(sent(&mut outbox).is_empty(), "the rest waits");
    let mut all: Vec<u8> = first.into_iter().filter(|payload| *payload <= 50).collect();
    let mut now = at(0);
    while let Some(wait) = outbox.resumes_in(now) {
        assert!(wait <= Duration::from_millis(50), "{wait:?}");
        now.mono += wait;
        // A fresh event never waits.
        outbox.push(EVENT, Bytes::from_static(b"f"), now).unwrap();
        let records = outbox.next_unsent(100, now).unwrap();
        assert_eq!(records[0].channel, EVENT);
        all.extend(records[1..].iter().map(|record| record.payload[0]));
    }
    assert_eq!(all, (0..51).collect::<Vec<u8>>(), "in order, what is fresh behind what waited");
    assert_eq!(now.mono, Duration::from_millis(45 * 50));
}

#[test]
fn a_backlog_leaves_room_for_what_is_fresh() {
    let disk = SimDisk::new(1);
    let mut outbox = with(DrainSettings::default(), &disk);
    named(&mut outbox, DATA, 0..50);
    outbox.flush().unwrap();
    outbox.link_up();
    named(&mut outbox, "data/z/fresh", 0..50);
    let records = outbox.next_in(Room { most: 10, backlog: 3 }, at(0)).unwrap();
    assert_eq!(records.iter().filter(|record| record.channel == DATA).count(), 3);
    assert_eq!(records.len(), 10);
    assert_eq!(outbox.next_in(Room { most: 10, backlog: 0 }, at(0)).unwrap().len(), 10);
    assert_eq!(outbox.resumes_in(at(0)), None, "it is not the rate that holds it up");
}

fn batched() -> Outbox {
    let mut outbox = memory();
    outbox.configure([(DATA.to_owned(), Channel { batch: Batch::Zstd, ..Channel::default() })]);
    outbox
}

fn read(record: &Record) -> Vec<BatchRecord> {
    assert_eq!(record.channel, "batch/scratch/defects");
    batch::decode(&record.payload).unwrap()
}

#[test]
fn records_that_wait_together_go_in_one_message_and_are_acknowledged_by_one() {
    for on_disk in [false, true] {
        let mut outbox = batched();
        push(&mut outbox, 0..40);
        if on_disk {
            outbox.flush().unwrap();
        }
        let records = outbox.next_unsent(100, at(0)).unwrap();
        assert_eq!(records.len(), 1);
        let found = read(&records[0]);
        assert_eq!(found.iter().map(|record| record.payload[0]).collect::<Vec<_>>(), (0..40).collect::<Vec<u8>>());
        assert!(found.iter().all(|record| record.at_ms == at(0).wall_ms));
        assert!(found.is_sorted_by(|one, other| one.id < other.id));
        assert_eq!(outbox.figures().records, 40);
        outbox.link_down();
        let again = outbox.next_unsent(100, at(0)).unwrap();
        assert_eq!(again, records, "the same again");
        outbox.acked(again[0].id, at(0));
        assert_eq!(outbox.figures(), reported::Outbox::default());
        outbox.flush().unwrap();
        outbox.link_down();
        assert_eq!(outbox.next_unsent(100, at(0)).unwrap(), []);
    }
}

#[test]
fn a_record_that_waits_alone_goes_as_it_is() {
    let mut outbox = batched();
    push(&mut outbox, [7]);
    let records = outbox.next_unsent(100, at(0)).unwrap();
    assert_eq!((records[0].channel.as_str(), &records[0].payload[..]), (DATA, &[7][..]));
    outbox.push(DATA, Bytes::from(vec![0; batch::MAX_CONTENT]), at(0)).unwrap();
    push(&mut outbox, [8, 9]);
    let records = outbox.next_unsent(100, at(0)).unwrap();
    assert_eq!(records[0].channel, DATA, "one that is too large for a batch goes alone");
    assert_eq!(read(&records[1]).len(), 2);
}

#[test]
fn a_batch_that_the_broker_refuses_is_counted_by_its_records() {
    let mut outbox = batched();
    push(&mut outbox, 0..9);
    let record = outbox.next_unsent(1, at(0)).unwrap().remove(0);
    outbox.refused(record.id, at(0));
    outbox.refused(record.id, at(0));
    assert_eq!((outbox.figures().records, outbox.figures().dropped), (0, 9));
}
