//! A host in memory, for testing guests natively with `cargo test`.
//!
//! ```
//! use sanderling_guest::sdk::{self, Guest, testing::Host};
//! # use sanderling_guest::sdk::{Fault, Frame};
//! # struct Count(u32);
//! # impl Guest for Count {
//! #     fn start() -> Result<Self, Fault> { Ok(Self(0)) }
//! #     fn frame(&mut self, frame: &mut Frame) -> Result<(), Fault> {
//! #         self.0 += frame.bytes()?.len() as u32;
//! #         Ok(sdk::emit("count", self.0.to_string().as_bytes())?)
//! #     }
//! # }
//! let mut host = Host::new("{}");
//! let guest = host.start::<Count>().unwrap();
//! host.frame_bytes(&guest, "cam0", &[1, 2, 3]).unwrap();
//! assert_eq!(host.emitted(), [("count".to_string(), b"3".to_vec())]);
//! ```

use std::{
    cell::RefCell,
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};

use super::{Fault, Guest, Level, Slot};
use crate::frame::FrameHeader;

/// A part of an image that a guest had encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The channel.
    pub channel: String,
    /// x, y, width and height.
    pub rect: [u32; 4],
    /// The quality.
    pub quality: u8,
}

/// What one inference gives: the bytes of each output.
pub type Outputs = Vec<Vec<u8>>;

#[derive(Default)]
struct State {
    config: String,
    frame: Option<(FrameHeader, Vec<u8>)>,
    models: BTreeMap<String, Outputs>,
    contexts: Vec<String>,
    emitted: Vec<(String, Vec<u8>)>,
    logged: Vec<(i32, String)>,
    evidence: Vec<Evidence>,
    metrics: BTreeMap<String, f64>,
    tensor: Vec<u8>,
    now_ns: u64,
    /// The quota, where state is granted.
    quota: Option<usize>,
    kept: BTreeMap<Vec<u8>, Vec<u8>>,
}

std::thread_local! {
    static STATE: RefCell<State> = RefCell::default();
}

/// The host of the current thread. One at a time: making a new one forgets the old one's state.
#[derive(Debug)]
pub struct Host(());

impl Host {
    /// A host with this `config`.
    pub fn new(config: &str) -> Self {
        STATE.set(State { config: config.to_string(), ..State::default() });
        Self(())
    }

    /// Binds a model to `name` that answers each inference with `outputs` until it is bound again.
    pub fn model(&mut self, name: &str, outputs: Outputs) -> &mut Self {
        STATE.with_borrow_mut(|state| state.models.insert(name.to_string(), outputs));
        self
    }

    /// Grants `state:<bytes>`.
    pub fn grant_state(&mut self, bytes: usize) -> &mut Self {
        STATE.with_borrow_mut(|state| state.quota = Some(bytes));
        self
    }

    /// What the guest keeps. A call that fails changes nothing of it; it stays when a guest is started again.
    pub fn state(&self) -> BTreeMap<Vec<u8>, Vec<u8>> {
        STATE.with_borrow(|state| state.kept.clone())
    }

    /// Starts a guest.
    ///
    /// # Errors
    /// What its `start` returned.
    pub fn start<G: Guest>(&mut self) -> Result<Slot<G>, Fault> {
        let slot = Slot::new();
        call(|| slot.start()).map(|()| slot)
    }

    /// Gives the guest a frame.
    ///
    /// # Errors
    /// What its `frame` returned.
    pub fn frame<G: Guest>(&mut self, guest: &Slot<G>, header: FrameHeader, content: &[u8]) -> Result<(), Fault> {
        STATE.with_borrow_mut(|state| state.frame = Some((header, content.to_vec())));
        let result = call(|| guest.frame());
        STATE.with_borrow_mut(|state| state.frame = None);
        result
    }

    /// Gives the guest a frame of plain bytes.
    ///
    /// # Errors
    /// As [`Host::frame`].
    pub fn frame_bytes<G: Guest>(&mut self, guest: &Slot<G>, sensor: &str, content: &[u8]) -> Result<(), Fault> {
        self.frame(guest, FrameHeader::new(sensor, u32::try_from(content.len()).unwrap_or(u32::MAX)), content)
    }

    /// Sets both clocks.
    pub fn set_time(&mut self, ns: u64) {
        STATE.with_borrow_mut(|state| state.now_ns = ns);
    }

    /// Takes what was emitted: channel and record.
    pub fn emitted(&mut self) -> Vec<(String, Vec<u8>)> {
        STATE.with_borrow_mut(|state| core::mem::take(&mut state.emitted))
    }

    /// Takes what was encoded as evidence.
    pub fn evidence(&mut self) -> Vec<Evidence> {
        STATE.with_borrow_mut(|state| core::mem::take(&mut state.evidence))
    }

    /// The value of a counter or gauge.
    pub fn metric(&self, name: &str) -> Option<f64> {
        STATE.with_borrow(|state| state.metrics.get(name).copied())
    }

    /// What the frames' tensors begin with from now on; the rest is zeros.
    pub fn tensor(&mut self, bytes: &[u8]) -> &mut Self {
        STATE.with_borrow_mut(|state| state.tensor = bytes.to_vec());
        self
    }

    /// Takes what was logged at `level`.
    pub fn logged(&mut self, level: Level) -> Vec<String> {
        STATE.with_borrow_mut(|state| {
            let all = core::mem::take(&mut state.logged);
            all.into_iter().filter(|(at, _)| *at == level as i32).map(|(_, line)| line).collect()
        })
    }
}

/// Calls the guest; what a call that fails changed of its state is taken back.
fn call(guest: impl FnOnce() -> i32) -> Result<(), Fault> {
    let kept = STATE.with_borrow(|state| state.kept.clone());
    match guest() {
        0 => Ok(()),
        code => {
            STATE.with_borrow_mut(|state| state.kept = kept);
            Err(Fault(code))
        }
    }
}

/// The same functions that [`host`](super::host) imports in WebAssembly.
pub(super) mod imports {
    use super::{STATE, State};
    use crate::{
        errno::{E2BIG, EACCES, EINVAL, ENODATA, ENOENT, ENOSPC},
        frame::{HEADER, Kind},
        image::{ImageOp, OP, RECT},
        state::{MAX_KEY, MAX_KEYS, MAX_VALUE},
        tensor::INFO,
    };
    use std::string::String;

    const NN_INVALID: i32 = 1;
    const NN_RUNTIME_ERROR: i32 = 5;
    const NN_TOO_LARGE: i32 = 7;
    const NN_NOT_FOUND: i32 = 8;

    fn length(bytes: usize) -> i32 {
        i32::try_from(bytes).unwrap_or(i32::MAX)
    }

    fn with_frame(read: impl FnOnce(&crate::frame::FrameHeader, &[u8]) -> i32) -> i32 {
        STATE.with_borrow(|state| match &state.frame {
            Some((header, content)) => read(header, content),
            None => -ENODATA,
        })
    }

    pub(in crate::sdk) fn frame_info(out: &mut [u8; HEADER]) -> i32 {
        with_frame(|header, _| {
            *out = header.to_bytes();
            0
        })
    }

    pub(in crate::sdk) fn frame_read(offset: u32, out: &mut [u8]) -> i32 {
        with_frame(|_, content| {
            let rest = content.get(offset as usize..).unwrap_or_default();
            let count = rest.len().min(out.len());
            out[..count].copy_from_slice(&rest[..count]);
            length(count)
        })
    }

    pub(in crate::sdk) fn emit(channel: &[u8], record: &[u8]) -> i32 {
        let channel = String::from_utf8_lossy(channel).into_owned();
        STATE.with_borrow_mut(|state| state.emitted.push((channel, record.to_vec())));
        0
    }

    pub(in crate::sdk) fn log(level: i32, line: &[u8]) -> i32 {
        let line = String::from_utf8_lossy(line).into_owned();
        STATE.with_borrow_mut(|state| state.logged.push((level, line)));
        0
    }

    pub(in crate::sdk) fn config(out: &mut [u8]) -> i32 {
        STATE.with_borrow(|state| {
            let config = state.config.as_bytes();
            let count = config.len().min(out.len());
            out[..count].copy_from_slice(&config[..count]);
            length(config.len())
        })
    }

    pub(in crate::sdk) fn now(out: &mut [u8; 16]) -> i32 {
        let now = STATE.with_borrow(|state| state.now_ns).to_le_bytes();
        out[..8].copy_from_slice(&now);
        out[8..].copy_from_slice(&now);
        0
    }

    pub(in crate::sdk) fn emit_evidence(channel: &[u8], rect: &[u8; RECT], quality: u8) -> i32 {
        let mut words = [0; 4];
        for (to, word) in words.iter_mut().zip(rect.as_chunks::<4>().0) {
            *to = u32::from_le_bytes(*word);
        }
        let fits = with_frame(|header, _| {
            let fits =
                |at: u32, length: u32, side: u32| length > 0 && at.checked_add(length).is_some_and(|end| end <= side);
            let [x, y, width, height] = words;
            let whole = width == 0 && height == 0;
            match whole || (fits(x, width, header.width) && fits(y, height, header.height)) {
                _ if header.kind != Kind::Image => -ENODATA,
                true if (1..=100).contains(&quality) => quality.into(),
                _ => -EINVAL,
            }
        });
        if fits > 0 {
            let channel = String::from_utf8_lossy(channel).into_owned();
            STATE.with_borrow_mut(|state| state.evidence.push(super::Evidence { channel, rect: words, quality }));
        }
        fits
    }

    pub(in crate::sdk) fn metric_add(name: &[u8], value: f64) -> i32 {
        if value < 0.0 {
            return -EINVAL;
        }
        metric(name, value, |before| before + value)
    }

    pub(in crate::sdk) fn metric_set(name: &[u8], value: f64) -> i32 {
        metric(name, value, |_| value)
    }

    fn metric(name: &[u8], value: f64, change: impl FnOnce(f64) -> f64) -> i32 {
        let name = String::from_utf8_lossy(name).into_owned();
        if name.is_empty() || !value.is_finite() {
            return -EINVAL;
        }
        STATE.with_borrow_mut(|state| {
            let metric = state.metrics.entry(name).or_default();
            *metric = change(*metric);
        });
        0
    }

    fn with_state(key: &[u8], work: impl FnOnce(&mut State, usize) -> i32) -> i32 {
        STATE.with_borrow_mut(|state| match (state.quota, key.len()) {
            (None, _) => -EACCES,
            (_, 0) => -EINVAL,
            (_, length) if length > MAX_KEY => -E2BIG,
            (Some(quota), _) => work(state, quota),
        })
    }

    pub(in crate::sdk) fn state_get(key: &[u8], out: &mut [u8]) -> i32 {
        with_state(key, |state, _| match state.kept.get(key) {
            Some(value) => {
                let count = value.len().min(out.len());
                out[..count].copy_from_slice(&value[..count]);
                length(value.len())
            }
            None => -ENOENT,
        })
    }

    pub(in crate::sdk) fn state_set(key: &[u8], value: &[u8]) -> i32 {
        with_state(key, |state, quota| {
            let others = state.kept.iter().filter(|(other, _)| *other != key);
            let (keys, bytes) = others.fold((1, key.len() + value.len()), |(keys, bytes), (key, value)| {
                (keys + 1, bytes + key.len() + value.len())
            });
            if value.len() > MAX_VALUE {
                return -E2BIG;
            }
            if bytes > quota || keys > MAX_KEYS {
                return -ENOSPC;
            }
            state.kept.insert(key.to_vec(), value.to_vec());
            0
        })
    }

    pub(in crate::sdk) fn state_delete(key: &[u8]) -> i32 {
        with_state(key, |state, _| if state.kept.remove(key).is_some() { 0 } else { -ENOENT })
    }

    pub(in crate::sdk) fn image_tensor(op: &[u8; OP], out: &mut [u8]) -> i32 {
        match ImageOp::from_bytes(op) {
            Some(op) if op.tensor_len() == out.len() => {
                let tensor = STATE.with_borrow(|state| state.tensor.clone());
                with_frame(|_, _| {
                    out.fill(0);
                    let count = tensor.len().min(out.len());
                    out[..count].copy_from_slice(&tensor[..count]);
                    0
                })
            }
            _ => -EINVAL,
        }
    }

    pub(in crate::sdk) fn nn_input_image(context: u32, _index: u32, op: &[u8; OP]) -> i32 {
        if output(context, |_| 0) != 0 {
            return -ENOENT;
        }
        ImageOp::from_bytes(op).map_or(-EINVAL, |_| with_frame(|_, _| 0))
    }

    pub(in crate::sdk) fn nn_output_info(context: u32, index: u32, out: &mut [u8; INFO]) -> i32 {
        // The model in memory knows bytes alone: a vector of f32.
        let result = output(context, |outputs| match outputs.get(index as usize) {
            Some(bytes) => {
                let words = [1, 1, u32::try_from(bytes.len() / 4).unwrap_or(0)].map(u32::to_le_bytes);
                out.fill(0);
                out[..12].copy_from_slice(words.as_flattened());
                0
            }
            None => NN_NOT_FOUND,
        });
        if result == 0 { 0 } else { -ENOENT }
    }

    /// What a guest brings is bound to its own bytes as a name, for the test to know it by.
    pub(in crate::sdk) fn nn_load(onnx: &[u8], graph: &mut u32) -> i32 {
        match nn_load_by_name(onnx, graph) {
            NN_NOT_FOUND => NN_RUNTIME_ERROR,
            other => other,
        }
    }

    pub(in crate::sdk) fn nn_load_by_name(name: &[u8], graph: &mut u32) -> i32 {
        let name = String::from_utf8_lossy(name).into_owned();
        STATE.with_borrow_mut(|state| {
            if !state.models.contains_key(&name) {
                return NN_NOT_FOUND;
            }
            *graph = u32::try_from(state.contexts.len()).unwrap_or(u32::MAX);
            state.contexts.push(name);
            0
        })
    }

    pub(in crate::sdk) fn nn_init(graph: u32, context: &mut u32) -> i32 {
        *context = graph;
        output(graph, |_| 0)
    }

    pub(in crate::sdk) fn nn_set_input(context: u32, _index: u32, dims: &[u32], element: u8, data: &[u8]) -> i32 {
        let size = crate::tensor::TensorType::from_u8(element).map(crate::tensor::TensorType::size);
        let elements: usize = dims.iter().map(|dim| *dim as usize).product();
        if size.map(|size| size * elements) == Some(data.len()) { output(context, |_| 0) } else { NN_INVALID }
    }

    pub(in crate::sdk) fn nn_compute(context: u32) -> i32 {
        output(context, |_| 0)
    }

    pub(in crate::sdk) fn nn_get_output(context: u32, index: u32, out: &mut [u8], written: &mut u32) -> i32 {
        output(context, |outputs| {
            let Some(bytes) = outputs.get(index as usize) else { return NN_INVALID };
            *written = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            let Some(out) = out.get_mut(..bytes.len()) else { return NN_TOO_LARGE };
            out.copy_from_slice(bytes);
            0
        })
    }

    fn output(context: u32, read: impl FnOnce(&super::Outputs) -> i32) -> i32 {
        STATE.with_borrow(|state: &State| {
            let model = state.contexts.get(context as usize).and_then(|name| state.models.get(name));
            model.map_or(NN_INVALID, read)
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{
        errno::{E2BIG, EACCES, EINVAL, ENOSPC},
        sdk::{Errno, Frame, state},
    };

    /// Counts its frames in its state; a frame of one byte is a fault.
    struct Counts;

    impl Guest for Counts {
        fn start() -> Result<Self, Fault> {
            Ok(Self)
        }

        fn frame(&mut self, frame: &mut Frame) -> Result<(), Fault> {
            let count = state::get("count")?.map_or(0, |count| count.first().copied().unwrap_or(0));
            state::set("count", [count + 1])?;
            if frame.bytes()?.len() == 1 { Err(Fault(9)) } else { Ok(()) }
        }
    }

    #[test]
    fn a_guest_keeps_its_state_over_a_restart_and_not_over_a_fault() {
        let mut host = Host::new("{}");
        let guest = host.grant_state(100).start::<Counts>().unwrap();
        host.frame_bytes(&guest, "s", b"").unwrap();
        assert_eq!(host.frame_bytes(&guest, "s", b"1"), Err(Fault(9)));
        let again = host.start::<Counts>().unwrap();
        host.frame_bytes(&again, "s", b"").unwrap();
        assert_eq!(host.state(), [(b"count".to_vec(), std::vec![2])].into());
    }

    #[test]
    fn the_state_is_held_to_grant_quota_and_lengths() {
        let mut host = Host::new("{}");
        assert_eq!(state::get("k"), Err(Errno(EACCES)));
        host.grant_state(70_000);
        assert_eq!(state::get("k"), Ok(None));
        assert_eq!(state::get(""), Err(Errno(EINVAL)));
        assert_eq!(state::delete([0; 257]), Err(Errno(E2BIG)));
        assert_eq!(state::set("k", [1; 65_537]), Err(Errno(E2BIG)));
        state::set("k", [1; 65_536]).unwrap();
        assert_eq!(state::get("k").unwrap().unwrap(), [1; 65_536]);
        assert_eq!(state::set("l", [1; 5_000]), Err(Errno(ENOSPC)));
        assert_eq!((state::delete("k"), state::delete("k")), (Ok(true), Ok(false)));
        state::set("l", [1; 5_000]).unwrap();
    }
}
