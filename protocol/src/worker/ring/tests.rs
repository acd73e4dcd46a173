#![allow(clippy::unwrap_used)]

use super::*;

#[test]
fn a_record_is_wanted_held_and_let_go_and_not_held_where_nobody_wants_it() {
    let mut memory = Memory::new(2);
    let (producer, consumer) = memory.ends();
    // SAFETY: the memory outlives both.
    let (ours, theirs) = unsafe { (producer.capture(), consumer.capture()) };
    theirs.hold();
    assert!(!ours.is_held() && !theirs.is_wanted());
    ours.want();
    assert!(theirs.is_wanted() && !ours.is_held());
    theirs.hold();
    assert!(!theirs.is_wanted() && ours.is_held());
    ours.let_go();
    assert!(!theirs.is_wanted() && !theirs.is_held());
}

#[repr(C, align(4096))]
struct Page([u8; 4096]);

struct Memory(Vec<Page>);

impl Memory {
    fn new(pages: usize) -> Self {
        Self((0..pages).map(|_| Page([0; 4096])).collect())
    }

    fn ends(&mut self) -> (Producer, Consumer) {
        let base = NonNull::new(self.0.as_mut_ptr().cast::<u8>()).unwrap();
        let length = self.0.len() * 4096;
        // SAFETY: the pages outlive both ends in each test, and there is one of each.
        unsafe { (Producer::attach(base, length).unwrap(), Consumer::attach(base, length).unwrap()) }
    }
}

#[test]
fn gives_records_in_order_across_the_end() {
    let mut memory = Memory::new(2);
    let (mut producer, mut consumer) = memory.ends();
    for i in 0..1000u32 {
        let content = vec![i as u8; (i as usize * 37) % 1900];
        producer.push(&[&i.to_le_bytes(), &content]).unwrap();
        let seen = consumer.front().unwrap().unwrap();
        assert_eq!(seen[..4], i.to_le_bytes());
        assert_eq!(seen[4..], content);
        consumer.release();
        assert_eq!(consumer.front().unwrap(), None);
    }
}

#[test]
fn says_full_until_room_is_released() {
    let mut memory = Memory::new(2);
    let (mut producer, mut consumer) = memory.ends();
    let mut pushed = 0;
    while producer.push(&[&[7; 1000]]).is_ok() {
        pushed += 1;
    }
    assert_eq!(pushed, 3);
    assert_eq!(producer.push(&[&[7; 1000]]), Err(RingError::Full));
    consumer.front().unwrap().unwrap();
    consumer.release();
    producer.push(&[&[7; 900]]).unwrap();
}

#[test]
fn refuses_a_record_above_half_of_the_ring() {
    let mut memory = Memory::new(2);
    let (mut producer, _consumer) = memory.ends();
    assert!(matches!(producer.push(&[&[0; 2048]]), Err(RingError::TooLarge { .. })));
}

#[test]
fn refuses_a_tail_that_cannot_be() {
    let mut memory = Memory::new(2);
    let (mut producer, consumer) = memory.ends();
    consumer.region.counter64(TAIL).store(u64::MAX, Ordering::Release);
    assert_eq!(producer.push(&[b"x"]), Err(RingError::Corrupt));
}

#[test]
fn wakes_a_sleeper_once_and_never_sleeps_over_a_record() {
    let mut memory = Memory::new(2);
    let (mut producer, mut consumer) = memory.ends();
    assert!(consumer.announce_sleep());
    assert!(producer.push(&[b"a"]).unwrap());
    assert!(!producer.push(&[b"b"]).unwrap());
    assert!(!consumer.announce_sleep());
    consumer.front().unwrap().unwrap();
    consumer.release();
}

#[test]
fn carries_records_between_threads() {
    let mut memory = Memory::new(5);
    let (mut producer, mut consumer) = memory.ends();
    let writer = std::thread::spawn(move || {
        for i in 0..100_000u64 {
            while producer.push(&[&i.to_le_bytes()]) == Err(RingError::Full) {
                std::thread::yield_now();
            }
        }
    });
    for i in 0..100_000u64 {
        let seen = loop {
            if let Some(seen) = consumer.front().unwrap() {
                break u64::from_le_bytes(seen.try_into().unwrap());
            }
            std::thread::yield_now();
        };
        assert_eq!(seen, i);
        consumer.release();
    }
    writer.join().unwrap();
}

#[test]
fn tells_the_consumer_to_leave_while_it_reads() {
    let mut memory = Memory::new(2);
    let (mut producer, mut consumer) = memory.ends();
    // SAFETY: the pages outlive the flag.
    let flag = unsafe { consumer.stop_flag() };
    producer.push(&[b"frame"]).unwrap();
    let record = consumer.front().unwrap().unwrap();
    assert!(!flag.is_set());
    producer.request_stop();
    assert!(flag.is_set());
    assert_eq!(record, b"frame");
}

#[test]
fn tells_the_producer_of_a_refused_allocation() {
    let mut memory = Memory::new(2);
    let (producer, consumer) = memory.ends();
    // SAFETY: the pages outlive both.
    let (seen, told) = unsafe { (producer.refused(), consumer.refused()) };
    assert_eq!(seen.last(), None);
    told.note(4096);
    assert_eq!(seen.last(), Some(4096));
    told.forget();
    assert_eq!(seen.last(), None);
}

#[test]
fn a_region_of_the_computed_length_takes_that_many_records() {
    let length = region_len(1000, 3).next_multiple_of(4096);
    let mut memory = Memory::new(length / 4096);
    let (mut producer, mut consumer) = memory.ends();
    for _ in 0..50 {
        for _ in 0..3 {
            producer.push(&[&[1; 1000]]).unwrap();
        }
        for _ in 0..3 {
            consumer.front().unwrap().unwrap();
            consumer.release();
        }
    }
}
