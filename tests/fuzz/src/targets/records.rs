//! What a worker's flight recorder left, and capsules.

use sanderling_protocol::{
    capsule::Capsule,
    flight::{Entry, Header, PAGE, Return, Snapshot, Source},
};

/// The region of a flight recorder. What its header says lies inside; snapshot and log are bounded by what is there.
pub fn record(bytes: &[u8]) {
    let Ok(Some(header)) = Header::read(bytes, bytes.len()) else { return };
    assert!(header.snapshot_end <= header.log_end && header.log_end <= bytes.len());
    if let Some((at, length)) = header.frame {
        assert!(at + length <= header.log_end);
    }
    if let Ok(snapshot) = Snapshot::read(&bytes[sanderling_protocol::flight::HEADER..header.snapshot_end]) {
        assert!(snapshot.globals.len() + snapshot.memories.len() <= bytes.len());
        for memory in &snapshot.memories {
            for page in memory.pages {
                assert!(page.at + page.content.len() as u64 <= memory.size && page.content.len() % PAGE == 0);
            }
        }
    }
    let mut log = &bytes[header.snapshot_end..header.log_end];
    while let Ok(Some(entry)) = Entry::take(&mut log) {
        match entry {
            Entry::Return(Return { writes, .. }) => {
                for write in writes.flatten() {
                    if let Source::Bytes(content) = write.source {
                        assert_eq!(content.len(), write.len as usize);
                    }
                }
            }
            Entry::Call { arguments, .. } => assert!(arguments.iter().count() <= bytes.len()),
            _ => {}
        }
    }
}

/// A capsule. What is read is packed into one that reads the same.
pub fn capsule(bytes: &[u8]) {
    let Ok(capsule) = Capsule::read(bytes) else { return };
    let again = capsule.manifest.pack(capsule.record);
    let again = Capsule::read(&again).expect("what was packed");
    assert_eq!(again.manifest, capsule.manifest);
    assert_eq!(again.record, capsule.record);
}
