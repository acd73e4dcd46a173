//! Bits flip in what is stored, files are cut, grow, vanish or become folders: the agent starts, says what was lost, and runs.

use std::{
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use sanderling_protocol::digest::Digest;

use super::{STATE, boot, cases, device::Device, found, on_all_processors};
use crate::store::{
    disk::{Access, Disk},
    sim::Dice,
};

/// A device with a bit of everything on its disk: installed deployments, one half pulled, records, a database that was set aside.
fn device(seed: u64, clean: bool) -> Device {
    let mut device = Device::new(seed);
    drop(device.start(true).unwrap());
    device.disk.damage(&database(), |bytes| bytes.fill(7)).unwrap();
    let (mut running, loaded) = boot(&device.disk).unwrap();
    device.adopt(&mut running, loaded).unwrap();
    let part = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "part");
    let mut steps = 0;
    while steps < 250 || !device.disk.files().iter().any(part) {
        device.step(&mut running).unwrap();
        steps += 1;
    }
    device.records.flush(&mut running.outbox).unwrap();
    // A line as openings leave it that did not end.
    let tries = PathBuf::from(format!("{STATE}/state.redb.opening"));
    let line = "2 0";
    let line = format!("{line}\n{}\n", Digest::of(line.as_bytes()));
    device.disk.open(&tries, Access::Make).unwrap().write_at(line.as_bytes(), 0).unwrap();
    if clean {
        drop(running);
        return device;
    }
    // Copied while the database is open.
    device.copy(seed)
}

fn database() -> PathBuf {
    format!("{STATE}/state.redb").into()
}

/// Does damage to one file; says what.
fn damage(device: &Device, path: &Path, dice: &mut Dice) -> String {
    let length = device.disk.peek(path).unwrap().len();
    let how = dice.below(20);
    if how == 0 {
        device.disk.remove(path).unwrap();
        device.disk.make_folder(&path.join("deep")).unwrap();
        return "is a folder".into();
    }
    let flip = |bytes: &mut Vec<u8>, at: usize, dice: &mut Dice| {
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << dice.below(8);
        }
    };
    let mut what = String::new();
    let change = |bytes: &mut Vec<u8>| match how {
        1 => {
            bytes.clear();
            what = "is empty".into();
        }
        2 => {
            bytes.truncate(dice.place(length));
            what = format!("ends after {} of {length}", bytes.len());
        }
        3 => {
            bytes.extend((0..1 + dice.place(9000)).map(|_| dice.any() as u8));
            what = format!("has {} bytes more than {length}", bytes.len() - length);
        }
        4 | 5 => {
            let start = dice.place(length.div_ceil(512)) * 512;
            let filler = if how == 4 { 0 } else { 0xff };
            bytes.iter_mut().skip(start).take(512 << dice.place(4)).for_each(|byte| *byte = filler);
            what = format!("has {filler} from {start}");
        }
        6 => {
            let flips: Vec<usize> = (0..30).map(|_| dice.place(length)).collect();
            flips.iter().for_each(|at| flip(bytes, *at, dice));
            what = format!("has flips at {flips:?}");
        }
        // The first page has the header, by which all else is found.
        7..12 => {
            let at = dice.place(length.min(512));
            flip(bytes, at, dice);
            what = format!("has a flip at {at}");
        }
        _ => {
            let at = dice.place(length);
            flip(bytes, at, dice);
            what = format!("has a flip at {at}");
        }
    };
    device.disk.damage(path, change).unwrap();
    what
}

/// Damages one file of a copy, starts the agent and lets it run.
fn story(whole: &Device, clean: bool, seed: u64, lost: &[AtomicU64; 3]) -> Result<(), String> {
    let mut device = whole.copy(seed);
    let files = device.disk.files();
    let mut dice = Dice::new(seed);
    // The database is the one that matters most.
    let file = if dice.percent(50) { database() } else { files[dice.place(files.len())].clone() };
    let what = damage(&device, &file, &mut dice);
    let told = |why: String| format!("{} {what}: {why}", file.display());
    let (mut running, loaded) = boot(&device.disk).map_err(told)?;
    let set_aside = running.database.notice().is_some();
    let (other, records) = device.adopt(&mut running, loaded).map_err(told)?;
    let counted = running.database.damaged();
    if set_aside {
        lost[0].fetch_add(1, Ordering::Relaxed);
        if counted != 2 || !device.is_blank() {
            return Err(told(format!("set aside and counted {counted} times")));
        }
    } else if clean && (other || records > 0) {
        return Err(told(format!("{records} records or slots are lost and nobody says so")));
    } else if other || records > 0 {
        lost[2].fetch_add(1, Ordering::Relaxed);
    }
    if !set_aside && counted != 1 {
        return Err(told(format!("the count of damaged databases is {counted}")));
    }
    look_at_blobs(&mut device, &mut running, lost).map_err(told)?;
    for _ in 0..30 {
        device.step(&mut running).map_err(told)?;
    }
    device.check_blobs(&mut running).map_err(told)
}

/// What is damaged is removed when it is opened, and counted.
fn look_at_blobs(device: &mut Device, running: &mut super::Running, lost: &[AtomicU64; 3]) -> Result<(), String> {
    use super::device::RELEASES;
    let mut damaged = 0;
    for digest in RELEASES.blobs.keys() {
        let blobs = &mut running.keeper.blobs;
        if blobs.has(digest) && blobs.open(digest).is_err() {
            damaged += 1;
            if blobs.has(digest) {
                return Err(format!("blob {} is damaged and stays", digest.short()));
            }
        }
    }
    lost[1].fetch_add(damaged, Ordering::Relaxed);
    let counted = running.keeper.blobs.usage().map_err(|error| error.to_string())?.damaged;
    if u64::from(counted) != damaged {
        return Err(format!("{damaged} blobs were damaged, {counted} are counted"));
    }
    device.forget_lost_slots(running);
    Ok(())
}

#[test]
fn flipped_bits_are_refused_or_repaired_counted_and_the_agent_runs() {
    let lost = [const { AtomicU64::new(0) }; 3];
    // With a database that was closed in good order, and one that was not.
    let devices: Vec<(Device, bool)> = (0..4).map(|seed| (device(seed, seed % 2 == 0), seed % 2 == 0)).collect();
    let (done, failures) = on_all_processors(cases(3000), |seed| {
        let (whole, clean) = &devices[(seed % 4) as usize];
        story(whole, *clean, seed, &lost).map(|()| 1)
    });
    let [databases, blobs, older] = lost.map(AtomicU64::into_inner);
    let note = format!(
        "{databases} databases set aside, {blobs} blobs removed, {older} times the state before the last transaction"
    );
    found("bit-flips", done, &failures, &note);
    assert!(databases > 0 && blobs > 0);
}
