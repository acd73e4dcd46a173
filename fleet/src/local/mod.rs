//! `sanderling run`: a module on this machine, fed from files, without broker or agent.
//!
//! Purpose: what a deployment would do, seen before anything is signed: the same library, limits, grants, decoding and
//! faults as in a worker.
//!
//! Invariants: frames come one after the other, in the order of their files, as fast as the guest takes them; a frame that is refused
//! harms nothing; after a fault the guest is loaded anew, as an agent does it, and the next frame is its first. What it keeps (`state_set`)
//! stays for the guests of the run, and with `--state` for the next run; a frame that faults changes nothing of it.
//!
//! Failure modes: what cannot be read before the run is an error that names file and cure; what goes wrong within it is
//! in the lines and in the summary, and after a fault the exit status is 1.
//!
//! Limits: this process is not confined and nobody kills it from outside, so a model that makes native code run on
//! for ever is ended with Ctrl-C.

mod dump;
mod frames;
mod heard;
mod kept;
mod options;
mod print;
mod record;
mod summary;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, anyhow, bail};
use sanderling_protocol::worker::{Fault, InputDecode};
use sanderling_runtime::{
    Clock, FrameHeader, Guest, LoadSpec, NamedModel, Outcome, Ports, SeededRandom,
    infer::{Inference, tract::Tract},
};
use serde_json::Value;

use crate::{
    clock::{GuestClock, Stopwatch},
    home,
};
use dump::Dumping;
use frames::Reading;
use heard::Heard;
use kept::Kept;
pub(crate) use options::{AFTER_HELP, RunOptions};
use print::{About, Became, Printer};
use record::Recording;
use summary::{FaultAt, Tally};

/// Runs a module on frames from files and prints what becomes of each; `false` where there was a fault.
///
/// # Errors
/// What cannot be read or written.
pub(crate) fn run(options: &RunOptions, json: bool) -> Result<bool> {
    let (mut out, mut log) = (io::stdout().lock(), io::stderr());
    match run_to(options, Printer { out: &mut out, log: &mut log, json }) {
        // The reader has seen enough.
        Err(error) if is_closed(&error) => Ok(true),
        other => other,
    }
}

fn is_closed(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// Runs and prints to given writers; whether there was no fault.
fn run_to(options: &RunOptions, print: Printer<'_>) -> Result<bool> {
    let inputs = Inputs::read(options)?;
    let dump = options.dump_tensors.as_deref().map(|folder| Dumping::new(Tract::new(&options.limits()), folder));
    let mut run = Run {
        options,
        inputs: &inputs,
        dump: dump.transpose()?,
        record: Recording::of(options, &inputs)?,
        clock: GuestClock::start(),
        heard: Heard::default(),
        kept: Kept::load(options.state.as_deref())?,
        tally: Tally::default(),
        print,
        seq: 0,
        restarts: 0,
    };
    let watch = Stopwatch::start();
    let files_left = run.frames();
    run.kept.save()?;
    let files_left = files_left?;
    let summary = run.tally.sum(run.heard.by_channel(), files_left, watch.elapsed());
    run.print.summary(&summary)?;
    run.print.out.flush()?;
    Ok(summary.ok)
}

/// What is read before the run.
struct Inputs {
    module: Vec<u8>,
    models: Vec<NamedModel>,
    config: String,
    files: Vec<PathBuf>,
}

impl Inputs {
    fn read(options: &RunOptions) -> Result<Self> {
        let mut models: Vec<NamedModel> = Vec::new();
        for (name, file) in &options.models {
            if models.iter().any(|model| model.name == *name) {
                bail!("two models have the name {name}; give each --model a name of its own");
            }
            models.push(NamedModel { name: name.clone(), bytes: home::read(file)?.into() });
        }
        let config = match &options.config {
            None => Value::Null,
            Some(file) => serde_json::from_slice(&home::read(file)?)
                .with_context(|| format!("{} is not JSON, which the module's configuration is", file.display()))?,
        };
        let files = frames::files(&options.frames)
            .map_err(|(path, error)| anyhow!(error).context(format!("could not look at {}", path.display())))?;
        if files.is_empty() {
            bail!("there is no file in what --frames names; images, CSV, JSON and raw files are frames");
        }
        Ok(Self { module: home::read(&options.module)?, models, config: config.to_string(), files })
    }
}

struct Run<'a, 'p> {
    options: &'a RunOptions,
    inputs: &'a Inputs,
    dump: Option<Dumping>,
    record: Option<Recording>,
    clock: GuestClock,
    heard: Heard,
    kept: Kept,
    tally: Tally,
    print: Printer<'p>,
    /// The number of the last frame.
    seq: u64,
    restarts: u32,
}

impl Run<'_, '_> {
    /// Gives all files to the guest; returns how many were left when it was over.
    fn frames(&mut self) -> Result<usize> {
        let files = &self.inputs.files;
        let Some(mut guest) = self.start()? else { return Ok(files.len()) };
        for (path, left) in files.iter().zip((0..files.len()).rev()) {
            guest = match self.file(guest, path)? {
                Some(guest) => guest,
                None => return Ok(left),
            };
        }
        self.stop(guest).map(|()| 0)
    }

    /// A guest that is ready for frames, or none where it faulted.
    fn start(&mut self) -> Result<Option<Guest>> {
        let mut guest = match self.load() {
            Ok(guest) => guest,
            Err(fault) => {
                self.print.line(About::Start, Became::Fault(&fault), &self.heard.take())?;
                self.tally.faults.push(FaultAt { file: None, fault });
                return Ok(None);
            }
        };
        self.tally.loaded.get_or_insert_with(|| guest.loaded());
        guest.restore(self.kept.memory.get(), Box::new(self.kept.memory.clone()));
        let result = guest.start();
        if let (Some(record), Err(fault)) = (&mut self.record, &result) {
            record.after(&mut guest, Some(fault))?;
        }
        let became = result.as_ref().map_or_else(Became::Fault, |()| Became::Passed);
        self.print.line(About::Start, became, &self.heard.take())?;
        self.check_dump()?;
        match result {
            Ok(()) => Ok(Some(guest)),
            Err(fault) => {
                self.over(&guest, None, fault);
                Ok(None)
            }
        }
    }

    fn load(&self) -> Result<Guest, Fault> {
        let Self { options, inputs, .. } = self;
        let limits = options.limits();
        let ports = Ports {
            clock: Arc::new(self.clock),
            output: Box::new(self.heard.clone()),
            random: Box::new(SeededRandom::new(options.seed)),
            stop: Box::new(|| false),
        };
        let spec = LoadSpec {
            module: &inputs.module,
            models: inputs.models.clone(),
            inputs: vec![InputDecode { sensor: options.sensor.clone(), decode: options.decode }],
            config: inputs.config.clone(),
            grants: options.grants.clone(),
            limits,
            execution: options.execution,
        };
        let tract = Tract::new(&limits);
        let inference: Arc<dyn Inference> = match &self.dump {
            Some(dump) => Arc::new(dump.clone()),
            None => Arc::new(tract),
        };
        match &self.record {
            Some(record) => Guest::load_recorded(record.flight(), inference, spec, ports),
            None => Guest::load_with(inference, spec, ports),
        }
    }

    /// Gives the frames of one file to the guest. What comes back is the guest that goes on, if any does.
    fn file(&mut self, guest: Guest, path: &Path) -> Result<Option<Guest>> {
        let Self { options, .. } = self;
        let reading = Reading { raw: options.raw, window: options.csv_window, rate_mhz: options.csv_rate };
        let name = path.display().to_string();
        let content = match frames::read(path, &options.sensor, &reading) {
            Ok(content) => content,
            Err(error) => {
                self.next();
                self.tally.refused += 1;
                let became = error.to_string();
                self.print.line(About::Frame(self.seq, &name), Became::Refused(&became), &self.heard.take())?;
                return Ok(Some(guest));
            }
        };
        let mut guest = guest;
        for frame in content.frames() {
            match self.frame(&mut guest, &content.header, frame, &name)? {
                None => {}
                Some(fault) => {
                    self.over(&guest, Some(&name), fault);
                    if self.restarts >= self.options.restarts {
                        return Ok(None);
                    }
                    self.restarts += 1;
                    guest = match self.start()? {
                        Some(guest) => guest,
                        None => return Ok(None),
                    };
                }
            }
        }
        Ok(Some(guest))
    }

    /// Gives one frame to the guest and prints what became of it; returns the fault that ended the guest.
    fn frame(&mut self, guest: &mut Guest, header: &FrameHeader, content: &[u8], name: &str) -> Result<Option<Fault>> {
        self.next();
        let (captured_unix_ns, captured_mono_ns) = (self.clock.wall_ns(), self.clock.mono_ns());
        let header = FrameHeader { seq: self.seq, captured_unix_ns, captured_mono_ns, ..*header };
        if let Some(record) = &self.record {
            record.before(guest);
        }
        let outcome = guest.frame_from(&header, content);
        if let Some(record) = &mut self.record {
            record.after(guest, outcome.as_ref().err())?;
        }
        let became = match &outcome {
            Ok(Outcome::Done(report)) => {
                self.tally.done(report);
                Became::Done(report)
            }
            Ok(Outcome::Refused(why)) => {
                self.tally.refused += 1;
                Became::Refused(why)
            }
            // Nobody asks this guest to stop.
            Ok(Outcome::Stopped) => bail!("frame {} was interrupted, though nothing asked for it", self.seq),
            Err(fault) => Became::Fault(fault),
        };
        self.print.line(About::Frame(self.seq, name), became, &self.heard.take())?;
        self.check_dump()?;
        Ok(outcome.err())
    }

    fn stop(&mut self, mut guest: Guest) -> Result<()> {
        let result = guest.stop();
        let became = result.as_ref().map_or_else(Became::Fault, |()| Became::Passed);
        self.print.line(About::Stop, became, &self.heard.take())?;
        match result {
            Ok(()) => self.tally.over(&guest.counters(), guest.denied(), guest.memory_bytes()),
            Err(fault) => self.over(&guest, None, fault),
        }
        Ok(())
    }

    /// Counts the next frame.
    fn next(&mut self) {
        self.seq += 1;
        self.tally.frames += 1;
        if let Some(dump) = &self.dump {
            dump.begin(self.seq);
        }
    }

    /// Counts what a guest did that ended in a fault.
    fn over(&mut self, guest: &Guest, file: Option<&str>, fault: Fault) {
        self.tally.over(&guest.counters(), guest.denied(), guest.memory_bytes());
        self.tally.faults.push(FaultAt { file: file.map(str::to_owned), fault });
    }

    fn check_dump(&self) -> Result<()> {
        self.dump.as_ref().map_or(Ok(()), Dumping::check)
    }
}
