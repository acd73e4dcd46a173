// The layouts and numbers that host and guest share. Those of the crate sanderling-guest; a test holds this file to them.

/** The version of the contract. */
export const ABI: i32 = 1;

/** Error numbers, which host functions return negated. */
export namespace errno {
  export const ENOENT: i32 = 2;
  export const E2BIG: i32 = 7;
  export const EAGAIN: i32 = 11;
  export const EACCES: i32 = 13;
  export const EFAULT: i32 = 14;
  export const EINVAL: i32 = 22;
  export const ENOSPC: i32 = 28;
  export const ENODATA: i32 = 61;
}

/** What a frame's content is. */
export namespace kind {
  export const BYTES: u16 = 0;
  export const JSON: u16 = 1;
  export const IMAGE: u16 = 2;
  export const SERIES: u16 = 3;
}

/** How a frame's content is laid out. */
export namespace format {
  export const NONE: u16 = 0;
  export const GRAY8: u16 = 1;
  export const RGB8: u16 = 2;
  export const BGR8: u16 = 3;
  export const YUYV: u16 = 4;
  export const NV12: u16 = 5;
  export const GRAY16: u16 = 6;
  export const JPEG: u16 = 7;
  export const PNG: u16 = 8;
  export const F32: u16 = 16;
  export const I16: u16 = 17;
  export const I32: u16 = 18;
}

/** Levels of log lines. */
export namespace level {
  export const ERROR: i32 = 0;
  export const WARN: i32 = 1;
  export const INFO: i32 = 2;
  export const DEBUG: i32 = 3;
  export const TRACE: i32 = 4;
}

/** The channels of a tensor. */
export namespace color {
  export const GRAY: u8 = 0;
  export const RGB: u8 = 1;
  export const BGR: u8 = 2;
}

/** The order of a tensor's elements. */
export namespace layout {
  export const NCHW: u8 = 0;
  export const NHWC: u8 = 1;
}

/** The type of a tensor's elements, as an `ImageOp` names it. */
export namespace element {
  export const F32: u8 = 0;
  export const F16: u8 = 1;
  export const U8: u8 = 2;
  export const I8: u8 = 3;
}

/** How pixels are weighed when the size changes. */
export namespace filter {
  export const NEAREST: u8 = 0;
  export const BILINEAR: u8 = 1;
  export const AREA: u8 = 2;
}

/** The type of a tensor's elements, with the numbers of wasi-nn 0.6. */
export namespace tensor {
  export const F16: u8 = 0;
  export const F32: u8 = 1;
  export const F64: u8 = 2;
  export const U8: u8 = 3;
  export const I32: u8 = 4;
  export const I64: u8 = 5;
}

/** The header of a frame: 96 bytes, which the host writes. */
export class FrameHeader {
  /** Counts the sensor's frames, dropped ones included. */
  seq: u64 = 0;
  /** Wall-clock time of capture, nanoseconds since 1970. */
  captured_unix_ns: i64 = 0;
  /** Monotonic time of capture, nanoseconds. */
  captured_mono_ns: u64 = 0;
  /** Bytes of content. */
  len: u32 = 0;
  /** What the content is: one of `kind`. */
  kind: u16 = 0;
  /** How it is laid out: one of `format`. */
  format: u16 = 0;
  /** Pixels a row; samples a channel in a series. */
  width: u32 = 0;
  /** Rows. */
  height: u32 = 0;
  /** Bytes from one row to the next. */
  stride: u32 = 0;
  /** Channels of a series, interleaved. */
  channels: u32 = 0;
  /** Samples a second of a series, in thousandths of a hertz. */
  rate_mhz: u32 = 0;
  /** Frames dropped before this one. */
  dropped: u32 = 0;
  // The sensor's name, 32 bytes padded with zeros, and 8 reserved ones.
  private sensor0: u64 = 0;
  private sensor1: u64 = 0;
  private sensor2: u64 = 0;
  private sensor3: u64 = 0;
  private reserved: u64 = 0;

  /** The sensor's name. */
  sensor(): string {
    const at = changetype<usize>(this) + offsetof<FrameHeader>("sensor0");
    let length: usize = 0;
    while (length < 32 && load<u8>(at + length) != 0) length++;
    return String.UTF8.decodeUnsafe(at, length);
  }
}

/** How the current frame becomes a tensor: 64 bytes, which the host reads. An element of type f32 or f16 is (pixel / 255 - mean) *
 * scale; with u8 and i8, mean and scale are zero, and an element is the pixel, or the pixel minus 128. */
export class ImageOp {
  /** The part of the frame, in pixels; width and height 0: the whole frame. */
  crop_x: u32 = 0;
  crop_y: u32 = 0;
  crop_width: u32 = 0;
  crop_height: u32 = 0;
  /** Of the tensor, 1 to 4096. */
  width: u32;
  /** Of the tensor, 1 to 4096. */
  height: u32;
  /** One of `color`. */
  color: u8 = color.GRAY;
  /** One of `layout`. */
  layout: u8 = layout.NCHW;
  /** One of `element`. */
  element: u8 = element.F32;
  /** One of `filter`. */
  filter: u8 = filter.BILINEAR;
  /** Subtracted from each channel. */
  mean0: f32 = 0;
  mean1: f32 = 0;
  mean2: f32 = 0;
  /** Multiplied to each channel. */
  scale0: f32 = 1;
  scale1: f32 = 1;
  scale2: f32 = 1;
  private reserved0: u32 = 0;
  private reserved1: u32 = 0;
  private reserved2: u32 = 0;

  /** The whole frame as gray f32 elements in 0..1; change what should be otherwise. */
  constructor(width: u32, height: u32) {
    this.width = width;
    this.height = height;
  }
}

/** The type and shape of an output: 40 bytes, which the host writes. */
export class OutputInfo {
  /** One of `tensor`. */
  type: u32 = 0;
  /** The number of dimensions. */
  rank: u32 = 0;
  private dim0: u32 = 0;
  private dim1: u32 = 0;
  private dim2: u32 = 0;
  private dim3: u32 = 0;
  private dim4: u32 = 0;
  private dim5: u32 = 0;
  private dim6: u32 = 0;
  private dim7: u32 = 0;

  /** The dimension with this index, below 8. */
  dim(index: u32): u32 {
    if (index >= 8) throw new Error("an output has at most 8 dimensions");
    return load<u32>(changetype<usize>(this) + offsetof<OutputInfo>("dim0") + (index << 2));
  }
}

/** A rectangle in a frame, in pixels: 16 bytes, which the host reads. Width and height 0: the whole frame. */
export class Rect {
  constructor(
    public x: u32,
    public y: u32,
    public width: u32,
    public height: u32,
  ) {}
}

/** The bounds of what a module keeps. */
export namespace state {
  export const MAX_KEY: i32 = 256;
  export const MAX_VALUE: i32 = 65536;
  export const MAX_KEYS: i32 = 4096;
}

/** The device's time: 16 bytes, which the host writes. */
export class Time {
  /** Nanoseconds since 1970. */
  unix_ns: i64 = 0;
  /** Nanoseconds since some moment, never going back. */
  mono_ns: u64 = 0;
}
