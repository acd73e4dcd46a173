use super::*;
use crate::{
    store::database::Database,
    sync::{Slot, Trial},
};

const QUOTA: u64 = 100;

/// A deployment with these modules.
fn slot(name: &str, modules: &[&str]) -> Slot {
    let module = |name: &&str| serde_json::json!({ "name": name, "module": "modules/m", "input": [] });
    let modules: Vec<_> = modules.iter().map(module).collect();
    let schema = sanderling_protocol::deployment::SCHEMA;
    let document = serde_json::json!({ "schema": schema, "name": name, "modules": modules }).to_string();
    Slot {
        name: name.into(),
        version: 1,
        digest: Digest::of(document.as_bytes()),
        document,
        artifacts: Vec::new(),
        withdrawn: Vec::new(),
    }
}

fn committed(slot: &Slot) -> Slots {
    Slots { committed: Some(slot.clone()), ..Slots::default() }
}

fn on_trial(old: &Slot, new: &Slot) -> Slots {
    Slots { trial: Some(Trial { slot: new.clone(), starts: 1 }), ..committed(old) }
}

fn changes<const N: usize>(changes: [(&str, Option<&str>); N]) -> StateChanges {
    changes.map(|(key, value)| (key.as_bytes().into(), value.map(|value| value.as_bytes().into()))).into()
}

fn text(state: &State) -> String {
    let one = |(key, value): (&StateKey, &StateValue)| {
        format!("{}={}", String::from_utf8_lossy(key), String::from_utf8_lossy(value))
    };
    state.iter().map(one).collect::<Vec<_>>().join(" ")
}

/// The states, and a disk that has every row that they gave out.
#[derive(Default)]
struct Bench {
    states: States,
    disk: Rows,
}

impl Bench {
    /// Deployment `a` with modules `m` and `n` is committed and runs as generation 1; `m` keeps something.
    fn new() -> (Self, Slot) {
        let (mut bench, a) = (Self::default(), slot("a", &["m", "n"]));
        bench.settle(&committed(&a));
        bench.states.place(1, a.identity());
        bench.keep(1, "m", [("x", Some("1")), ("y", Some("1"))]);
        (bench, a)
    }

    fn store(&mut self, rows: Rows) {
        for (key, row) in rows {
            match row {
                Row::Gone => drop(self.disk.remove(&key)),
                row => drop(self.disk.insert(key, row)),
            }
        }
    }

    /// The slots are stored, with what follows from it on disk.
    fn settle(&mut self, slots: &Slots) {
        let trial = slots.trial.as_ref().map(|trial| trial.slot.identity());
        let committed = slots.committed.as_ref().map(Slot::identity);
        let (kept, others): (Rows, Rows) =
            std::mem::take(&mut self.disk).into_iter().partition(|(key, _)| key.trial.is_none() || key.trial == trial);
        self.disk = kept;
        for (key, row) in others.into_iter().filter(|(key, _)| key.trial == committed) {
            let key = RowKey { trial: None, ..key };
            match row {
                Row::Value(_) => drop(self.disk.insert(key, row)),
                Row::Deleted | Row::Gone => drop(self.disk.remove(&key)),
            }
        }
        let rows = self.states.settle(slots);
        self.store(rows);
    }

    fn keep<const N: usize>(&mut self, generation: u64, module: &str, made: [(&str, Option<&str>); N]) {
        let rows = self.states.keep(generation, module, &changes(made), QUOTA).unwrap();
        self.store(rows);
    }

    fn gone(&mut self, generation: u64) {
        let rows = self.states.gone(generation);
        self.store(rows);
    }

    fn sees(&self, generation: u64, module: &str) -> String {
        text(&self.states.state(generation, module))
    }

    /// The agent starts again with what is on the disk.
    fn restart(&mut self, slots: &Slots) {
        let (states, rows) = States::load(self.disk.clone(), slots);
        self.states = states;
        self.store(rows);
        assert_eq!(self.states.rows(), self.disk, "memory and disk");
    }
}

#[test]
fn state_survives_a_restart_and_an_update() {
    let (mut bench, a) = Bench::new();
    bench.restart(&committed(&a));
    bench.states.place(1, a.identity());
    assert_eq!((bench.sees(1, "m"), bench.sees(1, "n")), ("x=1 y=1".into(), String::new()));
    let b = slot("b", &["m"]);
    bench.settle(&on_trial(&a, &b));
    bench.states.place(2, b.identity());
    bench.keep(1, "m", [("x", Some("last"))]);
    assert_eq!(bench.sees(2, "m"), "x=last y=1", "it begins with what the old one kept last");
    bench.keep(2, "m", [("x", Some("2")), ("y", None)]);
    bench.gone(1);
    bench.settle(&Slots { previous: Some(a.clone()), ..committed(&b) });
    assert_eq!(bench.sees(2, "m"), "x=2");
    bench.keep(2, "m", [("z", Some("3"))]);
    bench.restart(&Slots { previous: Some(a), ..committed(&b) });
    bench.states.place(1, b.identity());
    assert_eq!(bench.sees(1, "m"), "x=2 z=3");
    assert!(bench.disk.keys().all(|key| key.trial.is_none()), "{:?}", bench.disk);
}

#[test]
fn a_version_that_is_rolled_back_has_not_touched_what_was_kept_before_it() {
    let (mut bench, a) = Bench::new();
    let b = slot("b", &["m"]);
    bench.settle(&on_trial(&a, &b));
    bench.states.place(2, b.identity());
    bench.keep(2, "m", [("x", Some("bad")), ("y", None), ("w", Some("bad"))]);
    bench.settle(&committed(&a));
    bench.states.place(3, a.identity());
    // The last frames of what is rolled back.
    bench.keep(2, "m", [("x", Some("worse"))]);
    assert_eq!(bench.sees(3, "m"), "x=1 y=1");
    bench.gone(2);
    bench.keep(3, "m", [("x", Some("2"))]);
    bench.restart(&committed(&a));
    assert_eq!(bench.sees(1, "m"), "x=2 y=1");
    assert_eq!(bench.disk.len(), 2, "what was on trial is gone");
}

#[test]
fn a_trial_that_is_started_again_goes_on_with_what_it_kept() {
    let (mut bench, a) = Bench::new();
    let b = slot("b", &["m"]);
    bench.settle(&on_trial(&a, &b));
    bench.states.place(2, b.identity());
    bench.keep(2, "m", [("x", Some("2")), ("y", None)]);
    bench.restart(&on_trial(&a, &b));
    bench.states.place(1, b.identity());
    assert_eq!(bench.sees(1, "m"), "x=2");
    bench.keep(1, "m", [("v", Some("3"))]);
    bench.restart(&on_trial(&a, &b));
    bench.states.place(1, b.identity());
    assert_eq!(bench.sees(1, "m"), "v=3 x=2");
}

#[test]
fn a_power_cut_between_slots_and_state_is_made_good_at_the_next_start() {
    let (mut bench, a) = Bench::new();
    let b = slot("b", &["m"]);
    bench.settle(&on_trial(&a, &b));
    bench.states.place(2, b.identity());
    bench.keep(2, "m", [("x", Some("2")), ("y", None)]);
    let cut = bench.disk.clone();
    bench.restart(&Slots { previous: Some(a.clone()), ..committed(&b) });
    bench.states.place(1, b.identity());
    assert_eq!(bench.sees(1, "m"), "x=2", "the slots say that it was committed");
    bench.disk = cut;
    bench.restart(&committed(&a));
    bench.states.place(1, a.identity());
    assert_eq!(bench.sees(1, "m"), "x=1 y=1", "the slots say that it was rolled back");
}

#[test]
fn a_start_that_is_given_up_leaves_the_trial_that_runs_what_it_kept() {
    let (mut bench, a) = Bench::new();
    let (b, c) = (slot("b", &["m"]), slot("c", &["m", "n"]));
    bench.settle(&on_trial(&a, &b));
    bench.states.place(2, b.identity());
    bench.keep(2, "m", [("x", Some("2"))]);
    // The next one takes the slot, and fails before it gets a frame.
    bench.settle(&on_trial(&a, &c));
    bench.states.place(3, c.identity());
    assert_eq!(bench.sees(3, "m"), "x=1 y=1");
    bench.keep(3, "n", [("k", Some("c"))]);
    bench.settle(&on_trial(&a, &b));
    bench.gone(3);
    assert_eq!(bench.sees(2, "m"), "x=2 y=1");
    bench.restart(&on_trial(&a, &b));
    bench.states.place(1, b.identity());
    assert_eq!((bench.sees(1, "m"), bench.sees(1, "n")), ("x=2 y=1".into(), String::new()));
}

#[test]
fn state_goes_when_no_deployment_names_its_module_any_more() {
    let (mut bench, a) = Bench::new();
    let (b, c) = (slot("b", &["n"]), slot("c", &["n"]));
    bench.settle(&Slots { previous: Some(a.clone()), ..committed(&b) });
    assert_eq!(bench.sees(1, "m"), "x=1 y=1", "the one before names it");
    bench.settle(&Slots { trial: Some(Trial { slot: a, starts: 1 }), previous: Some(b.clone()), ..committed(&c) });
    assert_eq!(bench.sees(1, "m"), "x=1 y=1", "the one on trial names it");
    bench.settle(&Slots { previous: Some(b), ..committed(&c) });
    assert_eq!(bench.sees(1, "m"), "");
    assert!(bench.disk.is_empty());
}

#[test]
fn state_stays_where_it_is_not_known_what_is_named() {
    let (mut bench, a) = Bench::new();
    let strange = Slot { document: "from a later version".into(), ..slot("b", &["n"]) };
    bench.settle(&Slots { previous: Some(strange), ..committed(&slot("c", &["n"])) });
    assert_eq!(bench.sees(1, "m"), "x=1 y=1");
    bench.restart(&Slots::default());
    assert_eq!(bench.sees(1, "m"), "x=1 y=1", "no slot could be read");
    bench.restart(&committed(&a));
    assert_eq!(bench.sees(1, "m"), "x=1 y=1");
}

#[test]
fn the_quota_is_kept_here_too_and_a_refused_change_changes_nothing() {
    let (mut bench, a) = Bench::new();
    let b = slot("b", &["m"]);
    bench.settle(&on_trial(&a, &b));
    bench.states.place(2, b.identity());
    let long = "v".repeat(QUOTA as usize);
    for generation in [1, 2] {
        let above = bench.states.keep(generation, "m", &changes([("y", None), ("z", Some(&long))]), QUOTA);
        assert!(matches!(above, Err(StateError::Quota { .. })), "{above:?}");
        assert_eq!(bench.sees(generation, "m"), "x=1 y=1");
    }
    bench.restart(&on_trial(&a, &b));
}

#[test]
fn rows_are_read_as_they_were_written() {
    let database = Database::in_memory().unwrap();
    assert_eq!(table::load(&database).unwrap(), Rows::new());
    let (mut bench, a) = Bench::new();
    let b = slot("b", &["m"]);
    bench.settle(&on_trial(&a, &b));
    bench.states.place(2, b.identity());
    bench.keep(2, "m", [("x", Some("")), ("y", None), ("\0\u{ff}", Some("2"))]);
    database.write(|transaction| table::write(transaction, &bench.disk)).unwrap();
    assert_eq!(table::load(&database).unwrap(), bench.disk);
    let settle = |committed: Option<&Slot>, trial: Option<&Slot>| {
        let [committed, trial] = [committed, trial].map(|slot| slot.map(Slot::identity));
        let settle =
            |transaction: &redb::WriteTransaction| table::settle(transaction, committed.as_ref(), trial.as_ref());
        database.write(settle).unwrap();
        table::load(&database).unwrap()
    };
    assert_eq!(settle(Some(&a), Some(&b)), bench.disk, "it is still on trial");
    bench.settle(&committed(&b));
    assert_eq!(settle(Some(&b), None), bench.disk);
    bench.settle(&on_trial(&b, &a));
    bench.states.place(3, a.identity());
    bench.keep(3, "m", [("x", Some("3"))]);
    database.write(|transaction| table::write(transaction, &bench.disk)).unwrap();
    bench.states.gone(3);
    bench.settle(&committed(&b));
    assert_eq!(settle(Some(&b), None), bench.disk, "it was rolled back");
    let gone = bench.disk.keys().map(|key| (key.clone(), Row::Gone)).collect();
    database.write(|transaction| table::write(transaction, &gone)).unwrap();
    assert_eq!(table::load(&database).unwrap(), Rows::new());
}
