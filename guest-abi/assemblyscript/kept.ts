// What the module keeps over restarts and updates, with the grant `state:<bytes>`. A call that faults changes nothing.

import * as host from "./host";

/** Room for most values, so that they take one call of the host. */
const USUAL: i32 = 256;

/** The value of a key; null where it has none, or without the grant. */
export function stateGet(key: string): ArrayBuffer | null {
  const utf8 = String.UTF8.encode(key);
  const room = new ArrayBuffer(USUAL);
  const length = host.state_get(changetype<usize>(utf8), utf8.byteLength, changetype<usize>(room), USUAL);
  if (length < 0) return null;
  if (length <= USUAL) return room.slice(0, length);
  const whole = new ArrayBuffer(length);
  host.state_get(changetype<usize>(utf8), utf8.byteLength, changetype<usize>(whole), length);
  return whole;
}

/** Sets the value of a key: `ENOSPC` above the quota or the number of keys. */
export function stateSet(key: string, value: ArrayBuffer): i32 {
  const utf8 = String.UTF8.encode(key);
  return host.state_set(changetype<usize>(utf8), utf8.byteLength, changetype<usize>(value), value.byteLength);
}

/** Forgets the value of a key: `ENOENT` where there is none. */
export function stateDelete(key: string): i32 {
  const utf8 = String.UTF8.encode(key);
  return host.state_delete(changetype<usize>(utf8), utf8.byteLength);
}
