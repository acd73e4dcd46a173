//! What must be in the outbox, and how that is compared with what is.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use sanderling_protocol::deployment::{Channel, Keep};

use super::{Running, kept::Kept};
use crate::{
    clock::Now,
    outbox::{Outbox, Pushed, size},
    store::sim::Dice,
    sync::Slots,
};

const CHANNELS: [(&str, Keep); 3] =
    [("data/a/newest", Keep::Newest), ("data/a/oldest", Keep::Oldest), ("event", Keep::Newest)];
const MOST_BYTES: u64 = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Waiting {
    number: u32,
    size: u64,
    stored: bool,
    /// A commit that it was in failed, and may have been done all the same.
    doubtful: bool,
    /// The id by which it is acknowledged, while it is with the link.
    sent: Option<u64>,
}

impl Waiting {
    fn may_be_stored(&self) -> bool {
        self.stored || self.doubtful
    }
}

/// The model of an outbox, and of the state that is stored with its records.
#[derive(Clone, Debug, Default)]
pub(super) struct Records {
    next: u32,
    waiting: BTreeMap<&'static str, Vec<Waiting>>,
    /// Stored once and gone since, which is not stored yet: a power cut brings them back.
    gone: BTreeSet<u32>,
    dropped: u64,
    pub(super) stored: u64,
    pub(super) kept: Kept,
}

impl Records {
    pub(super) fn configure(outbox: &mut Outbox) {
        let policy = |keep| Channel { keep, max_bytes: MOST_BYTES, ..Channel::default() };
        outbox.configure(CHANNELS.iter().map(|(name, keep)| ((*name).to_owned(), policy(*keep))));
    }

    /// Does something to the outbox. What comes of it is checked; an error of the disk is passed on.
    pub(super) fn act(
        &mut self,
        running: &mut Running,
        slots: &Slots,
        now: Now,
        dice: &mut Dice,
    ) -> Result<(), String> {
        let outbox = &mut running.outbox;
        let acted = match dice.below(13) {
            0..4 => (0..=dice.place(12)).try_for_each(|_| self.push(outbox, now, dice)),
            10.. => (0..=dice.place(4)).try_for_each(|_| self.frame(running, slots, now, dice)),
            4 | 5 => self.send(outbox, now, dice),
            6 | 7 => self.acknowledge(outbox, now, dice),
            8 => {
                outbox.link_down();
                self.waiting.values_mut().flatten().for_each(|record| record.sent = None);
                Ok(())
            }
            _ => self.flush(outbox),
        };
        if acted.is_err() {
            self.doubt();
        }
        let figures = running.outbox.figures();
        let count: usize = self.waiting.values().map(Vec::len).sum();
        assert_eq!(figures.records, count as u64, "records that wait");
        assert_eq!(figures.dropped, self.dropped, "records that were dropped");
        acted
    }

    fn doubt(&mut self) {
        self.waiting.values_mut().flatten().for_each(|record| record.doubtful = true);
        self.kept.doubt();
    }

    /// Records and changes of the state that belong together.
    fn frame(&mut self, running: &mut Running, slots: &Slots, now: Now, dice: &mut Dice) -> Result<(), String> {
        let rows = self.kept.frame(&mut running.states, slots, dice);
        let records =
            (0..dice.place(4)).map(|_| self.admit(dice)).map(|(channel, payload, ..)| (channel.to_owned(), payload));
        let pushed = running.outbox.push_frame(records.collect(), rows, now);
        if pushed.is_ok() && running.outbox.due(now).is_none() {
            self.all_stored();
        }
        pushed.map_err(|error| error.to_string())
    }

    /// The slots are stored, and what follows from it for the state is to be.
    pub(super) fn settle(&mut self, running: &mut Running, slots: &Slots, now: Now) -> Result<(), String> {
        let rows = self.kept.stored(&mut running.states, slots);
        let pushed = running.outbox.push_frame(Vec::new(), rows, now);
        if pushed.is_err() {
            self.doubt();
        }
        pushed.map_err(|error| error.to_string())
    }

    fn push(&mut self, outbox: &mut Outbox, now: Now, dice: &mut Dice) -> Result<(), String> {
        let (channel, payload, fits, dropped) = self.admit(dice);
        let pushed = outbox.push(channel, payload, now);
        if let Ok(pushed) = &pushed {
            assert_eq!(*pushed, if fits { Pushed::Kept { dropped } } else { Pushed::Dropped });
            if fits && outbox.due(now).is_none() {
                self.all_stored();
            }
        }
        pushed.map(drop).map_err(|error| error.to_string())
    }

    /// What becomes of the next record: its channel and payload, whether it fits, and how many are dropped for it.
    fn admit(&mut self, dice: &mut Dice) -> (&'static str, Bytes, bool, u64) {
        let (channel, keep) = CHANNELS[dice.place(CHANNELS.len())];
        let number = self.next;
        self.next += 1;
        let payload = payload(number);
        let size = size(channel, &payload);
        let waiting = self.waiting.entry(channel).or_default();
        let mut dropped = 0;
        let mut fits = true;
        while waiting.iter().map(|record| record.size).sum::<u64>() + size > MOST_BYTES {
            let first = waiting.iter().position(|record| record.sent.is_none());
            let Some(first) = first.filter(|_| keep == Keep::Newest) else {
                fits = false;
                break;
            };
            let record = waiting.remove(first);
            self.gone.extend(record.may_be_stored().then_some(record.number));
            dropped += 1;
        }
        self.dropped += dropped;
        if fits {
            waiting.push(Waiting { number, size, stored: false, doubtful: false, sent: None });
        } else {
            self.dropped += 1;
        }
        (channel, payload, fits, dropped)
    }

    fn send(&mut self, outbox: &mut Outbox, now: Now, dice: &mut Dice) -> Result<(), String> {
        let records = outbox.next_unsent(1 + dice.place(20), now).map_err(|error| error.to_string())?;
        for record in records {
            let waiting = self.waiting.get_mut(record.channel.as_str()).unwrap();
            let first = waiting.iter_mut().find(|record| record.sent.is_none()).unwrap();
            assert_eq!(record.payload, payload(first.number), "the next of {}", record.channel);
            first.sent = Some(record.id);
        }
        Ok(())
    }

    fn acknowledge(&mut self, outbox: &mut Outbox, now: Now, dice: &mut Dice) -> Result<(), String> {
        for waiting in self.waiting.values_mut() {
            waiting.retain(|record| {
                let Some(id) = record.sent.filter(|_| dice.percent(60)) else { return true };
                outbox.acked(id, now);
                self.gone.extend(record.may_be_stored().then_some(record.number));
                false
            });
        }
        outbox.tick(now).map_err(|error| error.to_string())?;
        if outbox.due(now).is_none() {
            self.all_stored();
        }
        Ok(())
    }

    fn all_stored(&mut self) {
        for record in self.waiting.values_mut().flatten().filter(|record| !record.stored) {
            record.stored = true;
            self.stored += 1;
        }
        self.gone.clear();
        self.kept.all_stored();
    }

    /// Stores everything; gives whether that was done.
    pub(super) fn flush(&mut self, outbox: &mut Outbox) -> Result<(), String> {
        outbox.flush().map_err(|error| error.to_string())?;
        self.all_stored();
        Ok(())
    }

    /// Compares with what a restart found. `batch`: no commit failed before the power went, so that the last batch is there as a
    /// whole or not at all.
    pub(super) fn check(&mut self, running: &mut Running, slots: &Slots, now: Now, batch: bool) -> Result<(), String> {
        let found = read(&mut running.outbox, now)?;
        let whole = self.compare(&found, batch)?;
        self.kept.check(&mut running.states, slots, whole)?;
        let dropped = running.outbox.figures().dropped;
        if dropped > self.dropped {
            return Err(format!("{dropped} drops are counted of {}", self.dropped));
        }
        self.take_over(found, dropped);
        Ok(())
    }

    /// Takes what is there as right, where records may be lost. Gives how many are, and are not told as dropped.
    pub(super) fn adopt(&mut self, outbox: &mut Outbox, now: Now) -> Result<usize, String> {
        let found = read(outbox, now)?;
        let there: BTreeSet<u32> = found.values().flatten().map(|record| record.number).collect();
        let lost = self.waiting.values().flatten().filter(|record| !there.contains(&record.number)).count();
        let told = outbox.figures().dropped.saturating_sub(self.dropped);
        let lost = if told > 0 { 0 } else { lost };
        self.take_over(found, outbox.figures().dropped);
        Ok(lost)
    }

    fn take_over(&mut self, found: BTreeMap<&'static str, Vec<Waiting>>, dropped: u64) {
        self.waiting = found;
        self.gone.clear();
        self.dropped = dropped;
    }

    /// Gives whether the last batch is there, where records tell.
    fn compare(&self, found: &BTreeMap<&'static str, Vec<Waiting>>, batch: bool) -> Result<Option<bool>, String> {
        let none = Vec::new();
        let (mut new, mut new_found, mut back) = (0, 0, 0);
        for (channel, _) in CHANNELS {
            let found: Vec<u32> = found.get(channel).unwrap_or(&none).iter().map(|record| record.number).collect();
            if !found.is_sorted_by(|one, other| one < other) {
                return Err(format!("{channel} is out of order: {found:?}"));
            }
            let known = self.waiting.get(channel).unwrap_or(&none);
            for record in known {
                let there = found.contains(&record.number);
                if record.stored && !there {
                    return Err(format!("record {} of {channel} was stored and is lost", record.number));
                }
                if !record.may_be_stored() {
                    new += 1;
                    new_found += u32::from(there);
                }
            }
            for number in found {
                if self.gone.contains(&number) {
                    back += 1;
                } else if !known.iter().any(|record| record.number == number) {
                    return Err(format!("record {number} of {channel} is there though it was removed"));
                }
            }
        }
        let gone = self.gone.len() as u32;
        let undone = new_found == 0 && back == gone;
        let done = new_found == new && back == 0;
        if batch && !undone && !done {
            return Err(format!("half a batch: {new_found} of {new} new, {back} of {gone} removed"));
        }
        Ok((batch && done != undone).then_some(done))
    }
}

/// Every record that waits, in the order in which it is sent.
fn read(outbox: &mut Outbox, now: Now) -> Result<BTreeMap<&'static str, Vec<Waiting>>, String> {
    let mut found: BTreeMap<&'static str, Vec<Waiting>> = BTreeMap::new();
    loop {
        let records = outbox.next_unsent(10_000, now).map_err(|error| error.to_string())?;
        if records.is_empty() {
            break;
        }
        for record in records {
            let (name, _) = CHANNELS.iter().find(|(name, _)| *name == record.channel).ok_or("a strange channel")?;
            let number = record.payload.first_chunk().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes));
            if number > 1 << 24 || record.payload != payload(number) {
                return Err(format!("record {number} has another content"));
            }
            let size = size(name, &record.payload);
            let waiting = Waiting { number, size, stored: true, doubtful: false, sent: None };
            found.entry(name).or_default().push(waiting);
        }
    }
    outbox.link_down();
    let (counted, there) = (outbox.figures().records, found.values().map(Vec::len).sum::<usize>());
    if counted == there as u64 { Ok(found) } else { Err(format!("{counted} records are counted, {there} are there")) }
}

fn payload(number: u32) -> Bytes {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(4 + number as usize * 37 % 400, number as u8);
    bytes.into()
}
