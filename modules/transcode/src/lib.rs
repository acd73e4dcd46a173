//! Sends fewer and smaller images of a camera: a region, every n-th frame, and only when it has changed.
//!
//! On the channel `images` it emits the region as JPEG, encoded by the host (grant `evidence`), or, with `scale`, scaled down by the host as a
//! binary PGM or PPM file, which any program for images reads. Whether it has changed is told from a raster of `RASTER` gray cells: the mean
//! difference to that of the image that was sent last, in levels of 0 to 255. That raster is kept where the deployment
//! grants `state:512`, so that neither a restart nor an update sends an image that the fleet has already; without the grant, each start sends one.
//!
//! Metrics: the counters `frames` and `sent`, the gauge `change`.

use sanderling_guest::{
    errno,
    image::{Color, Element, Filter, ImageOp, Layout, MAX_SIDE},
    sdk::{self, Errno, Fault, Frame, Guest, Level, state},
};
use serde::Deserialize;

/// The raster by which images are compared, in cells a side.
const RASTER: (u32, u32) = (16, 12);
const CHANNEL: &str = "images";
const SENT: &str = "sent";
/// A record's length.
const MOST: usize = 64 * 1024;

/// What the deployment says in `config`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// x, y, width and height in pixels of the frame; without it, the whole frame.
    region: Option<[u32; 4]>,
    /// Every so many frames are looked at.
    every: u32,
    /// Of the JPEG, 1 to 100.
    quality: u8,
    /// The mean difference from which on an image is sent; 0 sends each one that is looked at.
    changed: f32,
    /// Sends the region at this size, without JPEG.
    scale: Option<Scale>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    width: u32,
    height: u32,
    #[serde(default)]
    color: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { region: None, every: 1, quality: 75, changed: 0.0, scale: None }
    }
}

/// The guest.
#[derive(Debug)]
pub struct Transcode {
    config: Config,
    frames: u32,
    /// The raster of the image that was sent last.
    sent: Option<Vec<u8>>,
    /// Whether that is kept.
    keeps: bool,
}

impl Guest for Transcode {
    fn start() -> Result<Self, Fault> {
        let config: Config = sdk::config()?;
        check(&config)?;
        let (sent, keeps) = match state::get(SENT) {
            Ok(sent) => (sent, true),
            Err(Errno(errno::EACCES)) => (None, false),
            Err(error) => return Err(error.into()),
        };
        let sent = sent.filter(|raster| raster.len() == raster_op(&config).tensor_len());
        Ok(Self { config, frames: 0, sent, keeps })
    }

    fn frame(&mut self, _frame: &mut Frame) -> Result<(), Fault> {
        sdk::count("frames", 1.0)?;
        let is_looked_at = self.frames.is_multiple_of(self.config.every);
        self.frames = self.frames.wrapping_add(1);
        if !is_looked_at {
            return Ok(());
        }
        let op = raster_op(&self.config);
        let mut raster = vec![0; op.tensor_len()];
        sdk::image_tensor(&op, &mut raster)?;
        if self.config.changed > 0.0 {
            let change = self.sent.as_ref().map_or(f32::MAX, |sent| difference(sent, &raster));
            sdk::gauge("change", f64::from(change.min(255.0)))?;
            if change < self.config.changed {
                return Ok(());
            }
        }
        match self.send() {
            // Above the rate: the next frame that is looked at may say the same.
            Err(Errno(errno::EAGAIN)) => return Ok(()),
            result => result?,
        }
        sdk::count(SENT, 1.0)?;
        if self.keeps {
            state::set(SENT, &raster)?;
        }
        self.sent = Some(raster);
        Ok(())
    }
}

impl Transcode {
    fn send(&self) -> Result<(), Errno> {
        let region = self.config.region.unwrap_or_default();
        let Some(scale) = self.config.scale else {
            return sdk::emit_evidence(CHANNEL, region, self.config.quality).map(|_| ());
        };
        let op = scaled_op(region, scale);
        let mut file = header(scale).into_bytes();
        let start = file.len();
        file.resize(start + op.tensor_len(), 0);
        sdk::image_tensor(&op, &mut file[start..])?;
        sdk::emit(CHANNEL, &file)
    }
}

fn check(config: &Config) -> Result<(), Fault> {
    let scale = config.scale.unwrap_or(Scale { width: 1, height: 1, color: false });
    let fits = |side: u32| (1..=MAX_SIDE).contains(&side);
    let wrong = if config.every == 0 {
        "every is 0; 1 looks at each frame"
    } else if !(1..=100).contains(&config.quality) {
        "quality is 1 to 100"
    } else if !(fits(scale.width) && fits(scale.height)) {
        "a side of scale is 1 to 4096"
    } else if header(scale).len() + scaled_op([0; 4], scale).tensor_len() > MOST {
        "an image of that scale does not fit a record of 64 KiB"
    } else if !(0.0..=255.0).contains(&config.changed) {
        "changed is 0 to 255"
    } else {
        return Ok(());
    };
    sdk::log(Level::Error, &format!("the module's config: {wrong}"));
    Err(Fault::CONFIG)
}

/// Of a binary PGM or PPM file.
fn header(scale: Scale) -> String {
    let kind = if scale.color { "P6" } else { "P5" };
    format!("{kind} {} {} 255\n", scale.width, scale.height)
}

fn raster_op(config: &Config) -> ImageOp {
    let (width, height) = RASTER;
    scaled_op(config.region.unwrap_or_default(), Scale { width, height, color: false })
}

fn scaled_op(crop: [u32; 4], scale: Scale) -> ImageOp {
    ImageOp {
        crop,
        color: if scale.color { Color::Rgb } else { Color::Gray },
        layout: Layout::Nhwc,
        element: Element::U8,
        filter: Filter::Area,
        scale: [0.0; 3],
        ..ImageOp::gray(scale.width, scale.height)
    }
}

/// The mean difference of two rasters of one size.
fn difference(before: &[u8], now: &[u8]) -> f32 {
    let sum: u32 = before.iter().zip(now).map(|(before, now)| u32::from(before.abs_diff(*now))).sum();
    sum as f32 / now.len().max(1) as f32
}

sanderling_guest::guest!(Transcode);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sanderling_guest::{
        frame::{Format, FrameHeader, Kind},
        sdk::{
            Slot,
            testing::{Evidence, Host},
        },
    };

    const CELLS: usize = 16 * 12;

    /// Gives the guest a frame whose raster, or scaled image, is all of this level.
    fn look(host: &mut Host, guest: &Slot<Transcode>, level: u8) -> Vec<Evidence> {
        host.tensor(&[level; 4 * CELLS]);
        let header = FrameHeader {
            kind: Kind::Image,
            format: Format::Gray8,
            width: 64,
            height: 48,
            ..FrameHeader::new("cam0", 64 * 48)
        };
        host.frame(guest, header, &[]).unwrap();
        host.evidence()
    }

    #[test]
    fn sends_the_region_of_every_third_frame() {
        let mut host = Host::new(r#"{"region": [8, 4, 16, 12], "every": 3, "quality": 40}"#);
        let guest = host.start().unwrap();
        let sent: Vec<_> = (0..7).map(|_| look(&mut host, &guest, 9)).collect();
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [1, 0, 0, 1, 0, 0, 1]);
        assert_eq!(sent[0][0], Evidence { channel: "images".into(), rect: [8, 4, 16, 12], quality: 40 });
        assert_eq!((host.metric("frames"), host.metric("sent")), (Some(7.0), Some(3.0)));
    }

    #[test]
    fn sends_what_differs_from_what_was_sent_last() {
        let mut host = Host::new(r#"{"changed": 10}"#);
        let guest = host.start().unwrap();
        let sent: Vec<_> = [100, 105, 109, 110, 111, 99].map(|level| look(&mut host, &guest, level).len()).into();
        assert_eq!(sent, [1, 0, 0, 1, 0, 1]);
        assert_eq!(host.metric("change"), Some(11.0));
    }

    #[test]
    fn a_restart_sends_nothing_again_where_state_is_granted() {
        for (granted, again) in [(true, 0), (false, 1)] {
            let mut host = Host::new(r#"{"changed": 10}"#);
            if granted {
                host.grant_state(512);
            }
            let guest = host.start().unwrap();
            assert_eq!(look(&mut host, &guest, 100).len(), 1);
            let guest = host.start().unwrap();
            assert_eq!(look(&mut host, &guest, 104).len(), again, "{granted}");
            assert_eq!(look(&mut host, &guest, 120).len(), 1);
        }
    }

    #[test]
    fn a_scaled_image_is_a_file_that_programs_for_images_read() {
        let mut host = Host::new(r#"{"scale": {"width": 8, "height": 2}}"#);
        let guest = host.start().unwrap();
        assert!(look(&mut host, &guest, 7).is_empty());
        let gray = [b"P5 8 2 255\n".as_slice(), &[7; 16]].concat();
        assert_eq!(host.emitted(), [("images".to_string(), gray)]);
        let mut host = Host::new(r#"{"scale": {"width": 2, "height": 1, "color": true}}"#);
        let guest = host.start().unwrap();
        look(&mut host, &guest, 7);
        assert_eq!(host.emitted()[0].1, [b"P6 2 1 255\n".as_slice(), &[7; 6]].concat());
    }

    #[test]
    fn a_config_that_makes_no_sense_is_named_in_the_log() {
        for (config, word) in [
            (r#"{"every": 0}"#, "every"),
            (r#"{"quality": 101}"#, "quality"),
            (r#"{"changed": -1}"#, "changed"),
            (r#"{"scale": {"width": 0, "height": 1}}"#, "scale"),
            (r#"{"scale": {"width": 300, "height": 300}}"#, "64 KiB"),
            (r#"{"regoin": [0, 0, 1, 1]}"#, "regoin"),
        ] {
            let mut host = Host::new(config);
            assert_eq!(host.start::<Transcode>().err(), Some(Fault::CONFIG), "{config}");
            assert!(host.logged(Level::Error)[0].contains(word), "{config}");
        }
    }
}
