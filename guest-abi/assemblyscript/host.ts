// The host's functions as they are: pointers and lengths in, 0 or a length or a negated `errno` out.

/** Writes the header of the current frame. */
// @ts-ignore: decorator
@external("sanderling_v1", "frame_info")
export declare function frame_info(out: usize): i32;
/** Copies bytes of the current frame; returns how many. */
// @ts-ignore: decorator
@external("sanderling_v1", "frame_read")
export declare function frame_read(offset: u32, ptr: usize, len: u32): i32;
/** Queues a record on a channel that the deployment grants. */
// @ts-ignore: decorator
@external("sanderling_v1", "emit")
export declare function emit(channel: usize, channel_len: u32, ptr: usize, len: u32): i32;
/** Has a part of the current image encoded as JPEG and queued on a channel; returns the quality that was used. */
// @ts-ignore: decorator
@external("sanderling_v1", "emit_evidence")
export declare function emit_evidence(channel: usize, channel_len: u32, rect: usize, quality: u32): i32;
/** Adds to a counter. */
// @ts-ignore: decorator
@external("sanderling_v1", "metric_add")
export declare function metric_add(name: usize, len: u32, value: f64): i32;
/** Sets a gauge. */
// @ts-ignore: decorator
@external("sanderling_v1", "metric_set")
export declare function metric_set(name: usize, len: u32, value: f64): i32;
/** Copies a value that the module keeps; returns its whole length. */
// @ts-ignore: decorator
@external("sanderling_v1", "state_get")
export declare function state_get(key: usize, key_len: u32, ptr: usize, capacity: u32): i32;
/** Sets a value that the module keeps. */
// @ts-ignore: decorator
@external("sanderling_v1", "state_set")
export declare function state_set(key: usize, key_len: u32, ptr: usize, len: u32): i32;
/** Forgets a value. */
// @ts-ignore: decorator
@external("sanderling_v1", "state_delete")
export declare function state_delete(key: usize, key_len: u32): i32;
/** Writes a line to the device's log. */
// @ts-ignore: decorator
@external("sanderling_v1", "log")
export declare function log(level: i32, ptr: usize, len: u32): i32;
/** Copies the deployment's `config`, JSON, as far as it fits; returns its whole length. */
// @ts-ignore: decorator
@external("sanderling_v1", "config")
export declare function config(ptr: usize, capacity: u32): i32;
/** Writes the wall and the monotonic time. */
// @ts-ignore: decorator
@external("sanderling_v1", "now")
export declare function now(out: usize): i32;
/** Makes the current frame a tensor in the guest's memory. */
// @ts-ignore: decorator
@external("sanderling_v1", "image_tensor")
export declare function image_tensor(op: usize, ptr: usize, len: u32): i32;
/** Makes the current frame an inference input, natively. */
// @ts-ignore: decorator
@external("sanderling_v1", "nn_input_image")
export declare function nn_input_image(context: u32, index: u32, op: usize): i32;
/** Writes the type and shape of an output. */
// @ts-ignore: decorator
@external("sanderling_v1", "nn_output_info")
export declare function nn_output_info(context: u32, index: u32, out: usize): i32;

// wasi-nn: 0, or its own error number.

/** Loads a model from its bytes: (pointer, length) pairs at `builder`. */
// @ts-ignore: decorator
@external("wasi_ephemeral_nn", "load")
export declare function nn_load(builder: usize, builder_len: u32, encoding: u32, target: u32, graph: usize): i32;
/** Loads the model that the deployment binds to a name. */
// @ts-ignore: decorator
@external("wasi_ephemeral_nn", "load_by_name")
export declare function nn_load_by_name(name: usize, name_len: u32, graph: usize): i32;
/** Makes room for a model's tensors. */
// @ts-ignore: decorator
@external("wasi_ephemeral_nn", "init_execution_context")
export declare function nn_init_execution_context(graph: u32, context: usize): i32;
/** Copies a tensor into an input. */
// @ts-ignore: decorator
@external("wasi_ephemeral_nn", "set_input")
export declare function nn_set_input(context: u32, index: u32, tensor: usize): i32;
/** Runs the model. */
// @ts-ignore: decorator
@external("wasi_ephemeral_nn", "compute")
export declare function nn_compute(context: u32): i32;
/** Copies an output. */
// @ts-ignore: decorator
@external("wasi_ephemeral_nn", "get_output")
export declare function nn_get_output(context: u32, index: u32, ptr: usize, capacity: u32, written: usize): i32;
