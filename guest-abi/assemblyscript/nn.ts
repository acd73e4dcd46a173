// Inference with the models that the deployment binds, over wasi-nn. Results are 0, or an error number of wasi-nn: 1 invalid argument,
// 2 invalid encoding, 3 missing memory, 4 busy, 5 runtime error, 6 unsupported operation, 7 too large, 8 not found.

import * as host from "./host";
import { ImageOp, OutputInfo } from "./layouts";

/** A tensor as wasi-nn lays it out in memory. */
@unmanaged
class Tensor {
  dims: usize = 0;
  dims_len: u32 = 0;
  type: u8 = 0;
  data: usize = 0;
  data_len: u32 = 0;
}

// Places that the host reads and writes.
const TENSOR = memory.data(offsetof<Tensor>(), 4);
const WORD = memory.data(4, 4);
const PART = memory.data(8, 4);
// wasi-nn's numbers for a model's encoding, and for where it runs.
const ONNX: u32 = 1;
const CPU: u32 = 0;

/** An execution context of a model. */
export class Model {
  private constructor(private context: u32) {}

  /** Loads the model that the deployment binds to `name`; null where there is none or `infer` is not granted. */
  static load(name: string): Model | null {
    const utf8 = String.UTF8.encode(name);
    if (host.nn_load_by_name(changetype<usize>(utf8), utf8.byteLength, WORD) != 0) return null;
    if (host.nn_init_execution_context(load<u32>(WORD), WORD) != 0) return null;
    return new Model(load<u32>(WORD));
  }

  /** Loads an ONNX model that the guest brings itself, with the grant `infer:load`; null where that fails. */
  static fromOnnx(onnx: ArrayBuffer): Model | null {
    store<u32>(PART, <u32>changetype<usize>(onnx));
    store<u32>(PART, onnx.byteLength, 4);
    if (host.nn_load(PART, 1, ONNX, CPU, WORD) != 0) return null;
    if (host.nn_init_execution_context(load<u32>(WORD), WORD) != 0) return null;
    return new Model(load<u32>(WORD));
  }

  /** Makes the current frame an input, natively: the pixels never enter the guest. 0, or a negated `errno`. */
  inputImage(index: u32, op: ImageOp): i32 {
    return host.nn_input_image(this.context, index, changetype<usize>(op));
  }

  /** Sets an input from little-endian bytes of one of the types in `tensor`. */
  input(index: u32, type: u8, dims: StaticArray<u32>, data: ArrayBuffer): i32 {
    const tensor = changetype<Tensor>(TENSOR);
    tensor.dims = changetype<usize>(dims);
    tensor.dims_len = dims.length;
    tensor.type = type;
    tensor.data = changetype<usize>(data);
    tensor.data_len = data.byteLength;
    return host.nn_set_input(this.context, index, TENSOR);
  }

  /** Runs the model. */
  compute(): i32 {
    return host.nn_compute(this.context);
  }

  /** Copies an output; `written` says how long it was. */
  output(index: u32, out: ArrayBuffer): i32 {
    return host.nn_get_output(this.context, index, changetype<usize>(out), out.byteLength, WORD);
  }

  /** The length in bytes of the output that was copied last. */
  get written(): u32 {
    return load<u32>(WORD);
  }

  /** The type and shape of an output; null where there is none. */
  outputInfo(index: u32): OutputInfo | null {
    const info = new OutputInfo();
    return host.nn_output_info(this.context, index, changetype<usize>(info)) == 0 ? info : null;
  }
}
