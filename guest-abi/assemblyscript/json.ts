// JSON for configurations and records: enough to read the one and to write the other.

/** What a JSON value is. */
export enum JsonKind {
  NULL,
  BOOL,
  NUMBER,
  TEXT,
  LIST,
  OBJECT,
}

/** Values may be nested this deep. */
const DEPTH: i32 = 32;

/** A JSON value, read as a whole. */
export class Json {
  /** What it is. */
  kind: JsonKind = JsonKind.NULL;
  /** The number, or 1 for true. */
  number: f64 = 0;
  /** The text of a string. */
  text: string = "";
  /** The values of a list or of an object. */
  items: Json[] = [];
  /** The keys of an object, one for each item. */
  keys: string[] = [];

  /** Reads a text; null where it is not JSON. */
  static parse(text: string): Json | null {
    const reader = new Reader(text);
    const value = reader.value(0);
    reader.space();
    return value != null && reader.at == text.length ? value : null;
  }

  /** The value of a key, or null where there is none. */
  get(key: string): Json | null {
    const index = this.keys.indexOf(key);
    return index < 0 ? null : this.items[index];
  }

  /** The first key that is not in the list, or null. */
  unknownKey(known: string[]): string | null {
    for (let i = 0; i < this.keys.length; i++) {
      if (!known.includes(this.keys[i])) return this.keys[i];
    }
    return null;
  }
}

class Reader {
  at: i32 = 0;

  constructor(private text: string) {}

  space(): void {
    while (this.at < this.text.length && " \t\r\n".includes(this.text.charAt(this.at))) this.at++;
  }

  /** The value from here on; null where there is none. */
  value(depth: i32): Json | null {
    this.space();
    if (this.at >= this.text.length || depth > DEPTH) return null;
    const first = this.text.charCodeAt(this.at);
    if (first == 0x7b) return this.object(depth);
    if (first == 0x5b) return this.list(depth);
    if (first == 0x22) return this.string();
    if (this.take("null")) return new Json();
    const json = new Json();
    json.kind = JsonKind.BOOL;
    if (this.take("true")) {
      json.number = 1;
      return json;
    }
    return this.take("false") ? json : this.number();
  }

  private take(word: string): bool {
    if (this.text.substr(this.at, word.length) != word) return false;
    this.at += word.length;
    return true;
  }

  private number(): Json | null {
    const begin = this.at;
    while (this.at < this.text.length && "+-.0123456789eE".includes(this.text.charAt(this.at))) this.at++;
    const json = new Json();
    json.kind = JsonKind.NUMBER;
    json.number = F64.parseFloat(this.text.substring(begin, this.at));
    return begin < this.at && isFinite(json.number) ? json : null;
  }

  private string(): Json | null {
    const json = new Json();
    json.kind = JsonKind.TEXT;
    this.at++;
    let begin = this.at;
    while (this.at < this.text.length) {
      const code = this.text.charCodeAt(this.at);
      if (code == 0x22) {
        json.text += this.text.substring(begin, this.at++);
        return json;
      }
      if (code == 0x5c) {
        json.text += this.text.substring(begin, this.at);
        if (!this.escape(json)) return null;
        begin = this.at;
      } else {
        this.at++;
      }
    }
    return null;
  }

  private escape(json: Json): bool {
    const letter = this.text.charAt(this.at + 1);
    this.at += 2;
    if (letter == "u") {
      const code = U32.parseInt(this.text.substr(this.at, 4), 16);
      this.at += 4;
      json.text += String.fromCharCode(code);
      return this.at <= this.text.length;
    }
    const index = '"\\/bfnrt'.indexOf(letter);
    if (index < 0 || letter.length == 0) return false;
    json.text += '"\\/\b\f\n\r\t'.charAt(index);
    return true;
  }

  private list(depth: i32): Json | null {
    const json = new Json();
    json.kind = JsonKind.LIST;
    this.at++;
    this.space();
    if (this.take("]")) return json;
    do {
      const item = this.value(depth + 1);
      if (item == null) return null;
      json.items.push(item);
      this.space();
    } while (this.take(","));
    return this.take("]") ? json : null;
  }

  private object(depth: i32): Json | null {
    const json = new Json();
    json.kind = JsonKind.OBJECT;
    this.at++;
    this.space();
    if (this.take("}")) return json;
    do {
      this.space();
      if (this.text.charAt(this.at) != '"') return null;
      const key = this.string();
      this.space();
      if (key == null || !this.take(":")) return null;
      const item = this.value(depth + 1);
      if (item == null) return null;
      json.keys.push(key.text);
      json.items.push(item);
      this.space();
    } while (this.take(","));
    return this.take("}") ? json : null;
  }
}

/** A text as JSON, in quotation marks. */
export function quoted(text: string): string {
  let out = '"';
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code == 0x22 || code == 0x5c) out += "\\";
    out += code < 0x20 ? "\\u00" + (code < 0x10 ? "0" : "") + code.toString(16) : text.charAt(i);
  }
  return out + '"';
}

/** A number as JSON; what is not finite is null. */
export function decimal(value: f64): string {
  if (!isFinite(value)) return "null";
  const whole = trunc(value);
  return value == whole && abs(value) < 1e15 ? (<i64>whole).toString() : value.toString();
}
