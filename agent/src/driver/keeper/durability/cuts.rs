//! The power goes at any change of the disk, and again while the agent recovers.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{cases, device::Device, found, on_all_processors};
use crate::store::sim::Lie;

/// How often the power goes in one device's story.
const CUTS: u64 = 20;

/// A device that is cut again and again. Gives the number of cuts, of installs and of records that were stored.
fn story(seed: u64, lie: Option<Lie>) -> Result<(u64, u64, u64), String> {
    let mut device = Device::new(seed);
    device.disk.lie(lie);
    let mut cuts = 0;
    while cuts < CUTS {
        let within = [15, 60, 250][device.dice().place(3)];
        let in_recovery = device.dice().percent(30);
        let at = device.dice().below(if in_recovery { 25 } else { within });
        if in_recovery {
            device.disk.cut_after(at);
        }
        let started = device.start(true);
        if !device.disk.is_off() {
            let mut running = started.map_err(|why| format!("after {cuts} cuts: {why}"))?;
            if !in_recovery {
                device.disk.cut_after(at);
            }
            for _ in 0..within {
                if let Err(error) = device.step(&mut running)
                    && !device.disk.is_off()
                {
                    return Err(format!("after {cuts} cuts, on a disk that is well: {error}"));
                }
                if device.disk.is_off() {
                    break;
                }
            }
        }
        device.disk.power_cycle();
        cuts += 1;
    }
    device.start(true).map_err(|why| format!("after the last of {cuts} cuts: {why}"))?;
    Ok((cuts, device.installs, device.records.stored))
}

#[test]
fn a_power_cut_leaves_the_old_or_the_new_and_every_stored_record() {
    let (installs, records) = (AtomicU64::new(0), AtomicU64::new(0));
    let (done, failures) = on_all_processors(cases(4000), |seed| {
        let (cuts, installed, stored) = story(seed, None)?;
        installs.fetch_add(installed, Ordering::Relaxed);
        records.fetch_add(stored, Ordering::Relaxed);
        Ok(cuts)
    });
    let (installs, records) = (installs.into_inner(), records.into_inner());
    assert!(installs > done / 20 && records > done, "{installs} installs and {records} records are no story");
    let note = format!(
        "at any change of the disk, three in ten while recovering; {installs} installs, {records} records stored"
    );
    found("power-cut", done, &failures, &note);
}

#[test]
fn a_disk_that_does_not_do_what_it_says_is_found_out() {
    for lie in [Lie::Sync, Lie::SyncFolder] {
        let (_, failures) = on_all_processors(200, |seed| story(seed, Some(lie)).map(|(cuts, _, _)| cuts));
        assert!(!failures.is_empty(), "{lie:?} made no difference");
    }
}
