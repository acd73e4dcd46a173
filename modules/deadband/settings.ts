// The configuration of a deadband, read and checked.

import { Json, JsonKind } from "../../guest-abi/assemblyscript";

const NS_PER_S: f64 = 1e9;
/** No interval is longer than a year. */
const LONGEST_S: f64 = 366 * 24 * 3600;
const KEYS = ["band", "percent", "min_interval_s", "max_interval_s"];

/** When a channel's value is reported. */
export class Settings {
  /** What the channel is called; empty where it has no name. */
  name: string = "";
  /** A value is reported once it is further than this from the one reported last … */
  band: f64 = 0;
  /** … and further than this many per cent of that one. */
  percent: f64 = 0;
  /** A change is held back until this long after the last report. */
  min_ns: i64 = 0;
  /** The value is reported at least this often; 0: only when it changes. */
  max_ns: i64 = 0;

  /** How far from the value that was reported last there is nothing to report. */
  width(reported: f64): f64 {
    return max(this.band, abs(reported) * this.percent / 100);
  }
}

/** The settings of all channels. */
export class Config {
  private defaults: Settings = new Settings();
  private channels: Settings[] = [];
  /** What is wrong, in words; empty where nothing is. */
  error: string = "";

  /** Reads the deployment's `config`. */
  constructor(text: string) {
    const json = Json.parse(text);
    if (json == null || (json.kind != JsonKind.OBJECT && json.kind != JsonKind.NULL)) {
      this.error = "the config is not an object";
    } else {
      this.read(json);
    }
  }

  /** The settings of a channel by its place in the series. */
  channel(index: i32): Settings {
    return index < this.channels.length ? this.channels[index] : this.defaults;
  }

  private read(json: Json): void {
    const unknown = json.unknownKey(KEYS.concat(["channels"]));
    if (unknown != null) this.error = `the config has no key "${unknown}"; it has ${KEYS.join(", ")} and channels`;
    this.fill(this.defaults, json);
    const channels = json.get("channels");
    if (channels == null) return;
    if (channels.kind != JsonKind.LIST) this.error = "channels is not a list";
    for (let i = 0; i < channels.items.length; i++) this.channels.push(this.entry(channels.items[i]));
  }

  private entry(json: Json): Settings {
    const settings = new Settings();
    settings.band = this.defaults.band;
    settings.percent = this.defaults.percent;
    settings.min_ns = this.defaults.min_ns;
    settings.max_ns = this.defaults.max_ns;
    if (json.kind != JsonKind.OBJECT) this.error = "an entry of channels is not an object";
    const unknown = json.unknownKey(KEYS.concat(["name"]));
    if (unknown != null) this.error = `an entry of channels has no key "${unknown}"; it has ${KEYS.join(", ")} and name`;
    const name = json.get("name");
    if (name != null) {
      if (name.kind != JsonKind.TEXT) this.error = "the name of a channel is not a text";
      settings.name = name.text;
    }
    this.fill(settings, json);
    return settings;
  }

  private fill(settings: Settings, json: Json): void {
    settings.band = this.number(json, "band", settings.band, f64.MAX_VALUE);
    settings.percent = this.number(json, "percent", settings.percent, 100);
    settings.min_ns = this.interval(json, "min_interval_s", settings.min_ns);
    settings.max_ns = this.interval(json, "max_interval_s", settings.max_ns);
    if (settings.max_ns != 0 && settings.max_ns < settings.min_ns) {
      this.error = "max_interval_s is shorter than min_interval_s";
    }
  }

  private interval(json: Json, key: string, otherwise: i64): i64 {
    return <i64>(this.number(json, key, <f64>otherwise / NS_PER_S, LONGEST_S) * NS_PER_S);
  }

  private number(json: Json, key: string, otherwise: f64, most: f64): f64 {
    const value = json.get(key);
    if (value == null) return otherwise;
    if (value.kind == JsonKind.NUMBER && value.number >= 0 && value.number <= most) return value.number;
    this.error = `${key} is not a number from 0 to ${most}`;
    return otherwise;
  }
}
