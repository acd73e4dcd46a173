#![allow(clippy::unwrap_used)]

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
};

use super::*;
use crate::store::{
    fake::MemoryBlobs,
    sim::{Fault, SimDisk},
};

/// `count` chunks of 1000 bytes, the content told by `seed`.
fn content(seed: u8, count: usize) -> Vec<Vec<u8>> {
    (0..count).map(|n| (0..1000).map(|at| seed ^ (n as u8) ^ (at as u8)).collect()).collect()
}

fn describe(chunks: &[Vec<u8>]) -> (Digest, u64, Vec<BlobChunk>) {
    let mut offset = 0;
    let list = chunks
        .iter()
        .map(|content| {
            let chunk = BlobChunk { digest: Digest::of(content), offset, length: content.len() as u32 };
            offset += content.len() as u64;
            chunk
        })
        .collect();
    (Digest::of(&chunks.concat()), offset, list)
}

fn both(check: impl Fn(&mut dyn Blobs)) {
    let folder = tempfile::tempdir().unwrap();
    check(&mut FileBlobs::open(folder.path(), 0).unwrap());
    check(&mut MemoryBlobs::default());
}

fn pull(blobs: &mut dyn Blobs, chunks: &[Vec<u8>]) -> (Digest, usize) {
    let (digest, length, list) = describe(chunks);
    let missing = blobs.begin(&digest, length, &list).unwrap();
    for index in &missing {
        blobs.put_chunk(&digest, *index, &chunks[*index]).unwrap();
    }
    blobs.finish(&digest).unwrap();
    (digest, missing.len())
}

fn read(blobs: &mut dyn Blobs, digest: &Digest) -> Vec<u8> {
    let mut open = blobs.open(digest).unwrap();
    let mut bytes = Vec::new();
    open.file.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, open.length);
    bytes
}

#[test]
fn a_blob_is_put_together_from_chunks_in_any_order() {
    both(|blobs| {
        let chunks = content(1, 5);
        let (digest, length, list) = describe(&chunks);
        assert_eq!(blobs.begin(&digest, length, &list).unwrap(), [0, 1, 2, 3, 4]);
        for (index, left) in [(4, 4), (0, 3), (2, 2), (0, 2), (3, 1)] {
            assert_eq!(blobs.put_chunk(&digest, index, &chunks[index]).unwrap(), left);
        }
        assert!(!blobs.has(&digest));
        assert_eq!(blobs.finish(&digest), Err(BlobError::Missing { digest, missing: 1 }));
        assert_eq!(blobs.begin(&digest, length, &list).unwrap(), [1]);
        assert_eq!(blobs.put_chunk(&digest, 1, &chunks[1]).unwrap(), 0);
        blobs.finish(&digest).unwrap();
        assert_eq!(read(blobs, &digest), chunks.concat());
        assert!(blobs.begin(&digest, length, &list).unwrap().is_empty());
    });
}

#[test]
fn a_new_version_takes_over_the_chunks_of_the_old() {
    both(|blobs| {
        let old = content(1, 6);
        pull(blobs, &old);
        let mut new = old.clone();
        new.insert(2, vec![9; 777]);
        let (digest, pulled) = pull(blobs, &new);
        assert_eq!(pulled, 1);
        assert_eq!(read(blobs, &digest), new.concat());
    });
}

#[test]
fn refuses_chunks_that_are_cut_swapped_or_elsewhere() {
    both(|blobs| {
        let chunks = content(3, 3);
        let (digest, length, list) = describe(&chunks);
        let absent = blobs.put_chunk(&digest, 0, &chunks[0]);
        assert_eq!(absent, Err(BlobError::NotBegun(digest)));
        blobs.begin(&digest, length, &list).unwrap();
        for (index, bytes) in [(0, &chunks[0][..999]), (0, &chunks[1][..]), (3, &chunks[0][..]), (0, &[][..])] {
            assert!(matches!(blobs.put_chunk(&digest, index, bytes), Err(BlobError::Chunk { .. })), "{index}");
        }
    });
}

#[test]
fn a_blob_whose_whole_differs_is_dropped() {
    both(|blobs| {
        let chunks = content(4, 2);
        let (_, length, list) = describe(&chunks);
        let signed = Digest::of(b"something else");
        blobs.begin(&signed, length, &list).unwrap();
        for (index, bytes) in chunks.iter().enumerate() {
            blobs.put_chunk(&signed, index, bytes).unwrap();
        }
        assert!(matches!(blobs.finish(&signed), Err(BlobError::Whole { .. })));
        assert!(!blobs.has(&signed));
        assert_eq!(blobs.put_chunk(&signed, 0, &chunks[0]), Err(BlobError::NotBegun(signed)));
    });
}

#[test]
fn the_same_chunk_twice_is_asked_for_and_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut blobs = FileBlobs::open(folder.path(), 0).unwrap();
    let chunks = [vec![5; 600], vec![6; 10], vec![5; 600]];
    let (digest, length, list) = describe(&chunks);
    blobs.begin(&digest, length, &list).unwrap();
    assert_eq!(blobs.put_chunk(&digest, 2, &chunks[2]).unwrap(), 1);
    assert_eq!(blobs.put_chunk(&digest, 1, &chunks[1]).unwrap(), 0);
    blobs.finish(&digest).unwrap();
    assert_eq!(read(&mut blobs, &digest), chunks.concat());
}

#[test]
fn a_restart_keeps_every_whole_chunk_of_a_part() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = content(7, 8);
    let (digest, length, list) = describe(&chunks);
    let mut blobs = FileBlobs::open(folder.path(), 0).unwrap();
    blobs.begin(&digest, length, &list).unwrap();
    for index in [1, 2, 6] {
        blobs.put_chunk(&digest, index, &chunks[index]).unwrap();
    }
    drop(blobs);
    // A torn write: half of chunk 6 was lost.
    let part = folder.path().join(format!("blobs/{digest}.part"));
    let mut bytes = fs::read(&part).unwrap();
    bytes[6500..7000].fill(0);
    fs::File::create(&part).unwrap().write_all(&bytes).unwrap();
    let mut blobs = FileBlobs::open(folder.path(), 0).unwrap();
    assert_eq!(blobs.begin(&digest, length, &list).unwrap(), [0, 3, 4, 5, 6, 7]);
}

#[test]
fn a_part_of_another_length_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = content(7, 2);
    let (digest, length, list) = describe(&chunks);
    fs::create_dir(folder.path().join("blobs")).unwrap();
    fs::write(folder.path().join(format!("blobs/{digest}.part")), vec![1; 5000]).unwrap();
    let mut blobs = FileBlobs::open(folder.path(), 0).unwrap();
    assert_eq!(blobs.begin(&digest, length, &list).unwrap(), [0, 1]);
    let (pulled, _) = pull(&mut blobs, &chunks);
    assert_eq!(read(&mut blobs, &pulled), chunks.concat());
}

#[test]
fn a_damaged_blob_is_found_when_it_is_opened_and_removed() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = content(2, 3);
    let (digest, _) = pull(&mut FileBlobs::open(folder.path(), 0).unwrap(), &chunks);
    let path = folder.path().join(format!("blobs/{digest}"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[1234] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut blobs = FileBlobs::open(folder.path(), 0).unwrap();
    assert_eq!(blobs.open(&digest).unwrap_err(), BlobError::Damaged(digest));
    assert_eq!(blobs.open(&digest).unwrap_err(), BlobError::Absent(digest));
    let (length, list) = (3000, describe(&chunks).2);
    assert_eq!(blobs.begin(&digest, length, &list).unwrap(), [0, 1, 2]);
}

#[test]
fn damaged_chunks_of_other_blobs_are_not_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    let mut blobs = FileBlobs::open(folder.path(), 0).unwrap();
    let old = content(1, 4);
    let (digest, _) = pull(&mut blobs, &old);
    let path = folder.path().join(format!("blobs/{digest}"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[2500] ^= 1;
    fs::write(&path, bytes).unwrap();
    let mut new = old;
    new.push(vec![3; 50]);
    let (new_digest, length, list) = describe(&new);
    assert_eq!(blobs.begin(&new_digest, length, &list).unwrap(), [2, 4]);
}

#[test]
fn nothing_is_begun_without_room_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = content(1, 2);
    let (digest, length, list) = describe(&chunks);
    let mut blobs = FileBlobs::open(folder.path(), u64::MAX).unwrap();
    assert_eq!(blobs.begin(&digest, length, &list), Err(BlobError::Full { digest, needed: 2000, free: 0 }));
    assert_eq!(blobs.usage().unwrap().used, 0);
    let mut fake = MemoryBlobs::default();
    fake.room = 1999;
    assert_eq!(fake.begin(&digest, length, &list), Err(BlobError::Full { digest, needed: 2000, free: 1999 }));
}

#[test]
fn collects_what_is_not_kept() {
    both(|blobs| {
        let (kept, _) = pull(blobs, &content(1, 3));
        let (gone, _) = pull(blobs, &content(2, 3));
        let begun = content(3, 3);
        let (part, length, list) = describe(&begun);
        blobs.begin(&part, length, &list).unwrap();
        let used = blobs.usage().unwrap().used;
        let freed = blobs.collect(&BTreeSet::from([kept])).unwrap();
        assert!(freed >= 6000);
        assert_eq!(blobs.usage().unwrap().used, used - freed);
        assert!(blobs.has(&kept) && !blobs.has(&gone));
        assert_eq!(blobs.put_chunk(&part, 0, &begun[0]), Err(BlobError::NotBegun(part)));
        assert_eq!(blobs.open(&gone).unwrap_err(), BlobError::Absent(gone));
        assert_eq!(read(blobs, &kept), content(1, 3).concat());
    });
}

#[test]
fn blobs_are_handed_out_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut blobs = FileBlobs::open(folder.path(), 0).unwrap();
    let (digest, _) = pull(&mut blobs, &content(1, 1));
    assert!(blobs.open(&digest).unwrap().file.write_all(b"x").is_err());
}

#[test]
fn an_empty_blob_is_a_blob() {
    both(|blobs| {
        let (digest, pulled) = pull(blobs, &[]);
        assert_eq!((read(blobs, &digest), pulled), (Vec::new(), 0));
    });
}

fn on(disk: &SimDisk) -> FileBlobs {
    FileBlobs::open_on(Arc::new(disk.clone()), Path::new("/state"), 0).unwrap()
}

fn filled(blobs: &mut FileBlobs, chunks: &[Vec<u8>]) -> (Digest, u64, Vec<BlobChunk>) {
    let (digest, length, list) = describe(chunks);
    for index in blobs.begin(&digest, length, &list).unwrap() {
        blobs.put_chunk(&digest, index, &chunks[index]).unwrap();
    }
    (digest, length, list)
}

#[test]
fn chunks_that_the_disk_loses_before_the_end_are_pulled_again_and_not_blamed_on_the_index() {
    let disk = SimDisk::new(1);
    let mut blobs = on(&disk);
    let chunks = content(1, 4);
    let (digest, length, list) = describe(&chunks);
    blobs.begin(&digest, length, &list).unwrap();
    for (index, chunk) in chunks.iter().enumerate().skip(1) {
        blobs.put_chunk(&digest, index, chunk).unwrap();
    }
    disk.damage(&blobs.path(&digest, ".part"), |bytes| bytes[2500] ^= 1).unwrap();
    blobs.put_chunk(&digest, 0, &chunks[0]).unwrap();
    assert_eq!(blobs.finish(&digest), Err(BlobError::Missing { digest, missing: 1 }));
    assert_eq!(blobs.begin(&digest, length, &list).unwrap(), [2]);
    assert_eq!(blobs.usage().unwrap().damaged, 1);
    blobs.put_chunk(&digest, 2, &chunks[2]).unwrap();
    blobs.finish(&digest).unwrap();
    assert_eq!(read(&mut blobs, &digest), chunks.concat());
}

#[test]
fn a_blob_whose_sync_failed_is_not_there_before_its_lost_chunks_are() {
    let mut lost = 0;
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let mut blobs = on(&disk);
        let chunks = content(1, 4);
        let (digest, length, list) = filled(&mut blobs, &chunks);
        disk.fail_after(0, Fault::Broken, false);
        assert!(matches!(blobs.finish(&digest), Err(BlobError::Disk { .. })));
        let missing = blobs.begin(&digest, length, &list).unwrap();
        lost += missing.len();
        for index in missing {
            blobs.put_chunk(&digest, index, &chunks[index]).unwrap();
        }
        blobs.finish(&digest).unwrap();
        disk.power_cycle();
        assert_eq!(read(&mut on(&disk), &digest), chunks.concat(), "seed {seed}");
    }
    assert!(lost > 0);
}

#[test]
fn a_blob_is_finished_when_its_name_is_synced_and_not_before() {
    for seed in 0..30 {
        let disk = SimDisk::new(seed);
        let mut blobs = on(&disk);
        let chunks = content(1, 2);
        let (digest, ..) = filled(&mut blobs, &chunks);
        // The content is synced, the name is changed, and the folder's sync fails.
        disk.fail_after(2, Fault::Broken, false);
        assert!(matches!(blobs.finish(&digest), Err(BlobError::Disk { .. })));
        blobs.finish(&digest).unwrap();
        disk.power_cycle();
        assert!(on(&disk).has(&digest), "seed {seed}");
    }
}

#[test]
fn folders_in_the_place_of_files_are_removed() {
    let chunks = content(1, 3);
    let (digest, length, list) = describe(&chunks);
    for suffix in ["", ".part", ".index"] {
        let disk = SimDisk::new(1);
        let mut blobs = on(&disk);
        disk.make_folder(&blobs.path(&digest, suffix).join("deep")).unwrap();
        assert_eq!(blobs.begin(&digest, length, &list).unwrap(), [0, 1, 2], "{suffix}");
        let (pulled, _) = pull(&mut blobs, &chunks);
        assert_eq!(read(&mut blobs, &pulled), chunks.concat());
        disk.remove(&blobs.path(&digest, "")).unwrap();
        disk.make_folder(&blobs.path(&digest, "").join("deep")).unwrap();
        assert_eq!(blobs.open(&digest).unwrap_err(), BlobError::Damaged(digest));
        assert_eq!(pull(&mut blobs, &chunks).1, 3);
        blobs.collect(&BTreeSet::new()).unwrap();
        assert_eq!(disk.files().len(), 0);
    }
}

#[test]
fn a_full_disk_gives_back_what_was_taken_in_vain() {
    let disk = SimDisk::new(1);
    let mut blobs = on(&disk);
    let chunks = content(1, 4);
    let (digest, length, list) = describe(&chunks);
    // The file is made and emptied; then there is no room for it.
    disk.fail_after(2, Fault::NoSpace, false);
    assert!(matches!(blobs.begin(&digest, length, &list), Err(BlobError::Disk { .. })));
    assert_eq!(blobs.usage().unwrap().used, 0);
    assert_eq!(pull(&mut blobs, &chunks).1, 4);
}

#[test]
fn what_the_disk_cannot_read_any_more_is_pulled_again() {
    let disk = SimDisk::new(1);
    let mut blobs = on(&disk);
    let chunks = content(1, 4);
    let (digest, length, list) = filled(&mut blobs, &chunks);
    drop(blobs);
    let mut blobs = on(&disk);
    disk.spoil(&blobs.path(&digest, ".part"), 1200..1300).unwrap();
    assert_eq!(blobs.begin(&digest, length, &list).unwrap(), [1]);
    blobs.put_chunk(&digest, 1, &chunks[1]).unwrap();
    blobs.finish(&digest).unwrap();
    assert_eq!(read(&mut blobs, &digest), chunks.concat());
    disk.spoil(&blobs.path(&digest, ""), 3000..3001).unwrap();
    assert_eq!(blobs.open(&digest).unwrap_err(), BlobError::Damaged(digest));
    assert_eq!(pull(&mut blobs, &chunks).1, 4);
}
