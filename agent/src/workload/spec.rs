//! What is needed to start a module's worker, again and again.

use sanderling_guest::frame;
use sanderling_protocol::{
    deployment::{Module, Policy, Source},
    worker::{Blob, InputDecode, Model, Start, ring, state_memory},
};

use crate::frames::Sizes;

/// A ring is at most this large, unless three of the module's largest frames need more, in bytes.
const USUAL_RING: usize = 4 << 20;
const PAGE: usize = 4096;
/// Memory of a worker program before it has loaded anything, in bytes; it is 3 MiB at most.
const PROGRAM: u64 = 4 << 20;
/// A compiled module takes at most about this many bytes for each of its own.
const COMPILED: u64 = 12;
const MIB: u64 = 1 << 20;
const KIB: u64 = 1 << 10;
/// The least room that a ring holds, so that small frames flow in batches, in bytes.
const LEAST_RING: usize = 64 * 1024;

/// One module of a deployment with the blobs that it needs, all of them verified.
#[derive(Clone, Debug)]
pub struct ModuleSpec {
    /// The module as deployed.
    pub module: Module,
    /// Its wasm file.
    pub wasm: Blob,
    /// Its models, in the order in which the worker is given them.
    pub models: Vec<Model>,
    /// The size of the shared memory for frames, in bytes; see [`ring_bytes`].
    pub ring_bytes: usize,
}

impl ModuleSpec {
    /// The memory that its worker may use, in bytes.
    pub fn memory(&self) -> u64 {
        let limits = &self.module.limits;
        [
            u64::from(limits.memory_mib).saturating_mul(MIB),
            u64::from(limits.native_memory_mib).saturating_mul(MIB),
            self.wasm.length.saturating_mul(COMPILED),
            self.module.state_quota().map_or(0, state_memory),
            u64::try_from(self.ring_bytes).unwrap_or(u64::MAX),
            u64::from(limits.capsule_kib).saturating_mul(KIB),
        ]
        .into_iter()
        .fold(PROGRAM, u64::saturating_add)
    }

    /// The first message to the worker.
    pub(super) fn start(&self) -> Start {
        let module = &self.module;
        let inputs = module
            .input
            .iter()
            .map(|input| InputDecode { sensor: input.source.to_string(), decode: input.decode })
            .collect();
        Start {
            name: module.name.clone(),
            module: self.wasm.clone(),
            models: self.models.clone(),
            execution: module.execution,
            inputs,
            config: module.config.to_string(),
            grants: module.grants.clone(),
            limits: module.limits,
        }
    }
}

/// The shared memory that a module needs, when the frames of a source are as large as `sizes` says, and no window is longer than
/// `most` bytes.
///
/// Enough for as many frames as may be outstanding, but not more than a few MiB unless single frames are that large:
/// all of a ring becomes resident in time.
pub fn ring_bytes(module: &Module, most: usize, sizes: impl Fn(&Source) -> Sizes) -> usize {
    let frames = module.input.iter().map(|input| largest(sizes(&input.source), input.policy, most));
    let frame = frames.max().unwrap_or(0) + frame::HEADER;
    let outstanding: usize = module.input.iter().map(|input| in_ring(input.policy)).sum();
    let wanted = ring::region_len(frame, outstanding);
    let least = ring::region_len(frame, 2).max(LEAST_RING);
    wanted.min(USUAL_RING).max(least).next_multiple_of(PAGE)
}

/// The largest frame that a policy makes of those of a source.
fn largest(sizes: Sizes, policy: Policy, most: usize) -> usize {
    match policy {
        Policy::Window(window) => sizes.sample.saturating_mul(window.samples as usize).min(most),
        Policy::Latest | Policy::Queue(_) | Policy::Sample(_) => sizes.frame,
    }
}

/// How many frames of an input are handed to the worker before it has answered the first.
pub(super) fn in_ring(policy: Policy) -> usize {
    waits(policy).map_or(1, |frames| 1 + frames / 2)
}

/// How many frames of an input wait outside the ring. With those inside, one is at work and as many wait as the policy says.
pub(super) fn waiting(policy: Policy) -> usize {
    waits(policy).map_or(1, |frames| frames - frames / 2)
}

/// How many frames wait, where it is not the newest alone.
fn waits(policy: Policy) -> Option<usize> {
    match policy {
        Policy::Latest | Policy::Sample(_) => None,
        Policy::Queue(frames) => Some(frames as usize),
        Policy::Window(window) => Some(window.queue as usize),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use sanderling_protocol::deployment::{Deployment, SCHEMA, Sample};
    use serde_json::json;

    fn module(policy: serde_json::Value) -> Module {
        let document = json!({ "schema": SCHEMA, "name": "d", "modules": [ {
            "name": "m", "module": "m.wasm", "input": [ { "sensor": "s", "policy": policy } ],
            "config": { "a": [1] } } ] });
        Deployment::parse(document.to_string().as_bytes()).unwrap().modules.remove(0)
    }

    #[test]
    fn one_frame_is_at_work_and_as_many_wait_as_the_policy_says() {
        for policy in [Policy::Queue(1), Policy::Queue(2), Policy::Queue(7), Policy::Queue(4096)] {
            let Policy::Queue(frames) = policy else { unreachable!() };
            assert_eq!(in_ring(policy) + waiting(policy), frames as usize + 1);
        }
        for policy in [Policy::Latest, Policy::Sample(Sample::Every(9))] {
            assert_eq!((in_ring(policy), waiting(policy)), (1, 1));
        }
    }

    #[test]
    fn a_worker_may_use_what_its_limits_say_and_what_the_host_needs_for_it() {
        let module = module(json!("latest"));
        let wasm = Blob { sha256: sanderling_protocol::digest::Digest::of(b""), length: 1000 };
        let spec = ModuleSpec { module, wasm, models: Vec::new(), ring_bytes: 4096 };
        assert_eq!(spec.memory(), (4 + 16 + 64) * MIB + 12_000 + 4096 + 1024 * KIB, "the limits that hold by default");
        let endless = ModuleSpec { wasm: Blob { length: u64::MAX, ..spec.wasm.clone() }, ..spec };
        assert_eq!(endless.memory(), u64::MAX);
    }

    #[test]
    fn a_ring_holds_the_largest_frame_and_stays_small_where_it_can() {
        let ring = |policy, frame| ring_bytes(&module(policy), 1 << 20, |_| Sizes { frame, sample: 8 });
        let one = ring(json!("latest"), 300_000);
        assert!(one > 2 * 300_000 && one < 1_000_000, "{one}");
        assert_eq!(ring(json!("latest"), 64), LEAST_RING);
        assert!(ring(json!({ "queue": 4096 }), 300_000) <= USUAL_RING);
        assert!(ring(json!("latest"), 8 << 20) > 16 << 20);
        let window = |samples: u32| ring(json!({ "window": { "samples": samples } }), 64);
        assert!(window(50_000) > 2 * 8 * 50_000);
        assert!(window(1 << 20) <= USUAL_RING, "no window is longer than a frame may be");
        assert_eq!(one % PAGE, 0);
    }
}
