use super::*;
use crate::{clock::FakeClock, workload::fake::FakeFeed};
use sanderling_guest::frame::FrameHeader;

struct Bench {
    pool: Pool,
    clock: Arc<FakeClock>,
    inlet: Rc<Inlet>,
    feed: FakeFeed,
}

fn bench(policies: &[Policy]) -> Bench {
    let (pool, clock) = (Pool::new(1 << 20), Arc::new(FakeClock::default()));
    let inputs = policies.iter().map(|policy| ("cam0".into(), *policy));
    let inlet = Rc::new(Inlet::new("m".into(), inputs, pool.clone(), clock.clone()));
    Bench { pool, clock, inlet, feed: FakeFeed::new(1000, 1 << 20) }
}

impl Bench {
    fn frame(&self, seq: u64, length: usize) -> Frame {
        let block = self.pool.take(length).unwrap();
        block.frame(FrameHeader { seq, ..FrameHeader::new("cam0", 0) }, 0, length).unwrap()
    }

    fn open(&self) {
        self.inlet.open(Box::new(self.feed.clone()));
    }

    fn offer(&self, seqs: impl IntoIterator<Item = u64>) {
        seqs.into_iter().for_each(|seq| self.inlet.offer(0, &self.frame(seq, 64)));
    }

    fn answer(&self, seq: u64) {
        self.inlet.answered(seq, self.clock.mono()).unwrap();
        self.feed.release(1);
        self.inlet.pump();
    }
}

#[test]
fn latest_hands_over_one_frame_and_replaces_the_one_that_waits() {
    let bench = bench(&[Policy::Latest]);
    bench.open();
    bench.offer(1..=5);
    assert_eq!(bench.feed.seqs(), [1]);
    bench.answer(1);
    assert_eq!(bench.feed.seqs(), [1, 5]);
    assert_eq!(bench.feed.dropped(), [0, 3]);
    assert_eq!(bench.inlet.counts().drops, Drops { overtaken: 3, ..Drops::default() });
    bench.answer(5);
    bench.offer([6]);
    assert_eq!(bench.feed.dropped(), [0, 3, 0]);
}

#[test]
fn queue_keeps_order_and_drops_the_oldest_that_waits() {
    let bench = bench(&[Policy::Queue(4)]);
    bench.open();
    bench.offer(1..=7);
    // One at work and four waiting, two of them in the ring.
    assert_eq!(bench.feed.seqs(), [1, 2, 3]);
    assert_eq!(bench.inlet.counts().drops.total(), 2);
    for seq in [1, 2, 3, 6, 7] {
        bench.answer(seq);
    }
    assert_eq!(bench.feed.seqs(), [1, 2, 3, 6, 7]);
    assert_eq!(bench.feed.dropped(), [0, 0, 0, 2, 0]);
}

#[test]
fn frames_wait_for_a_ring_that_is_full() {
    let mut bench = bench(&[Policy::Queue(100)]);
    bench.feed = FakeFeed::new(2, 1 << 20);
    bench.open();
    bench.offer(1..=4);
    assert_eq!(bench.feed.seqs(), [1, 2]);
    bench.answer(1);
    assert_eq!(bench.feed.seqs(), [1, 2, 3]);
    assert_eq!(bench.inlet.counts(), Counts::default());
}

#[test]
fn frames_wait_for_a_worker_that_starts() {
    let bench = bench(&[Policy::Latest]);
    bench.offer([1, 2]);
    bench.open();
    assert_eq!(bench.feed.seqs(), [2]);
    assert_eq!(bench.feed.wakes(), 1);
}

#[test]
fn a_frame_that_never_fits_is_counted_and_stands_in_nobodys_way() {
    let mut bench = bench(&[Policy::Queue(10)]);
    bench.feed = FakeFeed::new(10, 1000);
    bench.open();
    bench.inlet.offer(0, &bench.frame(1, 2000));
    bench.offer([2]);
    assert_eq!(bench.feed.seqs(), [2]);
    assert_eq!(bench.feed.dropped(), [1]);
    assert_eq!(bench.inlet.counts(), Counts { drops: Drops { oversize: 1, ..Drops::default() }, skipped: 0 });
}

#[test]
fn lanes_do_not_take_each_others_room() {
    let bench = bench(&[Policy::Latest, Policy::Latest]);
    bench.open();
    bench.offer([1, 2]);
    bench.inlet.offer(1, &bench.frame(1, 64));
    assert_eq!(bench.feed.seqs(), [1, 1]);
    bench.inlet.offer(2, &bench.frame(1, 64));
    assert_eq!(bench.feed.seqs().len(), 2, "there is no third lane");
}

#[test]
fn wakes_a_sleeping_worker_once_for_many_frames() {
    let bench = bench(&[Policy::Queue(100)]);
    bench.open();
    bench.offer(1..=10);
    assert_eq!(bench.feed.wakes(), 0);
    bench.inlet.flush();
    bench.inlet.flush();
    assert_eq!(bench.feed.wakes(), 1);
}

#[test]
fn answers_out_of_order_are_a_breach() {
    let bench = bench(&[Policy::Queue(10)]);
    bench.open();
    assert_eq!(bench.inlet.answered(1, Duration::ZERO), Err(Broken::Answer { seq: 1 }));
    bench.offer([1, 2]);
    assert_eq!(bench.inlet.answered(2, Duration::ZERO), Err(Broken::Answer { seq: 2 }));
    assert_eq!(bench.inlet.answered(1, Duration::ZERO), Ok(()));
    assert_eq!(bench.inlet.answered(1, Duration::ZERO), Err(Broken::Answer { seq: 1 }));
}

#[test]
fn tells_when_the_frame_at_hand_was_captured() {
    let bench = bench(&[Policy::Queue(10)]);
    bench.open();
    for seq in [1, 2] {
        let block = bench.pool.take(1).unwrap();
        let header = FrameHeader { seq, captured_mono_ns: 100 * seq, ..FrameHeader::new("cam0", 0) };
        bench.inlet.offer(0, &block.frame(header, 0, 1).unwrap());
    }
    assert_eq!([1, 2, 0].map(|seq| bench.inlet.captured(seq)), [Some(100), None, None], "of the frame at hand alone");
    bench.answer(1);
    assert_eq!(bench.inlet.captured(2), Some(200));
}

#[test]
fn a_damaged_ring_is_told_and_used_no_more() {
    let bench = bench(&[Policy::Queue(10)]);
    bench.open();
    bench.feed.corrupt();
    bench.offer([1]);
    assert!(bench.inlet.is_broken());
}

#[test]
fn progress_counts_from_the_last_answer_or_the_oldest_submission() {
    let bench = bench(&[Policy::Queue(10)]);
    let ms = Duration::from_millis;
    bench.open();
    assert_eq!(bench.inlet.stuck_since(), None);
    bench.clock.advance(ms(10));
    bench.offer([1, 2]);
    bench.clock.advance(ms(10));
    assert_eq!(bench.inlet.stuck_since(), Some((ms(10), 1)));
    bench.answer(1);
    assert_eq!(bench.inlet.stuck_since(), Some((ms(20), 2)));
    bench.answer(2);
    assert_eq!(bench.inlet.stuck_since(), None);
}

#[tokio::test]
async fn tells_when_frames_are_outstanding_and_nobody_watches() {
    let bench = bench(&[Policy::Queue(10)]);
    bench.open();
    bench.offer([1]);
    bench.inlet.unwatched.notified().await;
    bench.offer([2]);
    let again = tokio::time::timeout(Duration::ZERO, bench.inlet.unwatched.notified()).await;
    assert!(again.is_err(), "told twice while watched");
    bench.answer(1);
    bench.answer(2);
    assert_eq!(bench.inlet.stuck_since(), None);
    bench.offer([3]);
    bench.inlet.unwatched.notified().await;
}

#[test]
fn what_a_worker_loses_counts_as_dropped_but_for_the_frame_at_hand() {
    let bench = bench(&[Policy::Queue(4)]);
    bench.open();
    bench.offer(1..=4);
    assert_eq!(bench.inlet.shut(), Some(1));
    assert_eq!(bench.inlet.counts().drops.total(), 2);
    bench.open();
    assert_eq!(bench.feed.seqs(), [1, 2, 3, 4]);
    assert_eq!(bench.feed.dropped().last(), Some(&2));
    assert_eq!(bench.inlet.shut(), Some(4));
}

#[test]
fn a_closed_inlet_holds_no_memory() {
    let bench = bench(&[Policy::Queue(4)]);
    bench.offer(1..=4);
    bench.inlet.close();
    bench.offer(5..=9);
    let idle = bench.pool.idle_bytes();
    assert!(idle > 0);
    bench.inlet.reopen();
    bench.open();
    assert!(bench.feed.seqs().is_empty());
    bench.offer([10]);
    assert_eq!(bench.feed.seqs(), [10]);
}

#[test]
fn waiting_frames_are_bounded_in_bytes() {
    let bench = bench(&[Policy::Queue(4096)]);
    for seq in 0..40 {
        bench.inlet.offer(0, &bench.frame(seq, 1 << 20));
    }
    assert_eq!(bench.inlet.counts().drops.total(), 24);
}

#[test]
fn while_there_is_no_worker_as_many_wait_as_the_policy_says() {
    let bench = bench(&[Policy::Queue(7)]);
    bench.offer(1..=8);
    assert_eq!(bench.inlet.counts().drops.total(), 1);
    bench.open();
    bench.offer([9]);
    for seq in 2..=9 {
        bench.answer(seq);
    }
    assert_eq!((bench.feed.seqs(), bench.inlet.counts().drops.total()), ((2..=9).collect(), 1));
}

/// The entrance of the next generation of the same module.
fn heir(bench: &Bench, policies: &[Policy]) -> Bench {
    let inputs = policies.iter().map(|policy| ("cam0".into(), *policy));
    let inlet = Rc::new(Inlet::new("m".into(), inputs, bench.pool.clone(), bench.clock.clone()));
    Bench { pool: bench.pool.clone(), clock: bench.clock.clone(), inlet, feed: FakeFeed::new(1000, 1 << 20) }
}

#[test]
fn another_generation_takes_over_what_waits_before_any_newer_frame() {
    let old = bench(&[Policy::Queue(4)]);
    old.open();
    old.offer(1..=5);
    assert_eq!(old.feed.seqs(), [1, 2, 3]);
    let new = heir(&old, &[Policy::Queue(4)]);
    new.open();
    old.inlet.hand_over(&new.inlet);
    assert_eq!(new.feed.seqs(), [4, 5]);
    assert_eq!(new.feed.wakes(), 1);
    new.offer([6]);
    old.offer([7]);
    // The old worker answers what it has, and gets no more.
    for seq in 1..=3 {
        assert!(!old.inlet.is_drained());
        old.answer(seq);
    }
    assert!(old.inlet.is_drained());
    old.inlet.close();
    assert_eq!((old.feed.seqs(), new.feed.seqs()), (vec![1, 2, 3], vec![4, 5, 6]));
    assert_eq!((old.inlet.counts(), new.inlet.counts()), (Counts::default(), Counts::default()));
}

#[test]
fn frames_wait_for_another_generation_that_has_no_worker_yet() {
    let old = bench(&[Policy::Queue(4)]);
    old.open();
    old.offer(1..=5);
    let new = heir(&old, &[Policy::Queue(3)]);
    old.inlet.hand_over(&new.inlet);
    new.offer(6..=8);
    new.open();
    for seq in 6..=8 {
        new.answer(seq);
    }
    // Its own policy holds: of five that came, three wait.
    assert_eq!((new.feed.seqs(), new.feed.dropped()), (vec![6, 7, 8], vec![2, 0, 0]));
    assert_eq!(new.inlet.counts().drops.total(), 2);
}

#[test]
fn what_the_old_worker_does_not_answer_is_counted_by_the_one_that_took_over() {
    let old = bench(&[Policy::Queue(4)]);
    old.open();
    old.offer(1..=4);
    old.answer(1);
    let new = heir(&old, &[Policy::Queue(4)]);
    old.inlet.hand_over(&new.inlet);
    old.inlet.close();
    assert_eq!(old.inlet.counts().drops.total(), 0);
    assert_eq!(new.inlet.counts().drops.total(), 3, "the frame at hand included");
    new.open();
    new.offer([5]);
    assert_eq!((new.feed.seqs(), new.feed.dropped()), (vec![5], vec![3]));
}

#[test]
fn a_gap_at_the_switch_is_what_was_dropped() {
    let old = bench(&[Policy::Latest]);
    old.open();
    old.offer(1..=5);
    let new = heir(&old, &[Policy::Latest]);
    old.inlet.hand_over(&new.inlet);
    assert!(new.feed.seqs().is_empty());
    new.open();
    assert_eq!((new.feed.seqs(), new.feed.dropped()), (vec![5], vec![3]), "1 is at work, 2 to 4 were replaced");
}

#[test]
fn what_the_new_generation_does_not_want_is_let_go() {
    let old = bench(&[Policy::Queue(4)]);
    old.offer(1..=4);
    let new = heir(&old, &[]);
    old.inlet.hand_over(&new.inlet);
    assert!(old.pool.idle_bytes() > 0);
    new.open();
    assert!(new.feed.seqs().is_empty());
}

/// A frame of one sample of one channel.
fn sample(bench: &Bench, seq: u64) -> Frame {
    let header = FrameHeader {
        seq,
        kind: sanderling_guest::frame::Kind::Series,
        format: sanderling_guest::frame::Format::I16,
        channels: 1,
        ..FrameHeader::new("cam0", 0)
    };
    bench.pool.take(2).unwrap().frame(header, 0, 2).unwrap()
}

fn window(samples: u32, hop: u32) -> Policy {
    Policy::Window(sanderling_protocol::deployment::Window { samples, hop: Some(hop), queue: 2 })
}

#[test]
fn what_a_sample_leaves_out_is_no_drop() {
    let bench = bench(&[Policy::Sample(sanderling_protocol::deployment::Sample::Every(3))]);
    bench.open();
    bench.offer(1..=8);
    assert_eq!(bench.feed.seqs(), [1]);
    bench.answer(1);
    assert_eq!(bench.feed.seqs(), [1, 7]);
    assert_eq!(bench.feed.dropped(), [0, 1], "the fourth frame waited when the seventh came");
    let drops = Drops { overtaken: 1, ..Drops::default() };
    assert_eq!(bench.inlet.counts(), Counts { drops, skipped: 5 });
}

#[test]
fn windows_wait_like_frames_and_are_answered_by_their_own_number() {
    let bench = bench(&[window(4, 2)]);
    bench.open();
    (1..=12).for_each(|seq| bench.inlet.offer(0, &sample(&bench, seq)));
    // Five windows: one at work and two waiting, one of them in the ring.
    assert_eq!(bench.feed.seqs(), [1, 2]);
    assert_eq!(bench.inlet.counts().drops, Drops { overtaken: 2, ..Drops::default() });
    [1, 2, 5].into_iter().for_each(|seq| bench.answer(seq));
    bench.inlet.offer(0, &bench.frame(13, 64));
    bench.inlet.offer(0, &sample(&bench, 20));
    let drops = Drops { overtaken: 2, unfit: 1, broken: 1, ..Drops::default() };
    assert_eq!(bench.inlet.counts().drops, drops);
    (21..=23).for_each(|seq| bench.inlet.offer(0, &sample(&bench, seq)));
    assert_eq!(bench.feed.dropped(), [0, 0, 2, 2], "what is missing stands in the header of the window after it");
}

#[test]
fn a_window_that_was_begun_goes_on_in_the_next_generation() {
    let old = bench(&[window(4, 4)]);
    old.open();
    (1..=3).for_each(|seq| old.inlet.offer(0, &sample(&old, seq)));
    let new = heir(&old, &[window(4, 4)]);
    old.inlet.hand_over(&new.inlet);
    new.open();
    new.inlet.offer(0, &sample(&new, 4));
    assert_eq!((old.feed.seqs(), new.feed.seqs()), (vec![], vec![1]));
    let other = heir(&new, &[window(2, 2)]);
    new.inlet.offer(0, &sample(&new, 5));
    new.inlet.hand_over(&other.inlet);
    other.open();
    other.inlet.offer(0, &sample(&other, 6));
    assert_eq!(other.feed.seqs(), [0_u64; 0], "of another length it begins anew");
}
