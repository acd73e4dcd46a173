// Writing a guest in AssemblyScript.
//
//   import { emit, frame, samples } from "./sanderling";
//   export { sanderling_abi } from "./sanderling";
//
//   export function sanderling_frame(): i32 {
//     let sum: f64 = 0;
//     const values = samples();
//     for (let i = 0; i < values.length; i++) sum += values[i];
//     return emit("sums", `{"seq":${frame().seq},"sum":${sum}}`);
//   }
//
// Build with `asc guest.ts -O3 --exportStart _initialize --use abort=sanderling/index/abort`, where the last path is that of this file, seen from
// the folder in which asc runs. Results are 0 or a length, or a negated `errno`.

import * as host from "./host";
import { ABI, FrameHeader, ImageOp, Rect, Time, level } from "./layouts";

export { host };
export * from "./layouts";
export * from "./json";
export * from "./nn";
export * from "./kept";

/** The guest's own fault codes, as those of the SDK for Rust. */
export namespace fault {
  /** A configuration that does not fit. */
  export const CONFIG: i32 = 1001;
  /** An inference call that failed. */
  export const INFERENCE: i32 = 1002;
}

/** Export this from the guest. */
export function sanderling_abi(): i32 {
  return ABI;
}

const header = new FrameHeader();
let buffer = new ArrayBuffer(0);

/** The header of the current frame; the same object each time. */
export function frame(): FrameHeader {
  if (host.frame_info(changetype<usize>(header)) != 0) throw new Error("there is no current frame");
  return header;
}

/** The content of the current frame, in a place that is used again for the next one. */
export function content(): Uint8Array {
  const length = <i32>frame().len;
  if (buffer.byteLength < length) buffer = new ArrayBuffer(length);
  const read = host.frame_read(0, changetype<usize>(buffer), length);
  if (read < 0) throw new Error("there is no current frame");
  return Uint8Array.wrap(buffer, 0, read);
}

/** The content of the current frame as the samples of a series of f32, in the same place. */
export function samples(): Float32Array {
  return Float32Array.wrap(content().buffer, 0, <i32>frame().len >> 2);
}

/** The content of the current frame as UTF-8. */
export function text(): string {
  const bytes = content();
  return String.UTF8.decodeUnsafe(bytes.dataStart, bytes.byteLength);
}

/** Queues a record on a channel that the deployment grants: `EACCES` without the grant, `EAGAIN` above the rate, `E2BIG` above 64 KiB. */
export function emit(channel: string, record: string): i32 {
  return emitBytes(channel, String.UTF8.encode(record));
}

/** Queues a record of bytes; see `emit`. */
export function emitBytes(channel: string, record: ArrayBuffer): i32 {
  const name = String.UTF8.encode(channel);
  return host.emit(changetype<usize>(name), name.byteLength, changetype<usize>(record), record.byteLength);
}

/** Has a part of the current image encoded as JPEG and queued on a channel, with the grants `evidence` and `emit:<channel>`. Returns the quality
 * that was used. */
export function emitEvidence(channel: string, rect: Rect, quality: u32): i32 {
  const name = String.UTF8.encode(channel);
  return host.emit_evidence(changetype<usize>(name), name.byteLength, changetype<usize>(rect), quality);
}

/** Adds to a counter, which is reported with the module. */
export function metricAdd(name: string, value: f64): i32 {
  const utf8 = String.UTF8.encode(name);
  return host.metric_add(changetype<usize>(utf8), utf8.byteLength, value);
}

/** Sets a gauge, which is reported with the module. */
export function metricSet(name: string, value: f64): i32 {
  const utf8 = String.UTF8.encode(name);
  return host.metric_set(changetype<usize>(utf8), utf8.byteLength, value);
}

/** Writes a line to the device's log; `at` is one of `level`. */
export function log(at: i32, line: string): void {
  const utf8 = String.UTF8.encode(line);
  host.log(at, changetype<usize>(utf8), utf8.byteLength);
}

/** The deployment's `config` as JSON text; `null` where it has none. */
export function config(): string {
  const text = new ArrayBuffer(host.config(0, 0));
  host.config(changetype<usize>(text), text.byteLength);
  return String.UTF8.decode(text);
}

/** The device's time. */
export function now(): Time {
  const time = new Time();
  host.now(changetype<usize>(time));
  return time;
}

/** Makes the current frame a tensor in `out`, natively. */
export function imageTensor(op: ImageOp, out: ArrayBuffer): i32 {
  return host.image_tensor(changetype<usize>(op), changetype<usize>(out), out.byteLength);
}

/** What the compiler calls where a guest throws or goes out of bounds: says so in the log, and traps. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const what = message == null ? "aborted" : message;
  const where = file == null ? "" : ` at ${file}:${line}:${column}`;
  log(level.ERROR, what + where);
  unreachable();
}
