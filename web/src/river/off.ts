// What lies beside the plane that is shown: the share of the rate that leaves the picture, and how far paths are from it.
import type { Box, Point, Samples } from "./samples";
import { type Drop, type Picture, short } from "./state";

const NEAR = 0.05; // of the shorter side of what is shown: from there on a path has left the plane (river/portraits/shadow.py)

/** Distance from the plane up to which a path counts as in it, for what is shown. */
export const near = (box: Box): number => NEAR * Math.min(box[1] - box[0], box[3] - box[2]);

/** The share of the rate that leaves the picture at a point; null where it is not known. */
export function leakAt(s: Samples | null, at: Point): number | null {
  if (!s?.leak) return null;
  const { box: [x0, x1, y0, y1], n, leak } = s;
  const x = ((at[0] - x0) / (x1 - x0)) * (n - 1), y = ((at[1] - y0) / (y1 - y0)) * (n - 1);
  if (!(x >= 0 && y >= 0 && x <= n - 1 && y <= n - 1)) return null;
  const j = Math.min(n - 2, Math.floor(x)), i = Math.min(n - 2, Math.floor(y));
  const mix = (a: number, b: number, w: number) => a + w * (b - a);
  const row = (r: number) => mix(leak[r * n + j]!, leak[r * n + j + 1]!, x - j);
  const found = mix(row(i), row(i + 1), y - i);
  return Number.isFinite(found) ? found : null;
}

/** A leak as text: never 1 where it is less. */
export const share = (leak: number): string => leak.toFixed(leak > 0.99 && leak < 0.9995 ? 3 : 2);

/** How far a path is from the plane at a time; 0 where nothing is beside it. */
export function offAt(clock: readonly number[], off: readonly number[], t: number): number {
  let k = 0;
  while (k < off.length - 1 && clock[k + 1]! <= t) k++;
  return off[k] ?? 0;
}

/** A drop's place: on a plane also as its foot, in the digits that the foot has. */
export function placed(p: Picture, at: Point): Pick<Drop, "at" | "foot" | "off"> {
  if (!p.plane) return { at, foot: "", off: 0 };
  const [x, y] = at.map((c) => short(c, 7)) as [string, string];
  return { at: [Number(x), Number(y)], foot: `${p.plane.text}@${x},${y}`, off: 0 };
}
