//! The arguments of `sanderling run`. Ranges and names are those of a deployment, so that what runs here can be deployed.

use std::path::PathBuf;

use clap::value_parser;
use sanderling_protocol::deployment::{Decode, Execution, Grant, Limits, is_name};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::frames::RawImage;

/// What `--help` ends with.
pub(crate) const AFTER_HELP: &str = "\
Example, from the root of the repository after `cargo xtask build`:
  sanderling run target/guests/surface-defect.wasm \\
    --model defect=modules/surface-defect/model/surface-defect.onnx \\
    --grant infer --grant emit:defects --decode gray8 \\
    --frames modules/surface-defect/images/held-out

A line on standard output says what became of each frame; the summary ends it. The module's log goes to standard error.
With --json each line is an object: {\"what\": \"frame\", \"seq\", \"file\", \"outcome\", …}, and the last is {\"what\": \"summary\", …}.

The module runs in this process, with the limits and grants of a deployment but without the confinement of a worker.

Exit status: 0 without a fault, 1 with one or where something cannot be read, 2 for arguments that are not understood.";

/// What to run, on which frames, with what rights.
#[derive(clap::Args, Clone, Debug)]
pub(crate) struct RunOptions {
    /// The wasm file.
    #[arg(value_name = "MODULE")]
    pub(crate) module: PathBuf,
    /// Image, CSV, JSON or raw files, or folders of them, taken in the order of their names.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    pub(crate) frames: Vec<PathBuf>,
    /// How the module is run: reactor (one instance), isolated (a fresh instance for each frame), command (a WASI program that reads the
    /// frame from standard input and whose lines are emitted on the channel stdout).
    #[arg(long, default_value = "reactor", value_parser = word::<Execution>)]
    pub(crate) execution: Execution,
    /// An ONNX model under the name by which the module loads it. May be repeated.
    #[arg(long = "model", value_name = "NAME=FILE", value_parser = binding)]
    pub(crate) models: Vec<(String, PathBuf)>,
    /// What the module may do: infer, emit:<channel>, state:<bytes>, evidence. May be repeated.
    #[arg(long = "grant", value_name = "GRANT", value_parser = grant)]
    pub(crate) grants: Vec<Grant>,
    /// A JSON file that the module reads as its configuration.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// A JSON file with what the module keeps: read before the run where it is there, written after it. Without it, the module keeps
    /// its state for this run.
    #[arg(long, value_name = "FILE")]
    pub(crate) state: Option<PathBuf>,
    /// To what PNG and JPEG images are decoded before the module sees them: none, gray8, rgb8.
    #[arg(long, default_value = "rgb8", value_parser = word::<Decode>)]
    pub(crate) decode: Decode,
    /// What files of other kinds are: raw images of this layout (gray8, rgb8, bgr8, yuyv, nv12, gray16), one after the other.
    /// Without it, each is one frame of plain bytes.
    #[arg(long, value_name = "WxH:FORMAT")]
    pub(crate) raw: Option<RawImage>,
    /// Rows of a CSV file in one frame; rows that do not fill the last one are left out.
    #[arg(long, default_value_t = 1024, value_name = "ROWS", value_parser = value_parser!(u32).range(1..=1 << 20))]
    pub(crate) csv_window: u32,
    /// Rows of a CSV file a second, in hertz, as frames say it to the module.
    #[arg(long, default_value = "1000", value_name = "HZ", value_parser = thousandths)]
    pub(crate) csv_rate: u32,
    /// The sensor that frames say they come from.
    #[arg(long, default_value = "local", value_name = "NAME", value_parser = sensor)]
    pub(crate) sensor: String,
    /// How often the module is loaded anew after a fault, as an agent does it, to go on with the next frame.
    #[arg(long, default_value_t = 5, value_name = "COUNT")]
    pub(crate) restarts: u32,
    /// What WASI's randomness starts from, so that runs can be repeated.
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seed: u64,
    /// Write the inputs of each inference to files here: <seq>-<inference>-<input>.<type>, little-endian.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dump_tensors: Option<PathBuf>,
    /// Write a capsule of each fault into this folder, as an agent does it, for `sanderling replay`.
    #[arg(long, value_name = "FOLDER")]
    pub(crate) record: Option<PathBuf>,
    /// Write a capsule of every frame, faults or not. Each is as large as the module's memory.
    #[arg(long, requires = "record")]
    pub(crate) record_all: bool,
    #[command(flatten)]
    limits: LimitOptions,
}

#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Limits")]
struct LimitOptions {
    /// Linear memory of the module, in MiB.
    #[arg(long, default_value_t = Limits::default().memory_mib, value_parser = value_parser!(u32).range(1..=1024))]
    memory_mib: u32,
    /// Time for one frame, in milliseconds.
    #[arg(long, default_value_t = Limits::default().deadline_ms, value_parser = value_parser!(u32).range(1..=600_000))]
    deadline_ms: u32,
    /// Fuel for one frame.
    #[arg(long, default_value_t = Limits::default().fuel_per_frame, value_parser = value_parser!(u64).range(1_000..=1 << 50))]
    fuel_per_frame: u64,
    /// Records a second. Frames come as fast as the module takes them, so by default it is not held to a rate.
    #[arg(long, default_value_t = 1_000_000, value_parser = value_parser!(u32).range(0..=1_000_000))]
    emit_per_s: u32,
    /// Memory beyond the module's own, for models, tensors and decoded images, in MiB.
    #[arg(long, default_value_t = Limits::default().native_memory_mib, value_parser = value_parser!(u32).range(8..=4096))]
    native_memory_mib: u32,
    /// Memory for the flight recorder, with --record, in KiB.
    #[arg(long, default_value_t = Limits::default().capsule_kib, value_parser = value_parser!(u32).range(0..=65_536))]
    capsule_kib: u32,
}

impl RunOptions {
    /// The limits as a deployment has them.
    pub(crate) fn limits(&self) -> Limits {
        let LimitOptions { memory_mib, deadline_ms, fuel_per_frame, emit_per_s, native_memory_mib, capsule_kib } =
            self.limits;
        Limits { memory_mib, deadline_ms, fuel_per_frame, emit_per_s, native_memory_mib, capsule_kib }
    }
}

/// A word that deployments use for it.
fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(Value::String(text.to_owned())).map_err(|error| error.to_string())
}

fn binding(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if is_name(name) && !file.is_empty() => Ok((name.to_owned(), file.into())),
        _ => Err("it is not NAME=FILE, where the name has 1 to 64 characters of A-Z a-z 0-9 . _ -".to_owned()),
    }
}

fn grant(text: &str) -> Result<Grant, String> {
    match text.parse()? {
        Grant::Emit(channel) if !is_name(&channel) => {
            Err(format!("{channel:?} is no channel: 1 to 64 characters of A-Z a-z 0-9 . _ - are"))
        }
        grant => Ok(grant),
    }
}

fn thousandths(text: &str) -> Result<u32, String> {
    let hertz = text.parse().ok().filter(|hertz: &f64| (0.0..=4e6).contains(hertz));
    let hertz = hertz.ok_or("it is not a number of hertz from 0 to 4000000")?;
    Ok((hertz * 1000.0).round() as u32)
}

fn sensor(text: &str) -> Result<String, String> {
    if is_name(text) && text.len() <= 32 {
        Ok(text.to_owned())
    } else {
        Err("it is not a name: 1 to 32 characters of A-Z a-z 0-9 . _ - are".to_owned())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: RunOptions,
    }

    fn parse(words: &str) -> Result<RunOptions, String> {
        let words = ["run", "m.wasm", "--frames", "folder"].into_iter().chain(words.split_whitespace());
        Line::try_parse_from(words).map(|line| line.options).map_err(|error| error.to_string())
    }

    #[test]
    fn takes_the_words_and_ranges_of_deployments() {
        let options = parse(
            "--execution reactor --model defect=a=b.onnx --grant infer --grant emit:defects --decode gray8 --raw 4x2:nv12 \
             --csv-rate 0.5 --memory-mib 8 --deadline-ms 5 --fuel-per-frame 1000 --emit-per-s 0 --native-memory-mib 9 --capsule-kib 64",
        )
        .unwrap();
        assert_eq!(options.models, [("defect".to_owned(), "a=b.onnx".into())]);
        assert_eq!(options.grants, [Grant::Infer, Grant::Emit("defects".into())]);
        assert_eq!((options.decode, options.csv_rate), (Decode::Gray8, 500));
        let limits = Limits {
            memory_mib: 8,
            deadline_ms: 5,
            fuel_per_frame: 1000,
            emit_per_s: 0,
            native_memory_mib: 9,
            capsule_kib: 64,
        };
        assert_eq!(options.limits(), limits);
    }

    #[test]
    fn refuses_others_and_says_what_is_allowed() {
        for (words, said) in [
            ("--execution daemon", "`reactor`"),
            ("--decode gray16", "gray8"),
            ("--model defect", "NAME=FILE"),
            ("--model a/b=c.onnx", "NAME=FILE"),
            ("--grant fly", "emit:<channel>"),
            ("--grant emit:a/b", "no channel"),
            ("--grant state:0", "from 1 to 1048576"),
            ("--raw 4x2", "640x480:gray8"),
            ("--memory-mib 0", "1..=1024"),
            ("--native-memory-mib 7", "8..=4096"),
            ("--csv-rate=-1", "hertz"),
            ("--csv-window 0", "1..="),
            ("--sensor a/b", "1 to 32"),
        ] {
            let error = parse(words).unwrap_err();
            assert!(error.contains(said), "{words}: {error}");
        }
    }

    #[test]
    fn limits_are_by_default_those_of_a_deployment_but_for_the_rate() {
        let wanted = Limits { emit_per_s: 1_000_000, ..Limits::default() };
        assert_eq!(parse("").unwrap().limits(), wanted);
    }
}
