//! Records of modules as frames of others: a deployment may name a module's channel as an input.
//!
//! Each record becomes a frame of the source `module/channel`, counted by itself and captured when it came. Its kind is that of its content:
//! JPEG and PNG images, which the worker decodes where the input says so, JSON texts, and bytes otherwise.
//!
//! Invariants: what a record brings about never comes back to the module that emitted it, since deployments with circles are refused.
//! Where no module is given a channel, a record costs a look-up.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc};

use sanderling_guest::frame::{Format, FrameHeader, Kind};

use super::Route;
use crate::{clock::Clock, frames::Pool};

const JPEG: &[u8] = &[0xff, 0xd8, 0xff];
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n";

/// The channels that are inputs.
pub(super) struct Records {
    channels: RefCell<BTreeMap<String, BTreeMap<String, Feed>>>,
    pool: Pool,
    clock: Arc<dyn Clock>,
}

/// One channel.
struct Feed {
    /// The frame before.
    header: FrameHeader,
    routes: Vec<Route>,
}

impl Records {
    pub(super) fn new(pool: Pool, clock: Arc<dyn Clock>) -> Self {
        Self { channels: RefCell::default(), pool, clock }
    }

    /// Feeds these routes, and no others, each from the source of its name. What was a source before goes on with its count.
    pub(super) fn switch(&self, routes: impl Iterator<Item = (String, Route)>) {
        let mut channels = self.channels.borrow_mut();
        for feed in channels.values_mut().flat_map(BTreeMap::values_mut) {
            feed.routes.clear();
        }
        for (source, route) in routes {
            let Some((module, channel)) = source.split_once('/') else { continue };
            let of_module = channels.entry(module.to_owned()).or_default();
            let feed = of_module.entry(channel.to_owned()).or_insert_with(|| {
                let header = FrameHeader::new(&source, 0);
                Feed { header, routes: Vec::new() }
            });
            feed.routes.push(route);
        }
        channels.retain(|_, of_module| {
            of_module.retain(|_, feed| !feed.routes.is_empty());
            !of_module.is_empty()
        });
    }

    /// Gives a record to the modules whose input its channel is.
    pub(super) fn give(&self, module: &str, channel: &str, payload: &[u8]) {
        let mut channels = self.channels.borrow_mut();
        let Some(feed) = channels.get_mut(module).and_then(|of_module| of_module.get_mut(channel)) else { return };
        let captured = self.clock.capture();
        let (kind, format) = of_content(payload);
        feed.header = FrameHeader {
            seq: feed.header.seq + 1,
            captured_unix_ns: captured.unix_ns,
            captured_mono_ns: captured.mono_ns,
            kind,
            format,
            ..feed.header
        };
        let Some(mut block) = self.pool.take(payload.len()) else { return };
        let Some(room) = block.bytes_mut().and_then(|bytes| bytes.get_mut(..payload.len())) else { return };
        room.copy_from_slice(payload);
        let Some(frame) = block.frame(feed.header, 0, payload.len()) else { return };
        for route in &feed.routes {
            route.inlet.offer(route.lane, &frame);
            route.inlet.flush();
        }
    }
}

/// What the content of a record is.
fn of_content(payload: &[u8]) -> (Kind, Format) {
    if payload.starts_with(JPEG) {
        (Kind::Image, Format::Jpeg)
    } else if payload.starts_with(PNG) {
        (Kind::Image, Format::Png)
    } else if serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok() {
        (Kind::Json, Format::None)
    } else {
        (Kind::Bytes, Format::None)
    }
}

/// A route of an inlet's lane, by its source's name.
pub(super) fn routes(inlet: &Rc<crate::workload::inlet::Inlet>) -> impl Iterator<Item = (String, Route)> {
    let route = |(lane, source): (usize, &str)| (source.to_owned(), Route { inlet: inlet.clone(), lane });
    inlet.sources().enumerate().map(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_frame_is_that_of_the_record() {
        assert_eq!(of_content(b"\xff\xd8\xff\xe0rest"), (Kind::Image, Format::Jpeg));
        assert_eq!(of_content(b"\x89PNG\r\n\x1a\nrest"), (Kind::Image, Format::Png));
        for json in [b"{\"a\":[1,2]}".as_slice(), b" 7 ", b"\"text\"", b"null"] {
            assert_eq!(of_content(json), (Kind::Json, Format::None));
        }
        for bytes in [b"".as_slice(), b"{\"a\":", b"{} {}", b"\xff\xd8", b"text"] {
            assert_eq!(of_content(bytes), (Kind::Bytes, Format::None));
        }
    }
}
