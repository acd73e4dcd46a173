use super::*;
use crate::{
    clock::FakeClock,
    outbox::{DrainSettings, EVENT},
    settings::OutboxSettings,
    store::database::Database,
};

fn spool() -> (Spool, tokio_mpsc::UnboundedReceiver<Spooled>) {
    with_clock(Arc::new(FakeClock::at(0)))
}

fn with_clock(clock: Arc<FakeClock>) -> (Spool, tokio_mpsc::UnboundedReceiver<Spooled>) {
    let commit_interval = Duration::from_millis(100);
    let drain = DrainSettings { messages: 2, bytes: 0 };
    let settings = OutboxSettings { max_bytes: 64 << 20, event_max_bytes: 1 << 20, commit_interval, drain };
    let outbox = Outbox::open(Database::in_memory().unwrap(), settings).unwrap();
    Spool::start(outbox, clock).unwrap()
}

async fn next(spool: &Spool, spooled: &mut tokio_mpsc::UnboundedReceiver<Spooled>, epoch: u64) -> Vec<Record> {
    spool.next(Room { most: 10, backlog: 10 }, epoch);
    let Some(Spooled::Records { epoch: of, records }) = spooled.recv().await else { unreachable!() };
    assert_eq!(of, epoch);
    records
}

#[tokio::test]
async fn records_come_back_in_order_until_they_are_acknowledged() {
    let (mut spool, mut spooled) = spool();
    let record = |text: &'static str| Said::Record(EVENT.to_owned(), Bytes::from_static(text.as_bytes()));
    spool.push(vec![record("1"), record("2")]);
    let first = next(&spool, &mut spooled, 1).await;
    assert_eq!(first.iter().map(|record| &record.payload[..]).collect::<Vec<_>>(), [b"1", b"2"]);
    assert_eq!(next(&spool, &mut spooled, 1).await, [], "they are with the link");
    spool.acked(first[0].id);
    spool.link_down();
    let again = next(&spool, &mut spooled, 2).await;
    assert_eq!(again, first[1..], "what was not acknowledged is sent again");
    spool.acked(again[0].id);
    spool.flush().await.unwrap();
    spool.link_down();
    assert_eq!(next(&spool, &mut spooled, 3).await, []);
    assert_eq!(spool.figures().records, 0);
}

#[tokio::test]
async fn what_the_disk_is_too_slow_for_is_dropped_and_counted() {
    let (mut spool, _spooled) = spool();
    let record = || Said::Record(EVENT.to_owned(), Bytes::from(vec![0; MOST_PENDING / 4]));
    spool.push((0..9).map(|_| record()).collect());
    assert!(spool.figures().dropped >= 5, "{:?}", spool.figures());
    spool.flush().await.unwrap();
    assert_eq!(spool.pending.load(Ordering::Relaxed), 0);
    let empty = || Said::Record(EVENT.to_owned(), Bytes::new());
    let dropped = spool.figures().dropped;
    spool.push((0..MOST_PENDING / 32).map(|_| empty()).collect());
    assert!(spool.figures().dropped > dropped, "a record without a payload takes memory too");
}

#[tokio::test]
async fn a_question_stays_open_while_the_backlog_waits_and_an_event_answers_it_at_once() {
    let clock = Arc::new(FakeClock::at(0));
    let (mut spool, mut spooled) = with_clock(clock.clone());
    let record =
        |channel: &str, text: &'static str| Said::Record(channel.to_owned(), Bytes::from_static(text.as_bytes()));
    spool.push(vec![record("data/m/c", "1"), record("data/m/c", "2")]);
    spool.flush().await.unwrap();
    spool.link_up();
    let first = next(&spool, &mut spooled, 1).await;
    assert_eq!(first.iter().map(|record| &record.payload[..]).collect::<Vec<_>>(), [b"1"]);
    // Two a second: the next has to wait, and the clock stands still.
    spool.next(Room { most: 10, backlog: 10 }, 1);
    spool.push(vec![record(EVENT, "e")]);
    let Some(Spooled::Records { records, .. }) = spooled.recv().await else { unreachable!() };
    assert_eq!(records.iter().map(|record| &record.payload[..]).collect::<Vec<_>>(), [b"e"]);
    spool.next(Room { most: 10, backlog: 10 }, 1);
    spool.flush().await.unwrap();
    assert!(spooled.try_recv().is_err(), "still open");
    clock.advance(Duration::from_millis(500));
    let Some(Spooled::Records { records, .. }) = spooled.recv().await else { unreachable!() };
    assert_eq!(records.iter().map(|record| &record.payload[..]).collect::<Vec<_>>(), [b"2"]);
}

/// A clock that does not answer before it is let, as a disk that hangs.
struct Hanging(std::sync::Mutex<mpsc::Receiver<()>>);

impl Clock for Hanging {
    fn wall_ms(&self) -> i64 {
        let _ = self.0.lock().unwrap().recv();
        0
    }

    fn mono(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test]
async fn a_thread_that_hangs_counts_no_further_and_one_without_orders_has_nothing_to_do() {
    const PATIENCE: Duration = Duration::from_secs(9);
    let commit_interval = Duration::from_millis(100);
    let drain = DrainSettings::default();
    let settings = OutboxSettings { max_bytes: 64 << 20, event_max_bytes: 1 << 20, commit_interval, drain };
    let outbox = Outbox::open(Database::in_memory().unwrap(), settings).unwrap();
    let (go_on, clock) = mpsc::channel();
    let (mut spool, _spooled) = Spool::start(outbox, Arc::new(Hanging(std::sync::Mutex::new(clock)))).unwrap();
    assert_eq!(spool.mark(PATIENCE), Mark { steps: 0, within: None });
    spool.link_down();
    let flushed = spool.flush();
    assert_eq!(spool.mark(PATIENCE), Mark { steps: 0, within: Some(PATIENCE) });
    drop(go_on);
    flushed.await.unwrap();
    while spool.mark(PATIENCE).within.is_some() {
        tokio::task::yield_now().await;
    }
    assert_eq!(spool.mark(PATIENCE).steps, 2);
}
