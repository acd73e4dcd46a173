//! A broker that dies and comes back, and a link that breaks, again and again under load: no record is lost, and nothing is left
//! behind in the agent.
//!
//! A record counts as delivered when the broker has acknowledged it (PUBACK), as the proxy between agent and broker sees it: what a
//! killed broker loses after that is not the agent's to keep, and an observer of that broker could not tell the two apart.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex},
    time::Duration,
};

use sanderling_tests::{
    Device, Dice, PATIENCE, Process, Proxy, Site,
    guests::TICKS,
    proof,
    proxy::{Passing, Toward, Verdict, packet::kind},
    until,
};

/// Frames a second, each of which is a record.
const RATE: f64 = 100.0;
/// The longest wait between two attempts to connect, in milliseconds.
const LONGEST_WAIT: u64 = 100;
/// Memory that an agent may have gained when all is over: its outbox and its buffers have been larger meanwhile.
const GAINED: u64 = 4 << 20;

/// What passed between agent and broker.
#[derive(Default)]
struct Ledger {
    /// By number: how often a record was sent, and how often it was acknowledged.
    records: BTreeMap<u64, (u32, u32)>,
    /// Records without their acknowledgement, by connection and packet id.
    open: HashMap<(u64, u16), u64>,
    /// Records that were sent for the first time after a newer one.
    disordered: u64,
    packets: u64,
    acknowledged: u64,
    /// The newest connection on which the broker took a subscription.
    subscribed: u64,
}

impl Ledger {
    fn pass(&mut self, passing: Passing<'_>) -> Verdict {
        self.packets += 1;
        let Passing { connection, toward, packet } = passing;
        match (toward, packet.kind()) {
            (Toward::Broker, kind::PUBLISH) => {
                let found = packet.publication().filter(|found| found.topic.ends_with(TICKS));
                let number = found.as_ref().and_then(|found| found.payload.get(..8)?.try_into().ok());
                if let (Some(found), Some(number)) = (&found, number) {
                    let number = u64::from_le_bytes(number);
                    let newest = self.records.keys().next_back().copied();
                    self.disordered += u64::from(newest > Some(number) && !self.records.contains_key(&number));
                    self.records.entry(number).or_default().0 += 1;
                    self.open.insert((connection, found.id), number);
                }
            }
            (Toward::Device, kind::PUBACK) => {
                let taken = packet.body().get(2).is_none_or(|reason| *reason < 0x80);
                let number = packet.id().and_then(|id| self.open.remove(&(connection, id)));
                if let (true, Some(record)) = (taken, number.and_then(|number| self.records.get_mut(&number))) {
                    record.1 += 1;
                    self.acknowledged += 1;
                }
            }
            (Toward::Device, kind::SUBACK) => self.subscribed = connection,
            _ => {}
        }
        Verdict::Pass
    }

    /// The numbers between the first and `last` that no broker acknowledged.
    fn lost(&self, last: u64) -> BTreeSet<u64> {
        let first = self.records.keys().next().copied().unwrap_or(0);
        let acknowledged = |number: &u64| self.records.get(number).is_some_and(|record| record.1 > 0);
        (first..=last).filter(|number| !acknowledged(number)).collect()
    }
}

/// An agent that runs [`sanderling_tests::line`] behind a proxy that keeps a ledger.
struct Ground {
    ledger: Arc<Mutex<Ledger>>,
    agent: Process,
    proxy: Proxy,
    device: Device,
    site: Site,
}

impl Ground {
    fn new() -> Self {
        let site = Site::new();
        let device = site.device("gw-1");
        let proxy = Proxy::for_device(&site.broker, &site.fleet, &device);
        let longest = Duration::from_millis(LONGEST_WAIT).as_secs_f64();
        let quick = format!("[broker]\nbackoff_min_s = 0.05\nbackoff_max_s = {longest}\n[log]\nlevel = \"info\"\n");
        device.lay("20-quick", &quick);
        device.lay_clock("clock", RATE);
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let kept = ledger.clone();
        proxy.judge(move |passing| kept.lock().unwrap().pass(passing));
        let agent = device.start();
        let digest = site.roll_out_ticks(b'a');
        site.observer.wait_active(&device.id, digest);
        let ground = Self { ledger, agent, proxy, device, site };
        ground.wait("the first records", |ledger| ledger.acknowledged > 50);
        ground
    }

    #[track_caller]
    fn wait(&self, what: &str, reached: impl Fn(&Ledger) -> bool) {
        let found = until(PATIENCE, || reached(&self.ledger.lock().unwrap()).then_some(()));
        assert!(found.is_some(), "{what}: not within {PATIENCE:?}");
    }

    /// Waits until so many more packets have passed: a moment that is somewhere between handshake and the next record.
    #[track_caller]
    fn wait_packets(&self, more: usize) {
        let goal = self.ledger.lock().unwrap().packets + u64::try_from(more).unwrap();
        self.wait("more packets", |ledger| ledger.packets >= goal);
    }

    #[track_caller]
    fn wait_acknowledged(&self, more: u64) {
        let goal = self.ledger.lock().unwrap().acknowledged + more;
        self.wait("more acknowledgements", |ledger| ledger.acknowledged >= goal);
    }

    /// Waits until nothing of what was emitted until now is open, or the limit is over; gives the numbers that are lost.
    fn settle(&self) -> BTreeSet<u64> {
        self.wait_acknowledged(20);
        let last = self.ledger.lock().unwrap().records.keys().next_back().copied().unwrap_or(0);
        let settled = until(PATIENCE, || self.ledger.lock().unwrap().lost(last).is_empty().then_some(()));
        settled.map_or_else(|| self.ledger.lock().unwrap().lost(last), |()| BTreeSet::new())
    }

    /// What the device says of records that it gave up, and of modules that were started again: none.
    fn assert_nothing_was_dropped(&self) {
        let body = self.site.observer.request(&self.device.id, "report", b"").body.unwrap();
        let module = &body["modules"][0];
        let counts = (body["outbox"]["dropped"].as_u64(), module["dropped"].as_u64(), module["restarts"].as_u64());
        assert_eq!(counts, (Some(0), Some(0), Some(0)), "{body}");
        assert_eq!(self.ledger.lock().unwrap().disordered, 0, "records went out of order");
    }

    /// Waits until the agent has no more files open than `before`, and little more memory; says what it has.
    ///
    /// It may be one less: `before` can have met the agent at the moment of a write to a file of its own.
    #[track_caller]
    fn assert_nothing_is_left(&self, (files, memory): (usize, u64)) -> String {
        let back = until(PATIENCE, || Some(self.agent.open_files()).filter(|open| *open <= files));
        let open = back.unwrap_or_else(|| panic!("{} files are open, {files} were before", self.agent.open_files()));
        let now = self.agent.own_memory();
        assert!(now < memory + GAINED, "{now} bytes of memory, {memory} before");
        format!("{files} files open before and {open} after, memory from {} to {} KiB", memory / 1024, now / 1024)
    }

    fn takes(&self) -> (usize, u64) {
        (self.agent.open_files(), self.agent.own_memory())
    }

    /// The waits between attempts, as the log tells them, in milliseconds.
    fn waits(&self) -> Vec<u64> {
        let lines = self.agent.lines();
        let waits =
            lines.iter().filter_map(|line| line.split_once("retry_in_ms=")?.1.split_whitespace().next()?.parse().ok());
        waits.collect()
    }
}

#[test]
fn a_broker_that_is_killed_again_and_again_costs_no_record() {
    let cases = proof::cases(25);
    let mut ground = Ground::new();
    let before = ground.takes();
    for case in 0..cases {
        let mut dice = Dice::new(case);
        ground.wait_packets(dice.below(60));
        ground.site.broker.kill();
        if dice.chance(40) {
            // It stays away for some attempts.
            let goal = ground.proxy.connections() + 1 + u64::try_from(dice.below(3)).unwrap();
            assert!(until(PATIENCE, || (ground.proxy.connections() >= goal).then_some(())).is_some(), "no attempt");
        }
        ground.site.broker.start_again();
        if dice.chance(70) {
            ground.wait_acknowledged(1);
        }
        assert!(ground.agent.is_running(), "case {case}");
    }
    let lost = ground.settle();
    let left = ground.assert_nothing_is_left(before);
    let ledger = ground.ledger.lock().unwrap();
    let (all, again) = (ledger.records.len(), ledger.records.values().filter(|record| record.0 > 1).count());
    let twice = ledger.records.values().filter(|record| record.1 > 1).count();
    drop(ledger);
    let note = format!("{all} records, {} lost, {again} sent again, {twice} acknowledged twice; {left}", lost.len());
    proof::found("broker-restarts", cases, u64::from(!lost.is_empty()), &note);
    assert_eq!(lost, BTreeSet::new());
    ground.assert_nothing_was_dropped();
}

#[test]
fn a_link_that_is_cut_again_and_again_leaves_nothing_behind() {
    let cases = proof::cases(60);
    let mut ground = Ground::new();
    let before = ground.takes();
    for case in 0..cases {
        let mut dice = Dice::new(case);
        let connection = ground.proxy.connections();
        match dice.below(4) {
            // In the middle of a connection, of its handshake, and of a packet.
            0 | 1 => ground.wait_packets(dice.below(30)),
            2 => {}
            _ => ground.proxy.cut_after(Toward::Broker, u64::try_from(dice.below(2000)).unwrap()),
        }
        ground.proxy.cut();
        let again = until(PATIENCE, || (ground.proxy.connections() > connection).then_some(()));
        assert!(again.is_some(), "case {case}: no attempt");
        ground.proxy.heal();
        if dice.chance(50) {
            ground.wait("a subscription", |ledger| ledger.subscribed > connection);
        }
        assert!(ground.agent.is_running(), "case {case}");
    }
    let lost = ground.settle();
    let left = ground.assert_nothing_is_left(before);
    let waits = ground.waits();
    let (shortest, longest) = (waits.iter().min().copied(), waits.iter().max().copied());
    assert!(waits.len() as u64 >= cases / 2, "{} attempts", waits.len());
    assert!(shortest >= Some(25) && longest <= Some(LONGEST_WAIT), "{shortest:?} to {longest:?} ms");
    let spread: BTreeSet<u64> = waits.iter().copied().collect();
    assert!(spread.len() > 10, "waits are spread: {spread:?}");
    let note = format!("{} attempts to connect, {} records lost; {left}", ground.proxy.connections(), lost.len());
    proof::found("link-cuts", cases, u64::from(!lost.is_empty()), &note);
    assert_eq!(lost, BTreeSet::new());
    ground.assert_nothing_was_dropped();
}
