use std::{cell::RefCell, collections::VecDeque, rc::Rc};

use tokio::sync::Notify;

use super::{
    lines::{ChipLines, Found, edge, resolve},
    *,
};
use crate::sensors::fake::{Bench, until};

/// What the kernel says next: an edge, or an error.
#[derive(Clone, Default)]
struct Kernel {
    events: Rc<RefCell<VecDeque<io::Result<Edge>>>>,
    wake: Rc<Notify>,
}

impl Kernel {
    fn say(&self, event: io::Result<Edge>) {
        self.events.borrow_mut().push_back(event);
        self.wake.notify_one();
    }
}

impl Edges for Kernel {
    async fn ready(&self) -> io::Result<()> {
        while self.events.borrow().is_empty() {
            self.wake.notified().await;
        }
        Ok(())
    }

    fn next(&mut self) -> io::Result<Option<Edge>> {
        self.events.borrow_mut().pop_front().transpose()
    }
}

/// A sensor whose kernel is a fake.
struct Faked(Kernel);

impl Sensor for Faked {
    fn largest_frame(&self) -> usize {
        LARGEST
    }

    fn run(self: Box<Self>, outlet: Outlet) -> Pin<Box<dyn Future<Output = ()>>> {
        Box::pin(async move {
            let names = [(17, "gate \"A\"".to_owned()), (4, String::new())];
            let why = pump(self.0.clone(), &names, &outlet, &mut Backoff::default()).await;
            outlet.failed(GpioError::Gone(why).to_string());
        })
    }
}

fn at(seq: u32) -> Edge {
    Edge { offset: 17, rising: seq % 2 == 1, mono_ns: 1000 + u64::from(seq), seq }
}

#[tokio::test]
async fn each_edge_is_a_frame_with_the_time_of_its_interrupt() {
    let kernel = Kernel::default();
    let bench = Bench::default();
    bench
        .run(Box::new(Faked(kernel.clone())), async |bench| {
            kernel.say(Ok(at(1)));
            kernel.say(Ok(Edge { offset: 4, ..at(2) }));
            until(|| bench.count() == 2).await;
            assert_eq!((bench.report().error, bench.pool().made()), (None, 1));
            kernel.say(Err(io::Error::from_raw_os_error(19)));
            until(|| bench.report().error.is_some_and(|error| error.contains("chip is gone"))).await;
        })
        .await;
    let frames = bench.frames();
    let text = |index: usize| std::str::from_utf8(&frames[index].1).unwrap().to_owned();
    assert_eq!(text(0), r#"{"line":"gate \"A\"","offset":17,"edge":"rising","seq":1}"#);
    assert_eq!(text(1), r#"{"line":"","offset":4,"edge":"falling","seq":2}"#);
    assert_eq!((frames[0].0.kind, frames[0].0.captured_mono_ns), (Kind::Json, 1001));
    // The bench's clock stands at 0 and at 1000 s: the edge was 1001 ns after that.
    assert_eq!(frames[0].0.captured_unix_ns, 1_000_000_001_001);
}

#[tokio::test]
async fn edges_that_the_kernel_dropped_are_counted() {
    let kernel = Kernel::default();
    Bench::default()
        .run(Box::new(Faked(kernel.clone())), async |bench| {
            kernel.say(Ok(at(1)));
            kernel.say(Ok(at(5)));
            until(|| bench.count() == 2).await;
            let error = bench.report().error.unwrap();
            assert!(error.contains("3 edges") && error.contains("debounce_ms"), "{error}");
        })
        .await;
}

#[tokio::test]
async fn a_burst_leaves_others_their_turn() {
    let kernel = Kernel::default();
    (1..=1000).for_each(|seq| kernel.say(Ok(at(seq))));
    Bench::default()
        .run(Box::new(Faked(kernel)), async |bench| {
            let mut seen = Vec::new();
            while bench.count() < 1000 {
                seen.push(bench.count());
                tokio::task::yield_now().await;
            }
            let longest = seen.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
            assert!(longest <= TURN, "{longest} frames in one turn");
        })
        .await;
}

fn chips() -> Vec<ChipLines> {
    let chip = |path: &str, names: &[&str]| ChipLines {
        path: path.into(),
        names: names.iter().map(|name| (*name).to_owned()).collect(),
    };
    vec![chip("/dev/gpiochip0", &["", "A", "B"]), chip("/dev/gpiochip1", &["C"])]
}

fn named(name: &str) -> GpioLine {
    GpioLine::Name(name.into())
}

#[test]
fn lines_are_found_by_name_on_any_chip_and_by_number_on_one() {
    let found = resolve(&[named("B"), named("A")], &chips(), None).unwrap();
    let lines = vec![(2, "B".to_owned()), (1, "A".to_owned())];
    assert_eq!(found, Found { chip: "/dev/gpiochip0".into(), lines });
    let found = resolve(&[GpioLine::Offset(0)], &chips()[1..], Some("gpiochip1")).unwrap();
    assert_eq!(found, Found { chip: "/dev/gpiochip1".into(), lines: vec![(0, "C".to_owned())] });
}

#[test]
fn lines_that_cannot_be_are_refused_with_what_to_do() {
    let refused = |lines: &[GpioLine], chip: Option<&str>| resolve(lines, &chips(), chip).unwrap_err().to_string();
    assert!(refused(&[named("X")], None).contains("no GPIO line is called \"X\"; `gpioinfo`"));
    assert!(refused(&[named("A"), named("C")], None).contains("A and C are on different chips"));
    assert!(refused(&[GpioLine::Offset(1)], None).contains("set `chip`"));
    let error = refused(&[GpioLine::Offset(3)], Some("gpiochip0"));
    assert!(error.contains("\"3\"") && error.contains("has 3 lines"), "{error}");
}

#[test]
fn a_chip_that_is_not_there_is_named() {
    let settings = GpioSettings {
        chip: Some("gpiochip999".into()),
        lines: vec![GpioLine::Offset(0)],
        edges: GpioEdges::Both,
        bias: GpioBias::AsIs,
        active_low: false,
        debounce: None,
    };
    let error = Gpio::probe(&settings).unwrap_err();
    assert!(error.contains("/dev/gpiochip999"), "{error}");
}

#[test]
fn an_event_that_was_torn_is_an_error() {
    let torn = gpiocdev::Error::InvalidArgument("torn".into());
    assert!(edge(Err(torn)).unwrap_err().to_string().contains("torn"));
}
