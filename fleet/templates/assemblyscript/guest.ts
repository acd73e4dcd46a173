// Emits the mean of each window of a series.

import { emit, frame, samples } from "./sanderling";

export { sanderling_abi } from "./sanderling";

export function sanderling_frame(): i32 {
  const values = samples();
  let sum: f64 = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  const mean = values.length > 0 ? sum / values.length : 0;
  return emit("{{name}}", `{"seq":${frame().seq},"mean":${mean}}`) == 0 ? 0 : 2;
}
