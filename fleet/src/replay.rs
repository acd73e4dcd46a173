//! `sanderling replay`: runs a capsule's execution again on this machine.
//!
//! The module is taken from the fleet's folder by its digest, or from a file. A replay is the same execution or says where it is
//! another: with the first host call that differs.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail};
use sanderling_protocol::{
    capsule::{Capsule, Manifest},
    digest::Digest,
    flight::Answer,
};
use sanderling_runtime::{
    Observed, Observer, Stop,
    replay::{End, ReplaySpec, Replayed, replay},
};
use serde_json::{Value, json};

use crate::{
    backtrace::BacktraceOptions,
    home::{self, Home},
    repo,
    say::Say,
};

/// What `--help` ends with.
pub(crate) const AFTER_HELP: &str = "\
The module is looked for in the fleet's folder by the digest in the capsule; --module names a file instead, such as another build
of the same source.

Exit status: 0 where the fault came again, with the same fuel, memory and host calls; 1 where it did not.";

/// What to run again, and what to say of it.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct ReplayOptions {
    /// The capsule, as `sanderling capsule fetch` or `sanderling run --record` wrote it.
    file: PathBuf,
    /// The module's wasm file. Without it, it is looked for in the fleet's folder by its digest.
    #[arg(long, value_name = "FILE")]
    module: Option<PathBuf>,
    /// Print each host call.
    #[arg(long)]
    trace: bool,
    #[command(flatten)]
    backtrace: BacktraceOptions,
}

/// Runs a capsule again; whether what it says came again.
pub(crate) fn run(options: &ReplayOptions, home: &Home, say: Say) -> Result<bool> {
    let bytes = home::read(&options.file)?;
    let capsule = Capsule::read(&bytes).with_context(|| format!("could not read {}", options.file.display()))?;
    let module = module(&capsule.manifest, options.module.as_deref(), home)?;
    let spec = spec(&capsule.manifest, &module);
    let calls = Arc::new(Mutex::new(0_u64));
    let trace = options.trace.then(|| tracer(say, Arc::clone(&calls)));
    let replayed = replay(capsule.record, &spec, trace)?;
    let came_again = came_again(&capsule.manifest, &replayed);
    let mut told = words(&capsule.manifest, &replayed, came_again);
    let mut value = value(&capsule.manifest, &replayed, came_again);
    options.backtrace.tell(capsule.record, &spec, &mut told, &mut value)?;
    say.result(&told, &value)?;
    Ok(came_again)
}

pub(crate) fn spec<'a>(manifest: &Manifest, module: &'a [u8]) -> ReplaySpec<'a> {
    ReplaySpec { module, inputs: manifest.inputs.clone(), limits: manifest.limits, execution: manifest.execution }
}

/// The module that was run.
fn module(manifest: &Manifest, file: Option<&Path>, home: &Home) -> Result<Vec<u8>> {
    let wanted = manifest.module.sha256;
    let path = file.map_or_else(|| repo::blob_path(home, &wanted), Path::to_owned);
    if file.is_none() && !path.exists() {
        bail!(
            "the module {} ({wanted}) is not in the fleet's folder {}; name its wasm file with --module",
            manifest.path,
            home.path("").display()
        );
    }
    let module = home::read(&path)?;
    let found = Digest::of(&module);
    if found != wanted {
        // Another build of it, or one with other debug information, may be what somebody wants to try.
        eprintln!(
            "sanderling: {} is not the module that was run ({} instead of {}); the replay may differ",
            path.display(),
            found.short(),
            wanted.short()
        );
    }
    Ok(module)
}

/// Whether the fault of the record came again; or where the worker was ended from outside, whether the guest came to that point.
fn came_again(manifest: &Manifest, replayed: &Replayed) -> bool {
    match (&replayed.end, &replayed.recorded) {
        (End::Stopped(Stop::End | Stop::Unanswered { .. }), None) => manifest.fault.is_some(),
        (End::Fault(fault), None) => {
            manifest.fault.as_ref().is_some_and(|told| (told.code, &told.trap) == (fault.code, &fault.trap))
        }
        _ => replayed.is_same(),
    }
}

fn tracer(say: Say, calls: Arc<Mutex<u64>>) -> Observer {
    Box::new(move |call| {
        let mut count = calls.lock().unwrap_or_else(PoisonError::into_inner);
        *count += 1;
        say.line(line(*count, call), || {
            json!({ "what": "call", "number": *count, "module": call.module, "name": call.name,
                "arguments": call.arguments, "result": result(call.answer), "fuel": call.fuel, "written": call.written })
        });
    })
}

fn line(number: u64, call: &Observed<'_>) -> String {
    let arguments: Vec<String> = call.arguments.iter().map(|bits| number_words(*bits)).collect();
    let mut line =
        format!("{number:6}  {}.{}({}) = {}", call.module, call.name, arguments.join(", "), result(call.answer));
    if call.written > 0 {
        line.push_str(&format!("  wrote {} bytes", call.written));
    }
    line
}

/// Small numbers as people read them, addresses and the rest as programmers do.
fn number_words(bits: u64) -> String {
    if bits < 10_000 { bits.to_string() } else { format!("{bits:#x}") }
}

fn result(answer: &Answer) -> String {
    match answer {
        Answer::Nothing => "()".to_owned(),
        // A 32-bit result, of which errors are negative.
        Answer::Value(bits) => u32::try_from(*bits).map_or(bits.to_string(), |bits| bits.cast_signed().to_string()),
        Answer::Exit(status) => format!("exit({status})"),
        Answer::Failed => "the end of the guest".to_owned(),
    }
}

fn words(manifest: &Manifest, replayed: &Replayed, came_again: bool) -> Vec<String> {
    let mut words = vec![format!("capsule   {}", about(manifest))];
    if let Some(fault) = manifest.fault.as_ref().or(replayed.recorded.as_ref()) {
        words.push(format!("recorded  {fault}"));
    }
    words.push(format!("replayed  {}", replayed.end));
    words.push(format!(
        "          {} frames, {} host calls, {} units of fuel in the last",
        replayed.frames, replayed.calls, replayed.fuel
    ));
    if let (Some(recorded), Some(now)) = (replayed.recorded_state, replayed.state) {
        let same = if recorded == now { "the same" } else { "others" };
        words.push(format!("state     memories and globals are {same}: {recorded:016x}, {now:016x}"));
    }
    words.push(if came_again { "it came again".to_owned() } else { "it did not come again".to_owned() });
    words
}

fn about(manifest: &Manifest) -> String {
    let mut words = format!("{}, {} ({})", manifest.name, manifest.path, manifest.module.sha256.short());
    if let Some(deployed) = &manifest.deployment {
        words.push_str(&format!(", of {} {}", deployed.name, deployed.version));
    }
    if let Some(device) = &manifest.device {
        words.push_str(&format!(", on {device}"));
    }
    if manifest.arch != std::env::consts::ARCH {
        words.push_str(&format!(", recorded on {}", manifest.arch));
    }
    words
}

fn value(manifest: &Manifest, replayed: &Replayed, came_again: bool) -> Value {
    let (fault, stopped) = match &replayed.end {
        End::Fault(fault) => (Some(fault), None),
        End::Stopped(stop) => (None, Some(stop.to_string())),
        End::Finished => (None, None),
    };
    json!({
        "what": "replay", "came_again": came_again, "module": manifest.module.sha256, "name": manifest.name,
        "recorded": manifest.fault, "fault": fault, "stopped": stopped, "frames": replayed.frames,
        "calls": replayed.calls, "fuel": replayed.fuel,
        "recorded_state": replayed.recorded_state.map(|digest| format!("{digest:016x}")),
        "state": replayed.state.map(|digest| format!("{digest:016x}")),
    })
}
