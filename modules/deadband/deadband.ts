// Reports by exception: a channel's value goes on only when it has left the band around the value that was reported last.
//
// What comes in is a series of f32, i16 or i32, at any rate; what goes out on the channel `changes` is, for each change,
// {"seq", "sensor", "channel", "name", "unix_ms", "value", "cause"}. The cause is `first`, `change`, `interval` (nothing was reported for
// `max_interval_s`) or `invalid` (the value is null: it is no number, which is said once). A value is tried again that the host does not take
// because records come too fast.
//
// Config, all optional: {"band": 0, "percent": 0, "min_interval_s": 0, "max_interval_s": 0, "channels": [{"name": …, and any of those before}]}.
// The wider of `band` and `percent` (of the value reported last) counts. Intervals are in the sensor's time: a frame is captured with its last
// sample, and those before it follow from the rate.

import { Config, Settings } from "./settings";
import { config, content, decimal, emit, errno, FrameHeader, fault, format, frame, kind, level, log, quoted } from "../../guest-abi/assemblyscript";

export { sanderling_abi } from "../../guest-abi/assemblyscript";

/** The guest's own fault codes. */
const FAULT_NOT_A_SERIES: i32 = 2;
const FAULT_EMIT: i32 = 3;
/** So many channels are watched, those of all sensors together. */
const MOST_SIGNALS: i32 = 1024;

/** What is known of one channel of one sensor. */
class Signal {
  reported: f64 = 0;
  /** Monotonic time of the sample that was reported. */
  at: i64 = 0;
  valid: bool = false;
  known: bool = false;

  constructor(public settings: Settings) {}

  /** Why a value at a time is to be reported; empty where it is not. */
  cause(value: f64, at: i64): string {
    if (!isFinite(value)) return this.known && !this.valid ? "" : "invalid";
    if (!this.known) return "first";
    const since = at - this.at;
    const changed = !this.valid || abs(value - this.reported) > this.settings.width(this.reported);
    if (changed && since >= this.settings.min_ns) return "change";
    return this.settings.max_ns > 0 && since >= this.settings.max_ns ? "interval" : "";
  }

  report(value: f64, at: i64): void {
    this.reported = value;
    this.valid = isFinite(value);
    this.known = true;
    this.at = at;
  }
}

let settings = new Config("null");
const signals = new Map<string, Signal[]>();
let count: i32 = 0;
let full: bool = false;

export function sanderling_start(): i32 {
  settings = new Config(config());
  if (settings.error.length == 0) return 0;
  log(level.ERROR, settings.error);
  return fault.CONFIG;
}

export function sanderling_frame(): i32 {
  const header = frame();
  if (header.kind != kind.SERIES || sampleSize(header.format) == 0) {
    log(level.ERROR, "deadband takes series of f32, i16 or i32; bind it to such a sensor");
    return FAULT_NOT_A_SERIES;
  }
  const channels = <i32>max<u32>(header.channels, 1);
  const watched = watch(header.sensor(), channels);
  const bytes = content();
  const rows = bytes.byteLength / sampleSize(header.format) / channels;
  const period: f64 = header.rate_mhz > 0 ? 1e12 / <f64>header.rate_mhz : 0;
  for (let row = 0; row < rows; row++) {
    const before = <i64>(<f64>(rows - 1 - row) * period);
    for (let channel = 0; channel < watched.length; channel++) {
      const value = sample(bytes, header.format, row * channels + channel);
      const result = look(header, watched[channel], channel, value, before);
      if (result != 0) return result;
    }
  }
  return 0;
}

/** The signals of a sensor; of those that are too many a warning is written, once. */
function watch(sensor: string, channels: i32): Signal[] {
  if (!signals.has(sensor)) signals.set(sensor, []);
  const watched = signals.get(sensor);
  while (watched.length < channels && count < MOST_SIGNALS) {
    watched.push(new Signal(settings.channel(watched.length)));
    count++;
  }
  if (watched.length < channels && !full) {
    log(level.WARN, `only ${MOST_SIGNALS} channels are watched; the others of ${sensor} are not`);
    full = true;
  }
  return watched;
}

function look(header: FrameHeader, signal: Signal, channel: i32, value: f64, before: i64): i32 {
  const at = <i64>header.captured_mono_ns - before;
  const cause = signal.cause(value, at);
  if (cause.length == 0) return 0;
  const name = signal.settings.name;
  const named = name.length > 0 ? `,"name":${quoted(name)}` : "";
  const unix_ms = (header.captured_unix_ns - before) / 1000000;
  const result = emit(
    "changes",
    `{"seq":${header.seq},"sensor":${quoted(header.sensor())},"channel":${channel}${named},"unix_ms":${unix_ms},` +
      `"value":${decimal(value)},"cause":"${cause}"}`,
  );
  if (result == 0) signal.report(value, at);
  return result == 0 || result == -errno.EAGAIN ? 0 : FAULT_EMIT;
}

/** Bytes of a sample, 0 for what is no series. */
function sampleSize(layout: u16): i32 {
  if (layout == format.F32 || layout == format.I32) return 4;
  return layout == format.I16 ? 2 : 0;
}

function sample(bytes: Uint8Array, layout: u16, index: i32): f64 {
  const at = bytes.dataStart + (index << (layout == format.I16 ? 1 : 2));
  if (layout == format.F32) return <f64>load<f32>(at);
  return layout == format.I16 ? <f64>load<i16>(at) : <f64>load<i32>(at);
}
