//! Power cuts at each change, and damage at every place, of a log that begins segments, moves what is left of them and removes them.

use std::collections::VecDeque;

use super::*;
use crate::store::disk::{Access, Disk};

const QUIET: &str = "data/b/quiet";
const BYTES: usize = 4000;
const ROUNDS: u32 = 90;

/// The numbers that wait, by channel.
type Waiting = BTreeMap<&'static str, VecDeque<u32>>;

fn payload(number: u32) -> Bytes {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(BYTES, number as u8);
    bytes.into()
}

fn start(disk: &SimDisk) -> Result<Outbox, StoreError> {
    let database = Database::open_on(Arc::new(disk.clone()), Path::new("/state"))?;
    let room = OutboxSettings { max_bytes: 8 << 20, ..settings() };
    let mut outbox = Outbox::open(database, room)?;
    let policy = Channel { max_bytes: 60 * size(DATA, &[0; BYTES]), ..Channel::default() };
    outbox.configure([(DATA.to_owned(), policy)]);
    Ok(outbox)
}

/// A channel that keeps its newest 60 records, and one that is quiet and keeps all; some are acknowledged.
fn round(outbox: &mut Outbox, waiting: &mut Waiting, round: u32) -> Result<(), StoreError> {
    for number in round * 10..(round + 1) * 10 {
        let data = waiting.entry(DATA).or_default();
        if data.len() == 60 {
            data.pop_front();
        }
        data.push_back(number);
        outbox.push(DATA, payload(number), at(0))?;
    }
    waiting.entry(QUIET).or_default().push_back(round);
    outbox.push(QUIET, payload(round), at(0))?;
    if round % 7 == 6 {
        for record in outbox.next_unsent(4, at(0))? {
            let channel = if record.channel == DATA { DATA } else { QUIET };
            let number = u32::from_le_bytes(*record.payload.first_chunk().unwrap());
            assert_eq!(waiting.get_mut(channel).unwrap().pop_front(), Some(number));
            outbox.acked(record.id, at(0));
        }
    }
    outbox.flush()
}

fn read(outbox: &mut Outbox) -> Waiting {
    let mut found = Waiting::new();
    loop {
        let records = outbox.next_unsent(1000, at(0)).unwrap();
        if records.is_empty() {
            return found;
        }
        for record in records {
            let number = u32::from_le_bytes(*record.payload.first_chunk().unwrap());
            assert_eq!(record.payload, payload(number));
            let channel = if record.channel == DATA { DATA } else { QUIET };
            found.entry(channel).or_default().push_back(number);
            outbox.acked(record.id, at(0));
        }
    }
}

/// Goes through the story until the power is out. Gives what waited before the round that was cut, and what would have after it.
fn story(disk: &SimDisk) -> (Waiting, Waiting) {
    let (mut before, mut after) = (Waiting::new(), Waiting::new());
    let Ok(mut outbox) = start(disk) else { return (before, after) };
    for number in 0..ROUNDS {
        if round(&mut outbox, &mut after, number).is_err() {
            break;
        }
        before.clone_from(&after);
    }
    (before, after)
}

fn logs(disk: &SimDisk) -> Vec<std::path::PathBuf> {
    disk.files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "log")).collect()
}

#[test]
fn a_cut_at_any_change_leaves_each_batch_whole_or_not_at_all() {
    let whole = SimDisk::new(0);
    let (expected, _) = story(&whole);
    assert!(expected[QUIET].len() > 60 && logs(&whole).len() < 12, "{:?}", logs(&whole));
    let all = whole.changes();
    // Each seed takes other places; together they are all of them.
    for cut in 0..all {
        let disk = SimDisk::new(cut);
        disk.cut_after(cut);
        let (before, after) = story(&disk);
        disk.power_cycle();
        let found = read(&mut start(&disk).unwrap());
        assert!(found == before || found == after, "cut {cut} of {all}: {found:?}, not {before:?} nor {after:?}");
        // It goes on from there.
        let mut outbox = start(&disk).unwrap();
        push(&mut outbox, [1]);
        outbox.flush().unwrap();
    }
    println!("{all} cuts");
}

#[test]
fn what_a_flipped_bit_or_a_lost_file_takes_is_counted() {
    let disk = SimDisk::new(3);
    let (expected, _) = story(&disk);
    let waiting = |found: &Waiting| found.values().map(VecDeque::len).sum::<usize>() as u64;
    let dropped = start(&disk).unwrap().figures().dropped;
    let (files, mut lost_once) = (logs(&disk), 0);
    for (at, path) in files.iter().enumerate() {
        let length = disk.peek(path).unwrap().len();
        for place in (0..length).step_by(length / 24 + 1).chain([0, 5, length - 1]) {
            let copy = disk.copy(9);
            copy.damage(path, |bytes| bytes[place] ^= 1 << (place % 8)).unwrap();
            lost_once += check(&copy, &expected, dropped, &format!("{path:?} {place}"));
        }
        for how in 0..3 {
            let copy = disk.copy(9);
            match how {
                0 => copy.remove(path).unwrap(),
                1 => copy.open(path, Access::Change).unwrap().set_len(length as u64 / 2).unwrap(),
                _ => copy.spoil(path, length / 2..length / 2 + 512).unwrap(),
            }
            lost_once += check(&copy, &expected, dropped, &format!("{path:?}, file {at}, {how}"));
        }
    }
    assert!(lost_once > 20 && waiting(&expected) > 100);
}

/// Gives whether something was lost.
fn check(disk: &SimDisk, expected: &Waiting, dropped: u64, what: &str) -> u32 {
    let mut outbox = start(disk).unwrap();
    let found = read(&mut outbox);
    let mut missing = 0;
    for (channel, numbers) in expected {
        let there = found.get(channel).cloned().unwrap_or_default();
        assert!(there.iter().is_sorted(), "{what}: {channel} is out of order");
        missing += numbers.iter().filter(|number| !there.contains(number)).count() as u64;
    }
    let told = outbox.figures().dropped - dropped;
    assert!(told >= missing.min(1) && told + 1 >= missing, "{what}: {missing} are missing, {told} are told");
    assert_eq!(outbox.figures().records, 0, "{what}");
    outbox.flush().unwrap();
    drop(outbox);
    assert_eq!(read(&mut start(disk).unwrap()), Waiting::new(), "{what}: gone is gone");
    u32::from(missing > 0)
}
