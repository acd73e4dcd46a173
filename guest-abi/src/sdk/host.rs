//! The host's functions, as safe Rust over slices: imports in WebAssembly, the [`testing`](super::testing) host elsewhere.

#[cfg(not(target_family = "wasm"))]
pub(super) use super::testing::imports::*;
#[cfg(target_family = "wasm")]
pub(super) use wasm::*;

/// A tensor as wasi-nn's witx ABI lays it out in memory.
#[cfg(target_family = "wasm")]
#[repr(C)]
struct Tensor {
    dims: *const u32,
    dims_len: u32,
    element: u8,
    data: *const u8,
    data_len: u32,
}

#[cfg(target_family = "wasm")]
mod wasm {
    #![allow(unsafe_code)] // calls of imports, each with pointers and lengths of live slices

    use super::Tensor;
    use crate::{
        frame::HEADER,
        image::{OP, RECT},
        tensor::INFO,
    };

    mod imports {
        #[link(wasm_import_module = "sanderling_v1")]
        unsafe extern "C" {
            pub(super) fn frame_info(out: *mut u8) -> i32;
            pub(super) fn frame_read(offset: u32, ptr: *mut u8, len: usize) -> i32;
            pub(super) fn emit(channel: *const u8, channel_len: usize, ptr: *const u8, len: usize) -> i32;
            pub(super) fn log(level: i32, ptr: *const u8, len: usize) -> i32;
            pub(super) fn config(ptr: *mut u8, capacity: usize) -> i32;
            pub(super) fn now(out: *mut u8) -> i32;
            pub(super) fn emit_evidence(channel: *const u8, channel_len: usize, rect: *const u8, quality: u32) -> i32;
            pub(super) fn metric_add(name: *const u8, len: usize, value: f64) -> i32;
            pub(super) fn metric_set(name: *const u8, len: usize, value: f64) -> i32;
            pub(super) fn state_get(key: *const u8, key_len: usize, ptr: *mut u8, capacity: usize) -> i32;
            pub(super) fn state_set(key: *const u8, key_len: usize, ptr: *const u8, len: usize) -> i32;
            pub(super) fn state_delete(key: *const u8, key_len: usize) -> i32;
            pub(super) fn image_tensor(op: *const u8, ptr: *mut u8, len: usize) -> i32;
            pub(super) fn nn_input_image(context: u32, index: u32, op: *const u8) -> i32;
            pub(super) fn nn_output_info(context: u32, index: u32, out: *mut u8) -> i32;
        }

        #[link(wasm_import_module = "wasi_ephemeral_nn")]
        unsafe extern "C" {
            pub(super) fn load(
                parts: *const [*const u8; 2],
                count: usize,
                encoding: u32,
                target: u32,
                graph: *mut u32,
            ) -> i32;
            pub(super) fn load_by_name(name: *const u8, len: usize, graph: *mut u32) -> i32;
            pub(super) fn init_execution_context(graph: u32, context: *mut u32) -> i32;
            pub(super) fn set_input(context: u32, index: u32, tensor: *const super::Tensor) -> i32;
            pub(super) fn compute(context: u32) -> i32;
            pub(super) fn get_output(context: u32, index: u32, ptr: *mut u8, len: usize, written: *mut u32) -> i32;
        }
    }

    pub(in crate::sdk) fn frame_info(out: &mut [u8; HEADER]) -> i32 {
        // SAFETY: the host writes HEADER bytes.
        unsafe { imports::frame_info(out.as_mut_ptr()) }
    }

    pub(in crate::sdk) fn frame_read(offset: u32, out: &mut [u8]) -> i32 {
        // SAFETY: the host writes at most the length given.
        unsafe { imports::frame_read(offset, out.as_mut_ptr(), out.len()) }
    }

    pub(in crate::sdk) fn emit(channel: &[u8], record: &[u8]) -> i32 {
        // SAFETY: the host reads the lengths given.
        unsafe { imports::emit(channel.as_ptr(), channel.len(), record.as_ptr(), record.len()) }
    }

    pub(in crate::sdk) fn log(level: i32, line: &[u8]) -> i32 {
        // SAFETY: the host reads the length given.
        unsafe { imports::log(level, line.as_ptr(), line.len()) }
    }

    pub(in crate::sdk) fn config(out: &mut [u8]) -> i32 {
        // SAFETY: the host writes at most the length given.
        unsafe { imports::config(out.as_mut_ptr(), out.len()) }
    }

    pub(in crate::sdk) fn now(out: &mut [u8; 16]) -> i32 {
        // SAFETY: the host writes 16 bytes.
        unsafe { imports::now(out.as_mut_ptr()) }
    }

    pub(in crate::sdk) fn emit_evidence(channel: &[u8], rect: &[u8; RECT], quality: u8) -> i32 {
        // SAFETY: the host reads the length given and RECT bytes.
        unsafe { imports::emit_evidence(channel.as_ptr(), channel.len(), rect.as_ptr(), quality.into()) }
    }

    pub(in crate::sdk) fn metric_add(name: &[u8], value: f64) -> i32 {
        // SAFETY: the host reads the length given.
        unsafe { imports::metric_add(name.as_ptr(), name.len(), value) }
    }

    pub(in crate::sdk) fn metric_set(name: &[u8], value: f64) -> i32 {
        // SAFETY: the host reads the length given.
        unsafe { imports::metric_set(name.as_ptr(), name.len(), value) }
    }

    pub(in crate::sdk) fn state_get(key: &[u8], out: &mut [u8]) -> i32 {
        // SAFETY: the host reads the key and writes at most the length given.
        unsafe { imports::state_get(key.as_ptr(), key.len(), out.as_mut_ptr(), out.len()) }
    }

    pub(in crate::sdk) fn state_set(key: &[u8], value: &[u8]) -> i32 {
        // SAFETY: the host reads the lengths given.
        unsafe { imports::state_set(key.as_ptr(), key.len(), value.as_ptr(), value.len()) }
    }

    pub(in crate::sdk) fn state_delete(key: &[u8]) -> i32 {
        // SAFETY: the host reads the length given.
        unsafe { imports::state_delete(key.as_ptr(), key.len()) }
    }

    pub(in crate::sdk) fn image_tensor(op: &[u8; OP], out: &mut [u8]) -> i32 {
        // SAFETY: the host reads OP bytes and writes at most the length given.
        unsafe { imports::image_tensor(op.as_ptr(), out.as_mut_ptr(), out.len()) }
    }

    pub(in crate::sdk) fn nn_input_image(context: u32, index: u32, op: &[u8; OP]) -> i32 {
        // SAFETY: the host reads OP bytes.
        unsafe { imports::nn_input_image(context, index, op.as_ptr()) }
    }

    pub(in crate::sdk) fn nn_output_info(context: u32, index: u32, out: &mut [u8; INFO]) -> i32 {
        // SAFETY: the host writes INFO bytes.
        unsafe { imports::nn_output_info(context, index, out.as_mut_ptr()) }
    }

    pub(in crate::sdk) fn nn_load(onnx: &[u8], graph: &mut u32) -> i32 {
        // In wasm32 a length is as wide as a pointer.
        let part = [onnx.as_ptr(), core::ptr::without_provenance(onnx.len())];
        let (onnx_encoding, cpu) = (1, 0);
        // SAFETY: the host reads one part and the length given, and writes one word.
        unsafe { imports::load(&part, 1, onnx_encoding, cpu, graph) }
    }

    pub(in crate::sdk) fn nn_load_by_name(name: &[u8], graph: &mut u32) -> i32 {
        // SAFETY: the host reads the length given and writes one word.
        unsafe { imports::load_by_name(name.as_ptr(), name.len(), graph) }
    }

    pub(in crate::sdk) fn nn_init(graph: u32, context: &mut u32) -> i32 {
        // SAFETY: the host writes one word.
        unsafe { imports::init_execution_context(graph, context) }
    }

    pub(in crate::sdk) fn nn_set_input(context: u32, index: u32, dims: &[u32], element: u8, data: &[u8]) -> i32 {
        let tensor = Tensor {
            dims: dims.as_ptr(),
            dims_len: dims.len() as u32,
            element,
            data: data.as_ptr(),
            data_len: data.len() as u32,
        };
        // SAFETY: the host reads the tensor and the slices it points to.
        unsafe { imports::set_input(context, index, &tensor) }
    }

    pub(in crate::sdk) fn nn_compute(context: u32) -> i32 {
        // SAFETY: no memory is passed.
        unsafe { imports::compute(context) }
    }

    pub(in crate::sdk) fn nn_get_output(context: u32, index: u32, out: &mut [u8], written: &mut u32) -> i32 {
        // SAFETY: the host writes at most the length given, and one word.
        unsafe { imports::get_output(context, index, out.as_mut_ptr(), out.len(), written) }
    }
}
