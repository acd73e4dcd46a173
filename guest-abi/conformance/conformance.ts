// The conformance guest of the AssemblyScript bindings: see README.md.

import {
  ABI, color, config, content, element, emit, emitEvidence, errno, filter, format, frame, ImageOp, imageTensor, kind, layout, level, log,
  metricAdd, metricSet, Model, now, Rect, state, stateDelete, stateGet, stateSet, tensor, text,
} from "../assemblyscript";

export { sanderling_abi } from "../assemblyscript";

function say(line: string): void {
  emit("said", line);
}

function hex(at: usize, count: i32): string {
  let out = "";
  for (let i = 0; i < count; i++) {
    const byte = load<u8>(at + i);
    out += (byte < 16 ? "0" : "") + byte.toString(16);
  }
  return out;
}

function sayNumbers(): void {
  say(`abi ${ABI}`);
  say(`errno ${errno.ENOENT} ${errno.E2BIG} ${errno.EAGAIN} ${errno.EACCES} ${errno.EFAULT} ${errno.EINVAL} ${errno.ENOSPC} ${errno.ENODATA}`);
  say(`kind ${kind.BYTES} ${kind.JSON} ${kind.IMAGE} ${kind.SERIES}`);
  say(
    `format ${format.NONE} ${format.GRAY8} ${format.RGB8} ${format.BGR8} ${format.YUYV} ${format.NV12} ${format.GRAY16} ${format.JPEG} ` +
      `${format.PNG} ${format.F32} ${format.I16} ${format.I32}`,
  );
  say(`level ${level.ERROR} ${level.WARN} ${level.INFO} ${level.DEBUG} ${level.TRACE}`);
  say(`color ${color.GRAY} ${color.RGB} ${color.BGR}`);
  say(`layout ${layout.NCHW} ${layout.NHWC}`);
  say(`element ${element.F32} ${element.F16} ${element.U8} ${element.I8}`);
  say(`filter ${filter.NEAREST} ${filter.BILINEAR} ${filter.AREA}`);
  say(`tensor ${tensor.F16} ${tensor.F32} ${tensor.F64} ${tensor.U8} ${tensor.I32} ${tensor.I64}`);
}

function sayFrame(): void {
  const f = frame();
  say(
    `frame ${f.seq} ${f.captured_unix_ns} ${f.captured_mono_ns} ${f.len} ${f.kind} ${f.format} ${f.width} ${f.height} ${f.stride} ` +
      `${f.channels} ${f.rate_mhz} ${f.dropped} ${f.sensor()}`,
  );
  say(`content ${text()}`);
  const time = now();
  say(`time ${time.unix_ns} ${time.mono_ns}`);
}

function kept(): string {
  const value = stateGet("key");
  return value == null ? "none" : String.UTF8.decode(value);
}

function sayKept(): void {
  const first = kept();
  stateSet("key", String.UTF8.encode("value"));
  const second = kept();
  stateDelete("key");
  say(`state ${first} ${second} ${kept()} ${state.MAX_KEY} ${state.MAX_VALUE} ${state.MAX_KEYS}`);
  say(`metrics ${metricAdd("count", 2.5)} ${metricSet("level", -1.5)}`);
  say(`evidence ${emitEvidence("said", new Rect(1, 2, 3, 4), 80)}`);
}

function sayImage(): void {
  const op = new ImageOp(5, 6);
  op.crop_x = 1;
  op.crop_y = 2;
  op.crop_width = 3;
  op.crop_height = 4;
  op.color = color.BGR;
  op.layout = layout.NHWC;
  op.element = element.F16;
  op.filter = filter.AREA;
  op.mean0 = 0.5;
  op.mean1 = 0.25;
  op.mean2 = 0.125;
  op.scale0 = 2;
  op.scale1 = 4;
  op.scale2 = 8;
  say(`op ${hex(changetype<usize>(op), offsetof<ImageOp>())}`);
  const whole = new ImageOp(8, 8);
  whole.element = element.U8;
  whole.filter = filter.NEAREST;
  whole.scale0 = whole.scale1 = whole.scale2 = 0;
  const pixels = new ArrayBuffer(64);
  const result = imageTensor(whole, pixels);
  say(`image ${result} ${memory.compare(changetype<usize>(pixels), content().dataStart, 64)}`);
}

function sayModel(): void {
  Model.fromOnnx(new ArrayBuffer(0));
  const model = Model.load("conv");
  if (model == null) return say("model is missing");
  const image = model.inputImage(0, new ImageOp(8, 8));
  const set = model.input(0, tensor.F32, [1, 1, 8, 8], new ArrayBuffer(256));
  const computed = model.compute();
  const output = new ArrayBuffer(8);
  const got = model.output(0, output);
  say(`model 0 0 ${image} ${set} ${computed} ${got} ${model.written}`);
  say(`output ${hex(changetype<usize>(output), 8)}`);
  const info = model.outputInfo(0);
  if (info != null) say(`info ${info.type} ${info.rank} ${info.dim(0)} ${info.dim(1)}`);
}

export function sanderling_start(): i32 {
  say(`config ${config()}`);
  log(level.WARN, "logged");
  return 0;
}

export function sanderling_frame(): i32 {
  sayNumbers();
  sayFrame();
  sayKept();
  sayImage();
  sayModel();
  return 0;
}
