//! What modules log, sent to whoever asked for it, while that lease runs.
//!
//! Invariants: one lease at a time; a later one takes its place. A line is sent once or not at all (QoS 0) and is kept nowhere; what the
//! link does not take, and what comes beyond [`LINES_PER_S`], is counted and told with the next line.

use std::{collections::VecDeque, time::Duration};

use sanderling_protocol::command::{LogLine, LogsRequest, MAX_LEASE_S};

use crate::rate::Bucket;

/// Lines a second that are sent, of all modules together; ten seconds' worth may come at once.
pub(super) const LINES_PER_S: u32 = 20;
/// Lines that wait for the loop to send them.
const MOST_WAITING: usize = 256;

/// The lease, and the lines that wait.
#[derive(Debug, Default)]
pub(super) struct Logs {
    lease: Option<Lease>,
    waiting: VecDeque<LogLine>,
    omitted: u64,
}

#[derive(Debug)]
struct Lease {
    request: LogsRequest,
    until: Duration,
    rate: Bucket,
}

impl Logs {
    /// Begins a lease; gives its length in seconds. One of no length ends what runs.
    pub(super) fn begin(&mut self, request: LogsRequest, now: Duration) -> u32 {
        let lease_s = request.lease_s.min(MAX_LEASE_S);
        let until = now + Duration::from_secs(u64::from(lease_s));
        (self.waiting, self.omitted) = (VecDeque::new(), 0);
        self.lease = (lease_s > 0).then(|| Lease { request, until, rate: Bucket::new(LINES_PER_S, now) });
        lease_s
    }

    /// A module logged a line. `true` where it is to be sent.
    pub(super) fn line(&mut self, module: &str, level: u8, text: &str, now: Duration, at_ms: i64) -> bool {
        let Some(lease) = &mut self.lease else { return false };
        if now >= lease.until {
            self.lease = None;
            return false;
        }
        let wanted = lease.request.module.as_deref().is_none_or(|wanted| wanted == module);
        if !wanted || level > lease.request.level.number() {
            return false;
        }
        if !lease.rate.take(now) || self.waiting.len() >= MOST_WAITING {
            self.omitted += 1;
            return false;
        }
        let omitted = std::mem::take(&mut self.omitted);
        self.waiting.push_back(LogLine {
            at_ms,
            module: module.to_owned(),
            level: level.into(),
            text: text.to_owned(),
            omitted,
        });
        true
    }

    /// The oldest line that waits.
    pub(super) fn next(&mut self) -> Option<LogLine> {
        self.waiting.pop_front()
    }

    /// A line that the link did not take.
    pub(super) fn lost(&mut self, line: &LogLine) {
        self.omitted += 1 + line.omitted;
    }
}

#[cfg(test)]
mod tests {
    use sanderling_protocol::command::LogLevel;

    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn leased(lease_s: u32, level: LogLevel, module: Option<&str>) -> Logs {
        let mut logs = Logs::default();
        logs.begin(LogsRequest { lease_s, level, module: module.map(str::to_owned) }, Duration::ZERO);
        logs
    }

    #[test]
    fn nothing_is_sent_without_a_lease_or_after_it() {
        assert!(!Logs::default().line("m", 0, "x", Duration::ZERO, 0));
        let mut logs = leased(10, LogLevel::Trace, None);
        assert!(logs.line("m", 4, "x", 9 * S, 0));
        assert!(!logs.line("m", 0, "x", 10 * S, 0));
        assert!(!logs.line("m", 0, "x", 9 * S, 0), "what is over is over");
        assert!(!leased(0, LogLevel::Trace, None).line("m", 0, "x", Duration::ZERO, 0));
    }

    #[test]
    fn no_lease_is_longer_than_the_longest() {
        let request = LogsRequest { lease_s: u32::MAX, level: LogLevel::Info, module: None };
        assert_eq!(Logs::default().begin(request, Duration::ZERO), MAX_LEASE_S);
    }

    #[test]
    fn lines_of_the_module_and_the_levels_that_were_asked_for_are_sent() {
        let mut logs = leased(10, LogLevel::Warn, Some("m"));
        for (module, level, sent) in [("m", 0, true), ("m", 1, true), ("m", 2, false), ("n", 0, false)] {
            assert_eq!(logs.line(module, level, "x", S, 7), sent, "{module} {level}");
        }
        let line = logs.next();
        assert!(line.as_ref().is_some_and(|line| line.level == LogLevel::Error && line.at_ms == 7), "{line:?}");
    }

    #[test]
    fn what_is_left_out_is_told_with_the_next_line() {
        let mut logs = leased(100, LogLevel::Trace, None);
        assert_eq!((0..1000).filter(|_| logs.line("m", 2, "x", Duration::ZERO, 0)).count(), 200);
        while let Some(line) = logs.next() {
            assert_eq!(line.omitted, 0);
        }
        assert!(logs.line("m", 2, "x", S, 0));
        let line = logs.next();
        assert_eq!(line.as_ref().map(|line| line.omitted), Some(800));
        line.iter().for_each(|line| logs.lost(line));
        assert!(logs.line("m", 2, "x", S, 0));
        assert_eq!(logs.next().map(|line| line.omitted), Some(801), "the link did not take it");
    }
}
