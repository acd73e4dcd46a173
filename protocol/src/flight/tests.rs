use super::*;

/// A region with these snapshot and log.
fn region(basis: Basis, snapshot: &[u8], log: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; HEADER];
    let mut put = |at: usize, value: &[u8]| bytes[at..at + value.len()].copy_from_slice(value);
    let number = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
    put(offset::MAGIC, &MAGIC);
    put(offset::BASIS, &(basis as u32).to_le_bytes());
    put(offset::SNAPSHOT_END, &number(HEADER + snapshot.len()));
    put(offset::LOG_END, &number(HEADER + snapshot.len() + log.len()));
    put(offset::FRAME_LEN, &u32::MAX.to_le_bytes());
    put(offset::CALLS, &7_u64.to_le_bytes());
    bytes.extend_from_slice(snapshot);
    bytes.extend_from_slice(log);
    bytes
}

fn entry(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(&u32::try_from(body.len()).unwrap().to_le_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn numbers(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

#[test]
fn an_untouched_region_is_empty_and_none_of_another_program_is_taken() {
    assert_eq!(Header::read(&[0; HEADER], 4096), Ok(None));
    assert_eq!(Header::read(&[0; HEADER - 1], 4096), Err(FlightError::Length { length: HEADER - 1 }));
    assert_eq!(Header::read(&[1; HEADER], 4096), Err(FlightError::Magic));
    assert_eq!(Header::read(&[0; HEADER], MAX_REGION + 1), Err(FlightError::Length { length: MAX_REGION + 1 }));
}

#[test]
fn a_header_that_points_outside_of_its_region_is_refused() {
    let good = region(Basis::Instance, b"", b"log");
    let length = good.len();
    let header = Header::read(&good, length).unwrap().unwrap();
    assert_eq!((header.basis, header.log_end - header.snapshot_end, header.calls), (Basis::Instance, 3, 7));
    let field = |field, value| Err(FlightError::Field { field, value });
    assert_eq!(Header::read(&good, length - 1), field("the log's end", length as u64));
    let with = |at: usize, value: u32| {
        let mut bytes = good.clone();
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
        Header::read(&bytes, length)
    };
    assert_eq!(with(offset::BASIS, 3), field("basis", 3));
    assert_eq!(with(offset::SNAPSHOT_END, 63), field("the snapshot's end", 63));
    assert_eq!(with(offset::LOG_END, 63), field("the log's end", 63));
    assert_eq!(with(offset::FRAME_LEN, 4), field("the frame", 0));
    assert_eq!(with(offset::FRAME_LEN, u32::MAX).unwrap(), Some(header));
}

#[test]
fn entries_are_read_as_they_were_written() {
    let mut log = Vec::new();
    log.extend(entry(kind::FUNCTION, &numbers(&[&3_u16.to_le_bytes(), &1_u16.to_le_bytes(), b"mlog"])));
    log.extend(entry(kind::FRAME, &[&[9; FRAME_HEADER][..], b"content"].concat()));
    log.extend(entry(kind::BEGIN, &[Export::Frame as u8, 1, 0, 0, 0]));
    log.extend(entry(kind::CALL, &numbers(&[&3_u16.to_le_bytes(), &5_u64.to_le_bytes()])));
    let writes = [8_u32, 2, Source::INLINE].map(u32::to_le_bytes).concat();
    let copied = [16_u32, 4, 6].map(u32::to_le_bytes).concat();
    log.extend(entry(
        kind::RETURN,
        &numbers(&[&40_u64.to_le_bytes(), &[1], &2_u64.to_le_bytes(), &writes, b"ab", &copied]),
    ));
    let log = log;
    let mut rest = &log[..];
    let mut next = || Entry::take(&mut rest).unwrap().unwrap();
    assert_eq!(next(), Entry::Function { id: 3, module: "m", name: "log" });
    assert_eq!(next(), Entry::Frame { header: &[9; FRAME_HEADER], content: b"content" });
    assert_eq!(next(), Entry::Begin(Begun { export: Export::Frame, argument: 1 }));
    let Entry::Call { function: 3, arguments } = next() else { panic!("no call") };
    assert_eq!(arguments.iter().collect::<Vec<_>>(), [5]);
    let Entry::Return(Return { fuel: 40, answer: Answer::Value(2), writes }) = next() else { panic!("no return") };
    let wanted =
        [Write { ptr: 8, len: 2, source: Source::Bytes(b"ab") }, Write { ptr: 16, len: 4, source: Source::Frame(6) }];
    assert_eq!(writes.collect::<Result<Vec<_>, _>>().unwrap(), wanted);
    assert_eq!(Entry::take(&mut rest), Ok(None));
}

#[test]
fn a_log_that_is_cut_anywhere_or_changed_is_refused_or_read_but_never_panics() {
    let mut log = Vec::new();
    log.extend(entry(kind::FUNCTION, &numbers(&[&3_u16.to_le_bytes(), &1_u16.to_le_bytes(), b"mlog"])));
    log.extend(entry(kind::RETURN, &[&[0; 17][..], &[8, 0, 0, 0, 2, 0, 0, 0, 255, 255, 255, 255, 1, 2]].concat()));
    log.extend(entry(kind::BEGIN, &[5, 0, 0, 0, 0]));
    let read_all = |bytes: &[u8]| {
        let mut rest = bytes;
        while let Ok(Some(entry)) = Entry::take(&mut rest) {
            if let Entry::Return(Return { writes, .. }) = entry {
                writes.for_each(drop);
            }
        }
    };
    for end in 0..log.len() {
        read_all(&log[..end]);
    }
    for at in 0..log.len() {
        for value in [0, 1, 127, 255] {
            let mut changed = log.clone();
            changed[at] = value;
            read_all(&changed);
        }
    }
    assert_eq!(Entry::take(&mut &entry(77, b"")[..]), Err(FlightError::Kind { kind: 77 }));
    assert_eq!(Entry::take(&mut &entry(kind::BEGIN, &[99, 0, 0, 0, 0])[..]), Err(FlightError::Form { what: "a call" }));
    assert_eq!(Entry::take(&mut &entry(kind::STATE, &[0; 9])[..]), Err(FlightError::Form { what: "an entry" }));
}

#[test]
fn a_snapshot_is_held_to_its_own_sizes() {
    let mut bytes = vec![1];
    bytes.extend(10_u64.to_le_bytes());
    bytes.extend(64_u64.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(0_u32.to_le_bytes());
    bytes.push(GlobalKind::I64 as u8);
    bytes.extend(5_u128.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(65_536_u64.to_le_bytes());
    let run = bytes.len();
    bytes.extend(2_u32.to_le_bytes());
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend([7; PAGE]);
    bytes.extend(END_OF_PAGES.to_le_bytes());
    let snapshot = Snapshot::read(&bytes).unwrap();
    assert_eq!(snapshot.place, Some((10, 64)));
    assert_eq!(snapshot.globals, [Global { index: 0, kind: GlobalKind::I64, bits: 5 }]);
    let pages: Vec<_> = snapshot.memories[0].pages.collect();
    assert_eq!(pages, [Page { at: 2 * PAGE as u64, content: &[7; PAGE] }]);
    let mut memory = vec![1; 65_536];
    snapshot.memories[0].write_to(&mut memory).unwrap();
    assert!(memory.iter().enumerate().all(|(at, byte)| *byte == if at / PAGE == 2 { 7 } else { 0 }));
    let outside = FlightError::Form { what: "a page outside of its memory" };
    assert_eq!(snapshot.memories[0].write_to(&mut memory[..2 * PAGE]), Err(outside));

    for end in 0..bytes.len() {
        assert!(Snapshot::read(&bytes[..end]).is_err(), "cut at {end}");
    }
    bytes[run] = 16;
    assert_eq!(Snapshot::read(&bytes), Err(FlightError::Form { what: "a memory" }));
    bytes[run] = 2;
    bytes.push(0);
    assert_eq!(Snapshot::read(&bytes), Err(FlightError::Form { what: "its snapshot" }));
}
