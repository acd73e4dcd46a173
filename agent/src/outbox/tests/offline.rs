//! Days without a link, in accelerated time, and a start with much that waits.

use std::collections::VecDeque;

use super::*;
use crate::{
    outbox::log::{SEGMENT, SLACK},
    store::counted::CountedDisk,
};

/// What a channel must hold, by the numbers of its records.
struct Model {
    name: &'static str,
    policy: Channel,
    /// Numbers, and when they were made.
    waiting: VecDeque<(u32, u64)>,
    dropped: u64,
}

const PAYLOAD: usize = 60;
const STEP_MS: u64 = 10_000;
const HOURS: u64 = 72;

impl Model {
    fn new(name: &'static str, keep: Keep, records: u64, max_age_s: u64) -> Self {
        let policy = Channel { keep, max_bytes: records * Self::size(name), max_age_s, ..Channel::default() };
        Self { name, policy, waiting: VecDeque::new(), dropped: 0 }
    }

    fn size(name: &str) -> u64 {
        size(name, &[0; PAYLOAD])
    }

    fn push(&mut self, number: u32, now_ms: u64) {
        let full = (self.waiting.len() as u64 + 1) * Self::size(self.name) > self.policy.max_bytes;
        match self.policy.keep {
            Keep::Oldest if full => self.dropped += 1,
            keep => {
                if full && keep == Keep::Newest {
                    self.waiting.pop_front();
                    self.dropped += 1;
                }
                self.waiting.push_back((number, now_ms));
            }
        }
    }

    /// When the link comes up, what is too old goes.
    fn age(&mut self, now_ms: u64) {
        while self.waiting.pop_front_if(|(_, made)| now_ms - *made > self.policy.max_age_s * 1000).is_some() {
            self.dropped += 1;
        }
    }
}

fn payload(number: u32) -> Bytes {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(PAYLOAD, 7);
    bytes.into()
}

fn number(payload: &[u8]) -> u32 {
    u32::from_le_bytes(*payload.first_chunk().unwrap())
}

/// What the log's files take.
fn taken(disk: &SimDisk) -> u64 {
    let logs = disk.files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "log"));
    logs.map(|path| disk.peek(&path).unwrap().len() as u64).sum()
}

fn start(disk: &SimDisk, models: &[Model]) -> Outbox {
    let database = Database::open_on(Arc::new(disk.clone()), Path::new("/state")).unwrap();
    let drain = DrainSettings { messages: 500, bytes: 0 };
    let room = OutboxSettings { max_bytes: 64 << 20, event_max_bytes: 400 * Model::size(EVENT), drain, ..settings() };
    let mut outbox = Outbox::open(database, room).unwrap();
    let data = models.iter().filter(|model| model.name != EVENT);
    outbox.configure(data.map(|model| (model.name.to_owned(), model.policy.clone())));
    outbox
}

#[test]
fn seventy_two_hours_offline_then_drained_in_order_with_drops_by_policy_alone() {
    let disk = SimDisk::new(7);
    let week = Channel::default().max_age_s;
    let mut models = [
        Model::new("data/a/newest", Keep::Newest, 3000, week),
        Model::new("data/b/oldest", Keep::Oldest, 1000, week),
        Model::new("data/c/day", Keep::Newest, 100_000, 24 * 3600),
        Model::new(EVENT, Keep::Newest, 400, week),
    ];
    let mut outbox = start(&disk, &models);
    let (mut wall, mut began, mut most, mut restarts) = (0, 0, 0, 0_u64);
    let time = |wall: u64, began: u64| Now {
        wall_ms: 1_800_000_000_000 + wall as i64,
        mono: Duration::from_millis(wall - began),
    };
    for step in 0..(HOURS * 3_600_000 / STEP_MS) as u32 {
        wall += STEP_MS;
        let now = time(wall, began);
        for (at, model) in models.iter_mut().enumerate() {
            let every = [1, 1, 2, 60][at];
            if step % every == 0 {
                outbox.push(model.name, payload(step), now).unwrap();
                model.push(step, wall);
            }
        }
        outbox.tick(Now { mono: now.mono + Duration::from_millis(100), ..now }).unwrap();
        let waits = outbox.figures().bytes;
        let over = taken(&disk).saturating_sub(2 * waits + SLACK);
        most = over.max(most);
        if step % 1440 == 1439 {
            // Every four hours the agent ends, or the power does.
            drop(outbox);
            restarts += 1;
            if restarts.is_multiple_of(2) {
                disk.power_cycle();
            }
            wall += 60_000;
            began = wall;
            outbox = start(&disk, &models);
        }
    }
    assert!(most <= 2 * SEGMENT, "the files took {most} bytes more than they may");
    outbox.link_up();
    models.iter_mut().for_each(|model| model.age(wall));
    let (waiting, mut got) = (outbox.figures().records, BTreeMap::<String, Vec<u32>>::new());
    let mut now = time(wall, began);
    let started = now.mono;
    loop {
        for record in outbox.next_unsent(60, now).unwrap() {
            got.entry(record.channel.clone()).or_default().push(number(&record.payload));
            outbox.acked(record.id, now);
        }
        outbox.tick(now).unwrap();
        if outbox.figures().records == 0 {
            break;
        }
        now.mono += outbox.resumes_in(now).unwrap_or(Duration::from_millis(1));
    }
    for model in &models {
        let expected: Vec<u32> = model.waiting.iter().map(|(number, _)| *number).collect();
        assert!(
            got.get(model.name) == Some(&expected),
            "{}: {} of {}",
            model.name,
            got[model.name].len(),
            expected.len()
        );
    }
    let sent: usize = got.values().map(Vec::len).sum();
    assert_eq!(outbox.figures().dropped, models.iter().map(|model| model.dropped).sum::<u64>());
    let took = now.mono - started;
    assert!(took >= Duration::from_secs(sent as u64 / 500 - 1), "{sent} records in {took:?}");
    println!(
        "{waiting} records waited, {sent} were sent in {took:?}, {} dropped, {restarts} restarts",
        outbox.figures().dropped
    );
    outbox.flush().unwrap();
    drop(outbox);
    assert!(taken(&disk) < 2 * SEGMENT, "{} bytes are left", taken(&disk));
    assert_eq!(start(&disk, &models).figures().records, 0);
}

#[test]
fn a_start_reads_little_however_much_waits() {
    const RECORDS: u32 = 100_000;
    let sim = SimDisk::new(1);
    sim.set_room(256 << 20);
    let disk = CountedDisk::new(Arc::new(sim.clone()));
    let open = || {
        let database = Database::open_on(Arc::new(disk.clone()), Path::new("/state")).unwrap();
        let opened = disk.passed();
        let room = OutboxSettings { max_bytes: 64 << 20, ..settings() };
        let mut outbox = Outbox::open(database, room).unwrap();
        outbox.configure([(DATA.to_owned(), Channel { max_bytes: 64 << 20, ..Channel::default() })]);
        (outbox, opened)
    };
    let (mut outbox, _) = open();
    (0..RECORDS).for_each(|number| assert!(outbox.push(DATA, payload(number), at(0)).is_ok()));
    outbox.flush().unwrap();
    drop(outbox);
    let before = disk.passed();
    let (mut outbox, opened) = open();
    let database = opened.since(before).read;
    let read = disk.passed().since(opened).read;
    assert_eq!(outbox.figures().records, u64::from(RECORDS));
    println!("{} bytes wait; {read} are read to open the outbox, {database} to open the database", taken(&sim));
    assert!(taken(&sim) > 6 << 20 && read <= 2 * SEGMENT && database < 1 << 20, "{read}, {database}");
    let first = outbox.next_unsent(1, at(0)).unwrap();
    assert_eq!(number(&first[0].payload), 0);
    assert!(disk.passed().since(opened).read <= read + SEGMENT / 4, "and little for the first record");
}
