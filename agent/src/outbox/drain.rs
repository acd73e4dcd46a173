//! How fast a backlog may go: so many messages and so many bytes a second, decided by the time that is given.
//!
//! Limits: what was not used is saved up for [`BURST`]; a message goes when anything is left, however large it is, and those after it wait for it.

use std::time::Duration;

/// How long what was not used is saved up.
const BURST: Duration = Duration::from_millis(250);

/// `[outbox]`: how fast what waited on disk when the link came up is sent. 0 is without a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DrainSettings {
    /// `drain_per_s`: messages a second.
    pub messages: u32,
    /// `drain_kib_per_s`, in bytes here.
    pub bytes: u64,
}

/// What may go now.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    messages: Allowance,
    bytes: Allowance,
}

impl Drain {
    pub(super) fn new(settings: DrainSettings) -> Self {
        Self { messages: Allowance::new(u64::from(settings.messages)), bytes: Allowance::new(settings.bytes) }
    }

    /// How long until the next message may go.
    pub(super) fn wait(&mut self, now: Duration) -> Duration {
        self.messages.wait(now).max(self.bytes.wait(now))
    }

    /// A message of so many bytes goes.
    pub(super) fn take(&mut self, bytes: u64) {
        self.messages.take(1);
        self.bytes.take(bytes);
    }
}

/// An allowance that grows with time, in billionths.
#[derive(Clone, Debug)]
struct Allowance {
    per_s: u64,
    level: i128,
    at: Duration,
}

const ONE: i128 = 1_000_000_000;

impl Allowance {
    fn new(per_s: u64) -> Self {
        Self { per_s, level: Self::most(per_s), at: Duration::ZERO }
    }

    fn most(per_s: u64) -> i128 {
        (i128::from(per_s) * i128::try_from(BURST.as_nanos()).unwrap_or(0)).max(ONE)
    }

    fn wait(&mut self, now: Duration) -> Duration {
        if self.per_s == 0 {
            return Duration::ZERO;
        }
        let passed = i128::try_from(now.saturating_sub(self.at).as_nanos()).unwrap_or(0);
        self.at = self.at.max(now);
        let grown = passed.saturating_mul(i128::from(self.per_s));
        self.level = self.level.saturating_add(grown).min(Self::most(self.per_s));
        let missing = (ONE - self.level).max(0);
        let nanos = missing.div_euclid(i128::from(self.per_s)) + i128::from(missing % i128::from(self.per_s) > 0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn take(&mut self, count: u64) {
        self.level = self.level.saturating_sub(i128::from(count) * ONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(drain: &mut Drain, until: Duration, bytes: u64) -> u32 {
        let (mut now, mut sent) = (Duration::ZERO, 0);
        while now <= until {
            let wait = drain.wait(now);
            if wait.is_zero() {
                drain.take(bytes);
                sent += 1;
            }
            now += wait;
        }
        sent
    }

    #[test]
    fn passes_a_quarter_of_a_second_at_once_and_then_the_rate() {
        let mut drain = Drain::new(DrainSettings { messages: 100, bytes: 0 });
        assert_eq!(sent(&mut drain, Duration::ZERO, 1), 25);
        let mut drain = Drain::new(DrainSettings { messages: 100, bytes: 0 });
        assert_eq!(sent(&mut drain, Duration::from_secs(10), 1), 1025);
    }

    #[test]
    fn large_messages_are_paid_for_by_those_after_them() {
        let mut drain = Drain::new(DrainSettings { messages: 0, bytes: 1000 });
        let sent = sent(&mut drain, Duration::from_secs(100), 5000);
        assert!((20..=21).contains(&sent), "{sent}");
    }

    #[test]
    fn without_a_limit_nothing_waits_and_a_long_rest_saves_no_more_up() {
        let mut drain = Drain::new(DrainSettings::default());
        (0..10_000).for_each(|_| drain.take(1 << 20));
        assert_eq!(drain.wait(Duration::ZERO), Duration::ZERO);
        let mut drain = Drain::new(DrainSettings { messages: 4, bytes: 0 });
        drain.take(1);
        assert_eq!(drain.wait(Duration::MAX), Duration::ZERO);
        drain.take(1);
        assert_eq!(drain.wait(Duration::MAX), Duration::from_millis(250));
        assert_eq!(drain.wait(Duration::ZERO), Duration::from_millis(250), "a clock that goes back gives nothing");
    }
}
