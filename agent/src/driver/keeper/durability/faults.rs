//! The disk is full, read-only or broken, at each change that an install and the outbox make: once, and until it is well again.

use super::{Running, boot, cases, device::Device, found, on_all_processors};
use crate::store::sim::{Fault, Lie};

/// So many things the agent does in a story: a few installs and some hundred records.
const STEPS: u64 = 160;
/// A lasting fault is over after this many of them failed.
const LASTING: u64 = 8;

/// How many changes the disk sees in the story when nothing fails.
fn changes() -> u64 {
    let mut device = Device::new(0);
    let mut running = device.start(true).unwrap();
    let before = device.disk.changes();
    (0..STEPS).for_each(|_| device.step(&mut running).unwrap());
    assert!(device.installs >= 2 && device.records.stored > 50);
    device.disk.changes() - before
}

/// What fails in the story of this number: at which change, how, and whether it lasts.
fn told(number: u64, changes: u64) -> (u64, Fault, bool) {
    let (at, how) = (number % changes, number / changes);
    (at, Fault::ALL[(how % 3) as usize], how / 3 % 2 == 1)
}

/// Goes through a story with one fault. Gives how often the agent was told of it.
fn story(number: u64, changes: u64, lie: Option<Lie>) -> Result<u64, String> {
    let (at, fault, lasting) = told(number, changes);
    let mut device = Device::new(0);
    device.disk.lie(lie);
    let mut running = device.start(true)?;
    device.disk.fail_after(at, fault, lasting);
    for _ in 0..STEPS {
        if device.step(&mut running).is_err() && device.errors == LASTING {
            device.disk.heal();
        }
    }
    let errors = device.errors;
    // With every other one the power goes before anything more is stored.
    device.disk.heal();
    if number.is_multiple_of(2) {
        goes_on(&mut device, &mut running)?;
    }
    drop(running);
    device.disk.power_cycle();
    let mut running = device.start(false)?;
    goes_on(&mut device, &mut running)?;
    drop(running);
    device.start(false)?;
    Ok(errors)
}

/// On a disk that is well everything succeeds, without a restart.
fn goes_on(device: &mut Device, running: &mut Running) -> Result<(), String> {
    for _ in 0..40 {
        device.step(running).map_err(|error| format!("on a disk that is well again: {error}"))?;
    }
    device.records.flush(&mut running.outbox)?;
    device.check_blobs(running)
}

#[test]
fn a_disk_that_fails_is_reported_loses_nothing_and_recovers_without_a_restart() {
    use std::sync::atomic::{AtomicU64, Ordering};
    let changes = changes();
    let (silent, all) = (AtomicU64::new(0), changes * 6);
    // In the short form each change fails in one way or another.
    let step = if cases(changes) >= all { 1 } else { 6_u64 };
    let (done, failures) = on_all_processors(cases(changes), |seed| {
        let number = seed * step % all + seed * step / all;
        let errors = story(number, changes, None).map_err(|why| format!("{:?}: {why}", told(number, changes)))?;
        silent.fetch_add(u64::from(errors == 0), Ordering::Relaxed);
        Ok(1)
    });
    let note = format!(
        "ENOSPC, EROFS and EIO, once and lasting, at each of {changes} changes; {} were of no consequence",
        silent.into_inner()
    );
    found("disk-faults", done, &failures, &note);
}

#[test]
fn an_agent_that_starts_on_a_failing_disk_has_everything_and_writes_when_it_can() {
    for fault in Fault::ALL {
        let mut device = Device::new(7);
        let mut running = device.start(true).unwrap();
        (0..STEPS).for_each(|_| device.step(&mut running).unwrap());
        device.records.flush(&mut running.outbox).unwrap();
        drop(running);
        device.disk.fail_after(0, fault, true);
        let (mut running, loaded) = boot(&device.disk).unwrap();
        assert!(running.database.notice().is_some());
        assert_eq!(device.adopt(&mut running, loaded).unwrap(), (false, 0), "{fault:?}");
        device.check_blobs(&mut running).unwrap();
        assert!((0..20).any(|_| device.step(&mut running).is_err()));
        device.disk.heal();
        goes_on(&mut device, &mut running).unwrap();
    }
}

#[test]
fn a_cache_that_is_believed_after_a_failed_sync_is_found_out() {
    let changes = changes();
    let broken = (0..3).find(|how| Fault::ALL[*how] == Fault::Broken).unwrap() as u64;
    let (_, failures) = on_all_processors(changes, |seed| {
        story(seed % changes + broken * changes, changes, Some(Lie::ForgetCache)).map(|_| 1)
    });
    assert!(!failures.is_empty());
}
