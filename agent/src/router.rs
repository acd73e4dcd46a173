//! Joins sensors and modules: each frame of a sensor goes to every module of the active generation that asks for it.
//!
//! The policies of the inputs are kept by each module's [`Inlet`]; the router only knows who gets what. Switching from one
//! generation to the next is one assignment: a frame goes to the old modules or to the new ones, never to neither.
//!
//! Invariants: a sensor is never made to wait; what a module cannot take in time is dropped by its policy and counted.
//!
//! Limits: at most [`MAX_SENSORS`] sensors.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc};

use crate::{
    frames::{Frame, FrameSink, SensorId},
    workload::inlet::Inlet,
};

/// An agent has at most this many sensors.
pub const MAX_SENSORS: usize = 256;

/// Who gets the frames of which sensor.
#[derive(Default)]
pub struct Router {
    sensors: RefCell<BTreeMap<String, SensorId>>,
    routes: RefCell<Vec<Vec<Route>>>,
    active: RefCell<Vec<Rc<Inlet>>>,
}

struct Route {
    inlet: Rc<Inlet>,
    lane: usize,
}

impl Router {
    /// A router without sensors and modules.
    pub fn new() -> Rc<Self> {
        Rc::default()
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

    /// Feeds these modules, and no others, from the next frame on. An input whose sensor does not exist gets nothing.
    pub fn switch(&self, inlets: Vec<Rc<Inlet>>) {
        let sensors = self.sensors.borrow();
        let mut routes: Vec<Vec<Route>> = sensors.iter().map(|_| Vec::new()).collect();
        for inlet in &inlets {
            for (lane, sensor) in inlet.sensors().enumerate() {
                let to = sensors.get(sensor).and_then(|id| routes.get_mut(usize::from(id.0)));
                if let Some(to) = to {
                    to.push(Route { inlet: inlet.clone(), lane });
                }
            }
        }
        *self.routes.borrow_mut() = routes;
        *self.active.borrow_mut() = inlets;
    }
}

impl FrameSink for Router {
    fn frame(&self, sensor: SensorId, frame: &Frame) {
        let routes = self.routes.borrow();
        for route in routes.get(usize::from(sensor.0)).into_iter().flatten() {
            route.inlet.offer(route.lane, frame);
        }
    }

    fn wanted(&self, sensor: SensorId) -> bool {
        self.routes.borrow().get(usize::from(sensor.0)).is_some_and(|routes| !routes.is_empty())
    }

    fn flush(&self) {
        for inlet in self.active.borrow().iter() {
            inlet.flush();
        }
    }
}
