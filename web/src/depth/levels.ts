// What the codes of a map of gradients mean.
import type { HeatMap } from "../wire/types";

const NOTHING = 0;
export const BROKEN = 1;
export const DEAD = 2;
export const LOWEST = 3;

/** Decades of a cell below the largest of its column; in words where it has none. */
export function levelOf(map: HeatMap, codes: Uint8Array, row: number, column: number): number | string {
  const code = codes[row * map.steps.length + column] ?? NOTHING;
  if (code === NOTHING) return "no gradient, or not kept";
  if (code === BROKEN) return "✕ not finite";
  if (code === DEAD) return "○ exactly zero";
  return map.low + ((code - LOWEST) / (255 - LOWEST)) * -map.low;
}
