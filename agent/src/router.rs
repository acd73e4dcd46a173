//! Joins sensors and modules: each frame of a sensor goes to every module of the active generation that asks for it, and so does each
//! record that a module emits on a channel that others have as an input (`records`).
//!
//! The policies of the inputs are kept by each module's [`Inlet`]; the router only knows who gets what. Switching from one
//! generation to the next is one assignment: a frame goes to the old modules or to the new ones, never to neither. Frames that wait
//! for a module of the old generation go to the module of that name in the new one, before any newer frame.
//!
//! Invariants: a sensor is never made to wait; what a module cannot take in time is dropped by its policy and counted.
//!
//! Limits: at most [`MAX_SENSORS`] sensors.

mod records;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::Arc,
};

use tokio::sync::Notify;

use self::records::Records;
use crate::{
    clock::Clock,
    frames::{Frame, FrameSink, Pool, SensorId},
    workload::inlet::Inlet,
};

/// An agent has at most this many sensors.
pub const MAX_SENSORS: usize = 256;

/// Who gets the frames of which sensor, and the records of which module.
pub struct Router {
    sensors: RefCell<BTreeMap<String, SensorId>>,
    routes: RefCell<Vec<Vec<Route>>>,
    records: Records,
    active: RefCell<Vec<Rc<Inlet>>>,
    /// Sensors whose next frame somebody wants to see.
    taps: RefCell<BTreeSet<SensorId>>,
    tapped: RefCell<Vec<(SensorId, Frame)>>,
    /// Told when a frame was tapped.
    wake: RefCell<Option<Rc<Notify>>>,
}

struct Route {
    inlet: Rc<Inlet>,
    lane: usize,
}

impl Router {
    /// A router without sensors and modules. Records become frames in memory of `pool`.
    pub fn new(pool: Pool, clock: Arc<dyn Clock>) -> Rc<Self> {
        Rc::new(Self {
            sensors: RefCell::default(),
            routes: RefCell::default(),
            records: Records::new(pool, clock),
            active: RefCell::default(),
            taps: RefCell::default(),
            tapped: RefCell::default(),
            wake: RefCell::default(),
        })
    }

    /// Gives what `module` emitted on `channel` to the modules whose input that is.
    pub fn record(&self, module: &str, channel: &str, payload: &[u8]) {
        self.records.give(module, channel, payload);
    }

    /// The id of the sensor `name`, made at its first use; `None` beyond [`MAX_SENSORS`].
    pub fn sensor(&self, name: &str) -> Option<SensorId> {
        let mut sensors = self.sensors.borrow_mut();
        if let Some(id) = sensors.get(name) {
            return Some(*id);
        }
        let count = sensors.len();
        if count >= MAX_SENSORS {
            return None;
        }
        let id = SensorId(u16::try_from(count).ok()?);
        sensors.insert(name.to_owned(), id);
        Some(id)
    }

    /// Wakes `wake` when a frame was tapped.
    pub fn wake(&self, wake: Rc<Notify>) {
        self.wake.replace(Some(wake));
    }

    /// Keeps the next frame of a sensor, whether a module asks for it or not.
    pub fn tap(&self, sensor: &str) {
        if let Some(id) = self.sensor(sensor) {
            self.taps.borrow_mut().insert(id);
        }
    }

    /// The frames that were kept, and their sensors.
    pub fn tapped(&self) -> Vec<(String, Frame)> {
        let tapped = self.tapped.take();
        let sensors = self.sensors.borrow();
        let name = |id: SensorId| sensors.iter().find(|(_, known)| **known == id).map(|(name, _)| name.clone());
        tapped.into_iter().filter_map(|(id, frame)| Some((name(id)?, frame))).collect()
    }

    /// Feeds these modules, and no others, from the next frame on; they take over what waits for modules of the same name that were
    /// fed before. An input whose source does not exist gets nothing.
    pub fn switch(&self, inlets: Vec<Rc<Inlet>>) {
        let sensors = self.sensors.borrow();
        let mut routes: Vec<Vec<Route>> = sensors.iter().map(|_| Vec::new()).collect();
        for (source, route) in inlets.iter().flat_map(records::routes) {
            let to = sensors.get(&source).and_then(|id| routes.get_mut(usize::from(id.0)));
            if let Some(to) = to {
                to.push(route);
            }
        }
        self.records.switch(inlets.iter().flat_map(records::routes));
        *self.routes.borrow_mut() = routes;
        let before = self.active.replace(inlets);
        let active = self.active.borrow();
        for old in before.iter().filter(|old| !active.iter().any(|new| Rc::ptr_eq(new, old))) {
            if let Some(new) = active.iter().find(|new| new.module() == old.module()) {
                old.hand_over(new);
            }
        }
    }
}

impl FrameSink for Router {
    fn frame(&self, sensor: SensorId, frame: &Frame) {
        if !self.taps.borrow().is_empty() && self.taps.borrow_mut().remove(&sensor) {
            self.tapped.borrow_mut().push((sensor, frame.clone()));
            if let Some(wake) = &*self.wake.borrow() {
                wake.notify_one();
            }
        }
        let routes = self.routes.borrow();
        for route in routes.get(usize::from(sensor.0)).into_iter().flatten() {
            route.inlet.offer(route.lane, frame);
        }
    }

    fn wanted(&self, sensor: SensorId) -> bool {
        self.routes.borrow().get(usize::from(sensor.0)).is_some_and(|routes| !routes.is_empty())
            || self.taps.borrow().contains(&sensor)
    }

    fn flush(&self) {
        for inlet in self.active.borrow().iter() {
            inlet.flush();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{clock::FakeClock, frames::Pool, workload::fake::FakeFeed};
    use sanderling_guest::frame::{FrameHeader, Kind};
    use sanderling_protocol::deployment::Policy;

    fn router(pool: &Pool) -> Rc<Router> {
        Router::new(pool.clone(), Arc::new(FakeClock::at(1_000_000)))
    }

    fn module(sources: &[&'static str], pool: &Pool) -> (Rc<Inlet>, FakeFeed) {
        let inputs = sources.iter().map(|source| ((*source).into(), Policy::Queue(100)));
        let inlet = Rc::new(Inlet::new("m".into(), inputs, pool.clone(), Arc::new(FakeClock::default())));
        let feed = FakeFeed::new(100, 1000);
        inlet.open(Box::new(feed.clone()));
        (inlet, feed)
    }

    fn frame(pool: &Pool, seq: u64) -> Frame {
        pool.take(8).unwrap().frame(FrameHeader { seq, ..FrameHeader::new("s", 0) }, 0, 8).unwrap()
    }

    #[test]
    fn each_frame_goes_to_every_module_that_asks_for_its_sensor() {
        let pool = Pool::new(1 << 20);
        let router = router(&pool);
        let (left, right) = (router.sensor("left").unwrap(), router.sensor("right").unwrap());
        let (one, one_feed) = module(&["left", "absent"], &pool);
        let (both, both_feed) = module(&["right", "left"], &pool);
        router.switch(vec![one, both]);
        router.frame(left, &frame(&pool, 1));
        router.frame(right, &frame(&pool, 2));
        router.flush();
        assert_eq!((one_feed.seqs(), both_feed.seqs()), (vec![1], vec![1, 2]));
        assert_eq!((one_feed.wakes(), both_feed.wakes()), (1, 1));
        assert_eq!(pool.made(), 1, "the memory of the first frame carries the second");
    }

    #[test]
    fn a_switch_leaves_no_frame_to_the_old_modules_and_none_to_nobody() {
        let pool = Pool::new(1 << 20);
        let router = router(&pool);
        let sensor = router.sensor("s").unwrap();
        assert!(!router.wanted(sensor));
        let ((old, old_feed), (new, new_feed)) = (module(&["s"], &pool), module(&["s"], &pool));
        router.switch(vec![old]);
        assert!(router.wanted(sensor));
        router.frame(sensor, &frame(&pool, 1));
        router.switch(vec![new]);
        router.frame(sensor, &frame(&pool, 2));
        assert_eq!((old_feed.seqs(), new_feed.seqs()), (vec![1], vec![2]));
        router.switch(Vec::new());
        assert!(!router.wanted(sensor));
    }

    #[test]
    fn what_waits_for_a_module_goes_to_the_one_of_its_name() {
        let pool = Pool::new(1 << 20);
        let router = router(&pool);
        let sensor = router.sensor("s").unwrap();
        let inlet = |name: &str| {
            let inputs = [("s".into(), Policy::Queue(100))];
            Rc::new(Inlet::new(name.into(), inputs, pool.clone(), Arc::new(FakeClock::default())))
        };
        let (kept, gone, stays) = (inlet("kept"), inlet("gone"), inlet("stays"));
        router.switch(vec![kept, gone, stays.clone()]);
        (1..=3).for_each(|seq| router.frame(sensor, &frame(&pool, seq)));
        let (new, other) = (inlet("kept"), inlet("other"));
        router.switch(vec![other.clone(), stays.clone(), new.clone()]);
        router.frame(sensor, &frame(&pool, 4));
        let feeds = [new, other, stays].map(|inlet| {
            let feed = FakeFeed::new(100, 1000);
            inlet.open(Box::new(feed.clone()));
            feed.seqs()
        });
        assert_eq!(feeds, [vec![1, 2, 3, 4], vec![4], vec![1, 2, 3, 4]]);
    }

    #[test]
    fn a_record_is_a_frame_of_every_module_whose_input_its_channel_is() {
        let pool = Pool::new(1 << 20);
        let router = router(&pool);
        let ((one, one_feed), (both, both_feed)) = (module(&["a/out"], &pool), module(&["b/out", "a/out"], &pool));
        router.record("a", "out", b"to nobody");
        router.switch(vec![one.clone(), both]);
        router.record("a", "out", b"{}");
        router.record("a", "other", b"to nobody");
        router.record("b", "out", b"x");
        assert_eq!((one_feed.seqs(), both_feed.seqs()), (vec![1], vec![1, 1]));
        assert_eq!((one_feed.wakes(), both_feed.wakes()), (1, 1));
        let header = one_feed.headers()[0];
        assert_eq!((header.sensor(), header.kind, header.len), ("a/out", Kind::Json, 2));
        assert_eq!(header.captured_unix_ns, 1_000_000_000_000);
        let (next, next_feed) = module(&["a/out"], &pool);
        router.switch(vec![next]);
        router.record("a", "out", b"y");
        router.record("b", "out", b"y");
        assert_eq!((one_feed.seqs(), next_feed.seqs()), (vec![1], vec![2]), "the count goes on");
    }

    #[test]
    fn the_next_frame_of_a_sensor_can_be_seen_without_a_module() {
        let pool = Pool::new(1 << 20);
        let router = router(&pool);
        let sensor = router.sensor("s").unwrap();
        assert!(!router.wanted(sensor));
        router.tap("s");
        assert!(router.wanted(sensor));
        router.frame(sensor, &frame(&pool, 1));
        router.frame(sensor, &frame(&pool, 2));
        let tapped = router.tapped();
        assert_eq!(tapped.iter().map(|(name, frame)| (&**name, frame.header.seq)).collect::<Vec<_>>(), [("s", 1)]);
        assert!(!router.wanted(sensor) && router.tapped().is_empty());
    }

    #[test]
    fn a_sensor_keeps_its_id_and_there_is_a_most() {
        let router = router(&Pool::new(1 << 20));
        let first = router.sensor("a").unwrap();
        assert_ne!(router.sensor("b"), Some(first));
        assert_eq!(router.sensor("a"), Some(first));
        assert_eq!((0..1000).filter(|i| router.sensor(&i.to_string()).is_some()).count(), MAX_SENSORS - 2);
    }
}
