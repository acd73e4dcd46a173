#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::{
    self,
    fake::MemoryStore,
    sim::{Fault, SimDisk},
};

const STATE: &str = "/state";

fn on(disk: &SimDisk) -> Result<Database, StoreError> {
    Database::open_on(Arc::new(disk.clone()), Path::new(STATE))
}

fn file() -> PathBuf {
    Path::new(STATE).join(FILE)
}

fn put(value: u32) -> Change {
    Change::new().put(Table::Values, "x", &value).unwrap()
}

fn x(store: &RedbStore) -> Option<u32> {
    store::get(store, Table::Values, "x").unwrap()
}

fn both(check: impl Fn(&dyn Store)) {
    let folder = tempfile::tempdir().unwrap();
    check(&RedbStore::new(Database::open(folder.path()).unwrap()));
    check(&MemoryStore::default());
}

#[test]
fn a_change_happens_as_a_whole_and_in_order() {
    both(|store| {
        let change = Change::new()
            .put(Table::Slots, "candidate", &"new")
            .and_then(|change| change.put_bytes(Table::Trust, "root", b"{}".to_vec()))
            .and_then(|change| change.put(Table::Refused, "old", &1))
            .unwrap()
            .clear(Table::Refused)
            .delete(Table::Slots, "absent");
        store.apply(change).unwrap();
        assert_eq!(store::get::<String>(store, Table::Slots, "candidate").unwrap().as_deref(), Some("new"));
        assert_eq!(store.get_bytes(Table::Trust, "root").unwrap().as_deref(), Some(&b"{}"[..]));
        assert_eq!(store.keys(Table::Refused).unwrap(), Vec::<String>::new());
        assert_eq!(store.keys(Table::Slots).unwrap(), ["candidate"]);
    });
}

#[test]
fn reads_nothing_from_tables_never_written() {
    both(|store| {
        assert_eq!(store.get_bytes(Table::Trust, "root").unwrap(), None);
        assert!(store.keys(Table::Values).unwrap().is_empty());
        assert_eq!(store::saved_time(store).unwrap(), None);
    });
}

#[test]
fn keeps_the_time_that_was_reached() {
    both(|store| {
        store.apply(store::save_time(Change::new(), 77).unwrap()).unwrap();
        assert_eq!(store::saved_time(store).unwrap(), Some(77));
    });
}

#[test]
fn a_record_of_another_form_is_an_error_that_names_it() {
    both(|store| {
        store.apply(Change::new().put(Table::Slots, "committed", &7).unwrap()).unwrap();
        let error = store::get::<String>(store, Table::Slots, "committed").unwrap_err();
        assert!(error.to_string().contains("committed"), "{error}");
    });
}

#[test]
fn refuses_records_that_are_too_long() {
    let long = vec![0; store::MAX_RECORD + 1];
    assert!(matches!(
        Change::new().put_bytes(Table::Trust, "x", long),
        Err(StoreError::TooLong { length, .. }) if length == store::MAX_RECORD + 1
    ));
}

#[test]
fn records_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = RedbStore::new(Database::open(folder.path()).unwrap());
    store.apply(Change::new().put(Table::Values, "x", &1).unwrap()).unwrap();
    drop(store);
    let store = RedbStore::new(Database::open(folder.path()).unwrap());
    assert_eq!(store::get(&store, Table::Values, "x").unwrap(), Some(1));
}

#[test]
fn refuses_a_database_that_another_has_open() {
    let folder = tempfile::tempdir().unwrap();
    let _first = Database::open(folder.path()).unwrap();
    assert!(matches!(Database::open(folder.path()), Err(StoreError::InUse { .. })));
    let mut waits = 0;
    assert!(matches!(Database::open_when_free(folder.path(), || waits += 1), Err(StoreError::InUse { .. })));
    assert_eq!(waits, MOST_WAITS);
}

#[test]
fn waits_for_a_database_that_another_lets_go_of() {
    let folder = tempfile::tempdir().unwrap();
    let mut dying = Some(Database::open(folder.path()).unwrap());
    let mut waits = 0;
    let opened = Database::open_when_free(folder.path(), || {
        waits += 1;
        if waits == 3 {
            dying = None;
        }
    });
    assert!(opened.is_ok());
    assert_eq!(waits, 3);
}

#[test]
fn works_again_after_each_kind_of_failure_without_being_opened_by_hand() {
    for (fault, lasting) in Fault::ALL.into_iter().flat_map(|fault| [(fault, false), (fault, true)]) {
        let mut failed = 0;
        for at in 0..40 {
            let disk = SimDisk::new(at);
            let store = RedbStore::new(on(&disk).unwrap());
            store.apply(put(1)).unwrap();
            disk.fail_after(at, fault, lasting);
            let applied = store.apply(put(2));
            match &applied {
                Ok(()) => assert_eq!(x(&store), Some(2)),
                Err(StoreError::Disk { .. }) => {
                    failed += 1;
                    assert!([Some(1), Some(2)].contains(&x(&store)), "{fault:?} at {at}: it is read meanwhile");
                }
                Err(other) => unreachable!("{other}"),
            }
            disk.heal();
            store.apply(put(3)).unwrap();
            assert_eq!(x(&store), Some(3));
            drop(store);
            disk.power_cycle();
            assert_eq!(x(&RedbStore::new(on(&disk).unwrap())), Some(3), "{fault:?} at {at}");
        }
        assert!(failed > 2, "{fault:?}");
    }
}

/// Between a sync that failed and the next write the database may be read for a while, from a view, and the agent may end and start.
#[test]
fn what_a_failed_sync_left_in_the_cache_is_believed_neither_after_a_time_of_reading_nor_after_a_start() {
    // Pages enough that those of the change that failed are not all written again.
    let page = |number: u8| vec![number; 3000];
    let change = |number: u8| {
        let changed = Change::new().put_bytes(Table::Trust, &format!("{}", number % 8), page(number));
        changed.unwrap().put(Table::Values, "x", &u32::from(number)).unwrap()
    };
    for (seed, restarts) in (0..80).flat_map(|seed| [(seed, false), (seed, true)]) {
        let disk = SimDisk::new(seed);
        let mut store = RedbStore::new(on(&disk).unwrap());
        (0..16).for_each(|number| store.apply(change(number)).unwrap());
        disk.fail_after(seed % 20, Fault::ReadOnly, true);
        let failed = (16..32).find(|number| store.apply(change(*number)).is_err()).unwrap();
        let seen = x(&store).unwrap();
        assert!(seen == u32::from(failed) || seen + 1 == u32::from(failed), "{seen} of {failed}");
        if restarts {
            drop(store);
            store = RedbStore::new(on(&disk).unwrap());
        }
        disk.heal();
        store.apply(put(100)).unwrap();
        drop(store);
        disk.power_cycle();
        let database = on(&disk).unwrap();
        assert_eq!(database.damaged(), 0, "seed {seed}, restarts {restarts}: {:?}", database.notice());
        let store = RedbStore::new(database);
        assert_eq!(x(&store), Some(100));
        for number in seen as u8 - 7..=seen as u8 {
            let kept = store.get_bytes(Table::Trust, &format!("{}", number % 8)).unwrap();
            assert!(kept == Some(page(number)), "seed {seed}, restarts {restarts}: {number}");
        }
    }
}

#[test]
fn starts_on_a_disk_that_cannot_be_written_and_writes_once_it_can() {
    for fault in Fault::ALL {
        let disk = SimDisk::new(1);
        RedbStore::new(on(&disk).unwrap()).apply(put(1)).unwrap();
        disk.fail_after(0, fault, true);
        let database = on(&disk).unwrap();
        assert!(database.notice().unwrap().contains("can only be read"), "{fault:?}");
        let store = RedbStore::new(database);
        assert_eq!(x(&store), Some(1));
        assert!(matches!(store.apply(put(2)), Err(StoreError::Disk { .. })));
        assert_eq!(x(&store), Some(1));
        disk.heal();
        store.apply(put(2)).unwrap();
        assert_eq!(x(&store), Some(2));
    }
}

#[test]
fn is_only_read_while_there_is_no_room_at_all() {
    let disk = SimDisk::new(1);
    let store = RedbStore::new(on(&disk).unwrap());
    store.apply(put(1)).unwrap();
    drop(store);
    disk.set_room(0);
    let store = RedbStore::new(on(&disk).unwrap());
    let error = store.apply(put(2)).unwrap_err();
    assert!(error.to_string().contains("no space"), "{error}");
    disk.set_room(64 << 20);
    store.apply(put(2)).unwrap();
    assert_eq!(x(&store), Some(2));
}

#[test]
fn a_power_cut_in_its_making_is_not_taken_for_damage() {
    let disk = SimDisk::new(0);
    drop(on(&disk).unwrap());
    let making = disk.changes();
    for seed in 0..making * 8 {
        let disk = SimDisk::new(seed);
        disk.cut_after(seed % making);
        assert!(on(&disk).is_err() || disk.is_off());
        disk.power_cycle();
        let database = on(&disk).unwrap();
        assert_eq!(database.damaged(), 0, "seed {seed}");
        RedbStore::new(database).apply(put(1)).unwrap();
    }
}

#[test]
fn a_damaged_database_is_set_aside_and_counted() {
    let disk = SimDisk::new(1);
    drop(on(&disk).unwrap());
    for count in 1..=3 {
        disk.damage(&file(), |bytes| bytes.fill(7)).unwrap();
        let database = on(&disk).unwrap();
        assert_eq!(database.damaged(), count);
        assert!(database.notice().unwrap().contains("damaged"));
        assert_eq!(disk.peek(&beside(&file(), &format!(".damaged.{count}"))).unwrap().first(), Some(&7));
        RedbStore::new(database).apply(put(count)).unwrap();
    }
    let database = on(&disk).unwrap();
    assert_eq!((database.damaged(), database.notice()), (3, None));
    assert_eq!(x(&RedbStore::new(database)), Some(3));
}

#[test]
fn damage_that_is_found_while_the_agent_runs_is_set_aside_too() {
    let disk = SimDisk::new(1);
    let database = on(&disk).unwrap();
    let store = RedbStore::new(database.clone());
    store.apply(put(1)).unwrap();
    // The next change fails, so that the file is opened again.
    disk.fail_after(0, Fault::Broken, false);
    assert!(store.apply(put(2)).is_err());
    disk.damage(&file(), |bytes| bytes.fill(7)).unwrap();
    assert!(matches!(store.apply(put(2)), Err(StoreError::Damaged { .. })));
    assert_eq!((database.damaged(), database.losses()), (1, 1));
    store.apply(put(3)).unwrap();
    assert_eq!(x(&store), Some(3));
}

#[test]
fn openings_that_never_end_count_as_damage_but_power_cuts_do_not() {
    let disk = SimDisk::new(1);
    RedbStore::new(on(&disk).unwrap()).apply(put(1)).unwrap();
    for _ in 0..10 {
        open::begins(&disk, &file());
        disk.power_cycle();
    }
    let database = on(&disk).unwrap();
    assert_eq!(database.damaged(), 0);
    drop(database);
    for _ in 0..3 {
        open::begins(&disk, &file());
    }
    let database = on(&disk).unwrap();
    assert_eq!(database.damaged(), 1);
    drop(database);
    assert_eq!(on(&disk).unwrap().damaged(), 1, "this opening came to an end");
}

#[test]
fn a_database_that_cannot_be_read_any_more_is_set_aside() {
    let disk = SimDisk::new(1);
    RedbStore::new(on(&disk).unwrap()).apply(put(1)).unwrap();
    disk.spoil(&file(), 0..512).unwrap();
    let database = on(&disk).unwrap();
    assert_eq!(database.damaged(), 1);
    let store = RedbStore::new(database);
    store.apply(put(2)).unwrap();
    assert_eq!(x(&store), Some(2));
}
