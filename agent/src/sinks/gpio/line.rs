//! The line as the sink sees it: a port, its adapter to the kernel's GPIO character devices, and its fake.

use std::{
    io,
    sync::{Arc, Mutex},
};

use crate::sinks::{LineAt, tally::lock};

/// A line that is an output.
pub trait Line: Send {
    /// Sets it active or inactive.
    ///
    /// # Errors
    /// What the system says.
    fn set(&mut self, active: bool) -> io::Result<()>;
}

/// Gives lines.
pub trait Lines: Send {
    /// The line, as an output that is inactive; for this program alone.
    ///
    /// # Errors
    /// What the system says: it is not there, another program has it, this user may not.
    fn request(&self, at: &LineAt, active_low: bool) -> io::Result<Box<dyn Line>>;
}

/// The kernel's lines.
#[cfg(feature = "gpio")]
#[derive(Clone, Copy, Debug, Default)]
pub struct KernelLines;

#[cfg(feature = "gpio")]
mod kernel {
    use std::{io, path::Path};

    use gpiocdev::{Request, chip::Chip, line::Value};

    use super::{KernelLines, Line, LineAt, Lines};

    impl Lines for KernelLines {
        fn request(&self, at: &LineAt, active_low: bool) -> io::Result<Box<dyn Line>> {
            let mut builder = Request::builder();
            builder.with_consumer("sanderling");
            match at {
                LineAt::Number { chip, line } => builder.on_chip(chip).with_line(*line),
                LineAt::Name { chip: Some(chip), name } => {
                    let line = Chip::from_path(chip).map_err(|error| told(&error))?.find_line_info(name);
                    let offset = line.ok_or_else(|| no_line(name, Some(chip)))?.offset;
                    builder.on_chip(chip).with_line(offset)
                }
                LineAt::Name { chip: None, name } => {
                    let found = gpiocdev::find_named_line(name).ok_or_else(|| no_line(name, None))?;
                    builder.on_chip(&found.chip).with_line(found.info.offset)
                }
            };
            if active_low {
                builder.as_active_low();
            }
            let request = builder.as_output(Value::Inactive).request().map_err(|error| told(&error))?;
            Ok(Box::new(KernelLine(request)))
        }
    }

    struct KernelLine(Request);

    impl Line for KernelLine {
        fn set(&mut self, active: bool) -> io::Result<()> {
            let value = if active { Value::Active } else { Value::Inactive };
            self.0.set_lone_value(value).map(drop).map_err(|error| told(&error))
        }
    }

    /// The crate's error with all that it stands on, since it tells the system's own words only as its source.
    fn told(error: &gpiocdev::Error) -> io::Error {
        let mut words = error.to_string();
        let mut source = std::error::Error::source(error);
        while let Some(cause) = source {
            words.push_str(": ");
            words.push_str(&cause.to_string());
            source = cause.source();
        }
        io::Error::other(words)
    }

    fn no_line(name: &str, chip: Option<&Path>) -> io::Error {
        let on = chip.map_or("any chip that this user may open".to_owned(), |chip| chip.display().to_string());
        io::Error::new(io::ErrorKind::NotFound, format!("there is no line {name:?} on {on}; `gpioinfo` lists them"))
    }
}

/// A line that remembers what it was set to, and fails when it is told to.
#[derive(Clone, Debug, Default)]
pub struct FakeLines(Arc<Mutex<FakeState>>);

#[derive(Debug, Default)]
struct FakeState {
    sets: Vec<bool>,
    requests: Vec<(LineAt, bool)>,
    fails: Option<String>,
}

impl FakeLines {
    /// What the line was set to, each time.
    pub fn sets(&self) -> Vec<bool> {
        lock(&self.0).sets.clone()
    }

    /// The lines that were asked for, and whether they are active low.
    pub fn requests(&self) -> Vec<(LineAt, bool)> {
        lock(&self.0).requests.clone()
    }

    /// From now on it fails with these words, or works.
    pub fn fail(&self, why: Option<&str>) {
        lock(&self.0).fails = why.map(str::to_owned);
    }
}

impl Lines for FakeLines {
    fn request(&self, at: &LineAt, active_low: bool) -> io::Result<Box<dyn Line>> {
        let mut state = lock(&self.0);
        state.requests.push((at.clone(), active_low));
        match &state.fails {
            Some(why) => Err(io::Error::other(why.clone())),
            None => Ok(Box::new(self.clone())),
        }
    }
}

impl Line for FakeLines {
    fn set(&mut self, active: bool) -> io::Result<()> {
        let mut state = lock(&self.0);
        match &state.fails {
            Some(why) => Err(io::Error::other(why.clone())),
            None => {
                state.sets.push(active);
                Ok(())
            }
        }
    }
}
