//! Makes the sensors that the configuration names.

use std::path::PathBuf;

use sanderling_guest::frame::HEADER;

use crate::{
    frames::LARGEST,
    sensors::{PixelFormat, RawImage, Replay, ReplaySettings, Sensor, SeriesSettings, Socket, SocketSettings},
    settings::{self, Pixel, ReplayFiles, SensorSettings, Settings},
};

/// The sensor that this part of the configuration describes.
pub(super) fn make(sensor: &SensorSettings, settings: &Settings) -> Box<dyn Sensor> {
    let most = usize::try_from(settings.limits.max_frame_bytes).unwrap_or(usize::MAX).min(LARGEST / 2 - HEADER);
    match sensor {
        SensorSettings::Replay(replay) => Box::new(Replay::new(replay_settings(replay, most))),
        SensorSettings::Socket(socket) => {
            let max_frame = usize::try_from(socket.max_frame).unwrap_or(usize::MAX).min(most);
            let path = settings.paths.runtime.join(&socket.path);
            Box::new(Socket::new(SocketSettings { path, max_frame }))
        }
    }
}

fn replay_settings(replay: &settings::ReplaySettings, max_frame: usize) -> ReplaySettings {
    let files: Vec<PathBuf> = match &replay.files {
        ReplayFiles::Path(path) => vec![path.clone()],
        ReplayFiles::List(files) => files.clone(),
    };
    let series = replay.csv.map_or_else(SeriesSettings::default, |series| SeriesSettings {
        window: series.window,
        rate_hz: series.rate_hz,
    });
    let raw = replay.raw.map(|raw| RawImage { width: raw.width, height: raw.height, format: format(raw.pixel) });
    let rate = 1.0 / replay.period.as_secs_f64().max(1e-5);
    ReplaySettings { files, rate, repeat: replay.repeat, max_frame, raw, series }
}

fn format(pixel: Pixel) -> PixelFormat {
    match pixel {
        Pixel::Gray8 => PixelFormat::Gray8,
        Pixel::Gray16 => PixelFormat::Gray16,
        Pixel::Rgb8 => PixelFormat::Rgb8,
        Pixel::Bgr8 => PixelFormat::Bgr8,
        Pixel::Yuyv => PixelFormat::Yuyv,
        Pixel::Nv12 => PixelFormat::Nv12,
    }
}
