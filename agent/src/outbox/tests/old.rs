//! What a version of the agent before the log has left.

use super::*;
use crate::outbox::table::write_old;

fn old(disk: &SimDisk) {
    let database = Database::open_on(Arc::new(disk.clone()), Path::new("/state")).unwrap();
    let payloads: Vec<[u8; 1]> = (0..150).map(|number| [number]).collect();
    let records: Vec<(&str, u64, i64, &[u8])> = (10..)
        .zip(&payloads)
        .map(|(id, payload)| (if id % 3 == 0 { EVENT } else { DATA }, id, at(id * 1000).wall_ms, &payload[..]))
        .collect();
    write_old(&database, 4, 17, &records);
}

fn read(disk: &SimDisk) -> Result<Vec<(String, u8)>, StoreError> {
    let (_database, mut outbox) = (|| {
        let database = Database::open_on(Arc::new(disk.clone()), Path::new("/state"))?;
        let outbox = Outbox::open(database.clone(), settings())?;
        Ok::<_, StoreError>((database, outbox))
    })()?;
    let records = outbox.next_unsent(1000, at(0))?;
    let mut records: Vec<_> = records.into_iter().map(|record| (record.channel, record.payload[0])).collect();
    // Channels take turns; in each the order counts.
    records.sort_by(|one, other| one.0.cmp(&other.0));
    Ok(records)
}

fn expected() -> Vec<(String, u8)> {
    let of = |channel: &'static str, third: bool| {
        (0..150_u8).filter(move |number| (number % 3 == 2) == third).map(|number| (channel.to_owned(), number))
    };
    of(DATA, false).chain(of(EVENT, true)).collect()
}

#[test]
fn is_taken_over_in_order_with_its_age_and_the_count_of_drops() {
    let disk = SimDisk::new(1);
    old(&disk);
    let (database, mut outbox) = on(&disk);
    assert_eq!((outbox.figures().records, outbox.figures().dropped), (150, 17));
    push(&mut outbox, [200]);
    outbox.flush().unwrap();
    drop((outbox, database));
    let mut all = expected();
    let events = all.split_off(100);
    all.push((DATA.to_owned(), 200));
    all.extend(events);
    assert_eq!(read(&disk).unwrap(), all);
    let week = Channel::default().max_age_s * 1000;
    let (_database, mut outbox) = on(&disk);
    let later = Now { mono: Duration::ZERO, ..at(week + 100_500) };
    // Of 150 the first 91 are a week old by then.
    assert_eq!(outbox.next_unsent(1000, later).unwrap().len(), 59);
    assert_eq!(outbox.figures().dropped, 17 + 92);
}

#[test]
fn each_of_it_is_there_once_wherever_the_power_goes() {
    let mut cuts = 0;
    for seed in 0..3 {
        for cut in 0.. {
            let disk = SimDisk::new(seed);
            old(&disk);
            disk.cut_after(cut);
            let whole = read(&disk);
            let was_cut = disk.is_off();
            disk.power_cycle();
            assert_eq!(read(&disk).unwrap(), expected(), "cut {cut}, seed {seed}");
            if !was_cut {
                assert_eq!(whole.unwrap(), expected());
                break;
            }
            cuts += 1;
        }
    }
    assert!(cuts > 60, "{cuts}");
}

#[test]
fn waits_for_a_disk_that_takes_no_writes() {
    for fault in Fault::ALL {
        let disk = SimDisk::new(1);
        old(&disk);
        disk.fail_after(0, fault, true);
        let (database, mut outbox) = on(&disk);
        assert!(outbox.tick(at(100)).is_err());
        disk.heal();
        outbox.tick(at(10_000)).unwrap();
        assert_eq!(outbox.figures().records, 150, "{fault:?}");
        drop((outbox, database));
        assert_eq!(read(&disk).unwrap(), expected());
    }
}
