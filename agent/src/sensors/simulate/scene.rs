//! Scenes: a rough surface that moves past, in some frames with a scratch, and discs that move across it.
//!
//! Width and length of a scratch are, in proportion to the image, those that the model of `modules/surface-defect` was trained on, and
//! the contrast is at the upper end, so that it finds them: version 2 finds all 112 scratches in 200 images of 128 x 128 and of
//! 640 x 480 at a threshold of 0.5, and none where there is none.

use super::dice::{dice, sine, unit, within};

/// The side of the piece of surface that repeats.
const TILE: usize = 256;
/// The surface moves by so many pixels a frame.
const SPEED: u64 = 3;
/// The mean shade.
const SHADE: f64 = 118.0;
/// The unit of contrasts; the shades of the surface deviate by three quarters of it.
const ROUGHNESS: f64 = 16.0;

/// Images of a simulated surface.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SceneSettings {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// `pixel`: rgb8, else gray8.
    pub color: bool,
    /// Frames a second.
    pub rate: f64,
    /// The share of frames that have a scratch, 0 to 1.
    pub defects: f64,
    /// How many discs move across the image.
    pub objects: u32,
}

/// The scene.
pub(super) struct Scene {
    seed: u64,
    settings: SceneSettings,
    tile: Box<[u8]>,
}

struct Scratch {
    centre: (f64, f64),
    along: (f64, f64),
    half: f64,
    bend: f64,
    width: f64,
    shade: f64,
    weight: f64,
}

impl Scene {
    pub(super) fn new(seed: u64, settings: SceneSettings) -> Self {
        // Grain grows with the image, as a camera nearer to the surface shows it.
        let grain = (settings.width.min(settings.height) / 128).clamp(1, 8).next_power_of_two() as usize;
        let shade = |index: usize| surface(seed, index % TILE, index / TILE, grain);
        Self { seed, settings, tile: (0..TILE * TILE).map(shade).collect() }
    }

    /// Whether a frame has a scratch.
    pub(super) fn has_defect(&self, frame: u64) -> bool {
        unit(dice(dice(self.seed, 10), frame)) < self.settings.defects
    }

    /// Draws a frame.
    pub(super) fn write(&self, frame: u64, room: &mut [u8]) {
        let channels = if self.settings.color { 3 } else { 1 };
        let (width, height) = (self.settings.width as usize, self.settings.height as usize);
        let shift = (frame.wrapping_mul(SPEED) % TILE as u64) as usize;
        let noise = dice(self.seed, 11);
        for (y, row) in room.chunks_exact_mut((width * channels).max(1)).enumerate().take(height) {
            let line = self.tile.chunks_exact(TILE).nth((y + shift) % TILE).unwrap_or_default();
            let shades = line.iter().cycle();
            // A number is noise for 16 pixels, four bits each.
            let mut bits = 0;
            for (x, (pixel, shade)) in row.chunks_exact_mut(channels).zip(shades).enumerate() {
                if x % 16 == 0 {
                    bits = dice(noise, frame.wrapping_mul(0x1_0000_0001).wrapping_add(((y << 16) | x) as u64));
                }
                paint(pixel, shade.saturating_add((bits & 7) as u8));
                bits >>= 4;
            }
        }
        for object in 0..self.settings.objects {
            self.disc(frame, object, room, channels);
        }
        if self.has_defect(frame) {
            self.scratch(frame).draw(room, width, channels);
        }
    }

    fn scratch(&self, frame: u64) -> Scratch {
        let key = dice(dice(self.seed, 12), frame);
        let (width, height) = (f64::from(self.settings.width), f64::from(self.settings.height));
        let scale = width.min(height) / 128.0;
        let angle = unit(dice(key, 0)) / 2.0;
        let sign = if dice(key, 1) % 100 < 45 { 1.0 } else { -1.0 };
        let contrast = within(dice(key, 2), 3.0, 4.4) * ROUGHNESS;
        let length = within(dice(key, 3), 64.0, 130.0) * scale;
        Scratch {
            centre: (within(dice(key, 4), 0.3, 0.7) * width, within(dice(key, 5), 0.3, 0.7) * height),
            along: (sine(angle + 0.25), sine(angle)),
            half: length / 2.0,
            bend: within(dice(key, 6), -0.15, 0.15) * length,
            width: within(dice(key, 7), 2.8, 4.6) * scale,
            shade: (SHADE + sign * contrast).clamp(0.0, 255.0),
            weight: within(dice(key, 8), 0.85, 1.0),
        }
    }

    /// A disc that goes its way from edge to edge, again and again.
    fn disc(&self, frame: u64, object: u32, room: &mut [u8], channels: usize) {
        let key = dice(dice(self.seed, 13), u64::from(object));
        let (width, height) = (f64::from(self.settings.width), f64::from(self.settings.height));
        let radius = within(dice(key, 0), 0.05, 0.1) * width.min(height);
        let along = |index: u64, span: f64| {
            let step = within(dice(key, index), -0.02, 0.02) * span;
            let place = unit(dice(key, index + 1)) * span + step * frame as f64;
            place - (place / span).floor() * span
        };
        let (cx, cy) = (along(1, width), along(3, height));
        let shade = within(dice(key, 5), 170.0, 240.0);
        let ((left, right), (top, bottom)) = (reach(cx, radius, width), reach(cy, radius, height));
        for y in top..bottom {
            for x in left..right {
                let (dx, dy) = (x as f64 + 0.5 - cx, y as f64 + 0.5 - cy);
                let weight = (radius - (dx * dx + dy * dy).sqrt() + 0.5).clamp(0.0, 1.0);
                blend(room, (y * self.settings.width as usize + x) * channels, channels, shade, weight);
            }
        }
    }
}

impl Scratch {
    fn draw(&self, room: &mut [u8], width: usize, channels: usize) {
        let height = room.len() / (width * channels).max(1);
        let reaches = self.half + self.bend.abs() + self.width;
        let (left, right) = reach(self.centre.0, reaches, width as f64);
        let (top, bottom) = reach(self.centre.1, reaches, height as f64);
        for y in top..bottom {
            for x in left..right {
                let (dx, dy) = (x as f64 + 0.5 - self.centre.0, y as f64 + 0.5 - self.centre.1);
                let t = (dx * self.along.0 + dy * self.along.1) / self.half;
                if t.abs() > 1.0 {
                    continue;
                }
                let beside = dy * self.along.0 - dx * self.along.1 - (1.0 - t * t) * self.bend;
                // Thinner towards its ends.
                let thick = self.width * (1.0 - 0.45 * t * t);
                let cover = (thick / 2.0 - beside.abs() + 0.5).clamp(0.0, 1.0);
                blend(room, (y * width + x) * channels, channels, self.shade, cover * self.weight);
            }
        }
    }
}

/// The pixels from `radius` before to `radius` after `centre`, of `span`.
fn reach(centre: f64, radius: f64, span: f64) -> (usize, usize) {
    let at = |place: f64| place.clamp(0.0, span) as usize;
    (at((centre - radius).floor()), at((centre + radius).ceil()))
}

/// A shade in all channels; in colour, of a warm tint.
fn paint(pixel: &mut [u8], shade: u8) {
    for (value, channel) in pixel.iter_mut().zip(0..) {
        *value = shade - channel * (shade / 16);
    }
}

fn blend(room: &mut [u8], at: usize, channels: usize, shade: f64, weight: f64) {
    if weight <= 0.0 {
        return;
    }
    for (value, channel) in room.iter_mut().skip(at).take(channels).zip(0..) {
        let tinted = shade - f64::from(channel) * shade / 16.0;
        *value = (f64::from(*value) * (1.0 - weight) + tinted * weight + 0.5) as u8;
    }
}

/// The shade of the surface at a place: grain of two sizes over the mean.
fn surface(seed: u64, x: usize, y: usize, grain: usize) -> u8 {
    let coarse = smooth(dice(seed, 14), x, y, (8 * grain).min(64));
    let fine = smooth(dice(seed, 15), x, y, 2 * grain);
    let rough = (coarse - 0.5) * 2.6 + (fine - 0.5) * 2.6;
    (SHADE - 4.0 + rough * ROUGHNESS).clamp(0.0, 247.0) as u8
}

/// Numbers from 0 to 1 on a lattice of `step`, a power of two that divides [`TILE`], and lines between them.
fn smooth(key: u64, x: usize, y: usize, step: usize) -> f64 {
    let at = |gx: usize, gy: usize| {
        let (gx, gy) = (gx % (TILE / step), gy % (TILE / step));
        unit(dice(key, (gy * TILE + gx) as u64))
    };
    let (gx, gy) = (x / step, y / step);
    let (fx, fy) = ((x % step) as f64 / step as f64, (y % step) as f64 / step as f64);
    let upper = at(gx, gy) * (1.0 - fx) + at(gx + 1, gy) * fx;
    let lower = at(gx, gy + 1) * (1.0 - fx) + at(gx + 1, gy + 1) * fx;
    upper * (1.0 - fy) + lower * fy
}
