//! A link that goes up and down a thousand times, with restarts and power cuts between.

use std::collections::BTreeSet;

use sanderling_protocol::{batch, deployment::Batch};

use super::*;
use crate::store::sim::Dice;

const PACKED: &str = "data/m/packed";
const CYCLES: u32 = 1000;

/// What the broker has of a channel.
#[derive(Default)]
struct Heard {
    all: BTreeSet<u32>,
    newest: Option<u32>,
}

impl Heard {
    /// A record that comes for the first time is newer than all that came before.
    fn take(&mut self, number: u32) {
        if self.all.insert(number) {
            assert!(self.newest < Some(number), "{number} after {:?}", self.newest);
            self.newest = Some(number);
        }
    }
}

fn start(disk: &SimDisk) -> Outbox {
    let (_, mut outbox) = on(disk);
    outbox.configure([(PACKED.to_owned(), Channel { batch: Batch::Zstd, ..Channel::default() })]);
    outbox
}

#[test]
fn a_thousand_cycles_lose_nothing_that_was_stored_and_keep_the_order_of_each_channel() {
    let (disk, mut dice) = (SimDisk::new(5), Dice::new(5));
    let mut outbox = start(&disk);
    let mut heard: BTreeMap<&str, Heard> = [(DATA, Heard::default()), (PACKED, Heard::default())].into();
    // By channel: the next number, and those below which all was stored when the power went last.
    let (mut next, mut lost) = (0_u32, BTreeSet::new());
    let mut stored = 0_u32;
    for cycle in 0..CYCLES {
        let now = at(u64::from(cycle) * 1000);
        outbox.link_up();
        for _ in 0..dice.place(12) {
            for channel in [DATA, PACKED] {
                outbox.push(channel, next.to_le_bytes().to_vec().into(), now).unwrap();
            }
            next += 1;
        }
        for record in outbox.next_unsent(1 + dice.place(8), now).unwrap() {
            let numbers: Vec<u32> = if record.channel == DATA || record.channel == PACKED {
                vec![u32::from_le_bytes(record.payload[..].try_into().unwrap())]
            } else {
                let records = batch::decode(&record.payload).unwrap();
                records.iter().map(|record| u32::from_le_bytes(record.payload[..].try_into().unwrap())).collect()
            };
            let channel = if record.channel == DATA { DATA } else { PACKED };
            // It reaches the broker or the link is gone before; so may its acknowledgement.
            if dice.percent(70) {
                numbers.iter().for_each(|number| heard.get_mut(channel).unwrap().take(*number));
                if dice.percent(70) {
                    outbox.acked(record.id, now);
                }
            } else {
                // What follows on this connection does not come either.
                break;
            }
        }
        outbox.link_down();
        if dice.percent(50) {
            outbox.flush().unwrap();
            stored = next;
        }
        if dice.percent(5) {
            drop(outbox);
            disk.power_cycle();
            lost.extend(stored..next);
            outbox = start(&disk);
        }
    }
    outbox.link_up();
    while outbox.figures().records > 0 {
        for record in outbox.next_unsent(100, at(2_000_000)).unwrap() {
            let channel = if record.channel == DATA { DATA } else { PACKED };
            if record.channel.starts_with(batch::TOPIC) {
                for record in batch::decode(&record.payload).unwrap() {
                    heard.get_mut(channel).unwrap().take(u32::from_le_bytes(record.payload[..].try_into().unwrap()));
                }
            } else {
                heard.get_mut(channel).unwrap().take(u32::from_le_bytes(record.payload[..].try_into().unwrap()));
            }
            outbox.acked(record.id, at(2_000_000));
        }
    }
    for (channel, heard) in heard {
        let missing: Vec<u32> =
            (0..next).filter(|number| !heard.all.contains(number) && !lost.contains(number)).collect();
        assert_eq!(missing, [0_u32; 0], "{channel}");
    }
    assert_eq!(outbox.figures().dropped, 0);
    println!("{next} records a channel, {} were not stored when the power went", lost.len());
}
