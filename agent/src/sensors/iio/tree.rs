//! A device as its folder in sysfs shows it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{IioError, IioSettings, Roots, layout::ElementType};
use crate::sensors::sysfs;

const LONGEST_TEXT: usize = 256;
/// More channels than any device has.
const MOST_CHANNELS: usize = 128;

/// A device.
#[derive(Debug)]
pub(super) struct Device {
    /// What errors call it.
    pub(super) name: String,
    folder: PathBuf,
    node: PathBuf,
    devices: PathBuf,
}

/// A channel of a buffer.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) name: String,
    pub(super) index: u32,
}

impl Device {
    /// The device of this folder name, or whose file `name` says so.
    pub(super) fn find(wanted: &str, roots: &Roots) -> Result<Self, IioError> {
        let mut found = Vec::new();
        for folder in entries(&roots.sysfs)?.into_iter().filter(|name| name.starts_with("iio:device")) {
            let path = roots.sysfs.join(&folder);
            let name = text(&path.join("name")).unwrap_or_default();
            if folder == wanted || name == wanted {
                let node = roots.dev.join(&folder);
                return Ok(Self { name: wanted.to_owned(), folder: path, node, devices: roots.sysfs.clone() });
            }
            found.push(format!("{folder} ({name})"));
        }
        Err(IioError::NoDevice { wanted: wanted.to_owned(), found: list(&found) })
    }

    /// The character device of its buffer.
    pub(super) fn node(&self) -> &Path {
        &self.node
    }

    pub(super) fn has_buffer(&self) -> bool {
        self.folder.join("buffer/enable").exists() && self.folder.join("scan_elements").is_dir()
    }

    /// How many channels it may have in all.
    pub(super) fn channel_count(&self) -> usize {
        let scanned = self.scanned(&[]).map_or(0, |channels| channels.len());
        scanned.max(self.readable(&[]).map_or(0, |channels| channels.len())).max(1)
    }

    /// The channels of its buffer with these names, or all, in the order of their indexes; without the timestamp.
    pub(super) fn scanned(&self, names: &[String]) -> Result<Vec<Scanned>, IioError> {
        let mut channels = Vec::new();
        for name in self.channels("scan_elements", &["_en"], names)? {
            let index = self.read(&format!("scan_elements/in_{name}_index"))?;
            channels.push(Scanned { name, index: index as u32 });
        }
        channels.sort_by_key(|channel| channel.index);
        Ok(channels)
    }

    /// The channels that can be polled, with these names, or all, in the order of their names.
    pub(super) fn readable(&self, names: &[String]) -> Result<Vec<String>, IioError> {
        self.channels("", &["_raw", "_input"], names)
    }

    fn channels(&self, folder: &str, ends: &[&str], names: &[String]) -> Result<Vec<String>, IioError> {
        let of = |file: &String| {
            let name = file.strip_prefix("in_")?;
            let name = ends.iter().find_map(|end| name.strip_suffix(end))?;
            (name != "timestamp").then(|| name.to_owned())
        };
        let mut found: Vec<String> = entries(&self.folder.join(folder))?.iter().filter_map(of).collect();
        found.sort();
        found.dedup();
        found.truncate(MOST_CHANNELS);
        if let Some(wanted) = names.iter().find(|name| !found.contains(name)) {
            let (device, wanted) = (self.name.clone(), wanted.clone());
            return Err(IioError::NoChannel { device, wanted, found: list(&found) });
        }
        if found.is_empty() {
            let wanted = "of any name".to_owned();
            return Err(IioError::NoChannel { device: self.name.clone(), wanted, found: list(&found) });
        }
        Ok(if names.is_empty() { found } else { names.to_vec() })
    }

    /// The type of a channel of the buffer.
    pub(super) fn kind(&self, channel: &str) -> Result<ElementType, IioError> {
        let path = self.folder.join(format!("scan_elements/in_{channel}_type"));
        let said = text(&path).map_err(|source| IioError::File { path: path.clone(), source })?;
        ElementType::parse(&said).map_err(|source| IioError::Layout { path, source })
    }

    /// Whether scans can say when they were taken.
    pub(super) fn has_timestamp(&self) -> bool {
        self.folder.join("scan_elements/in_timestamp_en").exists()
    }

    /// Whether that time is by the wall clock, as it is unless somebody set another; `None` where it is neither that nor the
    /// monotonic clock.
    pub(super) fn timestamps_are_wall_time(&self) -> Option<bool> {
        match text(&self.folder.join("current_timestamp_clock")).as_deref() {
            Ok("realtime") | Err(_) => Some(true),
            Ok("monotonic" | "monotonic_raw") => Some(false),
            Ok(_) => None,
        }
    }

    /// A channel's scale and offset: its own, or those of its kind, or none.
    pub(super) fn scaling(&self, channel: &str) -> (f64, f64) {
        let value = |what: &str| {
            let shared = shared_names(channel);
            shared.iter().find_map(|name| sysfs::number(&self.folder.join(format!("in_{name}_{what}"))).ok())
        };
        (value("scale").unwrap_or(1.0), value("offset").unwrap_or(0.0))
    }

    /// Sets trigger and rate; gives the rate that the device then has, where it says so.
    pub(super) fn prepare(&self, settings: &IioSettings) -> Result<Option<f64>, IioError> {
        let trigger = settings.trigger.as_deref().map(|name| self.trigger(name)).transpose()?;
        if let Some(name) = &settings.trigger {
            self.write("trigger/current_trigger", name)?;
        }
        let rates = self.rates(trigger.as_deref())?;
        let Some(wanted) = settings.rate_hz else {
            return Ok(rates.iter().find_map(|path| sysfs::number(path).ok()));
        };
        let Some(path) = rates.first() else { return Err(IioError::NoRate { device: self.name.clone() }) };
        write(path, &wanted.to_string())?;
        Ok(Some(sysfs::number(path).unwrap_or(wanted)))
    }

    /// The files that may set the rate, the trigger's first: it is what makes the samples.
    fn rates(&self, trigger: Option<&Path>) -> Result<Vec<PathBuf>, IioError> {
        let mut rates: Vec<PathBuf> =
            trigger.map(|folder| folder.join("sampling_frequency")).filter(|path| path.exists()).into_iter().collect();
        let mut own: Vec<String> = entries(&self.folder)?
            .into_iter()
            .filter(|name| {
                name == "sampling_frequency" || name.starts_with("in_") && name.ends_with("_sampling_frequency")
            })
            .collect();
        // The device's own before one of its channels'.
        own.sort_by_key(|name| name.len());
        rates.extend(own.iter().map(|name| self.folder.join(name)));
        Ok(rates)
    }

    /// The folder of a trigger.
    fn trigger(&self, wanted: &str) -> Result<PathBuf, IioError> {
        let mut found = Vec::new();
        for folder in entries(&self.devices)?.into_iter().filter(|name| name.starts_with("trigger")) {
            let path = self.devices.join(folder);
            let name = text(&path.join("name")).unwrap_or_default();
            if name == wanted {
                return Ok(path);
            }
            found.push(name);
        }
        Err(IioError::NoTrigger { wanted: wanted.to_owned(), found: list(&found) })
    }

    /// Enables these channels of the buffer and the timestamp or not, and no others.
    pub(super) fn select(&self, channels: &[Scanned], timestamp: bool) -> Result<(), IioError> {
        for file in entries(&self.folder.join("scan_elements"))?.iter().filter(|name| name.ends_with("_en")) {
            let name = file.strip_prefix("in_").and_then(|name| name.strip_suffix("_en"));
            let on = match name {
                Some("timestamp") => timestamp,
                name => channels.iter().any(|channel| Some(channel.name.as_str()) == name),
            };
            self.write(&format!("scan_elements/{file}"), if on { "1" } else { "0" })?;
        }
        Ok(())
    }

    /// How many samples the kernel buffers, and from how many on it wakes the reader.
    pub(super) fn size_buffer(&self, length: u32, watermark: u32) -> Result<(), IioError> {
        self.write("buffer/length", &length.to_string())?;
        // Kernels before 4.2 have none, and some buffers a fixed one.
        let _ = self.write("buffer/watermark", &watermark.min(length).to_string());
        Ok(())
    }

    /// Starts or stops the buffer.
    pub(super) fn enable(&self, on: bool) -> Result<(), IioError> {
        self.write("buffer/enable", if on { "1" } else { "0" })
    }

    /// The file that a channel is polled from, and whether its value is the device's own number.
    pub(super) fn value_file(&self, channel: &str) -> (PathBuf, bool) {
        let raw = self.folder.join(format!("in_{channel}_raw"));
        if raw.exists() { (raw, true) } else { (self.folder.join(format!("in_{channel}_input")), false) }
    }

    fn read(&self, file: &str) -> Result<f64, IioError> {
        let path = self.folder.join(file);
        sysfs::number(&path).map_err(|source| IioError::File { path, source })
    }

    fn write(&self, file: &str, value: &str) -> Result<(), IioError> {
        write(&self.folder.join(file), value)
    }
}

/// The names under which what holds for a channel may be found: its own, then those that it shares with others.
fn shared_names(channel: &str) -> Vec<String> {
    // voltage0-voltage1 shares voltage-voltage, accel_x shares accel.
    let kind: String = channel.chars().filter(|letter| !letter.is_ascii_digit()).collect();
    let mut names = vec![channel.to_owned(), kind.clone()];
    let mut rest = kind.as_str();
    while let Some((before, _)) = rest.rsplit_once('_') {
        names.push(before.to_owned());
        rest = before;
    }
    names
}

fn write(path: &Path, value: &str) -> Result<(), IioError> {
    // Not created: what is not there is no attribute.
    let written = fs::OpenOptions::new().write(true).truncate(true).open(path).and_then(|mut file| {
        use io::Write;
        file.write_all(value.as_bytes())
    });
    written.map_err(|source| match source.kind() {
        io::ErrorKind::ResourceBusy => IioError::Busy { path: path.to_owned() },
        _ => IioError::File { path: path.to_owned(), source },
    })
}

fn text(path: &Path) -> io::Result<String> {
    let mut buffer = [0; LONGEST_TEXT];
    sysfs::text(path, &mut buffer).map(str::to_owned)
}

/// The names in a folder, in order.
fn entries(folder: &Path) -> Result<Vec<String>, IioError> {
    let read = || -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(folder)?.take(4096) {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    };
    read().map_err(|source| IioError::File { path: folder.to_owned(), source })
}

fn list(found: &[String]) -> String {
    if found.is_empty() { "none".to_owned() } else { found.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_channels_share_is_found_by_the_name_of_their_kind() {
        assert_eq!(shared_names("accel_x"), ["accel_x", "accel_x", "accel"]);
        assert_eq!(shared_names("voltage3"), ["voltage3", "voltage"]);
        assert_eq!(shared_names("voltage0-voltage1"), ["voltage0-voltage1", "voltage-voltage"]);
    }
}
