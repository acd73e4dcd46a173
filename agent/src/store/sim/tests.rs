#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::disk::read_short;

fn at(path: &str) -> &Path {
    Path::new(path)
}

fn make(disk: &SimDisk, path: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    let file = disk.open(at(path), Access::Make).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

fn read(disk: &SimDisk, path: &str) -> Option<Vec<u8>> {
    read_short(disk, at(path), 1 << 20).unwrap()
}

#[test]
fn what_was_synced_survives_and_nothing_else_is_sure_to() {
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let disk = SimDisk::new(seed);
        let file = make(&disk, "/x", &[1; 2048]);
        file.sync().unwrap();
        disk.sync_folder(at("/")).unwrap();
        file.write_at(&[2; 2048], 0).unwrap();
        drop(file);
        disk.power_cycle();
        let found = read(&disk, "/x").unwrap();
        assert_eq!(found.len(), 2048);
        assert!(found.chunks(SECTOR).all(|sector| sector == [1; SECTOR] || sector == [2; SECTOR]), "a torn sector");
        match (found.contains(&1), found.contains(&2)) {
            (true, false) => lost += 1,
            (false, true) => kept += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 20 && kept > 20 && torn > 20, "{lost} lost, {kept} kept, {torn} torn");
}

#[test]
fn later_writes_may_be_there_without_earlier_ones() {
    let reordered = (0..200).any(|seed| {
        let disk = SimDisk::new(seed);
        let file = make(&disk, "/x", &[1; 1024]);
        disk.sync_folder(at("/")).unwrap();
        file.sync().unwrap();
        file.write_at(&[2; SECTOR], 0).unwrap();
        file.write_at(&[3; SECTOR], 512).unwrap();
        disk.power_cycle();
        let found = read(&disk, "/x").unwrap();
        found.first() == Some(&1) && found.last() == Some(&3)
    });
    assert!(reordered);
}

#[test]
fn a_name_is_sure_once_its_folder_is_synced() {
    let mut lost = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(seed);
        make(&disk, "/x", b"old").sync().unwrap();
        disk.sync_folder(at("/")).unwrap();
        make(&disk, "/y", b"new").sync().unwrap();
        disk.rename(at("/y"), at("/x")).unwrap();
        disk.power_cycle();
        let found = read(&disk, "/x").unwrap();
        assert!(found == b"old" || found == b"new", "{found:?}");
        lost += u32::from(found == b"old");
        make(&disk, "/y", b"new").sync().unwrap();
        disk.rename(at("/y"), at("/x")).unwrap();
        disk.sync_folder(at("/")).unwrap();
        disk.power_cycle();
        assert_eq!(read(&disk, "/x").unwrap(), b"new");
        assert_eq!(disk.files().len(), 1);
    }
    assert!((20..95).contains(&lost), "{lost}");
}

#[test]
fn a_failed_sync_lies_until_the_cache_is_forgotten() {
    let lied = (0..50).any(|seed| {
        let disk = SimDisk::new(seed);
        let file = make(&disk, "/x", &[1; SECTOR]);
        file.sync().unwrap();
        file.write_at(&[2; SECTOR], 0).unwrap();
        disk.fail_after(0, Fault::Broken, false);
        assert_eq!(file.sync().unwrap_err().raw_os_error(), Some(5));
        file.sync().unwrap();
        assert_eq!(disk.peek(at("/x")).unwrap(), [2; SECTOR]);
        file.forget_cache().unwrap();
        disk.peek(at("/x")).unwrap() == [1; SECTOR]
    });
    assert!(lied);
}

#[test]
fn the_power_goes_at_the_change_that_was_named() {
    let disk = SimDisk::new(1);
    disk.cut_after(2);
    let file = make(&disk, "/x", b"1");
    assert!(!disk.is_off());
    assert!(file.sync().is_err());
    assert!(disk.is_off() && file.len().is_err() && disk.info(at("/")).is_err());
    drop(file);
    let boot = "0";
    disk.power_cycle();
    assert!(!disk.is_off());
    assert_ne!(disk.boot(), boot);
}

#[test]
fn faults_last_until_the_disk_is_healed() {
    let disk = SimDisk::new(1);
    let file = make(&disk, "/x", b"1");
    disk.fail_after(0, Fault::ReadOnly, true);
    assert!(file.write_at(b"2", 0).is_err() && file.sync().is_err() && disk.remove(at("/x")).is_err());
    assert!(disk.open(at("/x"), Access::Change).is_err());
    assert_eq!(read(&disk, "/x").unwrap().len(), 1);
    disk.heal();
    file.sync().unwrap();
    disk.fail_after(1, Fault::NoSpace, false);
    file.sync().unwrap();
    assert!(file.sync().is_err());
    file.sync().unwrap();
}

#[test]
fn room_is_bounded() {
    let disk = SimDisk::new(1);
    disk.set_room(1000);
    let file = make(&disk, "/x", &[1; 600]);
    assert_eq!(file.write_at(&[1; 600], 600).unwrap_err().raw_os_error(), Some(28));
    assert_eq!(disk.free(at("/")).unwrap(), 400);
    file.write_at(&[2; 400], 600).unwrap();
}

#[test]
fn knows_folders_and_locks() {
    let disk = SimDisk::new(1);
    disk.make_folder(at("/a/b")).unwrap();
    disk.make_folder(at("/a/b")).unwrap();
    let file = make(&disk, "/a/b/x", b"1");
    assert_eq!(disk.list(at("/a")).unwrap(), ["b"]);
    assert_eq!(disk.open(at("/a"), Access::Read).unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert_eq!(disk.info(at("/a")).unwrap().unwrap().kind, Kind::Folder);
    let other = disk.open(at("/a/b/x"), Access::Read).unwrap();
    assert!(file.try_lock().unwrap() && !other.try_lock().unwrap());
    drop(file);
    assert!(other.try_lock().unwrap());
    disk.remove(at("/a")).unwrap();
    assert_eq!(disk.info(at("/a/b")).unwrap(), None);
}
