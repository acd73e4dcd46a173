//! A guest on a clock that moves by the same step on every machine.

use std::sync::Arc;

use sanderling_guest::frame::FrameHeader;
use sanderling_protocol::worker::Fault;
use sanderling_runtime::{
    FakeClock, Flight, FrameBytes, Guest, LoadSpec, Outcome, Ports, Recorder, Said, SeededRandom, infer::tract::Tract,
};

pub(crate) struct Rig {
    pub(crate) guest: Guest,
    said: Recorder,
}

impl Rig {
    /// Loads a module, recorded where there is a recorder.
    pub(crate) fn load(spec: LoadSpec<'_>, flight: Option<Flight>) -> Self {
        let said = Recorder::default();
        let ports = Ports {
            clock: Arc::new(FakeClock::with_step(1000)),
            output: Box::new(said.clone()),
            random: Box::new(SeededRandom::new(7)),
            stop: Box::new(|| false),
        };
        let tract = Arc::new(Tract::new(&spec.limits));
        let guest = match flight {
            Some(flight) => Guest::load_recorded(flight, tract, spec, ports),
            None => Guest::load_with(tract, spec, ports),
        };
        Self { guest: guest.unwrap(), said }
    }

    /// Gives a frame to the guest; the records that it emitted.
    pub(crate) fn frame(&mut self, header: &FrameHeader, content: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let outcome = self.guest.frame(header, FrameBytes::Owned(content.to_vec()))?;
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
        let said = self.said.take().into_iter();
        Ok(said
            .filter_map(|said| match said {
                Said::Emit { payload, .. } => Some(payload),
                Said::Log { text, .. } => panic!("{text}"),
                Said::Denied(_) => None,
            })
            .collect())
    }
}

/// Bits that look random, by a seed.
pub(crate) fn bits(seed: u64) -> impl Iterator<Item = u64> {
    let mut state = seed;
    std::iter::repeat_with(move || {
        // A linear congruential generator (Knuth), its good half twice.
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 32
        };
        next() << 32 | next()
    })
}
