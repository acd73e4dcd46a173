#![allow(clippy::unwrap_used)]

use std::{cell::Cell, path::PathBuf};

use super::*;
use crate::{
    clock::SystemClock,
    sinks::{Condition, LineAt, Test, fake::record},
};

const MS: u64 = 1_000_000;

fn settings() -> GpioSettings {
    GpioSettings {
        at: LineAt::Number { chip: PathBuf::from("/dev/gpiochip0"), line: 17 },
        active_low: true,
        pulse: Duration::from_millis(50),
        delay: Duration::ZERO,
        min_gap: Duration::ZERO,
        when: Some(Condition { pointer: "/label".into(), test: Test::Is("defect".into()) }),
    }
}

/// An operator and the time that it is told.
struct Bench {
    operator: Operator,
    lines: FakeLines,
    now: Cell<u64>,
    changes: Vec<(u64, bool)>,
}

impl Bench {
    fn new(settings: GpioSettings) -> Self {
        let lines = FakeLines::default();
        let operator = Operator::new("gate".into(), settings, Box::new(lines.clone()), Arc::default(), Arc::default());
        Self { operator, lines, now: Cell::new(1_000 * MS), changes: Vec::new() }
    }

    /// A record that came now, of a frame that was captured so long ago.
    fn emit(&mut self, label: &str, age: Option<u64>) {
        let came = self.now.get();
        let payload = format!("{{\"label\":\"{label}\"}}");
        let record =
            Record { came_ns: came, captured_ns: age.map(|age| came - age), ..record("m", "c", payload.as_bytes()) };
        self.operator.take(&record, came);
        self.pass(0);
    }

    /// Lets time pass, and does what is due meanwhile.
    fn pass(&mut self, ms: u64) {
        let end = self.now.get() + ms * MS;
        loop {
            self.operator.turn(&|| self.now.get());
            let sets = self.lines.sets();
            while let Some(set) = sets.get(self.changes.len()) {
                self.changes.push((self.now.get() / MS - 1_000, *set));
            }
            let next = self.now.get() + nanos(self.operator.due(self.now.get()));
            if next > end {
                break;
            }
            self.now.set(next);
        }
        self.now.set(end);
    }

    fn pulses(&self) -> Pulses {
        let sink = GpioSink {
            entrance: queue(self.operator.tally.clone()).0,
            tally: self.operator.tally.clone(),
            measured: self.operator.measured.clone(),
        };
        sink.report().pulses.unwrap()
    }

    fn dropped(&self, cause: Cause) -> u64 {
        self.operator.tally.report().dropped.get(cause.name()).copied().unwrap_or(0)
    }
}

#[test]
fn a_record_that_fits_gives_a_pulse_and_others_do_not() {
    let mut bench = Bench::new(settings());
    bench.emit("good", None);
    bench.pass(10);
    bench.emit("defect", None);
    bench.pass(200);
    assert_eq!(bench.changes, [(10, true), (60, false)]);
    assert_eq!(bench.lines.requests(), [(settings().at, true)]);
    bench.operator.take(&record("m", "c", b"\xff"), bench.now.get());
    assert_eq!(bench.dropped(Cause::NotJson), 1);
    assert_eq!(bench.pulses().given, 1);
}

#[test]
fn the_delay_is_counted_from_the_capture_of_the_frame_however_long_the_module_took() {
    let mut bench = Bench::new(GpioSettings { delay: Duration::from_millis(300), ..settings() });
    for took in [20, 120, 280] {
        bench.pass(took);
        bench.emit("defect", Some(took * MS));
        bench.pass(1_000 - took);
    }
    assert_eq!(
        bench.changes,
        [(300, true), (350, false), (1_300, true), (1_350, false), (2_300, true), (2_350, false)]
    );
    let pulses = bench.pulses();
    assert_eq!((pulses.given, pulses.late, pulses.set_us_p99), (3, 0, 0));
    assert_eq!((pulses.record_us_p50, pulses.record_us_p99), (120_000, 280_000));
    bench.emit("defect", None);
    bench.pass(1_000);
    assert_eq!(bench.changes[6..], [(3_300, true), (3_350, false)], "of an unknown frame, from the record");
}

#[test]
fn a_pulse_whose_time_is_over_is_given_at_once_and_counted() {
    let mut bench = Bench::new(GpioSettings { delay: Duration::from_millis(100), ..settings() });
    bench.emit("defect", Some(140 * MS));
    bench.pass(500);
    assert_eq!(bench.changes, [(0, true), (50, false)]);
    assert_eq!((bench.pulses().late, bench.pulses().set_us_p99), (1, 0));
}

#[test]
fn pulses_join_and_the_line_rests() {
    let mut bench = Bench::new(GpioSettings { min_gap: Duration::from_millis(30), ..settings() });
    bench.emit("defect", None);
    bench.pass(20);
    bench.emit("defect", None);
    bench.pass(60);
    bench.emit("defect", None);
    bench.pass(40);
    bench.emit("defect", None);
    bench.pass(500);
    assert_eq!(bench.changes, [(0, true), (70, false), (120, true), (170, false)]);
    assert_eq!((bench.pulses().given, bench.pulses().joined, bench.dropped(Cause::TooSoon)), (2, 1, 1));
}

#[test]
fn a_line_that_cannot_be_had_is_reported_and_asked_for_again() {
    let mut bench = Bench::new(settings());
    bench.lines.fail(Some("permission denied"));
    bench.emit("defect", None);
    let error = bench.operator.tally.report().error.unwrap();
    assert_eq!(error, "line 17 of /dev/gpiochip0: permission denied");
    bench.pass(7_000);
    assert_eq!(bench.lines.requests().len(), 4, "after 0.5, 1.5 and 3.5 s");
    assert_eq!((bench.dropped(Cause::Line), bench.pulses().given), (1, 0));
    bench.lines.fail(None);
    bench.pass(500);
    assert_eq!(bench.operator.tally.report().error, None);
    bench.emit("defect", None);
    bench.pass(100);
    assert_eq!(bench.lines.sets(), [true, false]);
}

#[test]
fn a_line_that_is_lost_during_a_pulse_is_had_again() {
    let mut bench = Bench::new(settings());
    bench.emit("defect", None);
    bench.lines.fail(Some("no such device"));
    bench.pass(60);
    assert!(bench.operator.tally.report().error.unwrap().contains("no such device"));
    bench.lines.fail(None);
    bench.pass(500);
    bench.emit("defect", None);
    bench.pass(100);
    assert_eq!(bench.lines.sets(), [true, true, false], "the line is asked for anew, inactive");
}

#[test]
fn a_thread_pulses_and_leaves_the_line_inactive() {
    let lines = FakeLines::default();
    let (guard, mut ended) = tokio::sync::mpsc::channel(1);
    let clock = Arc::new(SystemClock::new());
    let pulse = Duration::from_secs(60);
    let settings = GpioSettings { pulse, when: None, ..settings() };
    let sink = GpioSink::start("gate", settings, Box::new(lines.clone()), clock.clone(), guard).unwrap();
    sink.take(&Record { came_ns: clock.capture().mono_ns, ..record("m", "c", b"") });
    let begun = std::iter::repeat_with(|| std::thread::sleep(Duration::from_millis(1))).take(10_000);
    let _ = begun.take_while(|()| lines.sets().is_empty()).count();
    assert_eq!(lines.sets(), [true]);
    assert_eq!(sink.report().pulses.unwrap().given, 1);
    drop(sink);
    assert_eq!(ended.blocking_recv(), None);
    assert_eq!(lines.sets(), [true, false], "a pulse that lasts is cut short at the end");
}
