use sanderling_protocol::digest::Digest;

use super::*;

const LIMITS: Limits = Limits {
    window: 100,
    messages: 8,
    stall_ms: 1000,
    overtaken_ms: 100,
    backoff: Backoff { first_ms: 1000, longest_ms: 8000 },
};

fn chunk(number: u8) -> Published {
    Published::Chunk(Digest::from_bytes([number; 32]))
}

fn fetch(count: u8, bytes: u64) -> Fetch {
    let mut fetch = Fetch::new(LIMITS);
    fetch.link_up(u16::MAX, 0);
    (0..count).for_each(|number| fetch.want(chunk(number), bytes));
    fetch
}

fn poll(fetch: &mut Fetch, now_ms: u64) -> Asked {
    fetch.poll(now_ms, &mut Chance::new(1))
}

#[test]
fn a_window_is_outstanding_and_slides() {
    let mut fetch = fetch(10, 20);
    assert_eq!(poll(&mut fetch, 0).subscribe, [0, 1, 2, 3, 4].map(chunk));
    assert!(fetch.arrived(&chunk(0), 1));
    assert_eq!(poll(&mut fetch, 1), Asked::default(), "it still fills the window");
    fetch.done(&chunk(0));
    assert_eq!(poll(&mut fetch, 1), Asked::default(), "less than a quarter is free");
    assert!(fetch.arrived(&chunk(1), 2));
    fetch.done(&chunk(1));
    let asked = poll(&mut fetch, 2);
    assert_eq!(asked.subscribe, [5, 6].map(chunk));
    assert_eq!(asked.unsubscribe, [0, 1].map(chunk));
}

#[test]
fn one_message_larger_than_the_window_is_asked_for_alone() {
    let mut fetch = fetch(2, 500);
    assert_eq!(poll(&mut fetch, 0).subscribe, [chunk(0)]);
    fetch.arrived(&chunk(0), 1);
    fetch.done(&chunk(0));
    assert_eq!(poll(&mut fetch, 1).subscribe, [chunk(1)]);
}

#[test]
fn the_number_of_messages_is_bounded_too() {
    let mut fetch = fetch(20, 1);
    assert_eq!(poll(&mut fetch, 0).subscribe.len(), LIMITS.messages);
}

#[test]
fn what_was_not_asked_for_is_not_taken() {
    let mut fetch = fetch(1, 10);
    assert!(!fetch.arrived(&chunk(0), 0), "not asked for yet");
    poll(&mut fetch, 0);
    assert!(!fetch.arrived(&chunk(9), 0));
    assert!(fetch.arrived(&chunk(0), 0));
    assert!(!fetch.arrived(&chunk(0), 0), "it came already");
}

#[test]
fn silence_means_that_all_is_asked_for_again_after_a_wait() {
    let mut fetch = fetch(2, 10);
    poll(&mut fetch, 0);
    assert_eq!(fetch.wake_at(), Some(1000));
    assert_eq!(poll(&mut fetch, 999), Asked::default());
    let asked = poll(&mut fetch, 1000);
    assert_eq!(asked.absent, [(chunk(0), 1), (chunk(1), 1)]);
    assert_eq!(asked.unsubscribe, [0, 1].map(chunk));
    assert!(asked.subscribe.is_empty());
    let again = poll(&mut fetch, 3000).subscribe;
    assert_eq!(again.len(), 2);
    assert_eq!(poll(&mut fetch, 9000).absent.first().map(|(_, failures)| *failures), Some(2));
}

#[test]
fn a_slow_link_that_still_gives_something_is_not_asked_twice() {
    let mut fetch = fetch(5, 20);
    poll(&mut fetch, 0);
    for number in 0..4 {
        let now = u64::from(number) * 900;
        assert!(fetch.arrived(&chunk(number), now));
        fetch.done(&chunk(number));
        assert_eq!(poll(&mut fetch, now), Asked::default());
    }
}

#[test]
fn a_message_that_later_ones_overtake_is_taken_as_absent_and_does_not_hold_up_the_rest() {
    let mut fetch = fetch(10, 20);
    poll(&mut fetch, 0);
    for number in 1..5 {
        fetch.arrived(&chunk(number), 10);
        fetch.done(&chunk(number));
    }
    assert_eq!(poll(&mut fetch, 10).subscribe, [5, 6, 7, 8].map(chunk));
    assert_eq!(fetch.wake_at(), Some(110));
    let asked = poll(&mut fetch, 110);
    assert_eq!(asked.absent, [(chunk(0), 1)]);
    assert!(fetch.wants(&chunk(0)));
}

#[test]
fn a_wrong_message_is_asked_for_again_with_growing_waits() {
    let mut fetch = fetch(1, 10);
    let mut chance = Chance::new(3);
    let mut now = 0;
    for failures in 1..6 {
        assert_eq!(fetch.poll(now, &mut chance).subscribe, [chunk(0)]);
        fetch.arrived(&chunk(0), now);
        assert_eq!(fetch.again(&chunk(0), now, &mut chance), failures);
        let next = fetch.wake_at().unwrap_or_default();
        assert!(next - now >= 750 * (1 << (failures - 1).min(3)), "{failures}: {next}");
        now = next;
    }
}

#[test]
fn a_lost_link_means_that_all_is_asked_for_again_in_order() {
    let mut fetch = fetch(7, 20);
    poll(&mut fetch, 0);
    fetch.arrived(&chunk(1), 0);
    assert_eq!(fetch.link_down(), [1, 4, 3, 2, 0].map(chunk), "the link forgets them");
    assert_eq!(poll(&mut fetch, 5), Asked::default());
    assert_eq!(fetch.wake_at(), None);
    fetch.done(&chunk(1));
    fetch.link_up(u16::MAX, 10);
    assert_eq!(poll(&mut fetch, 10).subscribe, [0, 2, 3, 4, 5].map(chunk));
}

#[test]
fn clearing_unsubscribes_what_is_open() {
    let mut fetch = fetch(7, 20);
    poll(&mut fetch, 0);
    fetch.clear();
    assert!(fetch.is_empty());
    assert_eq!(poll(&mut fetch, 0).unsubscribe, [0, 1, 2, 3, 4].map(chunk));
    assert_eq!(poll(&mut fetch, 0), Asked::default());
}

#[test]
fn no_more_is_asked_for_than_the_broker_has_under_way() {
    let mut fetch = fetch(8, 1);
    fetch.link_down();
    fetch.link_up(3, 0);
    assert_eq!(poll(&mut fetch, 0).subscribe, [0, 1, 2].map(chunk));
    fetch.link_down();
    fetch.link_up(0, 0);
    assert_eq!(poll(&mut fetch, 0).subscribe.len(), 1, "a broker that says 0 is asked for one");
    fetch.link_down();
    fetch.link_up(u16::MAX, 0);
    assert_eq!(poll(&mut fetch, 0).subscribe.len(), 8, "our own limit");
}

#[test]
fn what_is_forgotten_is_not_asked_for_wherever_it_was() {
    let mut fetch = fetch(8, 20);
    poll(&mut fetch, 0);
    fetch.arrived(&chunk(0), 0);
    fetch.again(&chunk(0), 0, &mut Chance::new(1));
    for number in [0, 1, 7] {
        fetch.forget(&chunk(number));
        assert!(!fetch.wants(&chunk(number)), "waiting, outstanding, queued: {number}");
    }
    let asked = poll(&mut fetch, 10_000);
    assert!(asked.unsubscribe.contains(&chunk(1)));
    assert!(!asked.subscribe.iter().any(|what| [0, 1, 7].map(chunk).contains(what)));
    fetch.want(chunk(7), 20);
    assert!(fetch.wants(&chunk(7)), "it may be wanted again");
}
