//! A guest as `cargo xtask` built it, on a clock that the test moves.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use sanderling_protocol::worker::Fault;
use sanderling_runtime::{
    FakeClock, Format, FrameBytes, FrameHeader, Guest, Kind, LoadSpec, Outcome, Ports, Recorder, Said, SeededRandom,
};
use serde_json::Value;

/// The wasm file of a guest: from the folder `SANDERLING_GUESTS`, by default `target/guests`.
pub(crate) fn wasm(name: &str) -> Vec<u8> {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/guests");
    let folder = std::env::var_os("SANDERLING_GUESTS").map_or_else(default, PathBuf::from);
    let file = folder.join(format!("{name}.wasm"));
    std::fs::read(&file).unwrap_or_else(|_| {
        panic!("{} is missing: `cargo xtask test` builds it, or set SANDERLING_GUESTS", file.display())
    })
}

/// A guest that runs, and what it said so far.
pub(crate) struct Rig {
    pub(crate) guest: Guest,
    pub(crate) said: Recorder,
    pub(crate) clock: Arc<FakeClock>,
}

impl Rig {
    /// Loads and starts a guest that may emit on a channel.
    pub(crate) fn new(name: &str, channel: &str, config: &Value) -> Self {
        let (rig, started) = Self::with(name, channel, config, |_| {});
        started.unwrap();
        rig
    }

    /// Loads a guest as the test wants it; what became of its start.
    pub(crate) fn with(
        name: &str,
        channel: &str,
        config: &Value,
        edit: impl FnOnce(&mut LoadSpec<'_>),
    ) -> (Self, Result<(), Fault>) {
        let module = wasm(name);
        let (said, clock) = (Recorder::default(), Arc::new(FakeClock::default()));
        // The runtime of Go does not believe in a clock that stands at zero.
        clock.advance(1_000_000);
        let ports = Ports {
            clock: Arc::clone(&clock) as _,
            output: Box::new(said.clone()),
            random: Box::new(SeededRandom::new(1)),
            stop: Box::new(|| false),
        };
        let mut spec = LoadSpec {
            module: &module,
            config: config.to_string(),
            grants: vec![format!("emit:{channel}").parse().unwrap()],
            ..LoadSpec::default()
        };
        spec.limits.emit_per_s = 1_000_000;
        edit(&mut spec);
        let mut guest = Guest::load(spec, ports).unwrap();
        let started = guest.start();
        (Self { guest, said, clock }, started)
    }

    /// Why a configuration is refused: the fault, and what the log says.
    pub(crate) fn refused(name: &str, config: &Value) -> (Fault, String) {
        let (rig, started) = Self::with(name, "any", config, |_| {});
        (started.expect_err(&format!("{config} should be refused")), rig.log())
    }

    /// Gives a frame to the guest; the records that it emitted, as JSON.
    pub(crate) fn frame(&mut self, header: &FrameHeader, content: &[u8]) -> Result<Vec<Value>, Fault> {
        let outcome = self.guest.frame(header, FrameBytes::Owned(content.to_vec()))?;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        Ok(self.records())
    }

    /// The records since the last look.
    pub(crate) fn records(&self) -> Vec<Value> {
        let said = self.said.take().into_iter();
        said.filter_map(|said| match said {
            Said::Emit { payload, .. } => Some(serde_json::from_slice(&payload).unwrap_or_else(|error| {
                panic!("not JSON ({error}): {}", String::from_utf8_lossy(&payload));
            })),
            _ => None,
        })
        .collect()
    }

    /// The lines of the log since the last look.
    pub(crate) fn log(&self) -> String {
        let lines = self.said.take().into_iter().filter_map(|said| match said {
            Said::Log { text, .. } => Some(text),
            _ => None,
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// A series of f32 with its header: samples of a number of channels, interleaved, at a rate, captured at a time.
pub(crate) fn series(seq: u64, samples: &[f32], channels: u32, rate_hz: u32, at_ms: u64) -> (FrameHeader, Vec<u8>) {
    let content: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let header = FrameHeader { seq, format: Format::F32, ..of_series("line", content.len(), channels, rate_hz, at_ms) };
    (header, content)
}

/// The header of a series.
pub(crate) fn of_series(sensor: &str, len: usize, channels: u32, rate_hz: u32, at_ms: u64) -> FrameHeader {
    let ns = at_ms * 1_000_000;
    FrameHeader {
        captured_unix_ns: i64::try_from(ns).unwrap(),
        captured_mono_ns: ns,
        kind: Kind::Series,
        channels,
        rate_mhz: rate_hz * 1000,
        ..FrameHeader::new(sensor, u32::try_from(len).unwrap())
    }
}

/// Numbers that look random, by a seed.
pub(crate) fn noise(seed: u64) -> impl Iterator<Item = f32> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        // A linear congruential generator (Knuth).
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 24) as f32 - 0.5
    })
}
